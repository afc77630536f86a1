"""One line about a replay: how much differs first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dissectors.text import escape
from replays.results.sides import Mark, Sides
from tracer.trace.trace import Trace
from tracer.tui.status import Pieces, StatusLine


@dataclass(frozen=True, slots=True)
class ReplayFacts:
    """What there is to say about a replay."""

    recorded_name: str
    live_name: str
    stopped: str
    row_count: int
    counts: dict[Mark, int]

    @classmethod
    def of(cls, recorded: Trace, live: Trace, sides: Sides, stopped: str) -> ReplayFacts:
        """Count the rows."""
        counts = np.bincount(sides.marks, minlength=len(Mark)).tolist()
        by_mark = {mark: counts[mark] for mark in Mark}
        return cls(_name(recorded), _name(live), stopped, len(sides), by_mark)


def _name(trace: Trace) -> str:
    return escape(bytes(trace.file.path.name, "utf-8", "surrogateescape"), 60)


class ReplayStatus(StatusLine):
    """Draws the facts, the filter's count, and what goes on."""

    def __init__(self, facts: ReplayFacts, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._facts = facts
        self.hidden = ""  # what the list leaves out by a key

    def redraw(self) -> None:
        """Draw what is known now."""
        facts, variables = self._facts, self.app.theme_variables
        first, follows = facts.counts[Mark.FIRST], facts.counts[Mark.FOLLOWS]
        pieces: Pieces = [(f" {facts.live_name} ", self.badge("primary"))]
        pieces += [(f" {self.failure} ", self.badge("error"))] if self.failure else []
        pieces += [(" ENDED EARLY ", self.badge("error"))] if facts.stopped else []
        pieces.append((f" {first:,} DIFFER ", self.badge("error")) if first else (" 0 DIFFER ", self.badge("success")))
        pieces += [(f"{follows:,} in consequence", f"{variables['everyday']}")] if follows else []
        if self.hidden or self.filter_text:
            pieces.append((f"{self.shown_count:,} of {facts.row_count:,} rows", f"bold {variables['secondary']}"))
        pieces += [(self.hidden, f"bold {variables['secondary']}")] if self.hidden else []
        pieces += [(self.progress, f"bold {variables['warning']}")] if self.progress else []
        for mark, what in ((Mark.NOT_SENT, "not sent"), (Mark.ADDED, "added")):
            pieces += [(f"{facts.counts[mark]:,} {what}", "")] if facts.counts[mark] else []
        pieces.append((f"{facts.row_count:,} rows", ""))
        pieces.append((f"replay of {facts.recorded_name}", ""))
        self.update(self.joined(pieces))
