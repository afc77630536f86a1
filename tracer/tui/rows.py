"""Exchanges as cells of the list: decoded a screenful at a time, kept until they can change."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from rich.cells import cell_len, set_cell_size

from dissectors.describe import summary
from dissectors.opcodes import NOTIFY, OPS, notify_name, op_name
from tracer.output.lines import SYNCFS, Line, Lines
from tracer.output.style import clock, duration
from tracer.records import RecordFlag
from tracer.trace.columns import Kind
from tracer.trace.pairing import State
from tracer.trace.trace import Trace
from tracer.tui.turns import Turns

KEPT_ROWS = 2048
ARROW = "→"
NANOSECONDS = 1_000_000_000


class TimeFormat(Enum):
    """What the time column says."""

    CLOCK = "time"
    START = "since start"
    DELTA = "since row"

    @property
    def next(self) -> TimeFormat:
        """The one that the key switches to."""
        formats = list(TimeFormat)
        return formats[(formats.index(self) + 1) % len(formats)]


class Rows:
    """Reads rows out of a trace, in turns with the thread that lets it grow."""

    def __init__(self, trace: Trace, turns: Turns) -> None:
        self._trace, self._turns = trace, turns
        self._kept: OrderedDict[int, Line] = OrderedDict()
        self._lines: Lines | None = None
        self.names_are_known = False  # until then the thread works on names and submounts, and nobody may ask for them
        self.decoded = 0  # rows made so far, for tests

    def fetch(self, numbers: Iterable[int]) -> dict[int, Line]:
        """Return the rows of exchanges, those that are not at hand in one turn."""
        wanted = list(numbers)
        missing = [number for number in wanted if number not in self._kept]
        if missing:
            made = {line.number: line for line in self._read(missing)}
            self.decoded += len(made)
            self._kept.update(made)
        found = {number: self._kept[number] for number in wanted}
        while len(self._kept) > KEPT_ROWS:
            self._kept.popitem(last=False)
        return found

    def _read(self, numbers: list[int]) -> list[Line]:
        if not self.names_are_known:
            return [unnamed_line(self._trace, number) for number in numbers]
        with self._turns.mine():
            if self._lines is None:
                self._lines = Lines(self._trace)
            return list(self._lines.lines(np.array(numbers, dtype=np.int64)))

    def at_hand(self, number: int) -> Line | None:
        """Return a row that needs no reading."""
        return self._kept.get(number)

    def first_at(self, t_ns: int, upto: int) -> int:
        """Return the first exchange below `upto` that began at a time or later; the last one if none did."""
        return min(max(0, upto - 1), bisect_left(range(upto), t_ns, key=self.time_ns))

    def has_grown(self) -> None:
        """Read rows again that an answer, or another channel, may have changed."""
        self._lines = None
        if not self.names_are_known:
            return
        for number in [number for number, line in self._kept.items() if line.is_open]:
            del self._kept[number]

    def names_became_known(self) -> None:
        """Read all rows again, now with paths and submounts."""
        self.names_are_known = True
        self._kept.clear()

    def time_ns(self, number: int) -> int:
        """Return when an exchange began."""
        return int(self._trace.records["t_ns"][self._trace.first_rows[number]])

    def time_text(self, number: int, before: int | None, form: TimeFormat) -> str:
        """Return the time of an exchange; `before` is the exchange in the row above."""
        t_ns = self.time_ns(number)
        has_times = not int(self._trace.records["flags"][self._trace.first_rows[number]]) & RecordFlag.TIME_UNKNOWN
        if form is TimeFormat.CLOCK or not has_times:
            return clock(t_ns, has_times)
        since = self.time_ns(0) if form is TimeFormat.START else self.time_ns(before) if before is not None else t_ns
        return f"{(t_ns - since) / NANOSECONDS:.6f}"


def unnamed_line(trace: Trace, number: int) -> Line:
    """Return what an exchange is from columns and its own bytes alone: no path, no submount."""
    table, row = trace.records, int(trace.first_rows[number])
    one = np.array([number], dtype=np.int64)
    kind, opcode, mate = int(table["kind"][row]), int(table["opcode"][row]), int(table["mate"][row])
    state, latency_ns = State(int(trace.states(one)[0])), int(trace.latencies_ns(one)[0])
    answer = mate if kind == Kind.REQUEST else row if kind == Kind.REPLY else -1
    error = int(table["error"][answer]) if answer >= 0 else 0
    lost = int(table["wire_len"][mate]) - int(table["kept"][mate]) if mate >= 0 else 0
    took = duration(latency_ns if latency_ns >= 0 else None)
    is_open = state in (State.PENDING, State.LOST)
    op = NOTIFY.get(opcode) if kind == Kind.NOTIFICATION else OPS.get(opcode)
    return Line(
        number,
        "",
        state.name.lower() if is_open else took,
        "…",
        notify_name(opcode) if kind == Kind.NOTIFICATION else op_name(opcode) if opcode >= 0 else "?",
        f"node {int(table['nodeid'][row])}",
        summary(op, trace.fast_values(row), trace.fast_values(mate) if mate >= 0 else None, error, lost),
        str(int(table["pid"][row])),
        kind == Kind.REQUEST and opcode == SYNCFS,
        bool(error) or state is State.ABORTED,
        is_open,
    )


@dataclass(frozen=True, slots=True)
class Columns:
    """How wide each column is; 0 leaves it out."""

    number: int
    time: int
    latency: int
    submount: int
    opcode: int
    path: int
    what: int
    who: int


GAP = 1  # between two columns


def columns_for(width: int, count: int, submount_cells: int) -> Columns:
    """Share out the width of the list: what tells most is the last to go."""
    number = max(3, len(str(max(0, count - 1))))
    if width >= 110:
        submount = min(16, max(3, submount_cells))
        rest = max(20, width - (number + 15 + 8 + submount + 17 + 18) - 7 * GAP)
        return Columns(number, 15, 8, submount, 17, rest * 2 // 5, rest - rest * 2 // 5, 18)
    submount = min(6, max(3, submount_cells))
    rest = max(10, width - (number + 12 + 7 + submount + 13) - 6 * GAP)
    path = min(22, rest * 9 // 20)
    return Columns(number, 12, 7, submount, 13, path, rest - path, 0)


def fit(text: str, width: int) -> str:
    """Return `text` in exactly `width` cells, with an ellipsis where it was cut."""
    if text.isascii():
        return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)


def fit_right(text: str, width: int) -> str:
    """Return `text` at the right of `width` cells."""
    return " " * (width - cell_len(text)) + text if cell_len(text) <= width else fit(text, width)


def fit_path(path: str, width: int) -> str:
    """Return a path in `width` cells; of one that is too long the end is kept, which tells most."""
    if cell_len(path) <= width:
        return fit(path, width)
    tail = path
    while tail and cell_len(tail) > width - 1:
        tail = tail[max(1, (len(tail) - width) // 2) :]
    return fit("…" + tail, width)


def fit_answer(text: str, width: int) -> str:
    """Return a summary in `width` cells; the answer after the arrow is kept."""
    asked, arrow, answer = text.rpartition(ARROW)
    if cell_len(text) <= width or not arrow or cell_len(answer) + 4 > width:
        return fit(text, width)
    room = width - cell_len(answer) - 2
    return fit(f"{fit(asked.rstrip(), room).rstrip()} {arrow}{answer}", width)
