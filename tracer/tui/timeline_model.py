"""What the timeline shows: a lane per submount, its SYNCFS and how each ended, the bytes written over time.

Counted with numpy over the trace's columns; nothing is decoded and nothing here knows of a screen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from dissectors.opcodes import OPS_BY_NAME, ROOT_ID
from dissectors.text import escape
from tracer.records import RecordFlag
from tracer.trace.columns import SUPERSEDED, Array, Kind, Rows
from tracer.trace.trace import Trace
from tracer.tui.density import Density, Window, count_into

SYNCFS = OPS_BY_NAME["SYNCFS"].code
ENOSYS = 38
EXACT_ROWS = 1 << 17  # up to so many records in sight are counted anew for every column: some 10 ms
MAX_LABEL = 200


class Outcome(IntEnum):
    """How a SYNCFS ended; of several in one column the highest shows."""

    NONE = 0
    DONE = 1
    ENOSYS = 2
    FAILED = 3
    PENDING = 4


class Bar(IntEnum):
    """What a column says about SYNCFS that take time."""

    NONE = 0
    ANSWERED = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class Lane:
    """One superblock: the mount (nodeid 1), a submount, or the messages whose submount is unknown (nodeid 0)."""

    index: int  # into Trace.submounts; -1: unknown
    channel: int
    nodeid: int
    label: str


@dataclass(frozen=True, slots=True)
class LanePicture:
    """One lane, counted for so many columns."""

    lane: Lane
    written_bytes: Array
    requests: Array
    errors: Array
    marks: Array  # Outcome of the SYNCFS sent in this column
    mark_numbers: Array  # the exchange behind the mark, -1 for none
    mark_latency_ns: Array  # -1 while it is pending
    bars: Array
    outcomes: dict[Outcome, int]  # over the whole trace

    @property
    def worst(self) -> Outcome:
        """The worst outcome in the whole trace."""
        return max((outcome for outcome, count in self.outcomes.items() if count), default=Outcome.NONE)


@dataclass(frozen=True, slots=True)
class Picture:
    """The timeline, ready to be drawn."""

    window: Window
    columns: int
    lanes: tuple[LanePicture, ...]
    sync_numbers: Rows  # every SYNCFS of the trace, in order
    has_times: bool
    is_whole: bool

    def column_of(self, t_ns: int) -> int:
        """Return the column of a time; -1 outside of the window."""
        column = self.window.column(t_ns, self.columns)
        return column if 0 <= column < self.columns else -1

    @property
    def most_written(self) -> float:
        """The most bytes any lane has in a column: the scale of the bars."""
        return max((float(one.written_bytes.max(initial=0)) for one in self.lanes), default=0.0)


@dataclass(slots=True)
class _Syncs:
    """Every SYNCFS of the trace as columns."""

    numbers: Rows
    begin_ns: Array
    latency_ns: Array
    outcome: Array
    lane: Array


@dataclass(slots=True)
class TimelineModel:
    """Follows a trace and counts it. All calls come from one thread, the one that lets the trace grow."""

    trace: Trace
    density: Density = field(default_factory=Density)
    fed: int = 0
    _sync_rows: list[Rows] = field(default_factory=list)
    _labels: dict[int, str] = field(default_factory=dict)

    def feed(self, count: int) -> None:
        """Take in the next `count` records at most. The state pass must have seen them."""
        table = self.trace.records
        new = slice(self.fed, min(table.count, self.fed + count))
        self.density.feed(table, new)
        found = np.flatnonzero((table["opcode"][new] == SYNCFS) & (table["kind"][new] == Kind.REQUEST))
        if len(found):
            self._sync_rows.append(found + new.start)
        self.fed = new.stop

    @property
    def has_pending(self) -> bool:
        """Whether a SYNCFS waits for its answer."""
        return bool((self._syncs().outcome == Outcome.PENDING).any())

    @property
    def whole(self) -> Window:
        """From the first record to the last."""
        t_ns = self.trace.records["t_ns"][: self.fed]
        if not len(t_ns):
            return Window(0, 1)
        return Window.bounded(self.density.first_ns, self.density.last_ns + 1)

    def picture(self, window: Window | None, columns: int, now_ns: int = 0) -> Picture:
        """Count what lies in `window`, None for the whole time. A pending SYNCFS lasts until `now_ns`."""
        syncs = self._syncs()
        whole = self.whole
        if (syncs.outcome == Outcome.PENDING).any() and now_ns > whole.end_ns:
            whole = Window(whole.start_ns, now_ns)
        sight = window or whole
        counted = self._counted(sight, columns)
        lanes = tuple(
            self._lane_picture(lane, counted.rows_of(lane.index), syncs, sight, columns, whole.end_ns)
            for lane in self._lanes()
        )
        has_times = not self.fed or not int(self.trace.records["flags"][0]) & RecordFlag.TIME_UNKNOWN
        return Picture(sight, columns, lanes, syncs.numbers, has_times, window is None)

    def _counted(self, window: Window, columns: int) -> Density:
        """Count exactly what can be counted quickly; take the rest from the counts kept while feeding."""
        table = self.trace.records
        start, stop = np.searchsorted(table["t_ns"][: self.fed], [window.start_ns, window.end_ns])
        if stop - start > EXACT_ROWS:
            return self.density.resampled(window, columns)
        counted = Density(columns)
        count_into(counted, table, slice(int(start), int(stop)), window)
        return counted

    def _lanes(self) -> list[Lane]:
        lanes = [
            Lane(index, channel, nodeid, self._label(index, channel, nodeid))
            for index, (channel, nodeid) in enumerate(self.trace.submounts[: self.density.lane_limit])
        ]
        if self.density.has_unknown:
            lanes.append(Lane(-1, 1 << 16, 0, "submount unknown"))
        return sorted(lanes, key=lambda lane: (lane.channel, lane.nodeid != ROOT_ID, lane.label))

    def _label(self, index: int, channel: int, nodeid: int) -> str:
        """Name a lane: the channel where there are several, else the path in its mount."""
        many = len(self.trace.channels) > 1
        if nodeid == ROOT_ID:
            name = self.trace.channels[channel].name.encode("utf-8", "surrogateescape")
            return escape(name, MAX_LABEL) if many else "/"
        if index not in self._labels:
            path = self.trace.names(channel).last_path(nodeid, self.trace.records.count)
            if path is None:
                return f"node {nodeid}"
            self._labels[index] = escape(path, MAX_LABEL)
        return self._labels[index]

    def _syncs(self) -> _Syncs:
        rows = np.concatenate(self._sync_rows) if self._sync_rows else np.empty(0, np.int64)
        table = self.trace.records
        mate = table["mate"][rows]
        answered = mate >= 0
        reply = np.where(answered, mate, 0)
        error = np.where(answered, table["error"][reply] if len(rows) else 0, 0)
        outcome = np.full(len(rows), Outcome.DONE, dtype=np.int8)
        outcome[error != 0] = Outcome.FAILED
        outcome[error == -ENOSYS] = Outcome.ENOSYS
        outcome[~answered] = Outcome.PENDING
        outcome[~answered & ((table["bits"][rows] & SUPERSEDED) != 0)] = Outcome.FAILED
        begin_ns = table["t_ns"][rows]
        latency_ns = np.where(answered, table["t_ns"][reply] - begin_ns if len(rows) else 0, -1)
        first = self.trace.first_rows
        numbers = np.searchsorted(first, rows.astype(first.dtype))  # another type would copy all of `first`
        return _Syncs(numbers, begin_ns, latency_ns, outcome, table["submount"][rows])

    @staticmethod
    def _lane_picture(
        lane: Lane, counted: tuple[Array, Array, Array], syncs: _Syncs, window: Window, columns: int, now_ns: int
    ) -> LanePicture:
        own = np.flatnonzero(syncs.lane == lane.index)
        outcome = syncs.outcome[own]
        totals: dict[Outcome, int] = {
            kind: int((outcome == kind).sum()) for kind in Outcome if kind is not Outcome.NONE
        }
        marks, numbers = np.zeros(columns, np.int8), np.full(columns, -1, np.int64)
        latency = np.full(columns, -1, np.int64)
        begin = window.columns(syncs.begin_ns[own], columns)
        end_ns = np.where(syncs.latency_ns[own] >= 0, syncs.begin_ns[own] + syncs.latency_ns[own], now_ns - 1)
        end = window.columns(end_ns, columns)
        bars = np.zeros(columns, np.int8)
        for bar, chosen in ((Bar.ANSWERED, outcome != Outcome.PENDING), (Bar.OPEN, outcome == Outcome.PENDING)):
            bars[_covered(begin[chosen], end[chosen], columns)] = bar
        shown = np.flatnonzero((begin >= 0) & (begin < columns))
        shown = shown[np.argsort(outcome[shown], kind="stable")]  # the worst is written last
        marks[begin[shown]] = outcome[shown]
        numbers[begin[shown]] = syncs.numbers[own][shown]
        latency[begin[shown]] = syncs.latency_ns[own][shown]
        return LanePicture(lane, *counted, marks, numbers, latency, bars, totals)


def _covered(begin: Array, end: Array, columns: int) -> Array:
    """Return which columns lie in any of the intervals [begin, end]."""
    inside = (end >= 0) & (begin < columns)
    steps = np.zeros(columns + 1, np.int64)
    np.add.at(steps, np.clip(begin[inside], 0, columns), 1)
    np.add.at(steps, np.clip(end[inside] + 1, 0, columns), -1)
    covered: Array = np.cumsum(steps[:columns]) > 0
    return covered
