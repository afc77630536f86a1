"""Screens above the main one: all keys, the sync report, the question for a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tracer.analysis.sync import sync_report
from tracer.output.style import Painter
from tracer.output.sync_text import sync_lines
from tracer.trace.trace import Trace
from tracer.tui.commands import COMMANDS, MOVEMENT

SIGNS = (
    ("◆", "sync", "SYNCFS, answered; the bar ━ is the time until the answer"),
    ("◆━▶", "pending", "SYNCFS without an answer until now"),
    ("◇", "enosys", "SYNCFS answered ENOSYS: the kernel never asks again, and sync(2) does nothing"),
    ("✗", "failed", "SYNCFS that failed; in the list: any error"),
    ("▂▅█", "written", "bytes of WRITE requests"),
    ("·", "active", "other requests"),
    ("!", "failed", "an error reply"),
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

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title_text = title

    def compose(self) -> ComposeResult:
        """Put the text into a frame."""
        with VerticalScroll(id="dialog") as frame:
            frame.border_title = Text(self._title_text)
            frame.border_subtitle = Text("esc closes")
            yield Static(id="dialog-text", markup=False)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one("#dialog").scroll_relative(y=lines, animate=False)


class HelpScreen(TextScreen):
    """Every key, from the table of commands."""

    def __init__(self) -> None:
        super().__init__("Keys and signs")

    def on_mount(self) -> None:
        """Write the table."""
        variables = self.app.theme_variables
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style=f"bold {variables['accent']}", justify="right")
        table.add_column()
        for command in COMMANDS:
            table.add_row(command.label.partition("/")[0] or command.label, command.help)
        table.add_row("", "")
        for keys, meaning in MOVEMENT:
            table.add_row(keys, meaning)
        table.add_row("", "")
        for sign, name, meaning in SIGNS:
            table.add_row(Text(sign, style=variables[f"sign-{name}"]), meaning)
        self.query_one("#dialog-text", Static).update(table)


@dataclass
class SyncReportReady(Message):
    """The sync report, as lines."""

    lines: list[Text]


def read_sync_report(trace: Trace) -> SyncReportReady:
    """Make the sync report; takes time on a large trace."""
    return SyncReportReady(list(_plain_lines(trace)))


def _plain_lines(trace: Trace) -> Iterator[Text]:
    for line in sync_lines(sync_report(trace), Painter(True)):
        text = Text.from_ansi(line)
        # Styles are set by position: a stray control character is replaced by another single one.
        text.plain = "".join(character if character.isprintable() else "·" for character in text.plain)
        yield text


class SyncScreen(TextScreen):
    """Did sync reach the server?"""

    def __init__(self) -> None:
        super().__init__("Did sync reach the server?")

    def on_mount(self) -> None:
        """Say that it takes a moment."""
        self.query_one("#dialog-text", Static).update(Text("reading the trace …"))

    def show(self, lines: list[Text]) -> None:
        """Show the report."""
        self.query_one("#dialog-text", Static).update(Text("\n").join(lines))


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
