"""What a list shows of a trace: the numbers of the exchanges that pass a filter, in an order. Nothing is decoded.

A view follows a trace that grows: after `Trace.refresh`, `View.refresh` asks the filter only about new exchanges, and
again about those that were open and got their reply, since their state, error and latency are new. Who must not wait
for all of it calls `judge_again`, then `judge` with a limit, piece by piece.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracer.filters import Filter
from tracer.filters.ordering import Keys, SortKey, sort_key
from tracer.trace.columns import SUPERSEDED, Array, Kind, Rows, Table
from tracer.trace.pairing import NEVER_ANSWERED
from tracer.trace.trace import Trace

FIRST_LOOK, LONGEST_LOOK = 4096, 1 << 20  # exchanges a search asks about at once: at first, and at most


class View:
    """The exchanges of `trace` that pass `filter`, in the order of their first record unless sorted."""

    def __init__(self, trace: Trace, filter: Filter | None = None, *, upto: int | None = None) -> None:
        """Judge the exchanges there are, or those below `upto`."""
        self.trace = trace
        self.marks: set[int] = set()  # exchange numbers
        self._filter = filter
        self._key: SortKey | None = None
        self._seen = 0
        self._open: list[Rows] = []  # exchanges that had no answer when they were judged, in pieces
        self._begin(trace.exchange_count if upto is None else upto)

    # ---- what is shown ---------------------------------------------------------------------------------------------

    @property
    def filter(self) -> Filter | None:
        """The filter, None when everything passes."""
        return self._filter

    @property
    def numbers(self) -> Rows:
        """Numbers of the exchanges shown, in the order they are shown in."""
        return self._shown["number"]

    @property
    def seen(self) -> int:
        """How many exchanges of the trace were asked about, passed or not."""
        return self._seen

    @property
    def sorted_by(self) -> SortKey | None:
        """What the view is sorted by, None for the order of time."""
        return self._key

    def __len__(self) -> int:
        return self._shown.count

    def row_of(self, number: int) -> int | None:
        """Return the row that shows an exchange; None when it is not shown."""
        numbers = self.numbers
        if self._key is None:
            row = int(np.searchsorted(numbers, number))
            return row if row < len(numbers) and numbers[row] == number else None
        found = np.flatnonzero(numbers == number)
        return int(found[0]) if len(found) else None

    def row_near(self, number: int) -> int | None:
        """Return the row of an exchange, or of one near it in time: where a cursor goes when its row is gone."""
        exact = self.row_of(number)
        if exact is not None or not len(self):
            return exact
        numbers = self.numbers
        if self._key is None:
            return min(int(np.searchsorted(numbers, number)), len(numbers) - 1)
        return int(np.abs(numbers - number).argmin())

    # ---- choosing --------------------------------------------------------------------------------------------------

    def set_filter(self, filter: Filter | None) -> None:
        """Show what passes `filter`; marks stay, also on exchanges that are no longer shown."""
        self._filter = filter
        self._begin(self.trace.exchange_count)

    def sort(self, key: str = "time", reverse: bool = False) -> None:
        """Sort by a field of the filter language ("fuse.latency"; "latency" is enough), or "time" for the usual order.

        Exchanges without the field come last, ties in the order of time. TracerError for what cannot be sorted by.
        """
        self._key = None if key == "time" and not reverse else sort_key(key, reverse)
        self._show(np.sort(self.numbers))

    def refresh(self) -> bool:
        """Take in what the trace has now; tell whether a row came, went or stands for something that changed."""
        has_changed = self.judge_again()
        return self.judge(self.trace.exchange_count) or has_changed

    def judge_again(self) -> bool:
        """Ask again about exchanges that were answered since, or only got older where that counts; tell of a change.

        Begins anew, with nothing judged, when an INIT or the byte order came after what it explains.
        """
        if self._agreements() != self._agreed:
            self._begin(0)
            return True
        waiting = np.concatenate(self._open) if self._open else np.empty(0, np.int64)
        still = self._is_open(waiting)
        is_ageing = self._filter is not None and self._filter.is_ageing
        changed, self._open = waiting if is_ageing else waiting[~still], [waiting[still]]
        return self._change(changed, self._passing(changed))

    def judge(self, upto: int) -> bool:
        """Ask about the exchanges below `upto` that were not judged so far; tell whether a row came."""
        new = np.arange(self._seen, upto, dtype=np.int64)
        self._seen = max(self._seen, upto)
        self._open.append(new[self._is_open(new)])
        return self._change(np.empty(0, np.int64), self._passing(new))

    # ---- marks and search ------------------------------------------------------------------------------------------

    def toggle_mark(self, number: int) -> bool:
        """Mark an exchange, or take its mark away; return whether it is marked now."""
        self.marks ^= {number}
        return number in self.marks

    def next_mark(self, row: int, direction: int = 1) -> int | None:
        """Return the nearest row after `row` (before, with direction -1) whose exchange is marked."""
        rows = np.flatnonzero(np.isin(self.numbers, sorted(self.marks)))
        return _beyond(rows, row, direction)

    def next_match(self, filter: Filter, row: int, direction: int = 1) -> int | None:
        """Return the nearest row after `row` (before, with direction -1) that passes `filter` too.

        To search from the top begin at row -1, from the end at row len(view).
        """
        length = FIRST_LOOK
        while True:
            start, stop = (row + 1, row + 1 + length) if direction > 0 else (row - length, row)
            start, stop = max(0, start), min(len(self), stop)
            if start >= stop:
                return None
            numbers = self.numbers[start:stop]
            hits = np.flatnonzero(_ask(filter, self.trace, numbers))
            if len(hits):
                return start + int(hits[0] if direction > 0 else hits[-1])
            row = stop - 1 if direction > 0 else start
            length = min(length * 4, LONGEST_LOOK)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _begin(self, upto: int) -> None:
        self._agreed = self._agreements()
        self._seen, self._open = 0, []
        self._show(np.empty(0, np.int64))
        self.judge(upto)

    def _agreements(self) -> tuple[tuple[int, bool], ...]:
        """Return what changes how bodies are read: how many INITs were answered, and the byte order."""
        return tuple((len(session.agreements), session.big_endian) for session in self.trace.sessions)

    def _passing(self, numbers: Rows) -> Rows:
        if self._filter is None or not len(numbers):
            return numbers
        return numbers[self._filter.mask(self.trace, numbers)]

    def _is_open(self, numbers: Rows) -> Array:
        """Tell which exchanges a later record may change."""
        table, first = self.trace.records, self.trace.first_rows[numbers]
        is_open: Array = (table["kind"][first] == Kind.REQUEST) & (table["mate"][first] < 0)
        is_open &= (table["bits"][first] & SUPERSEDED) == 0
        is_open &= ~np.isin(table["opcode"][first], NEVER_ANSWERED)
        return is_open

    def _change(self, changed: Rows, passing: Rows) -> bool:
        """Take out what `changed`, put in what is `passing`; tell whether a row is another one now."""
        return self._splice(changed, passing) if self._key is None else self._merge(self._key, changed, passing)

    def _show(self, numbers: Rows) -> None:
        """Show `numbers`, which ascend, in the view's order."""
        if self._key is not None:
            self._fill(*_in_order(numbers, self._key.of(self.trace, numbers)))
            return
        self._shown = Table({"number": "i8"})
        where = self._shown.extend(len(numbers))
        self._shown["number"][where] = numbers

    def _splice(self, changed: Rows, passing: Rows) -> bool:
        """Put `passing` in their places, and take out those that `changed` and pass no more. Costs what lies behind."""
        numbers = self.numbers
        earliest = [int(rows[0]) for rows in (changed, passing) if len(rows)]
        if not earliest:
            return False
        start = int(np.searchsorted(numbers, min(earliest)))
        behind = numbers[start:].copy()
        kept = behind[~np.isin(behind, changed)]
        self._shown.count = start
        where = self._shown.extend(len(kept) + len(passing))
        self._shown["number"][where] = np.sort(np.concatenate([kept, passing]), kind="stable")
        return len(passing) > 0 or len(kept) < len(behind)

    def _merge(self, key: SortKey, changed: Rows, passing: Rows) -> bool:
        """Do the same in a sorted view."""
        numbers, keys = self.numbers, self._shown["key"]
        if len(changed):
            keep = ~np.isin(numbers, changed)
            numbers, keys = numbers[keep], keys[keep]
        if not len(passing):
            if len(numbers) == len(self):
                return False
            self._fill(numbers, keys)
        elif key.is_lasting:
            numbers = np.concatenate([numbers, passing])
            self._fill(*_in_order(numbers, np.concatenate([keys, key.of(self.trace, passing)])))
        else:
            self._show(np.union1d(numbers, passing))
        return True

    def _fill(self, numbers: Rows, keys: Keys) -> None:
        self._shown = Table({"number": "i8", "key": "u8"})
        where = self._shown.extend(len(numbers))
        self._shown["number"][where], self._shown["key"][where] = numbers, keys


def _in_order(numbers: Rows, keys: Keys) -> tuple[Rows, Keys]:
    """Sort by key, then by number; fast where both are in order but for a short end."""
    order = np.argsort(keys, kind="stable")
    by_key = numbers[order]
    tied = keys[order][1:] == keys[order][:-1]
    if (tied & (by_key[1:] < by_key[:-1])).any():
        order = np.lexsort((numbers, keys))
    return numbers[order], keys[order]


def _ask(filter: Filter, trace: Trace, numbers: Rows) -> npt.NDArray[np.bool_]:
    """Return the mask of `numbers`, which are in any order."""
    order = np.argsort(numbers, kind="stable")
    mask = np.empty(len(numbers), dtype=np.bool_)
    mask[order] = filter.mask(trace, numbers[order])
    return mask


def _beyond(rows: Rows, row: int, direction: int) -> int | None:
    rows = rows[rows > row] if direction > 0 else rows[rows < row][::-1]
    return int(rows[0]) if len(rows) else None
