"""How long exchanges took: in all, in the queue before the server read them, and up to now."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tracer.records import RecordFlag
from tracer.trace.columns import Array, Kind, Rows, Table, distinct
from tracer.trace.pairing import State

UNKNOWN = -1
LIVE_NS = 3600 * 1_000_000_000  # a trace whose last record is older is no longer being recorded


@dataclass(frozen=True, slots=True)
class Timing:
    """How one exchange stands, and where its time went. None: there is no such time, or the capture does not tell."""

    state: State
    latency_ns: int | None
    queue_wait_ns: int | None  # until the server read the request
    pending_ns: int | None  # how long it has waited for its answer
    was_read: bool | None  # whether the server has read the request

    @property
    def service_ns(self) -> int | None:
        """How long the server took once it had read the request."""
        if self.latency_ns is None or self.queue_wait_ns is None:
            return None
        return max(0, self.latency_ns - self.queue_wait_ns)

    @property
    def read_ago_ns(self) -> int | None:
        """How long ago the server read a request that still waits."""
        if self.pending_ns is None or self.queue_wait_ns is None:
            return None
        return max(0, self.pending_ns - self.queue_wait_ns)


def latencies_ns(table: Table, first: Rows) -> Array:
    """Return the time from request to reply of exchanges, given by their first rows; -1 where there is none."""
    mate, t_ns = table["mate"][first], table["t_ns"]
    known = (mate >= 0) & (table["kind"][first] == Kind.REQUEST) & _have_times(table, first)
    latency = np.full(len(first), UNKNOWN, dtype=np.int64)
    latency[known] = t_ns[mate[known]] - t_ns[first[known]]
    return latency


def live_now_ns(finished: bool, last_ns: int) -> int | None:
    """Return the time when a trace is still being recorded, None when it is not: it was finished, or left long ago."""
    now_ns = time.time_ns()
    return now_ns if not finished and last_ns and now_ns - last_ns < LIVE_NS else None


def pending_ns(table: Table, first: Rows, waiting: Array, now_ns: int | None) -> Array:
    """Return how long those of the exchanges that are `waiting` have done so by `now_ns`, or by the last record."""
    waiting = waiting & _have_times(table, first)
    pending = np.full(len(first), UNKNOWN, dtype=np.int64)
    if waiting.any():
        now_ns = int(table["t_ns"][-1]) if now_ns is None else now_ns
        pending[waiting] = np.maximum(now_ns - table["t_ns"][first[waiting]], 0)
    return pending


def _have_times(table: Table, first: Rows) -> Array:
    known: Array = (table["flags"][first] & RecordFlag.TIME_UNKNOWN) == 0
    return known


class Deliveries:
    """When servers took requests: what the eBPF bridge sees when it overhears the server's reads too."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._seen = 0
        self._known = Table({"request": "i8", "delivery": "i8"})  # rows, by ascending request
        self._channels: set[int] = set()

    def waits_ns(self, first: Rows) -> Array:
        """Return how long requests, given by their rows, waited for the server to read them; -1 where unknown."""
        self._advance()
        waits = np.full(len(first), UNKNOWN, dtype=np.int64)
        requests = self._known["request"]
        if not len(requests):
            return waits
        place = np.minimum(np.searchsorted(requests, first), len(requests) - 1)
        known = requests[place] == first
        t_ns = self._table["t_ns"]
        waits[known] = np.maximum(t_ns[self._known["delivery"][place[known]]] - t_ns[first[known]], 0)
        return waits

    def are_of(self, channel: int) -> bool:
        """Tell whether any was seen of a channel."""
        self._advance()
        return channel in self._channels

    def _advance(self) -> None:
        """Take in the rows that came since; of a request taken twice (RESEND) the first time counts."""
        table, start = self._table, self._seen
        if start == table.count:
            return
        self._seen = table.count
        new = np.flatnonzero(table["kind"][start:] == Kind.DELIVERY) + start
        self._channels.update(distinct(table["channel"][new]))
        new = new[table["mate"][new] >= 0]
        if len(new):
            self._splice(table["mate"][new].astype(np.int64), new)

    def _splice(self, requests: Rows, deliveries: Rows) -> None:
        """Put new ones in their places. Costs what lies behind the oldest: a trace that grows is not sorted again."""
        known = self._known
        start = int(np.searchsorted(known["request"], requests.min()))
        requests = np.concatenate([known["request"][start:], requests])
        deliveries = np.concatenate([known["delivery"][start:], deliveries])
        requests, where = np.unique(requests, return_index=True)
        known.count = start
        new = known.extend(len(requests))
        known["request"][new], known["delivery"][new] = requests, deliveries[where]
