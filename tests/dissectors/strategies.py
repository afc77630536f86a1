"""Hypothesis strategies: sessions, bodies that fit a declaration, and golden messages with faults put in."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from dissectors.fields import Field, Kind
from dissectors.layout import Context
from tests.dissectors.samples import SAMPLES, Sample

# Every minor at which the size of a body changes, and the one before.
MINORS = (None, 3, 4, 5, 6, 8, 9, 11, 12, 15, 16, 22, 23, 35, 36, 37, 38, 45, 46)
ALL_FLAGS, SETXATTR_EXT, SECURITY_CTX = (1 << 44) - 1, 1 << 29, 1 << 32

contexts = st.builds(
    Context,
    minor=st.sampled_from(MINORS),
    init_flags=st.sampled_from((None, 0, SETXATTR_EXT, SECURITY_CTX, ALL_FLAGS)),
    big_endian=st.booleans(),
)
names = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"/"))
u32s, u64s = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


def integers(field: Field) -> st.SearchStrategy[int]:
    bits = 8 * field.size
    if field.kind in (Kind.I32, Kind.I64):
        return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(0, 2**bits - 1) | st.integers(0, 10)


@st.composite
def values_of(draw: st.DrawFn, fields: tuple[Field, ...]) -> dict[str, Any]:
    """Draw values for `fields`, padding included; lengths and counts are left to the builder."""
    derived = {name for field in fields for name in (field.size_from, *field.count_from.split("+")) if name}
    values: dict[str, Any] = {}
    for field in fields:
        if field.when is not None and not field.when.holds(values[field.when.field]):
            continue
        if field.kind.is_integer:
            if field.name not in derived:
                values[field.name] = draw(integers(field))
            elif any("+" in other.count_from and field.name in other.count_from for other in fields):
                values[field.name] = draw(st.integers(0, 3))
        else:
            values[field.name] = draw(variable(field, values))
    return values


def variable(field: Field, values: dict[str, Any]) -> st.SearchStrategy[Any]:
    match field.kind:
        case Kind.FIXED:
            return st.binary(min_size=field.size, max_size=field.size)
        case Kind.NAME:
            return names
        case Kind.STRINGS:
            return st.lists(names, max_size=4)
        case Kind.INTEGERS:
            return st.lists(integers(field.record[0]), max_size=4)
        case Kind.RECORDS if "+" in field.count_from:
            count = sum(values[name] for name in field.count_from.split("+"))
            return st.lists(values_of(field.record), min_size=count, max_size=count)
        case Kind.RECORDS:
            return st.lists(values_of(field.record), max_size=4)
        case _:
            return st.binary(max_size=40)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Sample, bytes]:
    """Draw a golden message with a few faults in it; half of the time its length is put right again."""
    sample = SAMPLES[draw(st.sampled_from(sorted(SAMPLES)))]
    data = bytearray(sample.data)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("byte", "cut", "append", "insert", "delete", "word"))):
            case "byte" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case "append":
                data += draw(st.binary(max_size=24))
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "delete":
                del data[at : at + draw(st.integers(1, 16))]
            case "word":
                data[at : at + 4] = struct.pack("<I", draw(u32s))
    if len(data) >= 4 and draw(st.booleans()):
        data[:4] = struct.pack(">I" if sample.context.big_endian else "<I", len(data))
    return sample, bytes(data)
