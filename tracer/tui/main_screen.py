"""The main screen: puts the panes together and passes on what they tell each other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType

from tracer.trace.trace import Trace
from tracer.tui import messages
from tracer.tui.commands import Place, bindings
from tracer.tui.detail import Detail
from tracer.tui.exchange_list import ExchangeList
from tracer.tui.fields import Fields
from tracer.tui.listing import Listing
from tracer.tui.pane_screen import PaneScreen
from tracer.tui.rows import Rows
from tracer.tui.status import Facts, StatusBar
from tracer.tui.sync_screen import SyncReportReady, SyncScreen, read_sync_report
from tracer.tui.timeline import Timeline
from tracer.tui.trace_thread import TraceThread
from tracer.tui.turns import Turns

SECOND = 1.0
WIDE_CELLS, SLIM_CELLS = 120, 64
TALL_LINES = 34


class MainScreen(PaneScreen):
    """Timeline, list, fields and bytes of one trace."""

    PLACE = Place.TRACE
    PANES = ("timeline", "list", "fields", "bytes")
    BINDINGS: ClassVar[list[BindingType]] = bindings(Place.TRACE)

    list: ExchangeList
    status_bar: StatusBar

    def __init__(self, trace: Trace, *, follow: bool = False, filter_text: str = "") -> None:
        super().__init__()
        self._trace = trace
        self._turns = Turns()
        self._rows = Rows(trace, self._turns)
        self.thread = TraceThread(trace, self._turns, self.post_message)
        self._begin_following, self._begin_filter = follow, filter_text
        self.upto = trace.exchange_count
        self.status_bar = StatusBar(id="status")
        self.timeline = Timeline(self._rows, id="timeline")
        self.list = ExchangeList(self._rows, id="list")
        self.detail = Detail(id="detail")

    def compose(self) -> ComposeResult:
        """Stack the panes."""
        yield self.status_bar
        yield self.timeline
        yield self.list
        yield self.filter_bar
        yield self.detail
        yield self.key_bar

    def on_mount(self) -> None:
        """Show what there is, and let the trace's thread begin."""
        self._show_listing(Listing(self.upto))
        if self._begin_filter:
            self.filter_bar.set(self._begin_filter)
        if self._begin_following:
            self.action_follow()
        self.set_interval(SECOND, self._on_second)
        self.begin_reading()

    # ---- layout ----------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Share out the screen."""
        self._lay_out(event.size.width, event.size.height)

    def _lay_out(self, width: int, height: int) -> None:
        self.set_class(width >= WIDE_CELLS, "-wide")
        self.set_class(width < SLIM_CELLS, "-slim")
        lanes = len(self.timeline.picture.lanes) if self.timeline.picture else 1
        is_tall = height >= TALL_LINES
        lines = min(2 * lanes, height // 4) if is_tall else min(lanes, max(1, height // 6))
        self.timeline.styles.height = lines + 2  # its title and the axis
        self.detail.styles.height = max(6, height * 2 // 5) if is_tall else max(4, height // 3)
        self.detail.display = height >= 14
        self.timeline.display = height >= 10

    # ---- the trace's thread tells ----------------------------------------------------------------------------------

    @on(messages.NamesKnown)
    def _names_known(self) -> None:
        self._rows.names_became_known()
        self.list.refresh()

    @on(messages.ListingReady)
    def _listing_ready(self, event: messages.ListingReady) -> None:
        self._show_listing(event.listing)

    def _show_listing(self, listing: Listing) -> None:
        self.upto = max(self.upto, listing.upto)
        self.list.show(listing)
        self.status_bar.shown_count, self.status_bar.filter_text = len(listing), listing.filter_text
        self._show_facts()

    @on(messages.Grown)
    def _grown(self, event: messages.Grown) -> None:
        self.upto = event.upto
        self.list.has_grown(event.submount_cells)
        self._show_facts()
        if self.detail.fields.is_open:
            self._show_detail(self.list.number)

    @on(messages.PictureReady)
    def _picture_ready(self, event: messages.PictureReady) -> None:
        before = len(self.timeline.picture.lanes) if self.timeline.picture else 0
        self.timeline.show(event.picture, self.upto)
        if len(event.picture.lanes) != before:
            self._lay_out(self.size.width, self.size.height)
            self._select_on_timeline(self.list.number)

    @on(messages.SourceFailed)
    def _source_failed(self, event: messages.SourceFailed) -> None:
        self.status_bar.failure = "cannot follow"
        self.status_bar.is_following = self.list.sticks_to_end = False
        self.tell(str(event.error), severity="error")
        self._show_facts()

    @on(SyncReportReady)
    def _sync_report_ready(self, event: SyncReportReady) -> None:
        if isinstance(self.app.screen, SyncScreen):
            self.app.screen.show(event.content)

    def _show_facts(self) -> None:
        self.status_bar.facts = Facts.of(self._trace, self.upto, self.thread.cut_count)
        self.status_bar.redraw()

    def _on_second(self) -> None:
        """Say anew how long the request that is shown has waited: it does so also when nothing else happens."""
        if self.thread.wanted.follow and self.detail.fields.is_open and self.list.number >= 0:
            with self._turns.mine():
                fields = Fields.of(self._trace, self.list.number)
            self.detail.show_time(fields)

    # ---- the panes tell --------------------------------------------------------------------------------------------

    @on(messages.Selected)
    def _selected(self, event: messages.Selected) -> None:
        at_end = event.number == self._last_shown
        if event.by_user and self.list.sticks_to_end and not at_end:
            self.list.sticks_to_end = self.status_bar.is_following = False
            self.status_bar.redraw()
        self._show_detail(event.number)
        self._select_on_timeline(event.number)

    @property
    def _last_shown(self) -> int:
        listing = self.list.listing
        return listing.number(len(listing) - 1) if len(listing) else -1

    def _show_detail(self, number: int) -> None:
        with self._turns.mine():
            fields = Fields.of(self._trace, number)
        self.detail.show(fields)

    def _select_on_timeline(self, number: int) -> None:
        lane = int(self._trace.records["submount"][self._trace.first_rows[number]]) if number >= 0 else -1
        self.timeline.select(number, lane)

    @on(messages.ExchangeChosen)
    def _exchange_chosen(self, event: messages.ExchangeChosen) -> None:
        self.list.go_to_number(event.number)

    @on(Timeline.WindowChanged)
    def _window_changed(self) -> None:
        self.thread.paint(self.timeline.window, self.timeline.columns)

    # ---- commands (commands.py), beside those of every screen --------------------------------------------------------

    def action_sync_step(self, direction: int) -> None:
        """Go to the next or the previous SYNCFS that the list shows."""
        picture = self.timeline.picture
        found = self._shown_syncs(picture.sync_numbers if picture is not None else np.empty(0, np.int64))
        here = self.list.number
        after = found[found > here] if direction > 0 else found[found < here][::-1]
        if len(after):
            self.list.go_to_number(int(after[0]))
        elif not len(found):
            self.tell("There is no SYNCFS here: s says why")
        else:
            self.tell("No SYNCFS further on" if direction > 0 else "No SYNCFS before")

    def _shown_syncs(
        self, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        shown = self.list.listing.numbers
        return numbers if shown is None else numbers[np.isin(numbers, shown)]

    def action_sync_report(self) -> None:
        """Show the sync report."""
        self.app.push_screen(SyncScreen())
        self.thread.compute("sync", read_sync_report)

    def action_follow(self) -> None:
        """Stay with the newest exchange, or no longer."""
        on = not self.list.sticks_to_end
        self.list.sticks_to_end = self.status_bar.is_following = on
        if on:
            self.thread.follow(True)
            self.list.action_edge(1)
        self.status_bar.redraw()

    def action_time(self) -> None:
        """Show times in the next format."""
        self.list.switch_time_format()

    def action_zoom(self, direction: int) -> None:
        """Zoom the timeline."""
        self.timeline.zoom(direction)

    def action_into(self) -> None:
        """Go on from the list to the fields, from these to the bytes, from there back."""
        after = {"list": "fields", "fields": "bytes", "bytes": "list", "timeline": "list"}
        target = self.query_one("#" + after.get(self.focused.id or "" if self.focused else "", "list"))
        (target if target.display and target.size.height else self.list).focus()
