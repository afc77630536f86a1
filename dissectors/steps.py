"""A layout compiled to struct calls and searches: the steps of the fast path, one for each field that varies.

A step reads one field of `blob` at `at`, puts its value into `values` and returns where the next begins, or -1 to
refuse. `end` is where the body ended when it was sent; bytes of data alone may be missing before it (a cut capture).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

from dissectors.fields import MAX_ELEMENTS, Field, Kind, When
from dissectors.message import Value

REFUSED = -1

Values = dict[str, Value]
Step = Callable[[bytes, int, int, Values], int]


class Block:
    """Neighbouring fields of fixed size, read with one struct call. Hidden ones are skipped."""

    __slots__ = ("names", "size", "unpack", "unpack_joined")

    def __init__(self, fields: Sequence[Field], order: str, lead: str = "") -> None:
        codes = [f"{field.size}x" if field.hidden else field.code for field in fields]
        compiled = struct.Struct(order + lead + "".join(codes))
        self.unpack: Callable[[Any, int], tuple[Any, ...]] = compiled.unpack_from
        self.unpack_joined: Callable[[Any], Iterator[tuple[Any, ...]]] = compiled.iter_unpack
        self.size = compiled.size
        self.names = tuple(field.name for field in fields if not field.hidden)

    def step(self, blob: bytes, at: int, end: int, values: Values) -> int:
        """Read the block as a step."""
        stop = at + self.size
        if stop > end or stop > len(blob):
            return REFUSED
        values.update(zip(self.names, self.unpack(blob, at), strict=True))
        return stop


@cache
def compile_steps(fields: tuple[Field, ...], order: str) -> tuple[Step, ...]:
    """Return the steps that read `fields`, in order."""
    return tuple(_steps(fields, order))


def _steps(fields: tuple[Field, ...], order: str) -> Iterator[Step]:
    for is_block, members in groupby(fields, key=lambda field: field.kind.is_fixed and field.when is None):
        if is_block:
            yield Block(list(members), order).step
            continue
        for field in members:
            step = _step(field, order)
            yield step if field.when is None else _conditional(step, field.when)


def _conditional(step: Step, when: When) -> Step:
    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        value = values.get(when.field)
        return step(blob, at, end, values) if isinstance(value, int) and when.holds(value) else at

    return run


def _step(field: Field, order: str) -> Step:
    match field.kind:
        case Kind.NAME:
            return _name_step(field.name)
        case Kind.DATA:
            return _sized_data_step(field.name, field.size_from) if field.size_from else _data_step(field.name)
        case Kind.STRINGS:
            return _strings_step(field.name)
        case Kind.INTEGERS:
            return _integers_step(field, order)
        case _:
            return _counted_records_step(field, order) if field.count_from else _records_step(field, order)


def _name_step(name: str) -> Step:
    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        nul = blob.find(b"\0", at)
        if nul < 0:
            return REFUSED
        values[name] = blob[at:nul]
        return nul + 1

    return run


def _data_step(name: str) -> Step:
    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        if at > len(blob):
            return REFUSED
        values[name] = blob[at:end]
        return end

    return run


def _sized_data_step(name: str, size_from: str) -> Step:
    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        stop = at + int(values[size_from])  # type: ignore[arg-type]
        if stop > end or at > len(blob):
            return REFUSED
        values[name] = blob[at:stop]
        return stop

    return run


def _strings_step(name: str) -> Step:
    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        if end > len(blob):
            return REFUSED
        parts = blob[at:end].split(b"\0", MAX_ELEMENTS + 1)
        if parts.pop() or len(parts) > MAX_ELEMENTS:
            return REFUSED
        values[name] = parts
        return end

    return run


def count_of(field: Field, values: Values) -> int:
    """Return how many elements the counting fields of `field` announce."""
    numbers = [values.get(name) for name in field.count_from.split("+")]
    return sum(number for number in numbers if isinstance(number, int))


def _integers_step(field: Field, order: str) -> Step:
    element = field.record[0]

    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        count = count_of(field, values)
        stop = at + count * element.size
        if stop > end or stop > len(blob):
            return REFUSED
        values[field.name] = list(struct.unpack_from(f"{order}{count}{element.code}", blob, at))
        return stop

    return run


def _counted_records_step(field: Field, order: str) -> Step:
    """Records without anything variable in them, as every counted kind but the security labels is."""
    if not all(member.kind.is_fixed for member in field.record):
        return _variable_records_step(field, order)
    wide = Block(field.record, order)
    narrow = Block(field.narrow_record, order) if field.narrow_record else None

    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        count = count_of(field, values)
        block = wide
        if narrow is not None and count * narrow.size == end - at:
            block = narrow
        stop = at + count * block.size
        if stop > end or stop > len(blob) or count > MAX_ELEMENTS:
            return REFUSED
        names, unpack = block.names, block.unpack
        values[field.name] = [dict(zip(names, unpack(blob, i), strict=True)) for i in range(at, stop, block.size)]
        return stop

    return run


def _variable_records_step(field: Field, order: str) -> Step:
    steps, align = compile_steps(field.record, order), field.align

    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        found: list[dict[str, Value]] = []
        for _ in range(min(count_of(field, values), MAX_ELEMENTS + 1)):
            at = _record(steps, align, blob, at, end, found)
            if at < 0:
                return REFUSED
        values[field.name] = found
        return at if len(found) <= MAX_ELEMENTS else REFUSED

    return run


def _records_step(field: Field, order: str) -> Step:
    steps, align = compile_steps(field.record, order), field.align

    def run(blob: bytes, at: int, end: int, values: Values) -> int:
        found: list[dict[str, Value]] = []
        while at < end:
            at = _record(steps, align, blob, at, end, found)
            if at < 0 or len(found) > MAX_ELEMENTS:
                return REFUSED
        values[field.name] = found
        return at

    return run


def _record(steps: tuple[Step, ...], align: int, blob: bytes, at: int, end: int, found: list[dict[str, Value]]) -> int:
    record: Values = {}
    start = at
    for step in steps:
        at = step(blob, at, end, record)
        if at < 0:
            return REFUSED
    at += -(at - start) % align
    if at > end or at > len(blob):
        return REFUSED
    found.append(record)
    return at
