"""The application: the theme, the screen, the command palette, and the way in for the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from tracer.trace.trace import Trace
from tracer.tui.commands import commands_for
from tracer.tui.filtering import choice_of
from tracer.tui.main_screen import MainScreen
from tracer.tui.pane_screen import PaneScreen
from tracer.tui.theme import DARK


class ScreenApp(App[None]):
    """One screen with panes, in the project's theme."""

    TITLE = "fusewire"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = []

    main: PaneScreen

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name

    def get_default_screen(self) -> Screen[None]:
        """Begin with the main screen."""
        return self.main

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every command of the main screen in the palette."""
        if screen is not self.main:
            return
        for command in commands_for(self.main.PLACE):
            yield SystemCommand(command.title, command.help, partial(self._run_command, command.action))

    async def _run_command(self, action: str) -> None:
        await self.main.run_action(action)


class FusewireApp(ScreenApp):
    """A trace on the screen."""

    def __init__(self, trace: Trace, *, follow: bool = False, filter_text: str = "") -> None:
        super().__init__()
        self.main = MainScreen(trace, follow=follow, filter_text=filter_text)


def run(trace: Trace, *, follow: bool = False, filter_text: str = "", on_quit: Callable[[], None] | None = None) -> int:
    """Show a trace until the user leaves; return 0, or not 0 when the UI broke. `follow`: watch the file as it grows.

    Raises FilterError when `filter_text` cannot be understood. `on_quit` is called once the screen is given back.
    """
    choice_of(filter_text)
    try:
        app = FusewireApp(trace, follow=follow, filter_text=filter_text)
        app.run()
        return app.return_code or 0
    finally:
        if on_quit is not None:
            on_quit()
