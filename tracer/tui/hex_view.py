"""The bytes of a message, the chosen field's highlighted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message as UiMessage
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tracer.tui.fields import Span
from tracer.tui.styled import Styled

WIDE, NARROW = 16, 8  # bytes a line
OFFSET_CELLS = 6


class HexView(Styled, ScrollView, can_focus=True):
    """Bytes in hexadecimal and as text. Its cursor is one byte."""

    @dataclass
    class Chosen(UiMessage):
        """The user moved to a byte."""

        part: int
        offset: int

    PREFIX = "hex"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"hex--{name}" for name in ("offset", "zero", "text", "byte", "span", "cursor", "missing")
    }

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1, 0)", "Byte back", show=False),
        Binding("right,l", "move(1, 0)", "Byte on", show=False),
        Binding("up,k", "move(0, -1)", "Up", show=False),
        Binding("down,j", "move(0, 1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown,space", "page(1)", "Page down", show=False),
        Binding("home", "go(0)", "First byte", show=False),
        Binding("end", "go(1000000000000)", "Last byte", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.content = b""
        self.lost_bytes = 0
        self.span = Span(0, 0, 0)
        self.cursor = 0

    @property
    def per_line(self) -> int:
        """Bytes a line, as many as fit."""
        return WIDE if self.size.width >= OFFSET_CELLS + WIDE * 4 + 3 else NARROW

    def show(self, content: bytes, lost_bytes: int, span: Span) -> None:
        """Show a message with one span highlighted, and bring it into sight."""
        self.content, self.lost_bytes, self.span = content, lost_bytes, span
        self.cursor = max(0, min(span.start, len(content) - 1))
        self._resize()
        self._bring_in_sight(self.cursor)
        self.refresh()

    def highlight(self, span: Span) -> None:
        """Highlight other bytes and leave the cursor where it is."""
        self.span = span
        self.refresh()

    def _resize(self) -> None:
        self.virtual_size = Size(self.size.width, self._data_lines + (1 if self.lost_bytes else 0))

    @property
    def _data_lines(self) -> int:
        return -(-len(self.content) // self.per_line)

    def _bring_in_sight(self, offset: int) -> None:
        line, top, page = offset // self.per_line, self.scroll_offset.y, max(1, self.size.height)
        last = line + (1 if self.lost_bytes and line == self._data_lines - 1 else 0)  # with what is said below
        if line < top:
            self.scroll_to(y=line, animate=False, force=True)
        elif last >= top + page:
            self.scroll_to(y=last - page + 1, animate=False, force=True)

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._resize()
        self._bring_in_sight(self.cursor)

    def on_focus(self) -> None:
        """Show the byte cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the byte cursor."""
        self.refresh()

    # ---- moving ----------------------------------------------------------------------------------------------------

    def action_move(self, bytes_on: int, lines_on: int) -> None:
        """Move the cursor."""
        target = self.cursor + bytes_on + lines_on * self.per_line
        if 0 <= target < len(self.content):
            self.action_go(target)

    def action_page(self, direction: int) -> None:
        """Move the cursor by a page."""
        self.action_go(self.cursor + direction * self.per_line * max(1, self.size.height - 1))

    def action_go(self, offset: int) -> None:
        """Move the cursor to a byte."""
        if not self.content:
            return
        self.cursor = max(0, min(offset, len(self.content) - 1))
        self._bring_in_sight(self.cursor)
        self.refresh()
        self.post_message(self.Chosen(self.span.part, self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the byte that was clicked, in either half."""
        place = event.get_content_offset(self)
        if place is None:
            return
        column = self._column_at(place.x)
        offset = (self.scroll_offset.y + place.y) * self.per_line + column
        if column >= 0 and offset < len(self.content):
            self.action_go(offset)

    def _column_at(self, x: int) -> int:
        half, text_at = self.per_line // 2, OFFSET_CELLS + self.per_line * 3 + 2
        if text_at <= x < text_at + self.per_line:
            return x - text_at
        x -= OFFSET_CELLS
        if x >= half * 3:
            x -= 1  # the gap in the middle
        return x // 3 if 0 <= x < self.per_line * 3 else -1

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw one line of what is in sight."""
        width, line = self.scrollable_content_region.width, self.scroll_offset.y + y
        base = self.base
        if line >= self._data_lines:
            if line == self._data_lines and self.lost_bytes:
                text = f"{'':{OFFSET_CELLS}}{self.lost_bytes} bytes more were not captured"
                return Strip([Segment(text, self.style("missing"))]).adjust_cell_length(width, base)
            return Strip.blank(width, base)
        start = line * self.per_line
        return Strip(self._cells(start, base)).adjust_cell_length(width, base)

    def _cells(self, start: int, base: Style) -> Iterator[Segment]:
        per_line = self.per_line
        chunk = self.content[start : start + per_line]
        styles = [self._byte_style(start + at, value) for at, value in enumerate(chunk)]
        yield Segment(f"{start:04x}".rjust(OFFSET_CELLS - 2) + "  ", self.style("offset"))
        for at in range(per_line):
            if at == per_line // 2:
                yield Segment(" ", self._gap_style(start + at, base))
            if at >= len(chunk):
                yield Segment("   ", base)
                continue
            yield Segment(f"{chunk[at]:02x}", styles[at])
            yield Segment(" ", self._gap_style(start + at + 1, base) if at + 1 != per_line // 2 else base)
        yield Segment(" ", base)
        for value, style in zip(chunk, styles, strict=True):
            yield Segment(chr(value) if 32 <= value < 127 else "·", style)

    def _byte_style(self, offset: int, value: int) -> Style:
        if self.has_focus and offset == self.cursor:
            return self.style("cursor")
        if self.span.start <= offset < self.span.end:
            return self.style("span")
        return self.style("zero" if value == 0 else "text" if 32 <= value < 127 else "byte")

    def _gap_style(self, offset: int, base: Style) -> Style:
        """Return the style of the space before a byte: highlighted where the span runs on, on the same line."""
        runs_on = self.span.start < offset < self.span.end and offset % self.per_line != 0
        return self.style("span") if runs_on else base
