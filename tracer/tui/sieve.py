"""Finds what a filter lets through in portions, so that the screen never waits long, and keeps it up to date."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tracer.trace.columns import SUPERSEDED, Array, Kind, Rows
from tracer.trace.pairing import NEVER_ANSWERED
from tracer.trace.trace import Trace
from tracer.tui.listing import Listing
from tracer.tui.turns import Turns

FIRST_PORTION, SMALLEST, LARGEST = 4096, 512, 1 << 18  # exchanges
QUICK_S, SLOW_S = 0.02, 0.06  # a portion grows below and shrinks above: that long the screen may have to wait


class Matcher(Protocol):
    """A compiled filter."""

    def mask(self, trace: Trace, numbers: Rows) -> Array:
        """Tell of each exchange whether it matches."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A filter with the text it was made from."""

    text: str
    matcher: Matcher


class Sieve:
    """The exchanges below `upto` that pass a filter. All calls come from the thread that lets the trace grow."""

    def __init__(self, trace: Trace, turns: Turns, choice: Choice) -> None:
        self._trace, self._turns, self.choice = trace, turns, choice
        self._portion = FIRST_PORTION
        self._begin()

    def _begin(self) -> None:
        self.upto = 0
        self._passing: list[Rows] = []
        self._open: list[Rows] = []  # exchanges that had no answer when they were judged
        self._agreed = self._agreements()

    def _agreements(self) -> list[tuple[int, bool]]:
        """Return what changes how bodies are read: how many INITs were answered, and the byte order."""
        return [(len(session.agreements), session.big_endian) for session in self._trace.sessions]

    def judge_again(self) -> None:
        """Ask again about exchanges that were answered since; about all when an INIT explained them only now."""
        if self._agreements() != self._agreed:
            self._begin()
            return
        waiting = _joined(self._open)
        still = self._is_open(waiting)
        answered, self._open = waiting[~still], [waiting[still]]
        if len(answered):
            others = np.setdiff1d(_joined(self._passing), answered, assume_unique=True)
            self._passing = [np.union1d(others, answered[self._mask(answered)])]

    def take(self, upto: int) -> None:
        """Judge the next portion of the exchanges below `upto`."""
        numbers = np.arange(self.upto, min(upto, self.upto + self._portion), dtype=np.int64)
        began = time.monotonic()
        self._passing.append(numbers[self._mask(numbers)])
        took = time.monotonic() - began
        self._open.append(numbers[self._is_open(numbers)])
        self.upto += len(numbers)
        if took < QUICK_S:
            self._portion = min(LARGEST, self._portion * 2)
        elif took > SLOW_S:
            self._portion = max(SMALLEST, self._portion // 2)

    def listing(self) -> Listing:
        """Return what passes."""
        return Listing(self.upto, _joined(self._passing), self.choice.text)

    def _mask(self, numbers: Rows) -> Array:
        with self._turns.mine():
            return self.choice.matcher.mask(self._trace, numbers)

    def _is_open(self, numbers: Rows) -> Array:
        """Tell which exchanges a later record may change."""
        table, first = self._trace.records, self._trace.first_rows[numbers]
        is_open: Array = (table["kind"][first] == Kind.REQUEST) & (table["mate"][first] < 0)
        is_open &= (table["bits"][first] & SUPERSEDED) == 0
        is_open &= ~np.isin(table["opcode"][first], NEVER_ANSWERED)
        return is_open


def _joined(pieces: list[Rows]) -> Rows:
    """Join pieces into one, in the list too, so that the next call costs nothing."""
    if len(pieces) != 1:
        pieces[:] = [np.concatenate(pieces) if pieces else np.empty(0, np.int64)]
    return pieces[0]
