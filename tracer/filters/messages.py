"""The messages of one kind among exchanges: their rows, the sessions they belong to, where their bodies lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dissectors.catalog import FilterField
from dissectors.columns import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE
from dissectors.layout import Context
from dissectors.message import MessageKind, Value
from dissectors.opcodes import Notification, Op
from tracer.trace.columns import BIG_ENDIAN, Array, Kind, Rows
from tracer.trace.trace import Trace

Values = Mapping[str, Value]


def place_of(field: FilterField) -> tuple[Op | Notification, MessageKind]:
    """Return the kind of message that a field in a body belongs to."""
    if field.op is None or field.message is None:
        raise AssertionError(f"{field.name} is in no body")
    return field.op, field.message


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
    sizes = announced_extensions(trace, rows)
    sizes[sizes > trace.records["wire_len"][rows].astype(np.int64) - REQUEST_HEADER_SIZE] = 0
    return sizes


def announced_extensions(trace: Trace, rows: Rows) -> Rows:
    """Return how long the headers of requests say that their extension areas are; 0 where no whole header was kept."""
    table, content = trace.records, trace.file.content
    at = table["at"][rows] + 36
    whole = table["kept"][rows] >= REQUEST_HEADER_SIZE
    at = np.where(whole, at, 0)
    low, high = content[at].astype(np.int64), content[at + 1].astype(np.int64)
    big = (table["bits"][rows] & BIG_ENDIAN) != 0
    sizes: Rows = 8 * np.where(big, low << 8 | high, high << 8 | low)
    sizes[~whole] = 0
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


def follower(path: str) -> Callable[[Values], list[Value]]:
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
