"""A list with a cursor over a Listing. Only the rows on screen are ever looked at: its length costs nothing."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tracer.tui.listing import Listing
from tracer.tui.messages import Selected
from tracer.tui.styled import Styled

HEADER_LINES = 1


class CursorList(Styled, ScrollView, can_focus=True):
    """What moves through a Listing, and tells where it is; whoever inherits it draws the lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f,space", "page(1)", "Page down", show=False),
        Binding("home", "edge(-1)", "Top", show=False),
        Binding("end", "edge(1)", "End", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.listing = Listing(0)
        self.cursor = -1
        self.sticks_to_end = False
        self._told = -1

    # ---- what it shows ---------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The number under the cursor, -1 when the list is empty."""
        return self.listing.number(self.cursor) if 0 <= self.cursor < len(self.listing) else -1

    def show(self, listing: Listing) -> None:
        """Show another listing; the cursor stays with its number, or with the nearest one."""
        number = self.number
        self.listing = listing
        self.virtual_size = Size(self.size.width, len(listing) + HEADER_LINES)
        if self.sticks_to_end:
            self._go(len(listing) - 1, by_user=False)
        else:
            self._go(listing.row_of(max(0, number)), by_user=False)
        self.refresh()

    # ---- moving ----------------------------------------------------------------------------------------------------

    def go_to_number(self, number: int, margin: int = 0) -> None:
        """Move the cursor to a number, or to the nearest that is shown, with so many rows around it in sight."""
        self._go(self.listing.row_of(number), margin=margin)

    def action_move(self, step: int) -> None:
        """Move the cursor by rows."""
        self._go(self.cursor + step)

    def action_page(self, direction: int) -> None:
        """Move the cursor by a page."""
        self._go(self.cursor + direction * max(1, self._page_rows - 1))

    def action_edge(self, direction: int) -> None:
        """Move the cursor to the first or the last row."""
        self._go(0 if direction < 0 else len(self.listing) - 1)

    @property
    def _page_rows(self) -> int:
        return max(1, self.scrollable_content_region.height - HEADER_LINES)

    def _go(self, row: int, by_user: bool = True, margin: int = 0) -> None:
        old = self.cursor
        self.cursor = max(0, min(row, len(self.listing) - 1)) if len(self.listing) else -1
        if self.cursor != old:
            for changed in (old, self.cursor):
                self.refresh_line(changed + HEADER_LINES)
        self._scroll_to_cursor(margin)
        if self.number != self._told or by_user:
            self._told = self.number
            self.post_message(Selected(self.number, by_user))

    def _scroll_to_cursor(self, margin: int = 0) -> None:
        if self.cursor < 0 or not self.size.height:
            return
        top, page = self.scroll_offset.y, self._page_rows
        margin = min(margin, (page - 1) // 2)
        if not top - page <= self.cursor < top + 2 * page:  # a jump: what comes before and after is worth seeing
            top = self.cursor - page // 2
        elif self.cursor < top + margin:
            top = self.cursor - margin
        elif self.cursor >= top + page - margin:
            top = self.cursor - page + 1 + margin
        if top != self.scroll_offset.y:
            self.scroll_to(y=max(0, top), animate=False, force=True)

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self.virtual_size = Size(self.size.width, len(self.listing) + HEADER_LINES)
        self._scroll_to_cursor()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row."""
        row = event.get_content_offset(self)
        if row is not None and row.y >= HEADER_LINES:
            target = self.scroll_offset.y + row.y - HEADER_LINES
            if target < len(self.listing):
                self._go(target)

    def on_focus(self) -> None:
        """Show that keys move this cursor."""
        self._refresh_cursor()

    def on_blur(self) -> None:
        """Show that keys move another one."""
        self._refresh_cursor()

    def _refresh_cursor(self) -> None:
        self.refresh(Region(0, 0, self.size.width, self.size.height))

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def row_at(self, y: int) -> int:
        """Return the row that is drawn in line `y` of what is in sight, below the header; it may be past the last."""
        return self.scroll_offset.y + y - HEADER_LINES

    def around(self, row: int) -> range:
        """Return the rows to read together with one: all in sight, or the one alone when it is not."""
        top = self.scroll_offset.y
        bottom = min(len(self.listing), top + self._page_rows)
        return range(top, bottom) if top <= row < bottom else range(row, row + 1)

    def render_line(self, y: int) -> Strip:
        """Draw one line of what is in sight."""
        raise NotImplementedError
