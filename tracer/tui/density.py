"""How much happens when, per lane: bytes written, requests and errors in bins of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dissectors.opcodes import OPS_BY_NAME
from tracer.trace.columns import Array, Kind, Table

WRITE, LOOKUP, GETXATTR, LISTXATTR = (OPS_BY_NAME[name].code for name in ("WRITE", "LOOKUP", "GETXATTR", "LISTXATTR"))
ENOENT, ENODATA = 2, 61
WRITE_OVERHEAD = 80  # fuse_in_header and fuse_write_in (64 below 7.9: that much is drawn too little)
BINS = 4096
LATEST_NS = 1 << 62  # the year 2116
LANE_LIMIT = 256  # submounts beyond count as unknown: a hostile trace can announce millions


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time [start_ns, end_ns)."""

    start_ns: int
    end_ns: int

    @classmethod
    def bounded(cls, start_ns: int, end_ns: int) -> Window:
        """Return a window within what numpy can compute with: a trace may claim any times."""
        start = max(-LATEST_NS, min(start_ns, LATEST_NS - 1))
        return cls(start, max(start + 1, min(end_ns, LATEST_NS)))

    @property
    def length_ns(self) -> int:
        """How long it is, at least 1."""
        return max(1, self.end_ns - self.start_ns)

    def column(self, t_ns: int, columns: int) -> int:
        """Return the column of a time; below 0 or beyond `columns` outside of the window."""
        return (t_ns - self.start_ns) * columns // self.length_ns

    def columns(self, t_ns: Array, columns: int) -> Array:
        """Return the columns of many times; -1 and `columns` outside of the window."""
        found = np.floor((t_ns - self.start_ns) * float(columns) / self.length_ns)
        inside: Array = np.clip(found, -1, columns).astype(np.int64)
        return inside

    def time(self, column: int, columns: int) -> int:
        """Return the time at which a column begins."""
        return self.start_ns + -(-column * self.length_ns // columns)

    def zoomed(self, around_ns: int, factor: float) -> Window:
        """Return the window `factor` as long, with `around_ns` where it was."""
        length = max(1000, int(self.length_ns * factor))
        share = (around_ns - self.start_ns) / self.length_ns
        start = around_ns - int(length * min(1.0, max(0.0, share)))
        return Window.bounded(start, start + length)

    def moved_to_hold(self, t_ns: int) -> Window:
        """Return the window, moved if need be so that it holds a time."""
        if self.start_ns <= t_ns < self.end_ns:
            return self
        start = t_ns - self.length_ns // 2
        return Window.bounded(start, start + self.length_ns)


class Density:
    """Counts per lane and bin. Fed with records as they come, its bins double in width when time outgrows them."""

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self.first_ns = self.last_ns = 0
        self.bin_ns = 1
        self.lane_limit = LANE_LIMIT
        # Row 0 is the unknown submount, row n+1 the submount n.
        self.written_bytes = np.zeros((1, bins))
        self.requests = np.zeros((1, bins))
        self.errors = np.zeros((1, bins))
        self._is_empty = True

    @property
    def has_unknown(self) -> bool:
        """Whether anything was counted whose submount is unknown."""
        return bool(self.requests[0].any())

    def rows_of(self, index: int) -> tuple[Array, Array, Array]:
        """Return written bytes, requests and errors of a submount, -1 for the unknown one."""
        self.make_room(index + 2)
        row = index + 1
        return self.written_bytes[row], self.requests[row], self.errors[row]

    def feed(self, table: Table, new: slice) -> None:
        """Count the records `new`."""
        if new.stop <= new.start:
            return
        t_ns = table["t_ns"][new]
        if self._is_empty:
            self.first_ns = int(t_ns.min())
            self._is_empty = False
        self.last_ns = max(self.last_ns, int(t_ns.max()))
        while self.last_ns - self.first_ns >= self.bins * self.bin_ns:
            self._double()
        count_into(self, table, new, Window(self.first_ns, self.first_ns + self.bins * self.bin_ns))

    def _double(self) -> None:
        self.bin_ns *= 2
        for counts in (self.written_bytes, self.requests, self.errors):
            half = self.bins // 2
            counts[:, :half] = counts[:, ::2] + counts[:, 1::2]
            counts[:, half:] = 0

    def make_room(self, lanes: int) -> None:
        """Have room for so many lanes."""
        missing = lanes - len(self.requests)
        if missing > 0:
            more = np.zeros((missing, self.bins))
            self.written_bytes, self.requests, self.errors = (
                np.concatenate([old, more]) for old in (self.written_bytes, self.requests, self.errors)
            )

    def resampled(self, window: Window, columns: int) -> Density:
        """Return the counts of a part of the time for so many columns, each bin counted where its middle lies."""
        middle = self.first_ns + np.arange(self.bins) * self.bin_ns + self.bin_ns // 2
        column = window.columns(middle, columns)
        inside = (column >= 0) & (column < columns)
        result = Density(columns)
        result.make_room(len(self.requests))
        for mine, theirs in (
            (self.written_bytes, result.written_bytes),
            (self.requests, result.requests),
            (self.errors, result.errors),
        ):
            for lane in range(len(mine)):
                theirs[lane] = np.bincount(column[inside], mine[lane, inside], minlength=columns)
        return result


def count_into(density: Density, table: Table, rows: slice, window: Window) -> None:
    """Count records into bins that divide `window` evenly."""
    if rows.stop <= rows.start:
        return
    lane = table["submount"][rows].astype(np.int64) + 1
    lane[lane > density.lane_limit] = 0
    density.make_room(int(lane.max()) + 1)
    column = np.clip(window.columns(table["t_ns"][rows], density.bins), 0, density.bins - 1)
    place = lane * density.bins + column
    kind, opcode = table["kind"][rows], table["opcode"][rows]
    is_request = kind == Kind.REQUEST
    is_write = is_request & (opcode == WRITE)
    size = np.maximum(table["wire_len"][rows][is_write].astype(np.int64) - WRITE_OVERHEAD, 0)
    shape, total = density.requests.shape, density.requests.size
    density.requests += np.bincount(place[is_request], minlength=total).reshape(shape)
    density.written_bytes += np.bincount(place[is_write], size, minlength=total).reshape(shape)
    density.errors += np.bincount(place[_is_failure(table, rows)], minlength=total).reshape(shape)


def _is_failure(table: Table, rows: slice) -> Array:
    """Tell which records are error replies; "there is no such name" and "no such attribute" are everyday answers."""
    error, opcode = table["error"][rows], table["opcode"][rows]
    failed = (error != 0) & (table["kind"][rows] == Kind.REPLY)
    failed &= ~((error == -ENOENT) & (opcode == LOOKUP))
    failed &= ~((error == -ENODATA) & ((opcode == GETXATTR) | (opcode == LISTXATTR)))
    result: Array = failed
    return result
