"""Rows of a replay as cells: what was asked, and what either server answered."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len

from replays.reasons import Skip
from replays.report import NONE
from replays.results.outcome import KeptDifference
from replays.results.sides import Mark, Sides
from tracer.output.lines import Line
from tracer.output.style import duration
from tracer.tui.rows import ARROW, Rows

IDS = re.compile(r"(?<![\w.])(?:node|fh)=\S+ ?")  # each server chooses its own: they differ, and mean the same
NO_TIME = duration(None)  # of what is never answered
SIGNS = {Mark.FIRST: "≠", Mark.FOLLOWS: "≈", Mark.NOT_SENT: "∅", Mark.ADDED: "+"}
WIDE_CELLS = 110


class SideLine(NamedTuple):
    """A row, both sides of it. A side that is not there is None."""

    row: int
    mark: Mark
    skip: Skip | None
    recorded: Line | None
    live: Line | None
    difference: KeptDifference | None  # the first one

    @property
    def one(self) -> Line:
        """The side that says what was asked: the recorded one where there is one."""
        line = self.recorded or self.live
        assert line is not None
        return line


class SideRows:
    """Reads rows of both traces, a screenful at a time."""

    def __init__(self, sides: Sides, recorded: Rows, live: Rows) -> None:
        self._sides, self._recorded, self._live = sides, recorded, live

    def read(self, rows: Iterable[int]) -> dict[int, SideLine]:
        """Return rows of the table."""
        sides, wanted = self._sides, list(rows)
        ours = {row: int(sides.recorded[row]) for row in wanted}
        theirs = {row: int(sides.live[row]) for row in wanted}
        recorded = self._recorded.fetch(number for number in ours.values() if number != NONE)
        live = self._live.fetch(number for number in theirs.values() if number != NONE)
        return {
            row: SideLine(
                row,
                Mark(int(sides.marks[row])),
                sides.skip(row),
                recorded.get(ours[row]),
                live.get(theirs[row]),
                next(iter(sides.differences.get(row, ())), None),
            )
            for row in wanted
        }


def asked_and_answered(line: Line) -> str:
    """Return the summary without the numbers that each server chooses for itself."""
    asked, arrow, rest = line.what.rpartition(ARROW)
    asked, answer = IDS.sub("", asked if arrow else rest).strip(), answer_of(line)
    return f"{asked} {ARROW} {answer}" if asked and answer not in ("", asked) else answer or asked


def answer_of(line: Line) -> str:
    """Return what a server answered, without the numbers it chose; where that is nothing, how the exchange stands."""
    _, arrow, answer = line.what.rpartition(ARROW)
    found = IDS.sub("", answer).strip() if arrow else ""
    if found:
        return found
    return "no answer" if line.is_open else IDS.sub("", line.what) if line.latency == NO_TIME else "ok"


def to_the_point(text: str, value: str, difference: KeptDifference | None, width: int) -> str:
    """Return what a server answered, or, where that is too long, its value of the field that differs."""
    if difference is None or not value or cell_len(text) <= width:
        return text
    field = difference.field.rpartition(".")[2]
    return value if field in ("error", "data", "") else f"{field} {value}"


def instead_of_live(line: SideLine) -> str:
    """Return what stands on the live side of a row of which nothing was sent."""
    if line.mark is Mark.ONE_SIDED:
        return "the recorded server's own"
    return f"not sent: {line.skip.value}" if line.skip is not None else f"not sent: {Skip.NOT_REACHED.value}"


@dataclass(frozen=True, slots=True)
class SideColumns:
    """How wide each column is; either side has the same."""

    number: int
    opcode: int
    path: int
    latency: int
    answer: int
    is_wide: bool  # the recorded side says too what was asked


def side_columns(width: int, count: int) -> SideColumns:
    """Share out the width: sign, number, opcode and path, then twice a bar, a latency and an answer, gaps between."""
    number, is_wide = max(3, len(str(max(0, count - 1)))), width >= WIDE_CELLS
    opcode, latency = (15, 8) if is_wide else (11, 6)
    path = max(6, (width - number) * (24 if is_wide else 20) // 100)
    rest = width - (1 + number + opcode + path) - 4 - 2 * (2 + latency + 1) - 1
    return SideColumns(number, opcode, path, latency, max(4, rest // 2), is_wide)
