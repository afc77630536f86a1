"""What is wrong with a filter is said in two lines: the text, and a caret below the fault with what is allowed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tracer.errors import TracerError
from tracer.filters import FilterError, compile_filter

# text -> (column, length of the fault, a part of the reason)
FAULTS = {
    # the shape
    "": (1, 1, "empty filter"),
    "   ": (1, 1, "empty filter"),
    "fuse.opcode =": (13, 1, "is equal is written =="),
    "fuse.opcode = SYNCFS": (13, 1, "is equal is written =="),
    "fuse.opcode ==": (15, 1, "expected a value"),
    "fuse.opcode == ,": (16, 1, "expected a value"),
    "fuse.opcode == SYNCFS &&": (25, 1, "expected a field"),
    "== 3": (1, 2, "expected a field"),
    "fuse.pid 3": (10, 1, "expected an operator"),
    "(fuse.pid == 3": (15, 1, "a ( is not closed"),
    "fuse.pid == 3)": (14, 1, "expected && or ||"),
    "fuse.pid == 3 fuse.uid == 4": (15, 8, "expected && or ||"),
    "fuse.pid in 3": (13, 1, "in braces"),
    "fuse.pid in {}": (14, 1, "expected a value"),
    "fuse.pid in {1 2}": (16, 1, "separated by commas"),
    "fuse.pid in {1, 2": (18, 1, "separated by commas"),
    'proc.comm == "sync': (14, 1, "quote is not closed"),
    "proc.comm == 'sync'": (14, 1, "double quotes"),
    "fuse.latency > 10 ms": (19, 2, "without a space"),
    "fuse.len > 10 KiB": (15, 3, "without a space"),
    "fuse.pid == 3 @": (15, 1, "expected && or ||"),
    # the fields
    "fuse.opcde == SYNCFS": (1, 10, "did you mean fuse.opcode?"),
    "opcode == SYNCFS": (1, 6, "did you mean fuse.opcode?"),
    "FUSE.OPCODE == SYNCFS": (1, 11, "did you mean fuse.opcode?"),
    "fuse.pid == 3 && write.size > 4K": (18, 10, "did you mean fuse.write.size?"),
    "fuse.": (1, 5, "there is no such field"),
    "xyzzy": (1, 5, "fields are called"),
    "proc == 3": (1, 4, "stands for a group"),
    "proc": (1, 4, "no such field"),
    "fuse.write == 3": (1, 10, "its fields are fuse.write.fh"),
    "fuse.syncfs == 3": (1, 11, "stands for a message"),
    # the values
    "fuse.opcode == SYNCF": (16, 5, "did you mean SYNCFS?"),
    "fuse.opcode == xyzzy": (16, 5, "fuse.opcode is compared with a number or a name"),
    'fuse.opcode == "SYNCFS"': (16, 8, "is compared with a number or a name"),
    "fuse.pid == many": (13, 4, "fuse.pid is compared with a number, such as 5 or 0x1f"),
    'fuse.pid == "3"': (13, 3, "is compared with a number"),
    "fuse.pid == 3KiB": (13, 4, "no unit KiB"),
    "fuse.pid == 1|2": (13, 3, "| joins flags"),
    "fuse.pid == 0x": (13, 2, "no unit x"),
    "fuse.pid == 12345678901234567890123456789012345678901": (13, 41, "no number that can be read"),
    "fuse.latency > 10": (16, 2, "needs a unit"),
    "fuse.latency > 10KiB": (16, 5, "no unit KiB of time"),
    "fuse.len > 10ms": (12, 4, "no unit ms"),
    "fuse.error < 0": (1, 10, "errors have no order"),
    "fuse.error in {1..3}": (1, 10, "errors have no order"),
    "fuse.error == ENOWHERE": (15, 8, "fuse.error has no value ENOWHERE"),
    "fuse.malformed > false": (1, 14, "true or false"),
    "fuse.malformed == perhaps": (19, 7, "true or false"),
    "fuse.time > 5": (13, 1, "needs a unit"),
    'fuse.time > "yesterday"': (13, 11, "2026-01-02T03:04:05"),
    'fuse.time > "2026-13-45"': (13, 12, "2026-01-02T03:04:05"),
    'fuse.time in {1s, "2026-01-01"}': (15, 2, "do not go together"),
    "fuse.len in {9..1}": (17, 1, "from the lower number to the higher"),
    "fuse.name == tmp": (14, 3, 'text in quotes: "tmp"'),
    "fuse.name == 5": (14, 1, "text in quotes"),
    'fuse.name > "a"': (1, 9, "use == != in contains or matches"),
    'fuse.name in {"a".."b"}': (20, 3, "a range is of numbers"),
    'fuse.name == "a"|"b"': (14, 7, "text in quotes"),
    r'fuse.name == "\q"': (14, 4, "no escape \\q"),
    r'fuse.name == "\uD800"': (14, 8, "half a surrogate pair"),
    r'fuse.name == "\U00110000"': (14, 12, "no character"),
    'fuse.name matches "(a"': (19, 4, "missing )"),
    'fuse.name matches "a{9999}"': (19, 9, "invalid repetition size"),
    'fuse.name matches "(?<=a)b"': (19, 9, "invalid"),
    r'fuse.name matches "(a)\1"': (19, 7, "invalid escape sequence"),
    'fuse.pid contains "1"': (1, 8, "contains is for text"),
    "fuse.open.flags contains TRUNC": (1, 15, "fuse.open.flags & "),
    'fuse.opcode matches "SYNC"': (1, 11, "matches is for text"),
    "fuse.open.flags & RDONLY": (19, 6, "RDONLY has no bit"),
    "fuse.open.flags & 0": (19, 1, "0 has no bit"),
    "fuse.open.flags & NOTHING": (19, 7, "fuse.open.flags has no value NOTHING"),
    "fuse.open.flags & 1.5": (19, 3, "a whole number of 64 bits"),
    "fuse.error & 1": (1, 10, "& is for numbers and flags"),
    "fuse.name & 1": (1, 9, "& is for numbers and flags"),
    "fuse.latency & 1": (1, 12, "& is for numbers and flags"),
}


@pytest.mark.parametrize(("text", "fault"), FAULTS.items())
def test_a_fault_is_pointed_at_and_explained(text: str, fault: tuple[int, int, str]) -> None:
    with pytest.raises(FilterError) as raised:
        compile_filter(text)
    error = raised.value
    assert (error.column, error.length) == fault[:2]
    assert fault[2] in error.reason
    shown, under = error.message.split("\n")
    assert shown == text or not text.strip()
    assert under == " " * (error.column - 1) + "^" + "~" * (error.length - 1) + " " + error.reason


def test_a_filter_error_is_a_user_s_mistake() -> None:
    assert issubclass(FilterError, TracerError)


def test_the_excerpt_of_a_long_filter_shows_the_fault() -> None:
    text = " || ".join(["fuse.pid == 1"] * 100) + " || fuse.pod == 1" + " || fuse.pid == 1" * 100
    with pytest.raises(FilterError) as raised:
        compile_filter(text)
    shown, under = raised.value.message.split("\n")
    assert raised.value.column == text.index("fuse.pod") + 1
    assert len(shown) < 90
    at = under.index("^")
    assert shown[at : at + 8] == "fuse.pod"


def test_what_is_wrong_cannot_drive_a_terminal() -> None:
    with pytest.raises(FilterError) as raised:
        compile_filter("fuse.pid == 3 && \x1b]0;owned\x07")
    assert raised.value.message.replace("\n", "").isprintable()


def test_a_wide_character_before_the_fault_moves_the_caret() -> None:
    with pytest.raises(FilterError) as raised:
        compile_filter('fuse.name == "日本" && fuse.pod')
    shown, under = raised.value.message.split("\n")
    assert under.index("^") == shown.index("fuse.pod") + 2  # two characters that take two columns each


@pytest.mark.parametrize("text", ["fuse.pid == 1" + " " * 8192, "(" * 100 + "fuse.pid == 1 || !(" * 70])
def test_a_filter_is_bounded(text: str) -> None:
    with pytest.raises(FilterError):
        compile_filter(text)


def test_a_filter_may_be_64_levels_deep_and_no_deeper() -> None:
    def nested(levels: int) -> str:
        return "!(fuse.read || " * levels + "fuse.write" + ")" * levels

    compile_filter(nested(31))
    with pytest.raises(FilterError, match="64 levels"):
        compile_filter(nested(40))


def test_the_parser_is_loaded_only_by_those_who_filter() -> None:
    code = "import sys, tracer.filters, tracer.view; sys.exit('lark' in sys.modules or 'textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
