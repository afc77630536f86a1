"""Fields and bytes of the selected exchange, side by side, with one highlighted span between them."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal

from tracer.tui.field_tree import FieldTree
from tracer.tui.fields import NO_FIELDS, FieldRow, Fields, Span
from tracer.tui.hex_view import HexView


class Detail(Horizontal):
    """Holds the span that both panes show: whoever is moved, the other one follows."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.field_tree = FieldTree(id="fields")
        self.hex_view = HexView(id="bytes")
        self.fields = NO_FIELDS

    def compose(self) -> ComposeResult:
        """Put the fields to the left of the bytes."""
        yield self.field_tree
        yield self.hex_view

    @property
    def span(self) -> Span:
        """The bytes that are highlighted."""
        return self.hex_view.span

    def show(self, fields: Fields) -> None:
        """Show another exchange, or the same one that now has its answer. The chosen field stays chosen if it can."""
        before = self.field_tree.field
        self.fields = fields
        row = self._same_field(before) if before is not None else -1
        self._show_title()
        self.field_tree.show(fields, row if row >= 0 else fields.first_of_interest())
        self._show_bytes(self.field_tree.field)

    def show_time(self, fields: Fields) -> None:
        """Show the same exchange a moment later: nothing moves, unless its answer came."""
        if len(fields.rows) != len(self.fields.rows):
            self.show(fields)
            return
        self.fields = self.field_tree.fields = fields
        self._show_title()
        self.field_tree.refresh()

    def _show_title(self) -> None:
        colours = self.app.theme_variables
        style = colours["error"] if self.fields.is_bad else colours["warning"] if self.fields.is_open else ""
        self.field_tree.border_title = Text(self.fields.title, style)

    def _same_field(self, before: FieldRow) -> int:
        """Return the row with the same name in the same section: stepping through WRITEs keeps the offset in view."""
        for at, field in enumerate(self.fields.rows):
            if (field.part, field.row.name, field.row.label) == (before.part, before.row.name, before.row.label):
                return at
        return -1

    @on(FieldTree.Chosen)
    def _field_chosen(self, event: FieldTree.Chosen) -> None:
        event.stop()
        self._show_bytes(event.field)

    @on(HexView.Chosen)
    def _byte_chosen(self, event: HexView.Chosen) -> None:
        event.stop()
        row = self.fields.row_at(event.part, event.offset)
        if row >= 0:
            self.field_tree.place(row)
            self.hex_view.highlight(self.fields.rows[row].span)
            self._say_where(self.fields.rows[row])

    def _show_bytes(self, field: FieldRow | None) -> None:
        if field is None or not self.fields.parts:
            self.hex_view.show(b"", 0, Span(0, 0, 0))
            self.hex_view.border_title = Text("")
            return
        message = self.fields.parts[field.part]
        self.hex_view.show(message.data, message.lost_bytes, field.span)
        self._say_where(field)

    def _say_where(self, field: FieldRow) -> None:
        """Say above the bytes which message they are, and where in it the chosen field lies."""
        message = self.fields.parts[field.part]
        size = field.row.end - field.row.start
        where = f" · {size} at {field.row.start:#x}" if size else ""
        self.hex_view.border_title = Text(f"{message.kind.value} {len(message.data)} bytes{where}")
