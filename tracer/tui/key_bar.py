"""The keys at the bottom. One line drawn from the table: cheaper than a widget a key when the focus moves."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events
from textual.widgets import Static

from tracer.tui.commands import Command

TYPING = (("enter", "Apply"), ("tab", "Complete the word"), ("esc", "Leave the filter as it was"))


class KeyBar(Static):
    """Shows what the keys do, as many as fit; a click does the same."""

    def __init__(self, commands: Sequence[Command], *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._commands = [command for command in commands if command.footer]
        self._places: list[tuple[int, int, Command]] = []
        self.is_typing = False

    def show(self, is_typing: bool) -> None:
        """Show the keys of the panes, or those of the filter bar."""
        self.is_typing = is_typing
        self._draw()

    def on_resize(self) -> None:
        """Use the new width."""
        self._draw()

    def _draw(self) -> None:
        variables = self.app.theme_variables
        key, word = f"bold {variables['footer-key-foreground']}", variables["footer-description-foreground"]
        text = Text(" ", no_wrap=True)
        self._places = []
        commands = [] if self.is_typing else self._commands
        shown = TYPING if self.is_typing else [(command.label, command.footer) for command in commands]
        cells = sum(len(label) + 1 + len(meaning) for label, meaning in shown)
        gap = " " * (2 if 1 + cells + 2 * len(shown) <= self.size.width else 1)
        for at, (label, meaning) in enumerate(shown):
            start = text.cell_len
            if start + len(label) + 1 + len(meaning) > self.size.width:
                break
            text.append(label, key).append(" ").append(meaning, word)
            if commands:
                self._places.append((start, text.cell_len, commands[at]))
            text.append(gap)
        self.update(text)

    async def on_click(self, event: events.Click) -> None:
        """Do what the key under the mouse does."""
        for start, end, command in self._places:
            if start <= event.x < end:
                await self.screen.run_action(command.action)
