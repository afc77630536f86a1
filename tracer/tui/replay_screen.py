"""The screen of a replay: recorded and live side by side, and why they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from rich.console import Group
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message

from replays.report import NONE
from replays.results.outcome import KeptDifference
from replays.results.replayed import Replayed
from replays.results.sides import Mark, Sides, side_by_side
from tracer.trace.trace import Trace
from tracer.tui import messages
from tracer.tui.commands import Place, bindings
from tracer.tui.fields import Fields
from tracer.tui.pane_screen import PaneScreen
from tracer.tui.replay_choice import RowChoice
from tracer.tui.replay_detail import ReplayDetail
from tracer.tui.replay_list import ReplayList
from tracer.tui.replay_rows import SideRows, instead_of_live
from tracer.tui.replay_status import ReplayFacts, ReplayStatus
from tracer.tui.rows import Rows
from tracer.tui.screens import TextScreen, indented
from tracer.tui.trace_thread import TraceThread
from tracer.tui.turns import Turns
from tracer.tui.verdict import Verdict

WIDE_CELLS, SLIM_CELLS = 110, 64
TALL_LINES = 34
CONTEXT_ROWS = 3  # in sight around what a key jumps to


class LiveNamesKnown(Message):
    """Paths of the live trace can be asked for now."""


class ReplayScreen(PaneScreen):
    """List, verdict and the fields of both sides."""

    PLACE = Place.REPLAY
    PANES = ("list", "recorded", "live")
    BINDINGS: ClassVar[list[BindingType]] = bindings(Place.REPLAY)

    list: ReplayList
    status_bar: ReplayStatus

    def __init__(self, replayed: Replayed, *, filter_text: str = "") -> None:
        super().__init__()
        recorded, live, outcome = replayed.recorded, replayed.live, replayed.outcome
        self._recorded, self._live, self._outcome = recorded, live, outcome
        self.sides: Sides = side_by_side(recorded, live, outcome)
        self._turns = Turns()
        self._ours, self._theirs = Rows(recorded, self._turns), Rows(live, Turns())
        self._side_rows = SideRows(self.sides, self._ours, self._theirs)
        self.thread = TraceThread(recorded, self._turns, self.post_message)
        self._firsts = self.sides.rows_marked(Mark.FIRST)
        self.choice = RowChoice()
        self.upto = recorded.exchange_count
        self._begin_filter = filter_text
        self.status_bar = ReplayStatus(ReplayFacts.of(recorded, live, self.sides, outcome.stopped), id="status")
        self.list = ReplayList(self._side_rows, recorded.exchange_count, id="list")
        self.verdict = Verdict(id="verdict")
        self.detail = ReplayDetail(id="detail")

    def compose(self) -> ComposeResult:
        """Stack the panes."""
        yield self.status_bar
        yield self.list
        yield self.filter_bar
        yield self.verdict
        yield self.detail
        yield self.key_bar

    def on_mount(self) -> None:
        """Show what there is, and let names be read."""
        self._choose()
        if self._begin_filter:
            self.filter_bar.set(self._begin_filter)
        self.thread.compute("live", self._read_live_names)
        self.begin_reading()

    def _read_live_names(self, _: Trace) -> Message:
        self._live.advance_state()
        return LiveNamesKnown()

    # ---- layout ----------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Share out the screen."""
        width, height = event.size.width, event.size.height
        self.set_class(width < SLIM_CELLS, "-slim")
        is_tall = height >= TALL_LINES
        self.detail.lay_out(is_single=width < WIDE_CELLS)
        self.detail.styles.height = height * 2 // 5 if is_tall else max(4, height // 3 - 1)
        self.detail.display = height >= 16
        self.verdict.styles.height = 4
        self.verdict.display = height >= 10

    # ---- the trace's thread tells ----------------------------------------------------------------------------------

    @on(messages.NamesKnown)
    def _names_known(self) -> None:
        self._ours.names_became_known()
        self._read_again()

    @on(LiveNamesKnown)
    def _live_names_known(self) -> None:
        self._theirs.names_became_known()
        self._read_again()

    def _read_again(self) -> None:
        self.list.names_became_known()
        self._show_row(self.list.number)

    @on(messages.ListingReady)
    def _listing_ready(self, event: messages.ListingReady) -> None:
        self.choice.exchanges, self.choice.filter_text = event.listing.numbers, event.listing.filter_text
        self._choose()

    @on(messages.SourceFailed)
    def _source_failed(self, event: messages.SourceFailed) -> None:
        self.tell(str(event.error), severity="error")

    def _choose(self) -> None:
        """Show the rows that are wanted now."""
        choice, bar = self.choice, self.status_bar
        listing = choice.listing(self.sides)
        self.list.show(listing)
        bar.shown_count, bar.filter_text = len(listing), choice.filter_text
        hidden = (("only ≠", choice.only_differences), ("without ≈", choice.hides_followers))
        bar.hidden = ", ".join(text for text, is_so in hidden if is_so)
        bar.redraw()

    # ---- the panes tell --------------------------------------------------------------------------------------------

    @on(messages.Selected)
    def _selected(self, event: messages.Selected) -> None:
        self._show_row(event.number)

    def _show_row(self, row: int) -> None:
        """Show why a row is as it is, and the fields of both sides."""
        differences = self.sides.differences.get(row, [])
        line = self._side_rows.read([row])[row] if row >= 0 else None
        self.verdict.show(line, differences, self._place(row, differences))
        ours, theirs = (int(column[row]) if row >= 0 else NONE for column in (self.sides.recorded, self.sides.live))
        with self._turns.mine():
            recorded = Fields.of(self._recorded, ours)
        without = "" if line is None else "has no such request" if ours == NONE else instead_of_live(line)
        self.detail.show(recorded, Fields.of(self._live, theirs), {one.field for one in differences}, without)

    def _place(self, row: int, differences: Sequence[KeptDifference]) -> str:
        if not differences:
            return ""
        if self.sides.marks[row] == Mark.FIRST:
            return f"difference {int(np.searchsorted(self._firsts, row)) + 1} of {len(self._firsts)}"
        return f"in consequence of #{differences[0].follower_of}"

    def go_to_exchange(self, number: int) -> bool:
        """Move to the row of a recorded exchange, or near it."""
        places = self.sides.row_of_recorded
        row = int(places[number]) if 0 <= number < len(places) else NONE
        self.list.go_to_number(row if row != NONE else min(number, len(self.sides) - 1), CONTEXT_ROWS)
        return row != NONE and self.list.number == row

    # ---- commands (commands.py), beside those of every screen --------------------------------------------------------

    def action_difference_step(self, direction: int) -> None:
        """Go to the next or the previous first difference that the list shows."""
        shown = self.list.listing.numbers
        found = self._firsts if shown is None else self._firsts[np.isin(self._firsts, shown)]
        here = self.list.number
        after = found[found > here] if direction > 0 else found[found < here][::-1]
        if len(after):
            self.list.go_to_number(int(after[0]), CONTEXT_ROWS)
        elif len(found):
            self.tell("No difference further on" if direction > 0 else "No difference before")
        else:
            self.tell(self._why_no_step())

    def _why_no_step(self) -> str:
        if len(self._firsts):
            return "No difference is shown"
        is_caused = len(self.sides.rows_marked(Mark.FOLLOWS)) > 0
        return "What differs follows from what was not sent: d shows it" if is_caused else "Nothing differs"

    def action_cause(self) -> None:
        """Go from a difference to the one it follows from."""
        causes = [one.follower_of for one in self.sides.differences.get(self.list.number, ())]
        cause = next((number for number in causes if number is not None), None)
        if cause is None:
            self.tell("This follows from no other difference")
        elif not self.go_to_exchange(cause):
            self.tell(f"Exchange {cause} is not shown; this is the nearest")

    def action_only(self) -> None:
        """Show only rows that differ, or all again."""
        self.choice.only_differences = not self.choice.only_differences
        self._choose()

    def action_followers(self) -> None:
        """Leave out the differences that follow from an earlier one, or show them again."""
        self.choice.hides_followers = not self.choice.hides_followers
        self._choose()

    def action_other_side(self) -> None:
        """Bring the other side's fields to the front."""
        self.detail.turn()

    def action_report(self) -> None:
        """Show the report as the replay gave it."""
        lines = self._outcome.report or ("the live trace was kept without it",)
        content = Group(*(indented(Text(line)) for line in lines))
        self.app.push_screen(TextScreen("What the replay came to", content))

    def action_into(self) -> None:
        """Go from the list to the fields, and back."""
        front = self.detail.front
        can_go = self.focused is self.list and front.display and front.size.height
        (front if can_go else self.list).focus()
