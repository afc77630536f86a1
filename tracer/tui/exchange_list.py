"""The list of exchanges. Only the rows on screen are ever looked at: its length costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tracer.output.lines import Line
from tracer.tui.cursor_list import HEADER_LINES, CursorList
from tracer.tui.rows import Columns, Rows, TimeFormat, columns_for, fit, fit_answer, fit_path, fit_right

EVERYDAY = frozenset({("LOOKUP", "ENOENT"), ("GETXATTR", "ENODATA"), ("LISTXATTR", "ENODATA")})


class ExchangeList(CursorList):
    """A virtual list: its rows are exchange numbers of a Listing."""

    PREFIX = "list"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"list--{name}"
        for name in (
            "header",
            "cursor",
            "sync-row",
            "sync",
            "enosys",
            "pending",
            "error",
            "everyday",
            "dim",
            "opcode",
            "write",
            "path",
            "empty",
        )
    }

    def __init__(self, rows: Rows, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows = rows
        self.time_format = TimeFormat.CLOCK
        self._submount_cells = 0

    # ---- what it shows ---------------------------------------------------------------------------------------------

    def has_grown(self, submount_cells: int) -> None:
        """Draw rows anew that an answer may have changed."""
        self._submount_cells = submount_cells
        self._rows.has_grown()
        self.refresh()

    def switch_time_format(self) -> TimeFormat:
        """Show times in the next format."""
        self.time_format = self.time_format.next
        self.refresh()
        return self.time_format

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw one line of what is in sight."""
        width = self.scrollable_content_region.width
        columns = columns_for(width, self.listing.upto, self._submount_cells)
        if y < HEADER_LINES:
            return self._header(columns, width)
        row = self.row_at(y)
        if row >= len(self.listing):
            return self._below(y, width)
        line = self._visible_line(row)
        base = self._row_style(row, line)
        return Strip(self._cells(row, line, columns, base)).adjust_cell_length(width, base)

    def _visible_line(self, row: int) -> Line:
        """Return the text of a row; whatever else is in sight is read with it, in one turn."""
        number = self.listing.number(row)
        line = self._rows.at_hand(number)
        if line is not None:
            return line
        return self._rows.fetch(self.listing.number(each) for each in self.around(row))[number]

    def _header(self, columns: Columns, width: int) -> Strip:
        style = self.style("header")
        words: list[str] = [
            fit_right("#", columns.number),
            fit(self.time_format.value, columns.time),
            fit_right("latency", columns.latency),
            fit("sub", columns.submount),
            fit("  opcode", columns.opcode),
            fit("path", columns.path),
            fit("what", columns.what),
            fit("who", columns.who) if columns.who else "",
        ]
        return Strip([Segment(word + " ", style) for word in words]).adjust_cell_length(width, style)

    def _below(self, y: int, width: int) -> Strip:
        if y == HEADER_LINES and not len(self.listing):
            text = "  no exchange matches the filter" if self.listing.filter_text else "  no FUSE message yet"
            return Strip([Segment(fit(text, width), self.style("empty"))])
        return Strip.blank(width, self.base)

    def _row_style(self, row: int, line: Line) -> Style:
        style = self.base
        if line.is_sync:
            style += self.overlay("sync-row")
        if row == self.cursor:
            style += self.overlay("cursor")
        return style

    def _cells(self, row: int, line: Line, columns: Columns, base: Style) -> Iterator[Segment]:
        def styled(name: str) -> Style:
            return base + self.overlay(name)

        gap = Segment(" ", base)
        dim = styled("dim")
        before = self.listing.number(row - 1) if row else None
        time = self._rows.time_text(line.number, before, self.time_format)
        open_or_dim = styled("pending") if line.is_open else dim
        yield Segment(fit_right(str(line.number), columns.number), dim)
        yield gap
        yield Segment(fit_time(time, columns.time), dim)
        yield gap
        yield Segment(fit_right(line.latency, columns.latency), open_or_dim)
        yield gap
        yield Segment(fit(line.submount, columns.submount), base)
        yield gap
        yield Segment(fit(f"{mark_of(line)} {line.opcode}", columns.opcode), styled(self._opcode_style(line)))
        yield gap
        yield Segment(fit_path(line.path, columns.path), styled("path"))
        yield gap
        answer = "everyday" if is_everyday(line) else "error" if line.is_error else ""
        yield Segment(fit_answer(what_of(line), columns.what), styled(answer) if answer else base)
        if columns.who:
            yield gap
            yield Segment(fit(line.who, columns.who), dim)

    @staticmethod
    def _opcode_style(line: Line) -> str:
        if line.is_sync:
            return "pending" if line.is_open else "enosys" if is_enosys(line) else "error" if line.is_error else "sync"
        if line.is_error:
            return "everyday" if is_everyday(line) else "error"
        return "pending" if line.is_open else "write" if line.opcode == "WRITE" else "opcode"


def is_enosys(line: Line) -> bool:
    """Whether a SYNCFS was answered with "no such operation", which the kernel takes for success."""
    return line.is_sync and line.what.endswith("ENOSYS")


def is_everyday(line: Line) -> bool:
    """Whether an error is an answer like any other: no such name, no such attribute."""
    return (line.opcode, line.what.rpartition(" ")[2]) in EVERYDAY


def mark_of(line: Line) -> str:
    """Return the sign before the opcode: it says without colour what the colour says."""
    if line.is_sync:
        return "◇" if is_enosys(line) else "✗" if line.is_error else "◆"
    return "✗" if line.is_error else "…" if line.is_open else " "


def what_of(line: Line) -> str:
    """Return the summary; a SYNCFS has none of its own, and says whether it was answered."""
    if line.is_sync and not line.what:
        return "no answer" if line.is_open else "→ OK"
    return line.what


def fit_time(text: str, width: int) -> str:
    """Return a time in `width` cells: with fewer digits rather than an ellipsis."""
    return text[:width] if ":" in text else fit_right(text, width)
