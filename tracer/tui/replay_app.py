"""The application on a replay, and the way in for the command line; who opens one trace does not load it."""

from __future__ import annotations

from replays.results.replayed import Replayed
from tracer.tui.app import ScreenApp
from tracer.tui.filtering import choice_of
from tracer.tui.replay_screen import ReplayScreen


class ReplayApp(ScreenApp):
    """Both sides of a replay on the screen."""

    def __init__(self, replayed: Replayed, *, filter_text: str = "") -> None:
        super().__init__()
        self.main = ReplayScreen(replayed, filter_text=filter_text)


def run(replayed: Replayed, *, filter_text: str = "") -> int:
    """Show both sides of a replay until the user leaves; return 0, or not 0 when the UI broke.

    Raises FilterError when `filter_text` cannot be understood.
    """
    choice_of(filter_text)
    app = ReplayApp(replayed, filter_text=filter_text)
    app.run()
    return app.return_code or 0
