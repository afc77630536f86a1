"""Values in the bodies of one kind of message: integers gathered as columns, everything else read message by message.

What a body holds depends on what its session had agreed on, so rows are taken together by session. A message that is
not laid out as expected is decoded with care: a filter sees exactly what the detail view shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from dissectors.catalog import FilterField, ValueKind
from dissectors.columns import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE, Mask, body_fields, column, head_layouts
from dissectors.fields import Kind as FieldKind
from dissectors.fields import When
from dissectors.layout import Context, agreed_layout, is_undecided
from dissectors.message import MessageKind, Value
from dissectors.opcodes import OPS, Notification, Op
from tracer.filters.sources import BODY_COST, NAME_COST, VALUE_COST, Found, Numbers, Texts
from tracer.trace.columns import BIG_ENDIAN, Array, Kind, Rows
from tracer.trace.trace import Trace

Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Messages:
    """Rows of one kind of message, and the place among the exchanges asked about that each belongs to."""

    where: Rows
    rows: Rows

    def only(self, chosen: Array) -> Messages:
        """Return some of them, by index or mask."""
        return Messages(self.where[chosen], self.rows[chosen])


def messages_of(trace: Trace, numbers: Rows, op: Op | Notification, kind: MessageKind) -> Messages:
    """Return the messages of one kind; of replies those without an error, since no other has a body."""
    first, table = trace.first_rows[numbers], trace.records
    where = np.flatnonzero(table["opcode"][first] == op.code)
    rows = first[where].astype(np.int64)
    wanted = Kind.NOTIFICATION if kind is MessageKind.NOTIFICATION else Kind.REQUEST
    found = Messages(where, rows).only(table["kind"][rows] == wanted)
    if kind is not MessageKind.REPLY:
        return found
    mates = table["mate"][found.rows].astype(np.int64)
    answered = mates >= 0
    answered[answered] = table["error"][mates[answered]] == 0
    return Messages(found.where[answered], mates[answered])


def sessions(trace: Trace, rows: Rows) -> Iterator[tuple[Rows, Context]]:
    """Split `rows` by what their session had agreed on; yield (places in `rows`, context)."""
    channels = trace.records["channel"][rows]
    for channel in np.flatnonzero(np.bincount(channels)).tolist():
        own = np.flatnonzero(channels == channel)
        session = trace.sessions[channel]
        turns = [agreement.row for agreement in session.agreements if not agreement.error][1:]
        stretch = np.searchsorted(turns, rows[own], side="right")
        for number in np.unique(stretch).tolist() if turns else [0]:
            places = own[stretch == number] if turns else own
            yield places, session.context(int(rows[places[0]]))


def _extension_sizes(trace: Trace, rows: Rows) -> Rows:
    """Return how long the extension area of requests is, 0 where the header says more than there is (7.38)."""
    table, content = trace.records, trace.file.content
    at = table["at"][rows] + 36
    whole = table["kept"][rows] >= REQUEST_HEADER_SIZE
    at = np.where(whole, at, 0)
    low, high = content[at].astype(np.int64), content[at + 1].astype(np.int64)
    big = (table["bits"][rows] & BIG_ENDIAN) != 0
    sizes: Rows = 8 * np.where(big, low << 8 | high, high << 8 | low)
    sizes[~whole | (sizes > table["wire_len"][rows].astype(np.int64) - REQUEST_HEADER_SIZE)] = 0
    return sizes


@dataclass(frozen=True, slots=True)
class Spans:
    """Where bodies lie: what was kept of each, and how long it was without its extension area."""

    starts: Rows
    kept: Rows
    wire: Rows


def spans(trace: Trace, rows: Rows, kind: MessageKind) -> Spans:
    """Return where the bodies of messages of one kind lie."""
    table = trace.records
    header = REQUEST_HEADER_SIZE if kind is MessageKind.REQUEST else REPLY_HEADER_SIZE
    wire = table["wire_len"][rows].astype(np.int64) - header
    if kind is MessageKind.REQUEST:
        wire -= _extension_sizes(trace, rows)
    kept = np.minimum(table["kept"][rows].astype(np.int64) - header, wire)
    return Spans(table["at"][rows] + header, kept, wire)


# ---- integers in the fixed part ----


@dataclass(frozen=True, slots=True)
class HeadInteger:
    """An integer in the part of a body whose layout is fixed."""

    field: FilterField
    cost: int = BODY_COST

    def find(self, trace: Trace, numbers: Rows) -> Found:
        """Gather it from all bodies at once."""
        op, kind = _place(self.field)
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


# ---- names that follow the fixed part ----


@dataclass(frozen=True, slots=True)
class FirstName:
    """The name that comes right after the fixed part of requests: found by its NUL, nothing else is read."""

    ops: tuple[Op, ...]
    cost: int = NAME_COST
    repeats: bool = True

    def pairs(self, trace: Trace, numbers: Rows) -> Iterator[tuple[int, bytes]]:
        """Yield (place, value)."""
        found: list[tuple[int, bytes]] = []
        for op in self.ops:
            messages = messages_of(trace, numbers, op, MessageKind.REQUEST)
            for places, context in sessions(trace, messages.rows):
                found += self._names(trace, messages.only(places), op, context)
        if len(self.ops) > 1:
            found.sort()
        return iter(found)

    def _names(self, trace: Trace, messages: Messages, op: Op, context: Context) -> Iterator[tuple[int, bytes]]:
        at = spans(trace, messages.rows, MessageKind.REQUEST)
        starts, ends = at.starts + agreed_layout(op.request, context).head_size, at.starts + at.kept
        if is_undecided(op.request, context):
            yield from self._decoded(trace, messages, op)
            return
        content, find = trace.file.mapped, trace.file.mapped.find
        for place, start, end in zip(messages.where.tolist(), starts.tolist(), ends.tolist(), strict=True):
            if start <= end:
                nul = find(b"\0", start, end)
                yield place, content[start : end if nul < 0 else nul]

    def _decoded(self, trace: Trace, messages: Messages, op: Op) -> Iterator[tuple[int, bytes]]:
        name = first_name(op)
        for place, row in zip(messages.where.tolist(), messages.rows.tolist(), strict=True):
            value = trace.values(row).get(name)
            if isinstance(value, bytes):
                yield place, value


def first_name(op: Op) -> str:
    """Return the name of the field that `FirstName` finds, empty when the fixed part is not followed by a name."""
    following = next((field for field in op.request if not field.kind.is_fixed), None)
    return following.name if following is not None and following.kind is FieldKind.NAME else ""


NAMED_OPS = tuple(op for op in OPS.values() if first_name(op))


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
        messages = messages_of(trace, numbers, *_place(self.field))
        follow = _follower(self.field.field_path)
        for place, row in zip(messages.where.tolist(), messages.rows.tolist(), strict=True):
            for value in follow(trace.values(row)):
                yield place, value


def _follower(path: str) -> Callable[[Values], list[Value]]:
    """Return what finds a path in the values of a message: "name", "names[]" or "entries[].dirent.name"."""
    head, listed, inner = path.partition("[]")
    inner = inner.removeprefix(".")
    if not listed:
        return lambda values: [values[head]] if head in values else []

    def follow(values: Values) -> list[Value]:
        items = values.get(head)
        if not isinstance(items, list):
            return []
        if not inner:
            return [*items]
        return [item[inner] for item in items if isinstance(item, dict) and inner in item]

    return follow


@dataclass(frozen=True, slots=True)
class Malformed:
    """1 where the bytes of a message of the exchange break the protocol, else 0."""

    cost: int = VALUE_COST + 1

    def find(self, trace: Trace, numbers: Rows) -> Found:
        """Return it for every exchange."""
        first = trace.first_rows[numbers]
        mates = trace.records["mate"][first].tolist()
        found = [
            _is_malformed(trace, row) or (mate >= 0 and _is_malformed(trace, mate))
            for row, mate in zip(first.tolist(), mates, strict=True)
        ]
        return Found(None, np.array(found, dtype=np.int64))


def _is_malformed(trace: Trace, row: int) -> bool:
    return trace.fast_values(row) is None and trace.message(row).is_malformed


def source_of(field: FilterField) -> Numbers | Texts:
    """Return the cheapest source of a field in a body."""
    op, kind = _place(field)
    fields = body_fields(op, kind)
    head = tuple(takewhile(lambda one: one.kind.is_fixed and one.when is None, fields))
    if field.field in head and field.kind in (ValueKind.INTEGER, ValueKind.SIGNED):
        return HeadInteger(field)
    if kind is MessageKind.REQUEST and isinstance(op, Op) and first_name(op) == field.field_path:
        return FirstName((op,))
    return BodyValues(field)


def _place(field: FilterField) -> tuple[Op | Notification, MessageKind]:
    if field.op is None or field.message is None:
        raise AssertionError(f"{field.name} is in no body")
    return field.op, field.message
