"""What may come next in a filter that is being typed: fields, operators, or the values of a field."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dissectors.catalog import CATALOG, FilterField, ValueKind
from dissectors.catalog import complete as fields_beginning
from dissectors.names import Flags
from tracer.filters.names import KINDS
from tracer.filters.values import ERROR, is_text

MAX_BEFORE = 512  # characters before the cursor that are looked at

_WORD = re.compile(r"[\w.]*\Z")
_COMPARISON = r"(?:==|!=|<=|>=|<|>|&|(?<=\s)(?:eq|ne|le|ge|lt|gt)\b)"
_IN_SET = r"\bin\s*\{(?:[^{}\"]*,)?"
_WANTS_VALUE = re.compile(rf"([A-Za-z_][\w.]*)\s*(?:{_COMPARISON}|{_IN_SET})\s*(?:\w+\s*\|\s*)*\Z")
_WANTS_OPERATOR = re.compile(r"(?:^|[\s(!])([A-Za-z_][\w.]*)\s+\Z")
_IN_QUOTES = re.compile(r'\A(?:[^"\\]|\\.|"(?:[^"\\]|\\.)*")*"(?:[^"\\]|\\.)*\Z', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Completion:
    """A proposal: `text` takes the place of the characters [start, end)."""

    text: str
    start: int
    end: int
    doc: str = ""


def complete(text: str, cursor: int) -> list[Completion]:
    """Return what the word at `cursor` may become, the likeliest first; nothing inside quotes."""
    before = text[max(0, cursor - MAX_BEFORE) : cursor]
    word = _WORD.search(before)
    begun = word.group() if word else ""
    before = before[: len(before) - len(begun)]
    start = cursor - len(begun)
    if before.count('"') % 2 and _IN_QUOTES.match(before):
        return []
    return [Completion(proposal, start, cursor, doc) for proposal, doc in _proposals(before, begun)]


def _proposals(before: str, begun: str) -> list[tuple[str, str]]:
    value_of = _WANTS_VALUE.search(before)
    if value_of is not None and value_of.group(1) in CATALOG:
        return _values(CATALOG[value_of.group(1)], begun.lower())
    operator_of = _WANTS_OPERATOR.search(before)
    if operator_of is not None and (operator_of.group(1) in CATALOG or operator_of.group(1) in KINDS):
        field = CATALOG.get(operator_of.group(1))
        return [(sign, doc) for sign, doc in _operators(field) if sign.startswith(begun.lower())]
    return _fields(begun.lower())


def _fields(begun: str) -> list[tuple[str, str]]:
    found = [(field.name, field.doc) for field in fields_beginning(begun)]
    found += [(name, item.doc) for name, (item, _) in KINDS.items() if name.startswith(begun) and name not in CATALOG]
    return sorted(found, key=lambda pair: (pair[0].count("."), pair[0]))


def _values(field: FilterField, begun: str) -> list[tuple[str, str]]:
    if field.kind is ValueKind.BOOLEAN:
        words = ["true", "false"]
    else:
        words = list(field.names.words.values()) if field.names is not None else []
        if isinstance(field.names, Flags):
            words.append(field.names.zero)
    return [(word, field.doc) for word in words if word.lower().startswith(begun) and word != "0"]


def _operators(field: FilterField | None) -> list[tuple[str, str]]:
    joining = [("&&", "and"), ("||", "or")]
    if field is None:
        return joining
    if is_text(field):
        own = [
            ("==", "is"),
            ("!=", "is there and is not"),
            ("contains", "has in it"),
            ("matches", "regular expression"),
        ]
        return [*own, ("in", "is one of"), *joining]
    own = [("==", "is"), ("!=", "is there and is not"), ("in", "is one of, or in a range")]
    if field.name != ERROR and field.kind is not ValueKind.BOOLEAN:
        own += [("<", "less"), ("<=", "at most"), (">", "more"), (">=", "at least")]
    if field.kind in (ValueKind.INTEGER, ValueKind.SIGNED) and field.name != ERROR:
        own.append(("&", "has the flag, or a bit of the number"))
    return [*own, *joining]
