"""The fields of an exchange: offset, name, value, one a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tracer.tui.fields import NO_FIELDS, FieldRow, Fields
from tracer.tui.rows import fit
from tracer.tui.styled import Styled

OFFSET_CELLS = 5
MAX_LABEL = 28
VALUE_CELLS = 16  # at least, so that explanations stand in a column
MIN_DOC_CELLS = 10  # less of an explanation tells nothing


class FieldTree(Styled, ScrollView, can_focus=True):
    """The detail tree, flat and indented. Its cursor is the field whose bytes are highlighted."""

    @dataclass
    class Chosen(Message):
        """The user moved to a field."""

        field: FieldRow

    PREFIX = "fields"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"fields--{name}"
        for name in ("heading", "offset", "label", "value", "problem", "cursor", "doc", "differs", "was", "other")
    }

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown,space", "page(1)", "Page down", show=False),
        Binding("home", "go(0)", "Top", show=False),
        Binding("end", "go(1000000000)", "End", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.fields = NO_FIELDS
        self.marks: Mapping[int, str] = {}  # row -> the component class its value is drawn in
        self._label_cells = MAX_LABEL
        self.cursor = 0

    @property
    def field(self) -> FieldRow | None:
        """The field under the cursor."""
        return self.fields.rows[self.cursor] if self.cursor < len(self.fields.rows) else None

    def show(self, fields: Fields, cursor: int, marks: Mapping[int, str] = MappingProxyType({})) -> None:
        """Show the fields of another exchange; `marks` are component classes for values that stand out, by row."""
        self.fields, self.marks = fields, marks
        labels = (2 * (field.row.depth - 1) + len(field.row.label) for field in fields.rows if field.row.depth)
        self._label_cells = min(MAX_LABEL, max(labels, default=0) + 1)
        self.virtual_size = Size(self.size.width, len(fields.rows))
        self.cursor = max(0, min(cursor, len(fields.rows) - 1))
        self.scroll_to(y=max(0, self.cursor - 1), animate=False, force=True)
        self.refresh()

    def place(self, row: int) -> None:
        """Put the cursor on a row without telling."""
        old, self.cursor = self.cursor, max(0, min(row, len(self.fields.rows) - 1))
        self.refresh_line(old)
        self.refresh_line(self.cursor)
        top, page = self.scroll_offset.y, max(1, self.size.height)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + page:
            self.scroll_to(y=self.cursor - page + 1, animate=False, force=True)

    def action_move(self, step: int) -> None:
        """Move by rows."""
        self.action_go(self.cursor + step)

    def action_page(self, direction: int) -> None:
        """Move by a page."""
        self.action_go(self.cursor + direction * max(1, self.size.height - 1))

    def action_go(self, row: int) -> None:
        """Move to a row."""
        self.place(row)
        if (field := self.field) is not None:
            self.post_message(self.Chosen(field))

    def on_click(self, event: events.Click) -> None:
        """Move to the row that was clicked."""
        place = event.get_content_offset(self)
        if place is not None and self.scroll_offset.y + place.y < len(self.fields.rows):
            self.action_go(self.scroll_offset.y + place.y)

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self.virtual_size = Size(self.size.width, len(self.fields.rows))
        self.place(self.cursor)

    def on_focus(self) -> None:
        """Show that keys move this cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Show that keys move another one."""
        self.refresh()

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw one line of what is in sight."""
        width, at = self.scrollable_content_region.width, self.scroll_offset.y + y
        base = self.base
        if at >= len(self.fields.rows):
            return Strip.blank(width, base)
        if at == self.cursor:
            base = base + self.overlay("cursor")
        return Strip(self._cells(self.fields.rows[at], base, width, self.marks.get(at, "value"))).adjust_cell_length(
            width, base
        )

    def _cells(self, field: FieldRow, base: Style, width: int, value_style: str) -> list[Segment]:
        def styled(name: str) -> Style:
            return base + self.overlay(name)

        row = field.row
        offset = f"{row.start:>{OFFSET_CELLS - 1}x} " if row.end > row.start else " " * OFFSET_CELLS
        if row.depth == 0:
            name = styled("problem" if row.problem else "heading")
            text = f"{row.label}  {row.text}" if row.text else row.label
            return [Segment(offset, styled("offset")), Segment(fit(text, max(1, width - OFFSET_CELLS)), name)]
        label = "  " * (row.depth - 1) + row.label
        label_width = min(self._label_cells, max(12, width // 3))
        room = max(1, width - OFFSET_CELLS - label_width - 1)
        value = fit(row.text, min(room, max(VALUE_CELLS, cell_len(row.text) + 2)))
        left = room - cell_len(value)
        return [
            Segment(offset, styled("offset")),
            Segment(fit(label, label_width), styled("label")),
            Segment(" ", base),
            Segment(value, styled(value_style)),
            Segment(fit(row.doc if left >= MIN_DOC_CELLS else "", max(0, left)) if left else "", styled("doc")),
        ]
