"""One line about the trace: what is wrong first, then how much there is."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual.widgets import Static

from dissectors.text import escape
from tracer.trace.trace import Trace

SEPARATOR = "  "


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to say about a trace."""

    name: str
    record_count: int
    exchange_count: int
    lost_count: int  # records known to be lost
    has_unknown_loss: bool  # records were lost, nobody knows how many
    cut_count: int  # messages of which less was kept than was asked for: the bridge's buffer was full
    unreadable_bytes: int
    is_damaged: bool
    minors: tuple[str, ...]
    assumed_minor: str  # when a channel's INIT was not seen, else empty

    @classmethod
    def of(cls, trace: Trace, upto: int, cut_count: int) -> Facts:
        """Read them; `cut_count` is counted while the trace grows."""
        gaps = trace.gaps
        known = [session for session in trace.sessions if session.minor_is_known]
        last = trace.records.count - 1
        minors = sorted({session.context(last).effective_minor for session in known})
        unknown = [session for session in trace.sessions if not session.minor_is_known]
        return cls(
            escape(bytes(trace.file.path.name, "utf-8", "surrogateescape"), 80),
            trace.records.count,
            upto,
            sum(gap.count for gap in gaps),
            any(gap.count == 0 for gap in gaps),
            cut_count,
            trace.file.unreadable_bytes,
            trace.file.damaged,
            tuple(f"7.{minor}" for minor in minors),
            f"7.{unknown[0].context(last).effective_minor}" if unknown else "",
        )

    def warnings(self) -> list[str]:
        """Say what a reader of this trace has to know."""
        found = []
        if self.lost_count or self.has_unknown_loss:
            found.append(f"{self.lost_count}{'+' if self.has_unknown_loss else ''} LOST" if self.lost_count else "LOSS")
        if self.cut_count:
            found.append(f"{self.cut_count} CUT SHORT")
        if self.unreadable_bytes:
            found.append(f"{self.unreadable_bytes} bytes unreadable")
        if self.assumed_minor:
            found.append(f"no INIT: {self.assumed_minor} assumed")
        return found


Pieces = list[tuple[str, str]]  # texts with their styles


class StatusLine(Static):
    """A line of pieces, the most important first: what does not fit is left out from the end."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.shown_count = 0
        self.filter_text = ""
        self.progress = ""
        self.failure = ""

    def on_resize(self) -> None:
        """Use the new width."""
        self.redraw()

    def redraw(self) -> None:
        """Draw what is known now."""
        raise NotImplementedError

    def badge(self, colour: str) -> str:
        """Return the style of a piece on a coloured ground, by the theme's name of the colour."""
        variables = self.app.theme_variables
        return f"bold {variables['background']} on {variables[colour]}"

    def joined(self, pieces: Pieces) -> Text:
        """Return the pieces as one line."""
        text = Text(no_wrap=True, overflow="ellipsis")
        for piece, style in pieces:
            if text.cell_len and text.cell_len + len(piece) + len(SEPARATOR) > max(20, self.size.width):
                break
            text.append(SEPARATOR if text.cell_len else "")
            text.append(piece, style)
        return text


class StatusBar(StatusLine):
    """Draws the facts, the filter's count, and what goes on."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.facts: Facts | None = None
        self.is_following = False

    def redraw(self) -> None:
        """Draw what is known now."""
        if self.facts is not None:
            self.update(self.line(self.facts))

    def line(self, facts: Facts) -> Text:
        """Return the line."""
        variables = self.app.theme_variables
        alarm = self.badge("error")
        pieces: Pieces = [(f" {facts.name} ", self.badge("primary"))]
        pieces += [(f" {self.failure} ", alarm)] if self.failure else []
        pieces += [(f" {text} ", alarm) for text in facts.warnings()]
        if self.is_following:
            pieces.append((" FOLLOW ", self.badge("success")))
        if self.filter_text:
            pieces.append((f"{self.shown_count:,} of {facts.exchange_count:,} shown", f"bold {variables['secondary']}"))
        if self.progress:
            pieces.append((self.progress, f"bold {variables['warning']}"))
        pieces.append((f"{facts.exchange_count:,} exchanges", ""))
        pieces.append((f"{facts.record_count:,} records", ""))
        if facts.minors:
            pieces.append(("FUSE " + " ".join(facts.minors), ""))
        return self.joined(pieces)
