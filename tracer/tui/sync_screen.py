"""The sync report on a screen of its own, in the theme's colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.color import Color
from rich.console import ConsoleRenderable, Group
from rich.text import Text
from textual.message import Message

from tracer.analysis.sync import sync_report
from tracer.output.style import Painter, Style
from tracer.output.sync_text import sync_lines
from tracer.trace.trace import Trace
from tracer.tui import theme
from tracer.tui.screens import TextScreen, indented


class ThemePainter(Painter):
    """Paints with the theme's colours where the command line uses the terminal's."""

    def __init__(self) -> None:
        super().__init__(True)
        self._codes = {
            Style.SYNC: f"1;{_code(theme.BACKGROUND)};{_code(theme.SYNC, background=True)}",
            Style.ERROR: f"1;{_code(theme.ERROR)}",
            Style.WARNING: _code(theme.PENDING),
            Style.NAME: _code(theme.PATH),
        }

    def __call__(self, text: str, style: Style) -> str:
        """Return `text` in `style`."""
        code = self._codes.get(style, style.value)
        return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _code(colour: str, *, background: bool = False) -> str:
    red, green, blue = Color.parse(colour).get_truecolor()
    return f"{48 if background else 38};2;{red};{green};{blue}"


@dataclass
class SyncReportReady(Message):
    """The sync report, ready to be shown."""

    content: ConsoleRenderable


def read_sync_report(trace: Trace) -> SyncReportReady:
    """Make the sync report; takes time on a large trace."""
    return SyncReportReady(Group(*_paragraphs(trace)))


def _paragraphs(trace: Trace) -> Iterator[ConsoleRenderable]:
    """Yield the report's lines."""
    for line in sync_lines(sync_report(trace), ThemePainter()):
        text = Text.from_ansi(line)
        # Styles are set by position: a stray control character is replaced by another single one.
        text.plain = "".join(character if character.isprintable() else "·" for character in text.plain)
        yield indented(text)


class SyncScreen(TextScreen):
    """Did sync reach the server?"""

    def __init__(self) -> None:
        super().__init__("Did sync reach the server?", Text("reading the trace …"))
