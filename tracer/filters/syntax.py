"""Text to a tree of tests: the shape of the language.

The grammar is in grammar.lark. Its callbacks run while it is parsed, bottom up, so deep nesting is no recursion here;
depth is bounded for those who walk the tree.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from tracer.filters.errors import FilterError
from tracer.filters.tree import (
    Bits,
    Both,
    Compare,
    Contains,
    Either,
    FieldName,
    Matches,
    Negation,
    OneOf,
    Present,
    Tree,
    Value,
    Written,
)

MAX_TEXT = 8192
MAX_DEPTH = 64

_OPERATORS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class _TooDeep(Exception):
    """More levels than MAX_DEPTH."""


def _deeper(*terms: Tree) -> int:
    depth = 1 + max(term.depth for term in terms)
    if depth > MAX_DEPTH:
        raise _TooDeep
    return depth


def _name(token: Token) -> FieldName:
    start = token.start_pos or 0
    return FieldName(str(token), start, start + len(token))


def _operator(token: Token) -> str:
    word = str(token).lower()
    return _OPERATORS.get(word, word)


class _Build(Transformer[Token, Tree]):
    """What the parser calls for each rule it recognised."""

    def either(self, terms: list[Tree]) -> Tree:
        return Either(tuple(terms), _deeper(*terms)) if len(terms) > 1 else terms[0]

    def both(self, terms: list[Tree]) -> Tree:
        return Both(tuple(terms), _deeper(*terms)) if len(terms) > 1 else terms[0]

    def negation(self, terms: list[Tree]) -> Tree:
        (term,) = terms
        return term.term if isinstance(term, Negation) else Negation(term, _deeper(term))

    def present(self, children: list[Any]) -> Tree:
        return Present(_name(children[0]))

    def compare(self, children: list[Any]) -> Tree:
        return Compare(_name(children[0]), _operator(children[1]), children[2])

    def one_of(self, children: list[Any]) -> Tree:
        return OneOf(_name(children[0]), tuple(children[1:]))

    def contains(self, children: list[Any]) -> Tree:
        return Contains(_name(children[0]), children[1])

    def matches(self, children: list[Any]) -> Tree:
        return Matches(_name(children[0]), children[1])

    def masked(self, children: list[Any]) -> tuple[FieldName, Value]:
        return _name(children[0]), children[1]

    def bits(self, children: list[Any]) -> Tree:
        (name, mask), operator, value = children
        return Bits(name, mask, _operator(operator) if operator else "", value)

    def member(self, children: list[Any]) -> tuple[Value, Value | None]:
        return children[0], children[1]

    def value(self, children: list[Token]) -> Value:
        return Value(
            tuple(
                Written(str(token), token.type, token.start_pos or 0, (token.start_pos or 0) + len(token))
                for token in children
            )
        )


@cache
def _parser() -> Lark:
    grammar = (files("tracer.filters") / "grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", transformer=_Build(), maybe_placeholders=True)


def parse(text: str) -> Tree:
    """Return the tree of a filter. FilterError when it is none, too long or too deep."""
    if len(text) > MAX_TEXT:
        raise FilterError(f"a filter has at most {MAX_TEXT} characters", text, MAX_TEXT, MAX_TEXT + 1)
    if not text.strip():
        raise FilterError("an empty filter: write one, such as fuse.opcode == SYNCFS", text, 0, 1)
    try:
        return cast(Tree, _parser().parse(text))
    except _TooDeep:
        raise FilterError(f"more than {MAX_DEPTH} levels deep: use in {{...}} for many values", text, 0, 1) from None
    except UnexpectedInput as error:
        raise _explained(error, text) from None


# ---- what to say about text that is no filter ----

_AFTER_FIELD = "_IN"
_UNIT = re.compile(r"(?:[kmgt]i?b?|b|[munµ]?s)\b", re.IGNORECASE)
_VALUES = frozenset({"NUMBER", "WORD", "STRING", "RAW"})


def _explained(error: UnexpectedInput, text: str) -> FilterError:
    start = error.pos_in_stream or 0
    start = start if start >= 0 else len(text)
    wanted: set[str] = set()
    length = 1
    if isinstance(error, UnexpectedCharacters):
        wanted = set(error.allowed or ())
    elif isinstance(error, UnexpectedToken):
        wanted = set(error.accepts or error.expected)
        if error.token.type == "$END":
            start = len(text.rstrip())
        else:
            length = len(error.token)
    elif isinstance(error, UnexpectedEOF):
        start = len(text.rstrip())
    return FilterError(_reason(text, start, wanted), text, start, start + length)


def _reason(text: str, start: int, wanted: set[str]) -> str:
    before, rest = text[:start].rstrip(), text[start:]
    in_braces = before.count("{") > before.count("}")
    wants_value = bool(wanted & _VALUES)
    for found, said in (
        (rest[:1] == "=" and rest[:2] != "==", "is equal is written =="),
        (rest[:1] == '"' and rest.count('"') == 1, "the quote is not closed"),
        (rest[:1] == "'", 'text is written in double quotes: "..."'),
        ("LBRACE" in wanted and _AFTER_FIELD not in wanted, "a set is written in braces: in {1, 5, 10..20}"),
        (wants_value, 'expected a value: a number (10ms, 64KiB, 0x1f), a name (SYNCFS), or text in quotes ("tmp")'),
        (in_braces, "values of a set are separated by commas, and end with }"),
        (_AFTER_FIELD in wanted, "expected an operator: == != < <= > >= in contains matches &, or && || and a test"),
        ("FIELD" in wanted, "expected a field, such as fuse.opcode"),
        (before[-1:].isdigit() and _UNIT.match(rest), "a unit is written without a space before it: 10ms, 64KiB"),
        ("RPAR" in wanted and not rest, "a ( is not closed"),
    ):
        if found:
            return said
    return "expected && or || before the next test" if rest else "expected something more"
