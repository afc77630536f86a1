"""Finds what a filter lets through in portions, so that the screen never waits long, and keeps it up to date."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tracer.filters import Filter
from tracer.trace.trace import Trace
from tracer.tui.listing import Listing
from tracer.tui.turns import Turns
from tracer.view import View

FIRST_PORTION, SMALLEST, LARGEST = 4096, 512, 1 << 18  # exchanges
QUICK_S, SLOW_S = 0.02, 0.06  # a portion grows below and shrinks above: that long the screen may have to wait


@dataclass(frozen=True, slots=True)
class Choice:
    """A filter with the text it was made from."""

    text: str
    matcher: Filter


class Sieve:
    """A view judged a portion at a time. All calls come from the thread that lets the trace grow."""

    def __init__(self, trace: Trace, turns: Turns, choice: Choice) -> None:
        self._turns, self.choice = turns, choice
        self._view = View(trace, choice.matcher, upto=0)
        self._portion = FIRST_PORTION

    @property
    def upto(self) -> int:
        """How many exchanges were judged."""
        return self._view.seen

    def judge_again(self) -> None:
        """Ask again about exchanges that were answered since; about all when an INIT explained them only now."""
        with self._turns.mine():
            self._view.judge_again()

    def take(self, upto: int) -> None:
        """Judge the next portion of the exchanges below `upto`."""
        began = time.monotonic()
        with self._turns.mine():
            self._view.judge(min(upto, self.upto + self._portion))
        took = time.monotonic() - began
        if took < QUICK_S:
            self._portion = min(LARGEST, self._portion * 2)
        elif took > SLOW_S:
            self._portion = max(SMALLEST, self._portion // 2)

    def listing(self) -> Listing:
        """Return what passes, as it is now: the view goes on to change its own."""
        return Listing(self.upto, self._view.numbers.copy(), self.choice.text)
