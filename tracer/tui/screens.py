"""Screens above the main one: a text to read, all keys, the question for a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.console import ConsoleRenderable
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tracer.tui.commands import MOVEMENT, Place, commands_for

TRACE_SIGNS = (
    ("◆", "sync", "SYNCFS, answered; the bar ━ is the time until the answer"),
    ("◆━▶", "pending", "SYNCFS without an answer until now"),
    ("◇", "enosys", "SYNCFS answered ENOSYS: the kernel never asks again, and sync(2) does nothing"),
    ("✗", "failed", "SYNCFS that failed; in the list: any error"),
    ("▂▅█", "written", "bytes of WRITE requests"),
    ("·", "active", "other requests"),
    ("!", "failed", "an error reply"),
    ("unread", "pending", "a request that the server has not read (recorded with --deliveries)"),
    ("serving", "pending", "a request that it has read, and not answered"),
)
REPLAY_SIGNS = (
    ("≠", "failed", "the two answers differ, and that follows from nothing before"),
    ("≈", "active", "they differ in consequence of an earlier difference"),
    ("∅", "pending", "not sent to the live server, and why"),
    ("+", "written", "a request the replay added: to learn a node, or a further part of a large one"),
)


class TextScreen(ModalScreen[None]):
    """A text to scroll and close."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark,s", "close", "Close"),
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
        Binding("pagedown,space", "scroll(20)", "Page down", show=False),
        Binding("pageup", "scroll(-20)", "Page up", show=False),
    ]

    def __init__(self, title: str, content: ConsoleRenderable) -> None:
        super().__init__()
        self._heading, self._content = title, content

    def compose(self) -> ComposeResult:
        """Put the text into a frame."""
        with VerticalScroll(id="dialog") as frame:
            frame.border_title = Text(self._heading)
            frame.border_subtitle = Text("esc closes")
            yield Static(self._content, id="dialog-text", markup=False)

    def show(self, content: ConsoleRenderable) -> None:
        """Show something else."""
        self._content = content
        for static in self.query("#dialog-text").results(Static):  # none yet when the answer is faster than the screen
            static.update(content)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one("#dialog").scroll_relative(y=lines, animate=False)


def indented(text: Text) -> ConsoleRenderable:
    """Return a line that, where it is too long, goes on under its own beginning."""
    indent = len(text.plain) - len(text.plain.lstrip(" "))
    return Padding(text[indent:], (0, 0, 0, indent)) if text.plain.strip() else Text("")


class HelpScreen(TextScreen):
    """Every key, from the table of commands."""

    def __init__(self, place: Place, colours: Mapping[str, str]) -> None:
        super().__init__("Keys and signs", _help_table(place, colours))


def _help_table(place: Place, colours: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style=f"bold {colours['accent']}", justify="right")
    table.add_column()
    for command in commands_for(place):
        table.add_row(command.label.partition("/")[0] or command.label, command.help)
    table.add_row()
    for keys, meaning in MOVEMENT:
        table.add_row(keys, meaning)
    table.add_row()
    for sign, name, meaning in TRACE_SIGNS if place is Place.TRACE else REPLAY_SIGNS:
        table.add_row(Text(sign, style=colours[f"sign-{name}"]), meaning)
    return table


class GoToScreen(ModalScreen[int | None]):
    """Asks for the number of an exchange."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, upto: int) -> None:
        super().__init__()
        self._upto = upto

    def compose(self) -> ComposeResult:
        """Ask."""
        with Vertical(id="question") as frame:
            frame.border_title = Text(f"Go to exchange (0 to {max(0, self._upto - 1)})")
            yield Input(type="integer", compact=True, max_length=12, id="go-to-number")

    @on(Input.Submitted)
    def _submit(self, event: Input.Submitted) -> None:
        digits = event.value.strip()
        self.dismiss(int(digits) if digits.isdecimal() else None)

    def action_cancel(self) -> None:
        """Go back."""
        self.dismiss(None)
