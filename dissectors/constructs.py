"""Declared fields as constructs, and what their results need: plain dictionaries, derived lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import construct

from dissectors.fields import MAX_ELEMENTS, Field, Kind, Role
from dissectors.message import Value
from dissectors.steps import count_of

Construct = Any  # construct ships no annotations


class Refused(ValueError):
    """The bytes, or the values to build them from, are not a message without a fault."""


@cache
def header_construct(fields: tuple[Field, ...], order: str) -> Construct:
    """Return the construct of a header."""
    return construct.Struct(*(item.name / _integer(item, order) for item in fields))


@cache
def body_construct(fields: tuple[Field, ...], order: str) -> Construct:
    """Return the construct of a body; its `_used` is where it ended."""
    return construct.Struct(*(item.name / _conditional(item, order) for item in fields), "_used" / construct.Tell)


def _conditional(item: Field, order: str) -> Construct:
    if item.when is None:
        return _construct(item, order)
    when = item.when
    return construct.If(lambda found: when.holds(found[when.field]), _construct(item, order))


def _construct(item: Field, order: str) -> Construct:
    match item.kind:
        case Kind.FIXED:
            return _padding(item.size)
        case Kind.NAME:
            return construct.NullTerminated(construct.GreedyBytes)
        case Kind.DATA:
            return construct.Bytes(_number(item.size_from)) if item.size_from else construct.GreedyBytes
        case Kind.STRINGS:
            return _bounded(construct.GreedyRange(construct.NullTerminated(construct.GreedyBytes)))
        case Kind.INTEGERS:
            return construct.Array(_counter(item), _integer(item.record[0], order))
        case Kind.RECORDS:
            return _bounded(_records(item, order))
        case _:
            return _integer(item, order)


def _integer(item: Field, order: str) -> Construct:
    # construct knows the standard sizes of struct by "l" alone, not by "i", which is the same
    code = construct.FormatField(order, item.code.replace("I", "L").replace("i", "l"))
    return construct.Default(code, 0) if item.hidden else code


def _padding(size: int) -> Construct:
    return construct.Default(construct.Bytes(size), bytes(size))


def _number(name: str) -> Callable[[Any], Any]:
    return lambda found: found[name]


def _counter(item: Field) -> Callable[[Any], int]:
    return lambda found: count_of(item, found)


def _bounded(inner: Construct) -> Construct:
    return construct.ExprValidator(inner, lambda found, _: len(found) <= MAX_ELEMENTS)


def _records(item: Field, order: str) -> Construct:
    wide = _record(item.record, order, item.align)
    if not item.count_from:
        return construct.GreedyRange(wide)
    counted = construct.Array(_counter(item), wide)
    if not item.narrow_record:
        return counted
    marked = construct.Struct(*_members(item.narrow_record, order), "_narrow" / construct.Computed(True))
    narrow = construct.Array(_counter(item), marked)
    size = sum(member.size for member in item.narrow_record)
    return construct.IfThenElse(lambda found: _is_narrow(item, size, found), narrow, counted)


def _is_narrow(item: Field, size: int, found: Any) -> bool:
    """Tell whether the records are narrow: when parsing by the room there is, when building by their mark."""
    count = count_of(item, found)
    if found["_building"]:
        return any("_narrow" in record for record in found[item.name])
    left = len(found["_io"].getbuffer()) - found["_io"].tell()
    return bool(count) and left == count * size


def _members(fields: tuple[Field, ...], order: str) -> list[Construct]:
    return [member.name / _conditional(member, order) for member in fields]


def _record(fields: tuple[Field, ...], order: str, align: int) -> Construct:
    if align == 1:
        return construct.Struct(*_members(fields, order))

    def room(found: Any) -> int:
        return int(-(found["_io"].tell() - found["_start"]) % align)

    pad = construct.Default(construct.Bytes(room), lambda found: bytes(room(found)))
    return construct.Struct("_start" / construct.Tell, *_members(fields, order), "_pad" / pad)


def plain(found: Any) -> Any:
    """Return construct's result without its own marks and without fields that are not there.

    A record's `_pad` stays when it is not empty, and `_narrow`: building needs them.
    """
    if isinstance(found, Mapping):
        return {
            name: plain(value)
            for name, value in found.items()
            if value is not None and name not in ("_io", "_start", "_used") and not (name == "_pad" and not value)
        }
    if isinstance(found, list):
        return [plain(item) for item in found]
    return found


def with_derived(fields: tuple[Field, ...], values: Mapping[str, Value]) -> dict[str, Any]:
    """Return `values` with the lengths and counts that are missing, in records too; Refused where one is wrong."""
    complete: dict[str, Any] = dict(values)
    for item in fields:
        value = complete.get(item.name)
        if item.kind is Kind.RECORDS and isinstance(value, list):
            inner = item.narrow_record if any("_narrow" in record for record in value) else item.record
            complete[item.name] = [with_derived(inner, record) for record in value]
        if item.kind is Kind.NAME and b"\0" in complete.get(item.name, b""):
            raise Refused(f"{item.name} contains a NUL")
        source = item.size_from or item.count_from
        if source and "+" not in source and value is not None:
            complete.setdefault(source, len(value))
            if complete[source] != len(value):
                raise Refused(f"{source} is {complete[source]}, {item.name} has {len(value)}")
    for item in fields:
        if item.role in (Role.LENGTH, Role.COUNT):
            complete.setdefault(item.name, 0)
        elif item.when is not None:
            complete.setdefault(item.name, None)
    return complete
