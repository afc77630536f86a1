"""Which exchanges the list shows: all there are, or those a filter let through. Rows of it are exchange numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.trace.columns import Rows


@dataclass(frozen=True, slots=True)
class Listing:
    """An immutable list of exchange numbers, in order. `numbers` None: every exchange below `upto`."""

    upto: int
    numbers: Rows | None = None
    filter_text: str = ""

    def __len__(self) -> int:
        return self.upto if self.numbers is None else len(self.numbers)

    def number(self, row: int) -> int:
        """Return the exchange in a row."""
        return row if self.numbers is None else int(self.numbers[row])

    def row_of(self, number: int) -> int:
        """Return the row of an exchange, or of the nearest one that is shown; -1 when the list is empty."""
        if not len(self):
            return -1
        if self.numbers is None:
            return max(0, min(number, self.upto - 1))
        after = int(np.searchsorted(self.numbers, number))
        if after >= len(self.numbers):
            return len(self.numbers) - 1
        before = max(0, after - 1)
        nearer = number - int(self.numbers[before]) < int(self.numbers[after]) - number
        return before if nearer else after

    def holds(self, number: int) -> bool:
        """Tell whether an exchange is shown."""
        row = self.row_of(number)
        return row >= 0 and self.number(row) == number
