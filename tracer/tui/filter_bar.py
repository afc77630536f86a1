"""The filter bar: an expression, and under it what is wrong with it and where."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.suggester import Suggester
from textual.widgets import Input, Static

from tracer.tui.filtering import Fault, completion, fault_of
from tracer.tui.messages import FilterApplied, FilterBarLeft

PROMPT = " filter "
PLACEHOLDER = "for instance: fuse.opcode == SYNCFS && fuse.latency > 10ms"


class WordSuggester(Suggester):
    """Completes the word at the end of the expression."""

    def __init__(self) -> None:
        super().__init__(use_cache=True, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """Return the whole expression with its last word completed."""
        return completion(value)


class FilterBar(Vertical):
    """Hidden until it is asked for, and as long as a filter is set."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete the word", show=False),
        Binding("escape", "leave", "Leave it as it was", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.applied = ""
        self.fault: Fault | None = None

    def compose(self) -> ComposeResult:
        """Put the error under the line."""
        with Horizontal(id="filter-line"):
            yield Static(PROMPT, id="filter-prompt", markup=False)
            yield Input(placeholder=PLACEHOLDER, suggester=WordSuggester(), compact=True, id="filter-text")
        yield Static(id="filter-error", markup=False)

    @property
    def line(self) -> Input:
        """Where the expression is typed."""
        return self.query_one(Input)

    def on_mount(self) -> None:
        """Begin hidden."""
        self.display = bool(self.applied)
        self._show_fault(None)

    def open(self) -> None:
        """Let the user type."""
        self.display = True
        self.line.focus()

    def set(self, text: str) -> None:
        """Put in a text from outside and apply it."""
        self.line.value = _printable(text)
        self._apply(self.line.value)

    @on(Input.Changed)
    def _check(self, event: Input.Changed) -> None:
        event.stop()
        if event.value.isprintable():
            self._show_fault(fault_of(event.value))
        else:
            self.line.value = _printable(event.value)

    @on(Input.Submitted)
    def _submit(self, event: Input.Submitted) -> None:
        event.stop()
        self._apply(event.value)

    def _apply(self, text: str) -> None:
        fault = fault_of(text)
        self._show_fault(fault)
        if fault is None:
            self.applied = text.strip()
            self.post_message(FilterApplied(self.applied))
            self._leave()
        else:
            self.display = True

    def action_complete(self) -> None:
        """Take the word that is suggested."""
        self.line.action_cursor_right()

    def action_leave(self) -> None:
        """Go back to the filter that is in force."""
        self.line.value = self.applied
        self._show_fault(None)
        self._leave()

    def _leave(self) -> None:
        self.display = bool(self.applied)
        self.post_message(FilterBarLeft())

    def _show_fault(self, fault: Fault | None) -> None:
        self.fault = fault
        error = self.query_one("#filter-error", Static)
        error.display = fault is not None
        if fault is not None:
            column = len(PROMPT) + max(0, fault.column - 1 - int(self.line.scroll_offset.x))
            error.update(Text(pointing(column, fault.length, fault.reason, max(20, self.size.width))))


def _printable(text: str) -> str:
    """Return a text as it may be drawn: what is pasted can hold anything."""
    return "".join(character if character.isprintable() else " " for character in text)


def pointing(column: int, length: int, reason: str, width: int) -> str:
    """Return a caret at `column` with the reason beside it, on the side where there is room, or else below."""
    mark = "^" + "~" * (min(length, max(1, width - column)) - 1)
    right = " " * column + mark + " " + reason
    if len(right) <= width:
        return right
    if len(reason) < column:
        return (reason + " ").rjust(column) + mark
    return " " * column + mark + "\n" + reason
