"""A filter as it was written: tests, joined by and, or and not. Which fields there are is decided later."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Written:
    """A value as it was written. `kind` is the token's: NUMBER, WORD, STRING (in quotes) or RAW (r"...")."""

    text: str
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Value:
    """One or more written values joined by "|"."""

    parts: tuple[Written, ...]

    @property
    def start(self) -> int:
        """Where it begins in the text."""
        return self.parts[0].start

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.parts[-1].end


@dataclass(frozen=True, slots=True)
class FieldName:
    """A field as it was written."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Present:
    """Whether an exchange has the field."""

    field: FieldName
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Compare:
    """A field, one of == != < <= > >=, a value."""

    field: FieldName
    operator: str
    value: Value
    depth: int = 0


@dataclass(frozen=True, slots=True)
class OneOf:
    """A field in a set. A member is one value, or a range with both ends in it."""

    field: FieldName
    members: tuple[tuple[Value, Value | None], ...]
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Contains:
    """A field with a value somewhere in it."""

    field: FieldName
    value: Value
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Matches:
    """A field that a regular expression is found in."""

    field: FieldName
    pattern: Value
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of a field: any of them set, or compared with a value."""

    field: FieldName
    mask: Value
    operator: str = ""
    value: Value | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Negation:
    """Not `term`."""

    term: Tree
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Both:
    """All of `terms`."""

    terms: tuple[Tree, ...]
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of `terms`."""

    terms: tuple[Tree, ...]
    depth: int = 0


Test = Present | Compare | OneOf | Contains | Matches | Bits
Tree = Test | Negation | Both | Either
