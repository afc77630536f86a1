"""What screens with a list and panes around it have in common: filter and key bar, the trace's thread, moving about."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual import on
from textual.screen import Screen
from textual.widget import Widget

from tracer.tui import messages
from tracer.tui.commands import Place, commands_for
from tracer.tui.cursor_list import CursorList
from tracer.tui.filter_bar import FilterBar
from tracer.tui.filtering import choice_of
from tracer.tui.key_bar import KeyBar
from tracer.tui.screens import GoToScreen, HelpScreen
from tracer.tui.status import StatusLine
from tracer.tui.trace_thread import TraceThread

TOLD_S = {"information": 3, "error": 10}  # how long a sentence stays


class PaneScreen(Screen[None]):
    """A list, and panes that say more about its row. Whoever inherits it makes what is declared here, and composes."""

    PLACE: ClassVar[Place]
    PANES: ClassVar[tuple[str, ...]]  # ids, in the order of the tab key
    AUTO_FOCUS = "#list"

    list: CursorList
    status_bar: StatusLine
    thread: TraceThread
    upto: int  # exchanges there are

    def __init__(self) -> None:
        super().__init__()
        self.filter_bar = FilterBar(id="filter")
        self.key_bar = KeyBar(commands_for(self.PLACE), id="keys")

    def begin_reading(self) -> None:
        """Let the trace's thread begin, the first screen first."""
        self.call_after_refresh(self.run_worker, self.thread.run, name="trace", thread=True)

    def on_unmount(self) -> None:
        """Let the thread end."""
        self.thread.stop()

    def tell(self, text: str, severity: Literal["information", "error"] = "information") -> None:
        """Show a sentence for a few seconds, in place of an earlier one: together they would hide the list."""
        self.app.clear_notifications()
        self.notify(text, severity=severity, timeout=TOLD_S[severity], markup=False)

    @on(messages.Progress)
    def _progress(self, event: messages.Progress) -> None:
        share = f" {100 * event.done // event.total} %" if event.total else " …"
        self.status_bar.progress = event.what + share if event.what else ""
        self.status_bar.redraw()

    @on(messages.FilterApplied)
    def _filter_applied(self, event: messages.FilterApplied) -> None:
        self.thread.show(choice_of(event.text))

    @on(messages.FilterBarLeft)
    def _filter_bar_left(self) -> None:
        self.key_bar.show(is_typing=False)
        self.list.focus()

    def go_to_exchange(self, number: int) -> bool:
        """Move the list to an exchange, or near it; tell whether it is shown."""
        self.list.go_to_number(number)
        return self.list.number == number

    # ---- commands (commands.py) ------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Show all keys."""
        self.app.push_screen(HelpScreen(self.PLACE, self.app.theme_variables))

    def action_filter(self) -> None:
        """Let the user type a filter."""
        self.filter_bar.open()
        self.key_bar.show(is_typing=True)

    def action_edge(self, direction: int) -> None:
        """Go to the first or the last row."""
        self.list.action_edge(direction)

    def action_go_to(self) -> None:
        """Ask for a number and go there."""

        def go(number: int | None) -> None:
            if number is not None and not self.go_to_exchange(number):
                self.tell(f"Exchange {number} is not shown; this is the nearest")

        self.app.push_screen(GoToScreen(self.upto), go)

    def action_pane(self) -> None:
        """Give the focused pane the whole screen, or take it back."""
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None and self.focused.id in self.PANES:
            self.maximize(self.focused, container=False)

    def action_focus_pane(self, direction: int) -> None:
        """Go to the next pane that is on the screen."""
        panes: list[Widget] = [self.query_one(f"#{name}") for name in self.PANES]
        panes = [pane for pane in panes if pane.display and pane.size.height]
        at = panes.index(self.focused) if self.focused in panes else 0
        panes[(at + direction) % len(panes)].focus()

    def action_back(self) -> None:
        """Take back the whole-screen pane, or go to the list."""
        if self.maximized is not None:
            self.minimize()
        self.list.focus()

    def action_quit(self) -> None:
        """Leave."""
        self.app.exit()
