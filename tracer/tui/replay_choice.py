"""Which rows of a replay the list shows: what the filter lets through, only differences, followers or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replays.report import NONE
from replays.results.sides import Mark, Sides
from tracer.trace.columns import Rows
from tracer.tui.listing import Listing


@dataclass(slots=True)
class RowChoice:
    """What the user wants to see. `exchanges` are recorded ones, in order; None: no filter."""

    exchanges: Rows | None = None
    filter_text: str = ""
    only_differences: bool = False
    hides_followers: bool = False

    def listing(self, sides: Sides) -> Listing:
        """Return the rows to show. A filter knows the recorded side alone: it lets no added row through."""
        wanted = np.ones(len(sides), dtype=np.bool_)
        if self.exchanges is not None:
            passes = np.zeros(len(sides.row_of_recorded), dtype=np.bool_)
            passes[self.exchanges] = True
            is_recorded = sides.recorded != NONE
            wanted[~is_recorded] = False
            wanted[is_recorded] = passes[sides.recorded[is_recorded]]
        if self.only_differences:
            wanted &= np.isin(sides.marks, (Mark.FIRST, Mark.FOLLOWS))
        if self.hides_followers:
            wanted &= sides.marks != Mark.FOLLOWS
        return Listing(len(sides), None if wanted.all() else np.flatnonzero(wanted), self.filter_text)
