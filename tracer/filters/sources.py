"""Where the values of a field come from: numbers as columns, text one by one.

A source is asked about exchanges, by number, and says which of them have the field and with what value. Everything
here is known without a look into a body; for those see tracer.filters.bodies and tracer.filters.paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tracer.records import RecordFlag
from tracer.store.prefix import FUSE_AT
from tracer.trace import index
from tracer.trace.columns import BIG_ENDIAN, Array, Kind, Rows
from tracer.trace.trace import Trace

Bools = npt.NDArray[np.bool_]

MANY_PROCESSES = 100  # different names that are looked for in all exchanges at once
COLUMN_COST, WORD_COST, BODY_COST, STATE_COST, NAME_COST, PATH_COST, VALUE_COST = 1, 3, 10, 20, 30, 40, 60


@dataclass(frozen=True, slots=True)
class Found:
    """Values, and which of the exchanges asked about have them.

    `where` is a place among those asked about for each value, in ascending order, several times where an exchange has
    several; None: each has exactly one.
    """

    where: Rows | None
    values: Array


class Numbers(Protocol):
    """A source of integers. A lower cost is asked first."""

    @property
    def cost(self) -> int:
        """How dear it is to ask, in no unit."""
        ...

    def find(self, trace: Trace, numbers: Rows) -> Found:
        """Return the values of the exchanges `numbers`."""
        ...


class Texts(Protocol):
    """A source of text and bytes, which may be long: given one by one. `repeats`: the same few come again and again."""

    @property
    def cost(self) -> int:
        """How dear it is to ask, in no unit."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether remembering answers pays."""
        ...

    def pairs(self, trace: Trace, numbers: Rows) -> Iterator[tuple[int, bytes]]:
        """Yield (place among `numbers`, value), places ascending."""
        ...


class SharedTexts(Protocol):
    """A source of text that many exchanges share, and of which each has one at most."""

    @property
    def cost(self) -> int:
        """How dear it is to ask, in no unit."""
        ...

    def groups(self, trace: Trace, numbers: Rows) -> Iterator[tuple[Rows, bytes]]:
        """Yield (places among `numbers`, the text of all of them); a text may come several times."""
        ...


Source = Numbers | Texts | SharedTexts


@dataclass(frozen=True, slots=True)
class Column:
    """Integers that one function gathers."""

    cost: int
    find: Callable[[Trace, Rows], Found]


@dataclass(frozen=True, slots=True)
class PerChannel:
    """Text that is the same for all exchanges of a channel; empty text counts as none."""

    attribute: str
    cost: int = COLUMN_COST + 1

    def groups(self, trace: Trace, numbers: Rows) -> Iterator[tuple[Rows, bytes]]:
        """Yield (places, text)."""
        channels = trace.records["channel"][trace.first_rows[numbers]]
        for channel in np.flatnonzero(np.bincount(channels)).tolist():
            text = getattr(trace.channels[channel], self.attribute)
            if text:
                yield np.flatnonzero(channels == channel), text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Comm:
    """The name of the calling process, 16 bytes of the prefix; none when it is not known."""

    cost: int = WORD_COST + 1

    def groups(self, trace: Trace, numbers: Rows) -> Iterator[tuple[Rows, bytes]]:
        """Yield (places, text)."""
        at = _word(trace, trace.first_rows[numbers], index.COMM)
        raw = trace.file.words[at[:, None] + np.arange(4)]
        halves = raw.view(np.uint64)
        low, high = halves[:, 0].copy(), halves[:, 1].copy()
        left = np.arange(len(numbers), dtype=np.int64)
        # Few processes make many exchanges: take out those of one after another.
        for _ in range(MANY_PROCESSES):
            if not len(left):
                return
            text = raw[left[0]].tobytes().rstrip(b"\0")
            same = (low == low[0]) & (high == high[0])
            if text:
                yield left[same], text
            left, low, high = left[~same], low[~same], high[~same]
        for place in left.tolist():
            text = raw[place].tobytes().rstrip(b"\0")
            if text:
                yield np.array([place]), text


# ---- columns ----


def some(mask: Bools, values: Array) -> Found:
    """Return the values where `mask` holds; both are as long as what was asked about."""
    if mask.all():
        return Found(None, values)
    where = np.flatnonzero(mask)
    return Found(where, values[where])


def _word(trace: Trace, rows: Array, offset: int) -> Rows:
    """Return where word `offset` of a packet block (tracer.trace.index) lies for each of `rows`."""
    at: Rows = (trace.records["at"][rows] - FUSE_AT) >> 2
    return at + offset


def _prefix_word(offset: int) -> Callable[[Trace, Rows], Found]:
    """Gather a word of the prefix; 0 means that it is not known."""

    def find(trace: Trace, numbers: Rows) -> Found:
        values = trace.file.words[_word(trace, trace.first_rows[numbers], offset)]
        return some(values != 0, values)

    return find


def _queue(trace: Trace, numbers: Rows) -> Found:
    words = trace.file.words[_word(trace, trace.first_rows[numbers], index.PREFIX + 1)]
    return Found(None, words >> 16)


def _header_word(offset: int) -> Callable[[Trace, Rows], Found]:
    """Gather a 32-bit word of the request's header."""
    needed = (offset - index.FUSE + 1) * 4

    def find(trace: Trace, numbers: Rows) -> Found:
        first = trace.first_rows[numbers]
        where = np.flatnonzero(
            (trace.records["kind"][first] == Kind.REQUEST) & (trace.records["kept"][first] >= needed)
        )
        rows = first[where]
        values = trace.file.words[_word(trace, rows, offset)]
        swapped = (trace.records["bits"][rows] & BIG_ENDIAN) != 0
        if swapped.any():
            values[swapped] = values[swapped].byteswap()
        return Found(None if len(where) == len(numbers) else where, values)

    return find


def _opcode(trace: Trace, numbers: Rows) -> Found:
    first = trace.first_rows[numbers]
    known = (trace.records["kind"][first] == Kind.REQUEST) & (trace.records["kept"][first] >= 8)
    return some(known, trace.records["opcode"][first].view(np.uint32))


def _notify(trace: Trace, numbers: Rows) -> Found:
    first = trace.first_rows[numbers]
    return some(trace.records["kind"][first] == Kind.NOTIFICATION, trace.records["opcode"][first])


def _error(trace: Trace, numbers: Rows) -> Found:
    first = trace.first_rows[numbers]
    table = trace.records
    replies = np.where(table["kind"][first] == Kind.REPLY, first, table["mate"][first])
    where = np.flatnonzero(replies >= 0)
    where = where[table["kept"][replies[where]] >= 8]
    return Found(where, table["error"][replies[where]])


def _unique(trace: Trace, numbers: Rows) -> Found:
    first = trace.first_rows[numbers]
    known = (trace.records["kind"][first] != Kind.NOTIFICATION) & (
        trace.records["kept"][first] >= index.ENOUGH_FOR_UNIQUE
    )
    return some(known, trace.records["unique"][first])


def _nodeid(trace: Trace, numbers: Rows) -> Found:
    first = trace.first_rows[numbers]
    known = (trace.records["kind"][first] == Kind.REQUEST) & (trace.records["kept"][first] >= index.ENOUGH_FOR_NODEID)
    return some(known, trace.records["nodeid"][first])


def _length(trace: Trace, numbers: Rows) -> Found:
    return Found(None, trace.records["wire_len"][trace.first_rows[numbers]])


def _time(trace: Trace, numbers: Rows) -> Found:
    first = trace.first_rows[numbers]
    known = (trace.records["flags"][first] & RecordFlag.TIME_UNKNOWN) == 0
    return some(known, trace.records["t_ns"][first])


def _since_start(trace: Trace, numbers: Rows) -> Found:
    found = _time(trace, numbers)
    return Found(found.where, found.values - trace.records["t_ns"][:1]) if trace.records.count else found


def _latency(trace: Trace, numbers: Rows) -> Found:
    latency_ns = trace.latencies_ns(numbers)
    return some(latency_ns >= 0, latency_ns)


def _queue_wait(trace: Trace, numbers: Rows) -> Found:
    waits_ns = trace.queue_waits_ns(numbers)
    return some(waits_ns >= 0, waits_ns)


def _service(trace: Trace, numbers: Rows) -> Found:
    service_ns = trace.service_ns(numbers)
    return some(service_ns >= 0, service_ns)


def _pending_for(trace: Trace, numbers: Rows) -> Found:
    pending_ns = trace.pending_ns(numbers)
    return some(pending_ns >= 0, pending_ns)


def _lost_bytes(trace: Trace, numbers: Rows) -> Found:
    first = trace.first_rows[numbers]
    mate = trace.records["mate"][first]
    return Found(None, _lost(trace, first) + np.where(mate >= 0, _lost(trace, mate), 0))


def _lost(trace: Trace, rows: Array) -> Rows:
    lost: Rows = trace.records["wire_len"][rows].astype(np.int64) - trace.records["kept"][rows]
    return lost


def _state(trace: Trace, numbers: Rows) -> Found:
    return Found(None, trace.states(numbers))


def _kind(trace: Trace, numbers: Rows) -> Found:
    return Found(None, trace.records["kind"][trace.first_rows[numbers]])


def _submount(trace: Trace, numbers: Rows) -> Found:
    """Return the nodeid of each exchange's superblock's root. Follows the dialogue first: all before must be known."""
    roots = np.array([root for _, root in trace.submounts] or [0], dtype=np.uint64)
    number = trace.records["submount"][trace.first_rows[numbers]]
    return some(number >= 0, roots[number])


SINCE_START: Numbers = Column(COLUMN_COST, _since_start)
GENERAL: dict[str, Source] = {
    "fuse.opcode": Column(COLUMN_COST, _opcode),
    "fuse.notify": Column(COLUMN_COST, _notify),
    "fuse.error": Column(COLUMN_COST + 1, _error),
    "fuse.unique": Column(COLUMN_COST, _unique),
    "fuse.nodeid": Column(COLUMN_COST, _nodeid),
    "fuse.uid": Column(WORD_COST, _header_word(index.UID)),
    "fuse.gid": Column(WORD_COST, _header_word(index.GID)),
    "fuse.pid": Column(WORD_COST, _header_word(index.PID)),
    "fuse.len": Column(COLUMN_COST, _length),
    "fuse.time": Column(COLUMN_COST, _time),
    "fuse.latency": Column(COLUMN_COST + 1, _latency),
    "fuse.queue_wait": Column(COLUMN_COST + 1, _queue_wait),
    "fuse.service": Column(COLUMN_COST + 2, _service),
    "fuse.pending_for": Column(COLUMN_COST + 1, _pending_for),
    "fuse.channel": PerChannel("name"),
    "fuse.mount": PerChannel("mount_point"),
    "fuse.queue": Column(WORD_COST, _queue),
    "fuse.lost_bytes": Column(COLUMN_COST + 1, _lost_bytes),
    "fuse.state": Column(COLUMN_COST + 1, _state),
    "fuse.kind": Column(COLUMN_COST, _kind),
    "fuse.submount": Column(STATE_COST, _submount),
    "proc.pid": Column(WORD_COST, _header_word(index.PID)),
    "proc.comm": Comm(),
    "server.pid": Column(WORD_COST, _prefix_word(index.SERVER_PID)),
    "server.tid": Column(WORD_COST, _prefix_word(index.SERVER_TID)),
}
