"""Both sides of a replay as one table: a row for each recorded exchange, and one for each request the replay added.

Only numbers: nothing is decoded, so a table of a million rows takes a third of a second.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from dissectors.opcodes import OPS_BY_NAME
from replays.playing.livetrace import live_pairs
from replays.reasons import Skip
from replays.report import NONE
from replays.results.outcome import KeptDifference, Outcome
from tracer.trace.columns import Kind, Rows
from tracer.trace.trace import Trace

SKIPS = tuple(Skip)
LOOKUP = OPS_BY_NAME["LOOKUP"].code


class Mark(IntEnum):
    """How a row's two sides stand to each other."""

    SAME = 0  # by every rule that counts
    FIRST = 1  # they differ, and that follows from nothing before
    FOLLOWS = 2  # they differ in consequence of an earlier difference
    NOT_SENT = 3
    ADDED = 4  # the recording has no such request
    ONE_SIDED = 5  # sent by the recorded server of its own accord: never played


@dataclass(frozen=True, slots=True)
class Sides:
    """The table. Columns are arrays of one length; rows are in the order of the recording."""

    recorded: Rows  # exchange, NONE in a row that was added
    live: Rows  # exchange, NONE where nothing was sent
    marks: npt.NDArray[np.uint8]  # Mark
    skips: npt.NDArray[np.int8]  # place in SKIPS; NONE where it was sent, or nobody knows why not
    row_of_recorded: Rows  # by exchange; NONE of another mount's
    row_of_live: Rows
    differences: dict[int, list[KeptDifference]]  # by row

    def __len__(self) -> int:
        return len(self.recorded)

    def skip(self, row: int) -> Skip | None:
        """Return why a row was not sent, if that is known."""
        place = int(self.skips[row])
        return SKIPS[place] if place >= 0 else None

    def rows_marked(self, mark: Mark) -> Rows:
        """Return the rows that stand so."""
        return np.flatnonzero(self.marks == mark)


def side_by_side(recorded: Trace, live: Trace, outcome: Outcome) -> Sides:
    """Put a recording and what a replay of it wrote next to each other. What `outcome` says is not trusted."""
    codes = _skip_codes(outcome, recorded.exchange_count)
    pairs = _pairs(recorded, live, codes)
    exchanges = _played_exchanges(recorded, pairs)
    partner = np.full(recorded.exchange_count, NONE, dtype=np.int64)
    partner[pairs[:, 0]] = pairs[:, 1]
    left, right = _with_added(exchanges, partner[exchanges], live.exchange_count)
    row_of_recorded, row_of_live = _places(left, recorded.exchange_count), _places(right, live.exchange_count)
    marks = _marks(recorded, left, right)
    skips = np.full(len(left), NONE, dtype=np.int8)
    skips[left != NONE] = codes[left[left != NONE]]
    differences: dict[int, list[KeptDifference]] = defaultdict(list)
    for one in outcome.differences:
        row = _at(row_of_recorded, one.exchange) if one.exchange != NONE else _at(row_of_live, one.live_exchange)
        if row != NONE:
            differences[row].append(one)
            is_first = one.follower_of is None
            marks[row] = Mark.FIRST if is_first or marks[row] == Mark.FIRST else Mark.FOLLOWS
    return Sides(left, right, marks, skips, row_of_recorded, row_of_live, dict(differences))


def _pairs(recorded: Trace, live: Trace, skips: npt.NDArray[np.int8]) -> Rows:
    """Return (recorded, live) exchanges, each recorded one at most once: with the request that is its own.

    Of several that helped to play one, that is the one of its operation: LOOKUPs to learn ids came before it, further
    parts and LOOKUPs of listed names behind it. Where none is, it was played another way: READDIR for READDIRPLUS.
    """
    pairs: Rows = live_pairs(live)
    pairs = pairs[pairs[:, 0] < recorded.exchange_count]
    pairs = pairs[skips[pairs[:, 0]] == NONE]  # what was sent before it turned out so helped nothing
    if (np.diff(pairs[:, 0]) > 0).all():  # as nearly always; sorting a million takes a second
        return pairs
    asked = recorded.records["opcode"][recorded.first_rows[pairs[:, 0]]]
    played = live.records["opcode"][live.first_rows[pairs[:, 1]]]
    strangeness = np.where(played == asked, 0, np.where(played == LOOKUP, 2, 1))
    place = np.where(asked == LOOKUP, -pairs[:, 1], pairs[:, 1])
    pairs = pairs[np.lexsort((place, strangeness, pairs[:, 0]))]
    _, firsts = np.unique(pairs[:, 0], return_index=True)
    own: Rows = pairs[firsts]
    return own


def _played_exchanges(recorded: Trace, pairs: Rows) -> Rows:
    """Return the exchanges of the mount that was played: a recording may hold several."""
    if not len(recorded.channels) > 1 or not len(pairs):
        return np.arange(recorded.exchange_count, dtype=np.int64)
    channels = recorded.records["channel"][recorded.first_rows]
    return np.flatnonzero(channels == channels[int(pairs[0, 0])])


def _with_added(left: Rows, right: Rows, live_count: int) -> tuple[Rows, Rows]:
    """Put in a row for each live exchange that plays none: behind the one that was sent before it."""
    is_added = np.ones(live_count, dtype=np.bool_)
    is_added[right[right != NONE]] = False
    added = np.flatnonzero(is_added)
    if not len(added):
        return left, right
    sent = np.flatnonzero(right != NONE)
    by_live = sent[np.argsort(right[sent], kind="stable")]
    before = np.searchsorted(right[by_live], added) - 1
    behind = np.where(before >= 0, by_live[np.maximum(before, 0)] + 1, 0) if len(by_live) else np.zeros_like(added)
    return np.insert(left, behind, NONE), np.insert(right, behind, added)


def _places(column: Rows, count: int) -> Rows:
    """Return the row of each exchange."""
    places = np.full(count, NONE, dtype=np.int64)
    rows = np.flatnonzero(column != NONE)
    places[column[rows]] = rows
    return places


def _marks(recorded: Trace, left: Rows, right: Rows) -> npt.NDArray[np.uint8]:
    marks = np.full(len(left), Mark.SAME, dtype=np.uint8)
    marks[left == NONE] = Mark.ADDED
    alone = np.flatnonzero((left != NONE) & (right == NONE))
    kinds = recorded.records["kind"][recorded.first_rows[left[alone]]]
    marks[alone] = np.where(kinds == Kind.REQUEST, Mark.NOT_SENT, Mark.ONE_SIDED)
    return marks


def _skip_codes(outcome: Outcome, count: int) -> npt.NDArray[np.int8]:
    codes = np.full(count, NONE, dtype=np.int8)
    for place, skip in enumerate(SKIPS):
        for first, last in outcome.skips.get(skip.name, ()):
            codes[first : last + 1] = place
    return codes


def _at(places: Sequence[int] | Rows, number: int) -> int:
    return int(places[number]) if 0 <= number < len(places) else NONE
