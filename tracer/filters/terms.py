"""A compiled filter: terms that turn exchanges into a mask, the cheap ones first, the dear ones where still open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tracer.filters.checks import NumberCheck, Remembered, TextCheck
from tracer.filters.sources import Bools, Numbers, SharedTexts, Texts
from tracer.trace.columns import Array, Rows
from tracer.trace.trace import Trace


class Term(Protocol):
    """One condition on exchanges."""

    @property
    def cost(self) -> int:
        """How dear it is, in no unit."""
        ...

    def mask(self, trace: Trace, numbers: Rows) -> Bools:
        """Tell which of the exchanges `numbers` meet the condition."""
        ...


@dataclass(frozen=True, slots=True)
class Everything:
    """Holds for every exchange."""

    cost: int = 0

    def mask(self, trace: Trace, numbers: Rows) -> Bools:
        """Return True for all."""
        return np.ones(len(numbers), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class NumberTest:
    """A check of a field's integers. An exchange that has none fails; of several any must pass, or with `every` all."""

    source: Numbers
    check: NumberCheck | None  # None: having one is enough
    every: bool = False

    @property
    def cost(self) -> int:
        """How dear it is."""
        return self.source.cost

    def mask(self, trace: Trace, numbers: Rows) -> Bools:
        """Check all values at once."""
        found = self.source.find(trace, numbers)
        hits = np.ones(len(found.values), np.bool_) if self.check is None else self.check(found.values)
        if found.where is None:
            return hits
        mask = np.zeros(len(numbers), dtype=np.bool_)
        mask[found.where if self.every else found.where[hits]] = True
        if self.every:
            mask[found.where[~hits]] = False
        return mask


@dataclass(frozen=True, slots=True)
class TextTest:
    """A check of a field's text. An exchange that has none fails; of several any must pass, or with `every` all."""

    source: Texts
    check: TextCheck | None
    every: bool = False

    @property
    def cost(self) -> int:
        """How dear it is."""
        return self.source.cost

    def mask(self, trace: Trace, numbers: Rows) -> Bools:
        """Check values one by one; the same text is checked once."""
        mask = np.zeros(len(numbers), dtype=np.bool_)
        pairs = self.source.pairs(trace, numbers)
        if self.check is None:
            mask[[place for place, _ in pairs]] = True
            return mask
        check = Remembered(self.check).__getitem__ if self.source.repeats else self.check
        if not self.every:
            mask[[place for place, value in pairs if check(value)]] = True
            return mask
        missed: list[int] = []
        for place, value in pairs:
            mask[place] = True
            if not check(value):
                missed.append(place)
        mask[missed] = False
        return mask


@dataclass(frozen=True, slots=True)
class SharedTextTest:
    """A check of text that many exchanges share. An exchange that has none fails."""

    source: SharedTexts
    check: TextCheck | None

    @property
    def cost(self) -> int:
        """How dear it is."""
        return self.source.cost

    def mask(self, trace: Trace, numbers: Rows) -> Bools:
        """Check each text once for all that share it."""
        mask = np.zeros(len(numbers), dtype=np.bool_)
        check = None if self.check is None else Remembered(self.check)
        for places, text in self.source.groups(trace, numbers):
            if check is None or check[text]:
                mask[places] = True
        return mask


@dataclass(frozen=True, slots=True)
class Not:
    """Holds where `term` does not: also where the exchange lacks the field."""

    term: Term

    @property
    def cost(self) -> int:
        """How dear it is."""
        return self.term.cost

    def mask(self, trace: Trace, numbers: Rows) -> Bools:
        """Return the opposite."""
        return ~self.term.mask(trace, numbers)


@dataclass(frozen=True, slots=True)
class Joined:
    """Several terms: all must hold (`every`), or any. Each is asked only about what those before left open."""

    terms: tuple[Term, ...]
    every: bool

    @classmethod
    def of(cls, terms: list[Term], *, every: bool) -> Joined:
        """Join terms in the order of their cost."""
        return cls(tuple(sorted(terms, key=lambda term: term.cost)), every)

    @property
    def cost(self) -> int:
        """How dear it is."""
        return max(term.cost for term in self.terms)

    def mask(self, trace: Trace, numbers: Rows) -> Bools:
        """Narrow what is open, term by term."""
        mask = self.terms[0].mask(trace, numbers)
        for term in self.terms[1:]:
            open_: Array = np.flatnonzero(mask if self.every else ~mask)
            if not len(open_):
                break
            mask[open_] = term.mask(trace, numbers[open_])
        return mask
