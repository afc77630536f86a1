"""How long exchanges took: in all, in the queue before the server read them, and up to now."""

from __future__ import annotations

import numpy as np

from tracer.records import RecordFlag
from tracer.trace.columns import Array, Kind, Rows, Table

UNKNOWN = -1


def latencies_ns(table: Table, first: Rows) -> Array:
    """Return the time from request to reply of exchanges, given by their first rows; -1 where there is none."""
    mate, t_ns = table["mate"][first], table["t_ns"]
    known = (mate >= 0) & (table["kind"][first] == Kind.REQUEST) & _have_times(table, first)
    latency = np.full(len(first), UNKNOWN, dtype=np.int64)
    latency[known] = t_ns[mate[known]] - t_ns[first[known]]
    return latency


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
        self._requests: Rows = np.empty(0, np.int64)  # ascending
        self._deliveries: Rows = np.empty(0, np.int64)

    def waits_ns(self, first: Rows) -> Array:
        """Return how long requests, given by their rows, waited for the server to read them; -1 where unknown."""
        self._advance()
        waits = np.full(len(first), UNKNOWN, dtype=np.int64)
        if not len(self._requests):
            return waits
        place = np.minimum(np.searchsorted(self._requests, first), len(self._requests) - 1)
        known = self._requests[place] == first
        t_ns = self._table["t_ns"]
        waits[known] = np.maximum(t_ns[self._deliveries[place[known]]] - t_ns[first[known]], 0)
        return waits

    def _advance(self) -> None:
        """Take in the rows that came since; of a request taken twice (RESEND) the first time counts."""
        table, start = self._table, self._seen
        if start == table.count:
            return
        self._seen = table.count
        new = np.flatnonzero(table["kind"][start:] == Kind.DELIVERY) + start
        new = new[table["mate"][new] >= 0]
        if len(new):
            requests = np.concatenate([self._requests, table["mate"][new]])
            self._requests, where = np.unique(requests, return_index=True)
            self._deliveries = np.concatenate([self._deliveries, new])[where]
