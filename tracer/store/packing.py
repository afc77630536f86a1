"""Packs RecordColumns into blocks, byte for byte what the writer makes of the same records one by one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tracer.records import RecordColumns
from tracer.store import pcapng
from tracer.store.prefix import EPB_HEADER_SIZE, OVERHEAD, PREFIX_SIZE, PREFIX_VERSION, TAGS, TAGS_SIZE
from tracer.store.writer import LONGEST_PACKED, MAX_MESSAGE

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_HEAD: Final = np.dtype(
    [
        ("kind", "<u4"),
        ("total", "<u4"),
        ("interface", "<u4"),
        ("t_high", "<u4"),
        ("t_low", "<u4"),
        ("kept", "<u4"),
        ("original", "<u4"),
        ("tags", "V", TAGS_SIZE),
        ("version", "u1"),
        ("size", "u1"),
        ("direction", "u1"),
        ("bridge", "u1"),
        ("channel", "<u2"),
        ("queue", "<u2"),
        ("flags", "<u4"),
        ("wire_len", "<u4"),
        ("server_pid", "<u4"),
        ("server_tid", "<u4"),
        ("comm", "S16"),
        ("result", "<i4"),
        ("desc_head", "<u4"),
    ]
)
_SAME: Final = tuple(column.name for column in fields(RecordColumns) if column.name in (_HEAD.names or ()))
_HEAD_SIZE: Final = _HEAD.itemsize
_AROUND: Final = _HEAD_SIZE + 4  # the block's length stands at its end once more
assert _HEAD_SIZE == EPB_HEADER_SIZE + OVERHEAD

_CONSTANT: Final = np.zeros(1, _HEAD)
_CONSTANT["kind"], _CONSTANT["version"], _CONSTANT["size"] = pcapng.ENHANCED_PACKET, PREFIX_VERSION, PREFIX_SIZE
_CONSTANT["tags"] = np.void(TAGS)


def counted(batch: RecordColumns) -> list[int]:
    """Return how many records each channel has, from channel 0 on."""
    counts: list[int] = np.bincount(batch.channel).tolist()
    return counts


def packed(batch: RecordColumns) -> list[memoryview]:
    """Return the blocks in pieces to be written one after the other; long messages are not copied."""
    if not len(batch):
        return []
    content = np.frombuffer(batch.content, np.uint8)
    kept = np.minimum(batch.length, MAX_MESSAGE)
    padding = -kept & 3
    is_long = kept + padding > LONGEST_PACKED
    inside = np.where(is_long, 0, kept)  # FUSE bytes packed with their block
    sizes = inside + padding + _AROUND  # what a record takes in `blocks`
    ends = np.cumsum(sizes)
    blocks = np.empty(int(ends[-1]), np.uint8)
    heads = _heads(batch, kept, padding)

    last = ends - 8  # the bytes before the length at the end: padding and what it pads
    windows(blocks, 8)[last] = _tails(heads["total"])
    windows(blocks, _HEAD_SIZE)[ends - sizes] = heads.view(f"V{_HEAD_SIZE}")
    copy_ragged(blocks, ends - sizes + _HEAD_SIZE, content, batch.start, inside)
    if not is_long.any():
        return [blocks.data]
    rows = np.flatnonzero(is_long)
    borders = (ends - sizes)[rows] + _HEAD_SIZE
    return _interleaved(blocks, borders.tolist(), batch.content, batch.start[rows].tolist(), kept[rows].tolist())


def _heads(batch: RecordColumns, kept: Numbers, padding: Numbers) -> npt.NDArray[np.void]:
    """Return everything of the blocks that stands before the FUSE bytes."""
    heads = np.empty(len(batch), _HEAD)
    heads.view(f"V{_HEAD_SIZE}")[:] = _CONSTANT.view(f"V{_HEAD_SIZE}")
    t_ns = np.maximum(batch.t_ns, 0)
    heads["total"] = kept + padding + _AROUND
    heads["interface"] = batch.channel
    heads["t_high"], heads["t_low"] = t_ns >> 32, t_ns & 0xFFFF_FFFF
    heads["kept"] = kept + OVERHEAD
    heads["original"] = np.minimum(np.maximum(kept, batch.wire_len) + OVERHEAD, 0xFFFF_FFFF)
    for name in _SAME:
        heads[name] = getattr(batch, name)
    return heads


def _tails(total: npt.NDArray[np.uint32]) -> npt.NDArray[np.void]:
    """Return the last eight bytes of each block: zeros where padding may be, and its length."""
    tails = np.zeros((len(total), 2), np.dtype("<u4"))
    tails[:, 1] = total
    return tails.view("V8")[:, 0]


def _interleaved(
    blocks: Bytes, borders: list[int], content: memoryview, starts: list[int], lengths: list[int]
) -> list[memoryview]:
    """Return `blocks` with a part of `content` at each border."""
    pieces: list[memoryview] = []
    view, at = blocks.data, 0
    for border, start, length in zip(borders, starts, lengths, strict=True):
        pieces += (view[at:border], content[start : start + length])
        at = border
    return [*pieces, view[at:]]


def copy_ragged(target: Bytes, to: Numbers, source: Bytes, start: Numbers, length: Numbers) -> None:
    """Copy `length` bytes from each of `start` to each of `to`.

    A length between two powers of two is copied as two pieces of the smaller one that overlap: however many lengths
    there are, numpy is called a few times.
    """
    exponent = np.frexp(length.astype(np.float32))[1]  # lengths are small enough to be exact
    for power in np.flatnonzero(np.bincount(exponent)).tolist():
        if not power:
            continue  # nothing to copy
        rows: Any = np.flatnonzero(exponent == power)
        if len(rows) == len(length):
            rows = slice(None)
        size = 1 << (power - 1)
        sizes, origin, destination = length[rows], start[rows], to[rows]
        shortest, longest = int(sizes.min()), int(sizes.max())
        if shortest == longest:
            size = longest
        here, there = windows(target, size), windows(source, size)
        here[destination] = there[origin]
        if size < longest:
            rest = sizes - size
            here[destination + rest] = there[origin + rest]


def windows(buffer: Bytes, size: int) -> npt.NDArray[np.void]:
    """Return the `size` bytes at every place of `buffer`, which must hold so many; a view."""
    return np.ndarray((len(buffer) - size + 1,), f"V{size}", buffer, strides=(1,))
