"""fuse.malformed of very many exchanges: most messages are seen to be sound by their lengths, the rest is decoded.

What is said here of lengths is what `dissectors.decode` says of a whole message; the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dissectors.columns import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE, Mask, body_fields, column, head_layouts
from dissectors.errnos import MAX_ERRNO
from dissectors.fields import Kind as FieldKind
from dissectors.layout import Context, Layout, agreed_layout, is_undecided
from dissectors.message import MessageKind
from dissectors.opcodes import NOTIFY, OPS, Answer, Either, Notification, Op
from tracer.filters.messages import Spans, announced_extensions, sessions, spans
from tracer.filters.sources import VALUE_COST, Bools, Found
from tracer.trace.columns import BIG_ENDIAN, Array, Kind, Rows
from tracer.trace.trace import Trace

EXTENSIBLE = frozenset(op.code for op in OPS.values() if op.extensible)


@dataclass(frozen=True, slots=True)
class Malformed:
    """1 where the bytes of a message of the exchange break the protocol, else 0."""

    cost: int = VALUE_COST + 1

    def find(self, trace: Trace, numbers: Rows) -> Found:
        """Return it for every exchange."""
        first = trace.first_rows[numbers].astype(np.int64)
        mates = trace.records["mate"][first].astype(np.int64)
        bad = broken(trace, first)
        answered = np.flatnonzero(mates >= 0)
        bad[answered] |= broken(trace, mates[answered])
        return Found(None, bad.astype(np.int64))


def broken(trace: Trace, rows: Rows) -> Bools:
    """Tell which records break the protocol."""
    bad = np.zeros(len(rows), np.bool_)
    for place in np.flatnonzero(~_sound(trace, rows)).tolist():
        row = int(rows[place])
        bad[place] = not _reads_fast(trace, row) and trace.message(row).is_malformed
    return bad


def _reads_fast(trace: Trace, row: int) -> bool:
    """Tell whether the struct path vouches for a record; it does not look into an extension area."""
    opcode, kind = int(trace.records["opcode"][row]), int(trace.records["kind"][row])
    return not (kind == Kind.REQUEST and opcode in EXTENSIBLE) and trace.fast_values(row) is not None


def _sound(trace: Trace, rows: Rows) -> Bools:
    """Find records that are sound for certain."""
    table = trace.records
    kind, opcode, error = table["kind"][rows], table["opcode"][rows], table["error"][rows]
    wire = table["wire_len"][rows]
    whole = _said_lengths(trace, rows) == wire
    is_error = (kind == Kind.REPLY) & (error != 0)
    sound: Bools = is_error & whole & (wire == REPLY_HEADER_SIZE) & (error < 0) & (error >= -MAX_ERRNO)
    whole &= ~is_error
    for op, message, record in _known_messages():
        places = np.flatnonzero((opcode == op.code) & (kind == record) & whole)
        if len(places):
            sound[places] = _sound_bodies(trace, rows[places], op, message)
    return sound


def _said_lengths(trace: Trace, rows: Rows) -> Array:
    """Return what the headers say the lengths are; 0 where not even the shorter header was kept."""
    table, words = trace.records, trace.file.words
    kept = table["kept"][rows] >= REPLY_HEADER_SIZE
    said = np.zeros(len(rows), np.uint32)
    said[kept] = words[table["at"][rows[kept]] >> 2]
    swapped = (table["bits"][rows] & BIG_ENDIAN) != 0
    said[swapped] = said[swapped].byteswap()
    return said


def _known_messages() -> Iterator[tuple[Op | Notification, MessageKind, Kind]]:
    """Yield what `_sound_bodies` can judge."""
    for op in OPS.values():
        yield op, MessageKind.REQUEST, Kind.REQUEST
        if op.answer is not Answer.NEVER and not isinstance(op.reply, Either):
            yield op, MessageKind.REPLY, Kind.REPLY
    for item in NOTIFY.values():
        yield item, MessageKind.NOTIFICATION, Kind.NOTIFICATION


def _sound_bodies(trace: Trace, rows: Rows, op: Op | Notification, kind: MessageKind) -> Mask:
    sound = np.zeros(len(rows), np.bool_)
    fields = body_fields(op, kind)
    for places, context in sessions(trace, rows):
        if is_undecided(fields, context):
            continue
        at = spans(trace, rows[places], kind)
        # A header of which not all was kept, or an extension area: not judged by lengths.
        header = REQUEST_HEADER_SIZE if kind is MessageKind.REQUEST else REPLY_HEADER_SIZE
        plain = at.wire == trace.records["wire_len"][rows[places]].astype(np.int64) - header
        if kind is MessageKind.REQUEST:
            plain &= announced_extensions(trace, rows[places]) == 0
        sound[places] = plain & (at.kept >= 0) & _fits(trace, at, op, kind, context, agreed_layout(fields, context))
    return sound


def _fits(trace: Trace, at: Spans, op: Op | Notification, kind: MessageKind, context: Context, layout: Layout) -> Mask:
    """Tell which bodies end where their fields do."""
    fits = np.zeros(len(at.wire), np.bool_)
    if not layout.tail:
        fits |= np.isin(at.wire, [one.shortest for one in head_layouts(op, kind, context)])
        return fits
    last, *more = layout.tail
    if more or last.when is not None:
        return fits
    if last.kind is FieldKind.NAME:
        fits |= _one_name(trace, at, layout.head_size)
    elif last.kind is FieldKind.DATA and not last.size_from:
        fits |= at.wire >= layout.head_size
    elif last.kind is FieldKind.DATA:
        content = trace.file.content
        found, sizes = column(content, at.starts, at.kept, at.wire, op, kind, context, last.size_from)
        fits |= found & (at.wire - layout.head_size == sizes)
    return fits


def _one_name(trace: Trace, at: Spans, head_size: int) -> Mask:
    """Tell which bodies have their first NUL behind the fixed part as their last byte."""
    find = trace.file.mapped.find
    starts, ends = (at.starts + head_size).tolist(), (at.starts + at.wire).tolist()
    ended = [start < end and find(b"\0", start, end) == end - 1 for start, end in zip(starts, ends, strict=True)]
    mask: Mask = at.kept == at.wire
    mask &= np.array(ended, dtype=np.bool_)
    return mask
