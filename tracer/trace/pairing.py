"""Which reply answers which request: by (channel, unique), in the order of the file.

A reply does not carry its opcode, so this comes before any reply is decoded. Works on one scan at a time; requests that
are still open are carried to the next, so opening a file and following one give the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np

from dissectors.flags import UNIQUE_RESEND
from dissectors.opcodes import OPS, OPS_BY_NAME, Answer
from tracer.records import RecordFlag
from tracer.trace.columns import INTERRUPTED, SUPERSEDED, UNPAIRABLE, Array, CodeSet, Kind, Rows, Table, distinct

NEVER_ANSWERED = tuple(op.code for op in OPS.values() if op.answer is Answer.NEVER)
_NEVER_ANSWERED = CodeSet(NEVER_ANSWERED)
_NEEDS_NO_ANSWER = CodeSet(op.code for op in OPS.values() if op.answer is not Answer.REPLY)
INTERRUPT = OPS_BY_NAME["INTERRUPT"].code
NOTIFY_REPLY = OPS_BY_NAME["NOTIFY_REPLY"].code
INIT = OPS_BY_NAME["INIT"].code
EINTR = 4
RESENT = np.uint64(UNIQUE_RESEND)


class State(Enum):
    """How an exchange stands."""

    PENDING = 0  # asked, not answered by the end of what was captured
    DONE = 1
    NO_REPLY = 2  # needs none: FORGET, BATCH_FORGET, NOTIFY_REPLY, INTERRUPT
    INTERRUPTED = 3  # answered EINTR after an INTERRUPT
    ORPHAN_REPLY = 4  # an answer to nothing that was captured, or one the kernel refused
    LOST = 5  # never answered, and its unique was used again
    NOTIFY = 6
    ABORTED = 7  # the kernel ended it: the connection was aborted, or the caller was killed before it was sent


class Pairing:
    """Pairs the rows of a table as they come."""

    def __init__(self, table: Table, interrupt_target: Callable[[int], int]) -> None:
        """`interrupt_target` reads from the body of the INTERRUPT in a row which unique it names."""
        self._table, self._interrupt_target = table, interrupt_target
        self._open: dict[int, Rows] = {}  # channel -> rows of requests not yet answered

    def open_rows(self, channel: int) -> Rows:
        """Return the requests of a channel that wait for an answer."""
        return self._open.get(channel, np.empty(0, np.int64))

    @property
    def open_count(self) -> int:
        """How many requests of all channels wait for an answer."""
        return sum(map(len, self._open.values()))

    def resume(self) -> None:
        """Find the open requests of a table that was paired before."""
        table = self._table
        is_open = (table["kind"] == Kind.REQUEST) & (table["mate"] < 0)
        is_open &= (table["bits"] & (UNPAIRABLE | SUPERSEDED)) == 0
        rows = np.flatnonzero(is_open & ~_NEVER_ANSWERED.holds(table["opcode"]))
        channels = table["channel"][rows]
        self._open = {channel: rows[channels == channel] for channel in distinct(channels)}

    def feed(self, new: slice) -> Rows:
        """Pair the rows `new`; return the rows of the replies that found their request."""
        table = self._table
        kind, opcode = table["kind"][new], table["opcode"][new]
        is_request = kind == Kind.REQUEST
        pairable = (table["bits"][new] & UNPAIRABLE) == 0
        pairable &= kind <= Kind.REPLY
        pairable &= ~(is_request & _NEVER_ANSWERED.holds(opcode))
        delivered = kind == Kind.DELIVERY
        channels = table["channel"][new]
        present = distinct(channels)
        paired: list[Rows] = []
        for channel in present:
            own = np.flatnonzero(pairable if len(present) == 1 else pairable & (channels == channel))
            taken = np.flatnonzero(delivered if len(present) == 1 else delivered & (channels == channel))
            paired.append(self._feed_channel(channel, own + new.start, taken + new.start))
        return np.concatenate(paired) if paired else np.empty(0, np.int64)

    def _feed_channel(self, channel: int, own: Rows, deliveries: Rows) -> Rows:
        table = self._table
        rows = np.concatenate([self.open_rows(channel), own]) if channel in self._open else own
        unique = table["unique"][rows]
        order = np.argsort(unique, kind="stable")  # rows ascend, so equal uniques stay in time order
        rows, unique = rows[order], unique[order]
        is_request = table["kind"][rows] == Kind.REQUEST
        if len(deliveries) and len(rows):
            self._join_deliveries(deliveries, rows, unique, is_request)
        is_real = np.ones(len(rows), dtype=bool)
        if len(unique) and unique[-1] >= RESENT:
            rows, unique, is_request, is_real = _with_resent(rows, unique, is_request)
        same_as_next = np.zeros(len(rows), dtype=bool)
        np.equal(unique[:-1], unique[1:], out=same_as_next[:-1])
        next_is_request = np.ones(len(rows), dtype=bool)
        next_is_request[:-1] = is_request[1:]

        is_request &= is_real
        repeated = is_request & same_as_next
        answered = np.flatnonzero(repeated & ~next_is_request)
        requests, replies = rows[answered], rows[answered + 1]
        self._join(requests, replies)
        superseded = rows[repeated & next_is_request]
        table["bits"][superseded] |= SUPERSEDED
        self._open[channel] = np.sort(rows[is_request & ~same_as_next])
        interrupts = own[(table["opcode"][own] == INTERRUPT) & (table["kind"][own] == Kind.REQUEST)]
        for interrupt in interrupts.tolist():
            self._mark_interrupted(interrupt, rows, unique, is_request)
        return replies

    def _join(self, requests: Rows, replies: Rows) -> None:
        table = self._table
        table["mate"][requests] = replies
        table["mate"][replies] = requests
        for name in ("opcode", "nodeid", "pid"):
            column = table[name]
            column[replies] = column[requests]

    def _join_deliveries(self, deliveries: Rows, rows: Rows, unique: Array, is_request: Array) -> None:
        """Give each delivery the latest request of its unique before it; `rows` are sorted by unique, then by time."""
        table = self._table
        wanted = table["unique"][deliveries]
        start, end = np.searchsorted(unique, wanted, "left"), np.searchsorted(unique, wanted, "right")
        for once_more in np.flatnonzero(end - start > 2).tolist():  # a unique that was used again
            own = rows[start[once_more] : end[once_more]]
            before = np.flatnonzero(is_request[start[once_more] : end[once_more]] & (own < deliveries[once_more]))
            start[once_more] += before[-1] if len(before) else 0
        start = np.minimum(start, len(rows) - 1)
        fits = (unique[start] == wanted) & is_request[start] & (rows[start] < deliveries)
        requests = rows[start[fits]]
        table["mate"][deliveries[fits]] = requests
        for name in ("opcode", "nodeid", "pid"):
            table[name][deliveries[fits]] = table[name][requests]

    def _mark_interrupted(self, interrupt: int, rows: Rows, unique: Array, is_request: Array) -> None:
        """Mark the request that an INTERRUPT names, if it was open then; `rows` are sorted by unique, then by time."""
        table = self._table
        target = np.uint64(self._interrupt_target(interrupt))
        start, end = np.searchsorted(unique, target, "left"), np.searchsorted(unique, target, "right")
        latest = start + np.searchsorted(rows[start:end], interrupt) - 1
        if latest >= start and is_request[latest]:
            table["bits"][rows[latest]] |= INTERRUPTED


def _with_resent(rows: Rows, unique: Array, is_request: Array) -> tuple[Rows, Array, Array, Array]:
    """Let each request that was sent again after NOTIFY_RESEND take the first one's place; say which rows are real.

    The copy has bit 63 set, and only the copy can be answered from then on: an answer to the first gets ENOENT.
    A capture of what the kernel sends has no copy (it is queued by fuse_resend alone): its answer is the first's.
    """
    copies = np.flatnonzero(is_request & (unique >= RESENT))
    has_copy = np.zeros(len(rows), dtype=bool)
    has_copy[1:] = is_request[:-1] & (unique[:-1] == unique[1:])
    unique = np.where(~is_request & ~has_copy, unique & ~RESENT, unique)
    is_real = np.repeat([True, False], [len(rows), len(copies)])
    rows = np.concatenate([rows, rows[copies]])
    unique = np.concatenate([unique, unique[copies] & ~RESENT])
    is_request = np.concatenate([is_request, np.ones(len(copies), dtype=bool)])
    order = np.lexsort((rows, unique))
    return rows[order], unique[order], is_request[order], is_real[order]


def states(table: Table, first: Rows) -> Array:
    """Return the State value of each exchange, given by its first row."""
    kind, bits, mate = table["kind"][first], table["bits"][first], table["mate"][first]
    opcode = table["opcode"][first]
    result = np.full(len(first), State.PENDING.value, dtype=np.uint8)
    result[(bits & SUPERSEDED) != 0] = State.LOST.value
    result[_NEEDS_NO_ANSWER.holds(opcode)] = State.NO_REPLY.value
    done = (mate >= 0) & (kind == Kind.REQUEST)
    result[done] = State.DONE.value
    result[done & ((table["flags"][mate] & RecordFlag.ABORTED) != 0)] = State.ABORTED.value
    interrupted = done & ((bits & INTERRUPTED) != 0)
    where = np.flatnonzero(interrupted)
    result[where[table["error"][mate[where]] == -EINTR]] = State.INTERRUPTED.value
    result[kind == Kind.REPLY] = State.ORPHAN_REPLY.value
    result[kind == Kind.NOTIFICATION] = State.NOTIFY.value
    return result
