"""The list of a replay: a recorded exchange a row, to the right of it what the live server answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from replays.results.sides import Mark
from tracer.output.lines import Line
from tracer.tui.cursor_list import HEADER_LINES, CursorList
from tracer.tui.replay_rows import (
    SIGNS,
    SideColumns,
    SideLine,
    SideRows,
    answer_of,
    asked_and_answered,
    instead_of_live,
    side_columns,
    to_the_point,
)
from tracer.tui.rows import fit, fit_answer, fit_path, fit_right

BAR = "│ "
STYLES = {Mark.FIRST: "first", Mark.FOLLOWS: "follows", Mark.NOT_SENT: "unsent", Mark.ADDED: "added"}


class ReplayList(CursorList):
    """A virtual list: its rows are rows of a replays.results.sides.Sides."""

    PREFIX = "sides"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"sides--{name}"
        for name in (
            "header",
            "cursor",
            "first-row",
            "first",
            "first-recorded",
            "first-live",
            "follows",
            "unsent",
            "added",
            "dim",
            "opcode",
            "path",
            "plain",
            "empty",
        )
    }

    def __init__(self, rows: SideRows, recorded_count: int, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows, self._recorded_count = rows, recorded_count
        self._kept: dict[int, SideLine] = {}

    def names_became_known(self) -> None:
        """Read all again, now with paths."""
        self._kept.clear()
        self.refresh()

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw one line of what is in sight."""
        width = self.scrollable_content_region.width
        columns = side_columns(width, self._recorded_count)
        if y < HEADER_LINES:
            return self._header(columns, width)
        row = self.row_at(y)
        if row >= len(self.listing):
            return self._below(y, width)
        line = self._visible_line(row)
        base = self.base + self.overlay("first-row") if line.mark is Mark.FIRST else self.base
        if row == self.cursor:
            base += self.overlay("cursor")
        return Strip(self._cells(line, columns, base)).adjust_cell_length(width, base)

    def _visible_line(self, row: int) -> SideLine:
        """Return a row; whatever else is in sight is read with it."""
        number = self.listing.number(row)
        if number not in self._kept:
            self._kept = self._rows.read(self.listing.number(each) for each in self.around(row))
        return self._kept[number]

    def _header(self, columns: SideColumns, width: int) -> Strip:
        style = self.style("header")
        latency = fit_right("latency" if columns.is_wide else "took", columns.latency)
        words = [fit_right("#", columns.number) + "  ", fit("opcode", columns.opcode), fit("path", columns.path)]
        words += [f"{BAR}{latency}", fit("recorded", columns.answer), f"{BAR}{latency}", "live"]
        return Strip([Segment(word + " ", style) for word in words]).adjust_cell_length(width, style)

    def _below(self, y: int, width: int) -> Strip:
        if y == HEADER_LINES and not len(self.listing):
            return Strip([Segment(fit("  no row is like that", width), self.style("empty"))])
        return Strip.blank(width, self.base)

    def _cells(self, line: SideLine, columns: SideColumns, base: Style) -> Iterator[Segment]:
        def styled(name: str) -> Style:
            return base + self.overlay(name)

        mark, is_loud = line.mark, line.mark is Mark.FIRST
        quiet = styled(STYLES[mark]) if mark in STYLES and not is_loud else None
        number = str(line.recorded.number) if line.recorded is not None else ""
        yield Segment(fit_right(number, columns.number) + " ", styled("dim"))
        yield Segment(SIGNS.get(mark, " "), styled(STYLES[mark]) if mark in STYLES else base)
        yield Segment(" " + fit(line.one.opcode, columns.opcode) + " ", quiet or styled("opcode"))
        yield Segment(fit_path(line.one.path, columns.path) + " ", quiet or styled("path"))
        ours = quiet or styled("first-recorded" if is_loud else "plain")
        theirs = quiet or styled("first-live" if is_loud else "dim")
        yield from self._side(line.recorded, self._recorded_text(line, columns), columns, base, ours)
        yield Segment(" ", base)
        yield from self._side(line.live, self._live_text(line, columns), columns, base, theirs)

    def _side(self, line: Line | None, text: str, columns: SideColumns, base: Style, style: Style) -> Iterator[Segment]:
        dim = base + self.overlay("dim")
        yield Segment(BAR, dim)
        room = columns.answer
        if line is None:
            room += columns.latency + 1
        else:
            yield Segment(fit_right(line.latency, columns.latency) + " ", dim)
        yield Segment(fit_answer(text, room), style)

    @staticmethod
    def _recorded_text(line: SideLine, columns: SideColumns) -> str:
        if line.recorded is None:
            return "not in the recording"
        text = asked_and_answered(line.recorded) if columns.is_wide else answer_of(line.recorded)
        value = line.difference.recorded if line.difference is not None else ""
        return to_the_point(text, value, line.difference, columns.answer)

    @staticmethod
    def _live_text(line: SideLine, columns: SideColumns) -> str:
        if line.live is None:
            return instead_of_live(line)
        answer = answer_of(line.live)
        is_other = line.recorded is not None and line.recorded.opcode != line.live.opcode
        value = line.difference.live if line.difference is not None else ""
        return to_the_point(
            f"{line.live.opcode} → {answer}" if is_other else answer, value, line.difference, columns.answer
        )
