"""Values in the bodies of one kind of message: integers gathered as columns, everything else read message by message.

What a body holds depends on what its session had agreed on, so rows are taken together by session. A message that is
not laid out as expected is decoded with care: a filter sees exactly what the detail view shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import cast

import numpy as np

from dissectors.catalog import FilterField, ValueKind
from dissectors.columns import Mask, body_fields, column, head_layouts
from dissectors.fast import reader
from dissectors.fields import Kind as FieldKind
from dissectors.fields import When
from dissectors.layout import Context
from dissectors.message import MessageKind, Value
from dissectors.opcodes import Either, Notification, Op
from tracer.filters.body_names import EntryNames, FirstName, entries_of, first_name
from tracer.filters.messages import Values, follower, messages_of, place_of, sessions, spans
from tracer.filters.sources import BODY_COST, VALUE_COST, Found, Numbers, Texts
from tracer.trace.columns import Array, Rows
from tracer.trace.trace import Trace

# ---- integers in the fixed part ----


@dataclass(frozen=True, slots=True)
class HeadInteger:
    """An integer in the part of a body whose layout is fixed."""

    field: FilterField
    cost: int = BODY_COST

    def find(self, trace: Trace, numbers: Rows) -> Found:
        """Gather it from all bodies at once."""
        op, kind = place_of(self.field)
        messages = messages_of(trace, numbers, op, kind)
        if self.field.when is not None:
            messages = messages.only(_asked_for(trace, messages.rows, op, self.field.when))
        mask = np.zeros(len(messages.rows), np.bool_)
        values = np.zeros(len(messages.rows), _dtype(self.field))
        for places, context in sessions(trace, messages.rows):
            rows = messages.rows[places]
            mask[places], values[places] = self._gather(trace, rows, op, kind, context)
        return Found(messages.where[mask], values[mask])

    def _gather(
        self, trace: Trace, rows: Rows, op: Op | Notification, kind: MessageKind, context: Context
    ) -> tuple[Mask, Array]:
        at, name = spans(trace, rows, kind), self.field.field_path
        mask, values = column(trace.file.content, at.starts, at.kept, at.wire, op, kind, context, name)
        for place in np.flatnonzero(_odd(at.wire, op, kind, context)).tolist():
            value = trace.message(int(rows[place])).values.get(name)
            mask[place] = isinstance(value, int)
            values[place] = value if isinstance(value, int) else 0
        return mask, values


def _dtype(field: FilterField) -> type[np.generic]:
    declared = field.field
    if declared is not None and declared.kind is FieldKind.INTEGERS:
        declared = declared.record[0]
    return np.uint64 if declared is not None and declared.kind is FieldKind.U64 else np.int64


def _odd(wire: Rows, op: Op | Notification, kind: MessageKind, context: Context) -> Mask:
    """Find the bodies whose length fits no layout."""
    fits = np.zeros(len(wire), np.bool_)
    for layout in head_layouts(op, kind, context):
        fits |= (wire >= layout.shortest) & (wire <= (1 << 62 if layout.longest is None else layout.longest))
    return ~fits


def _asked_for(trace: Trace, replies: Rows, op: Op | Notification, when: When) -> Mask:
    """Tell which replies have the shape that `when` stands for, by their requests."""
    name = when.field.removeprefix("request.")
    requests = trace.records["mate"][replies].astype(np.int64)
    mask = np.zeros(len(replies), np.bool_)
    for places, context in sessions(trace, requests):
        at = spans(trace, requests[places], MessageKind.REQUEST)
        found, values = column(trace.file.content, at.starts, at.kept, at.wire, op, MessageKind.REQUEST, context, name)
        bits = values.astype(np.uint64) & np.uint64(when.mask)
        mask[places] = found & ((bits == when.equals) != when.negate)
    return mask


# ---- everything else, read message by message ----


@dataclass(frozen=True, slots=True)
class BodyValues:
    """A value of any shape, found in the values of whole messages."""

    field: FilterField
    cost: int = VALUE_COST

    @property
    def repeats(self) -> bool:
        """Whether the same few values come again and again: names do, file content does not."""
        return self.field.kind is not ValueKind.BYTES

    def pairs(self, trace: Trace, numbers: Rows) -> Iterator[tuple[int, bytes]]:
        """Yield (place, value) of text."""
        return ((place, value) for place, value in self._found(trace, numbers) if isinstance(value, bytes))

    def find(self, trace: Trace, numbers: Rows) -> Found:
        """Return the integers."""
        found = [(place, value) for place, value in self._found(trace, numbers) if isinstance(value, int)]
        where = np.array([place for place, _ in found], dtype=np.int64)
        return Found(where, np.array([value for _, value in found], dtype=_dtype(self.field)))

    def _found(self, trace: Trace, numbers: Rows) -> Iterator[tuple[int, Value]]:
        follow = follower(self.field.field_path)
        for place, values in _values(trace, numbers, *place_of(self.field)):
            for value in follow(values):
                yield place, value


_Read = Callable[..., Values | None]


def _values(trace: Trace, numbers: Rows, op: Op | Notification, kind: MessageKind) -> Iterator[tuple[int, Values]]:
    """Yield (place, values) of all messages of one kind; what the fast path refuses is decoded with care."""
    messages, content, code = messages_of(trace, numbers, op, kind), trace.file.mapped, op.code
    is_shaped = isinstance(op, Op) and kind is MessageKind.REPLY and isinstance(op.reply, Either)
    for places, context in sessions(trace, messages.rows):
        part, read = messages.only(places), reader(context)
        get = cast(_Read, getattr(read, kind.value))
        starts, kept, wire = (trace.records[name][part.rows].tolist() for name in ("at", "kept", "wire_len"))
        for place, row, start, length, sent in zip(
            part.where.tolist(), part.rows.tolist(), starts, kept, wire, strict=True
        ):
            if is_shaped:  # by its request, which Trace finds
                yield place, trace.values(row)
                continue
            values = get(content, start, start + length, code, wire_len=sent)
            yield place, trace.message(row).values if values is None else values


def source_of(field: FilterField) -> Numbers | Texts:
    """Return the cheapest source of a field in a body."""
    op, kind = place_of(field)
    fields = body_fields(op, kind)
    head = tuple(takewhile(lambda one: one.kind.is_fixed and one.when is None, fields))
    if field.field in head and field.kind in (ValueKind.INTEGER, ValueKind.SIGNED):
        return HeadInteger(field)
    if kind is MessageKind.REQUEST and isinstance(op, Op) and first_name(op) == field.field_path:
        return FirstName((op,))
    return EntryNames(field) if entries_of(field) is not None else BodyValues(field)
