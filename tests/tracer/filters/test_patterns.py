"""Regular expressions: the same answers as Python's re, in time linear in the text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.filters.patterns import Pattern, PatternError, text_of

CASES = {
    "": ["", "a"],
    "^/mnt1/": ["/mnt1/x", "/mnt10", "x/mnt1/"],
    "a*b": ["aaab", "b", "aaa"],
    "^$": ["", "a"],
    "a{2,3}": ["a", "aa", "baaa"],
    "^a{2}$": ["a", "aa", "aaa"],
    "a{2,}": ["a", "aaaa"],
    "^(?:ab|c)+$": ["abcab", "abca"],
    "[^a]": ["a", "b", ""],
    "[a-c-]": ["-", "b", "d"],
    r"[\d_]+\.txt$": ["a_1.txt", "a.txt", "1.txt2"],
    r"\w\W\s\S\D": ["a- b-", "aaaaa"],
    "(?i)[a-c]FOO|é": ["bfoo", "É", "dfoo"],
    "a{x": ["a{x", "a"],
    "^a|b$": ["ab", "ca", "cb"],
    "(a|)b": ["b", "ab", "a"],
    ".": ["\n", "x"],
    r"\x41\xe9\t": ["Aé\t", "A"],
    "a+?b??": ["aab", "b"],
    r"\/\-\.": ["/-.", "/-x"],
    "((a))": ["a"],
    "é{2}": ["éé", "é"],
}


@pytest.mark.parametrize(("pattern", "text"), [(pattern, text) for pattern, texts in CASES.items() for text in texts])
def test_a_pattern_is_found_where_re_finds_it(pattern: str, text: str) -> None:
    assert Pattern(pattern).search(text) == bool(re.search(pattern, text))


def test_a_dollar_is_the_end_and_nothing_before_it() -> None:
    assert not Pattern("x$").search("x\n")


def test_bytes_that_are_no_text_are_characters_of_their_own() -> None:
    assert Pattern("^..$").search(text_of(b"\xff\xfe"))
    assert Pattern(text_of(b"^\xff.$")).search(text_of(b"\xff\xfe"))
    assert not Pattern("^é$").search(text_of(b"\xe9"))
    assert Pattern("^é$").search(text_of("é".encode()))


REFUSED = {
    "(": "missing )",
    ")": "unexpected )",
    "[a": "missing ]",
    "[z-a]": "invalid character class range",
    "*": "no argument for repetition",
    "a**": "bad repetition operator",
    "a{1001}": "repetition",
    "\\": "trailing \\",
    r"\1": "invalid escape",
    "(?=a)": "invalid perl operator",
    "(?<=a)": "invalid",
    "a" * 1001: "at most",
    "((a{100}){100}){100}": "invalid repetition",
}


@pytest.mark.parametrize(("pattern", "reason"), REFUSED.items())
def test_what_is_no_pattern_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError, match=re.escape(reason)):
        Pattern(pattern)


atoms = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\.", "^", "$", "(?:ab)", "()"])
patterns = st.recursive(
    atoms,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}"])).map(lambda p: f"(?:{p[0]}){p[1]}")
    ),
    max_leaves=8,
)


@given(patterns, st.lists(st.text("abc.", max_size=8), min_size=1, max_size=5))
def test_any_pattern_gives_what_re_gives(pattern: str, texts: list[str]) -> None:
    compiled, reference = Pattern(pattern), re.compile(pattern)
    for text in [*texts, *texts]:  # the second time from what the first left in memory
        assert compiled.search(text) == bool(reference.search(text))


@given(st.text("ab^$.[]()|*+?{}1,\\dxu-", max_size=30), st.text("ab1", max_size=6))
def test_any_text_is_a_pattern_or_is_refused(pattern: str, text: str) -> None:
    try:
        compiled = Pattern(pattern)
    except PatternError:
        return
    assert compiled.search(text) in (True, False)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*b", "a*a*a*a*a*b", "(a+)+$b", ".*a.*a.*a.*b", "(?:a?){30}a{30}b"])
def test_a_search_comes_to_an_end_where_backtracking_would_not(pattern: str) -> None:
    assert not Pattern(pattern).search("a" * 4096)
