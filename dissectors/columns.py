"""Numpy's view of the declaration: dtypes of headers and heads, and one field of very many messages at once.

Offsets are int64 throughout: numpy makes float64 of uint64 and int64 together, and file offsets would lose digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from dissectors.fields import Field, Kind
from dissectors.layout import (
    Context,
    Layout,
    agreed_layout,
    compile_layout,
    fixed_layout,
    is_undecided,
    layout_for,
    variants,
)
from dissectors.message import MessageKind
from dissectors.opcodes import Either, Notification, Op
from dissectors.structs import IN_HEADER, OUT_HEADER
from dissectors.structs import REPLY_HEADER_SIZE as REPLY_HEADER_SIZE
from dissectors.structs import REQUEST_HEADER_SIZE as REQUEST_HEADER_SIZE

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Column = npt.NDArray[Any]  # uint64 for u64 fields, else int64

_NUMPY_CODE = {Kind.U8: "u1", Kind.U16: "u2", Kind.U32: "u4", Kind.U64: "u8", Kind.I32: "i4", Kind.I64: "i8"}


def field_dtype(field: Field, order: str) -> np.dtype[np.generic]:
    """Return the dtype of one fixed field; `order` is "<" or ">"."""
    if field.kind is Kind.FIXED:
        return np.dtype((np.void, field.size))
    return np.dtype(order + _NUMPY_CODE[field.kind])


def fields_dtype(fields: tuple[Field, ...], order: str) -> np.dtype[np.void]:
    """Return the dtype of fixed fields one after another, hidden ones included, nothing aligned."""
    return np.dtype([(field.name, field_dtype(field, order)) for field in fields])


@cache
def in_header_dtype(order: str) -> np.dtype[np.void]:
    """Return the dtype of fuse_in_header."""
    return fields_dtype(IN_HEADER.fields, order)


@cache
def out_header_dtype(order: str) -> np.dtype[np.void]:
    """Return the dtype of fuse_out_header."""
    return fields_dtype(OUT_HEADER.fields, order)


@cache
def head_dtype(layout: Layout) -> np.dtype[np.void]:
    """Return the dtype of a layout's head, names as declared."""
    return fields_dtype(layout.head, layout.order)


def body_fields(op: Op | Notification, kind: MessageKind) -> tuple[Field, ...]:
    """Return the fields of one body of `op`; of a reply with two shapes, those of the one with integers in its head."""
    if isinstance(op, Notification):
        return op.payload
    if kind is MessageKind.REQUEST:
        return op.request
    return op.reply.then if isinstance(op.reply, Either) else op.reply


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """A layout, and how long the bodies are that have it: from `shortest` to `longest` bytes, None for no end."""

    shortest: int
    longest: int | None
    layout: Layout


@lru_cache(1024)
def head_layouts(op: Op | Notification, kind: MessageKind, context: Context) -> tuple[HeadLayout, ...]:
    """Return which layout a body has by its length on the wire, shortest first; lengths between fit none.

    Where INIT was not seen and only a look at each body could tell (SETXATTR), the fields that all layouts share
    are given.
    """
    fields = body_fields(op, kind)
    agreed = agreed_layout(fields, context)
    if is_undecided(fields, context):
        agreed = compile_layout(fields, context.effective_minor, frozenset(), context.order)
    if agreed.tail:
        return (HeadLayout(agreed.head_size, None, agreed),)
    if isinstance(op, Op) and op.short_reply and kind is not MessageKind.REQUEST:
        newest = variants(fields, context.order)[0]
        return tuple(_every_length(fields, context, newest.head_size))
    sizes = sorted({agreed.head_size, *(layout.head_size for layout in variants(fields, context.order))})
    return tuple(HeadLayout(size, size, fixed_layout(fields, context, size)) for size in sizes)


def _every_length(fields: tuple[Field, ...], context: Context, size: int) -> Iterator[HeadLayout]:
    for length in range(size + 1):
        layout = fixed_layout(fields, context, length, short=True)
        if layout.head_size == length:
            yield HeadLayout(length, length, layout)


def field_column(
    buffer: Bytes, starts: Positions, lengths: Positions, layout: Layout, name: str
) -> tuple[Mask, Column]:
    """Gather the integer `name` from bodies that begin at `starts` and of which `lengths` bytes were kept.

    Return (mask, values), both as long as `starts`: where the mask is False the body is too short to hold the field
    and the value is 0. KeyError when the layout's head has no such integer.
    """
    offset, field = _position(layout, name)
    dtype = np.dtype(layout.order + _NUMPY_CODE[field.kind])
    at = starts + np.int64(offset)
    mask = (lengths >= offset + field.size) & (at >= 0) & (at + field.size <= len(buffer))
    values = _zeros(len(starts), field)
    if len(buffer) >= field.size:
        values[mask] = _sliding(buffer, dtype)[at[mask]]
    return mask, values


def _zeros(count: int, field: Field | None) -> Column:
    return np.zeros(count, np.uint64 if field is not None and field.kind is Kind.U64 else np.int64)


@lru_cache(4096)
def _position(layout: Layout, name: str) -> tuple[int, Field]:
    for offset, field in zip(layout.offsets(), layout.head, strict=True):
        if field.name == name and field.kind.is_integer:
            return offset, field
    raise KeyError(name)


def has_field(layout: Layout, name: str) -> bool:
    """Whether `field_column` can gather `name` from bodies with this layout."""
    return any(field.name == name and field.kind.is_integer for field in layout.head)


def _sliding(buffer: Bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return `buffer` as values of `dtype` that begin at every byte: an index gathers them wherever they lie."""
    return np.ndarray((len(buffer) - dtype.itemsize + 1,), dtype, buffer, strides=(1,))


def gather(buffer: Bytes, starts: Positions, size: int) -> bytes:
    """Return the `size` bytes (at least one) that begin at each of `starts`, joined; all must lie in the buffer."""
    return _sliding(buffer, np.dtype((np.void, size)))[starts].tobytes()


def column(
    buffer: Bytes,
    starts: Positions,
    lengths: Positions,
    wire_lengths: Positions,
    op: Op | Notification,
    kind: MessageKind,
    context: Context,
    name: str,
) -> tuple[Mask, Column]:
    """Gather the integer `name` from bodies of one kind in one session, whatever their layouts.

    `starts` are where the bodies begin, after the header and `lengths` how much of each was kept; `wire_lengths` how
    long they were, the extension area not counted, which decides the layout.
    """
    fields = body_fields(op, kind)
    declared = next((field for field in fields if field.name == name), None)
    mask = np.zeros(len(starts), np.bool_)
    values = _zeros(len(starts), declared)
    groups = head_layouts(op, kind, context)
    if declared is not None and is_undecided(fields, context) and declared.needs:
        return _undecided_column(buffer, starts, lengths, wire_lengths, fields, context, name)
    for group in groups:
        if not has_field(group.layout, name):
            continue
        chosen = wire_lengths >= group.shortest
        if group.longest is not None:
            chosen &= wire_lengths <= group.longest
        rows = np.flatnonzero(chosen)
        found, gathered = field_column(buffer, starts[rows], lengths[rows], group.layout, name)
        mask[rows], values[rows] = found, gathered
    return mask, values


def _undecided_column(
    buffer: Bytes,
    starts: Positions,
    lengths: Positions,
    wire_lengths: Positions,
    fields: tuple[Field, ...],
    context: Context,
    name: str,
) -> tuple[Mask, Column]:
    """Look into each body, for the one field of which nothing else tells whether it is there."""
    mask = np.zeros(len(starts), np.bool_)
    values = np.zeros(len(starts), np.int64)
    for row, (start, length, wire_length) in enumerate(
        zip(starts.tolist(), lengths.tolist(), wire_lengths.tolist(), strict=True)
    ):
        layout = layout_for(fields, context, wire_length, buffer[start : start + length].tobytes())
        if has_field(layout, name):
            found, gathered = field_column(buffer, starts[row : row + 1], lengths[row : row + 1], layout, name)
            mask[row], values[row] = found[0], gathered[0]
    return mask, values


def name_span(buffer: bytes | bytearray | mmap, start: int, end: int) -> tuple[int, int]:
    """Return where the NUL-terminated name at `start` lies; it ends at `end` when the capture cut its NUL off."""
    nul = buffer.find(b"\0", start, end)
    return start, end if nul < 0 else nul
