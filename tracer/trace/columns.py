"""What the index knows of each record: one numpy column a fact, about 60 bytes a record, appended to only."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


class Kind(IntEnum):
    """What a record is in the dialogue."""

    REQUEST = 0
    REPLY = 1
    NOTIFICATION = 2
    DELIVERY = 3  # no message: the server read one then (RecordFlag.DELIVERED)


# What pairing found out about a record. Of numpy's type: an int would widen the column.
UNPAIRABLE = np.uint8(1)  # too short to hold its unique, or a reply the kernel refused
SUPERSEDED = np.uint8(2)  # its unique was used again before it was answered
INTERRUPTED = np.uint8(4)  # an INTERRUPT names it
BIG_ENDIAN = np.uint8(8)


COLUMNS: dict[str, str] = {
    "at": "i8",  # where its FUSE bytes begin in the file
    "t_ns": "i8",
    "unique": "u8",
    "nodeid": "u8",  # of a reply: that of its request
    "opcode": "i4",  # of a reply: that of its request, -1 when unknown; of a notification: its code
    "error": "i4",  # of a request: 0
    "kept": "u4",  # bytes kept
    "wire_len": "u4",
    "pid": "u4",  # the caller's thread id, from the request's header
    "mate": "i4",  # row of the reply, or of the request (a delivery's too); -1 when there is none
    "submount": "i4",  # index into Trace.submounts, -1 when unknown; filled by the state pass
    "channel": "u2",
    "flags": "u2",  # records.RecordFlag
    "kind": "u1",
    "bits": "u1",
}


class CodeSet:
    """A set of small codes, such as opcodes, that a whole column is compared with at once."""

    def __init__(self, codes: Iterable[int]) -> None:
        codes = sorted(codes)
        self._holds = np.zeros(codes[-1] + 2, dtype=bool)
        self._holds[codes] = True

    def holds(self, column: Array) -> npt.NDArray[np.bool_]:
        """Tell which values of a signed column are in the set."""
        # Negative codes count as very large ones, and large ones as the last place, which no code has.
        places = np.minimum(column.view(f"u{column.itemsize}"), len(self._holds) - 1)
        found: npt.NDArray[np.bool_] = self._holds[places]
        return found


def distinct(numbers: Array) -> list[int]:
    """Return the different values of a column of integers, in order; quickly where they are small."""
    if not len(numbers) or bool((numbers == numbers[0]).all()):
        return list(numbers[:1].tolist())
    # Counting takes memory for the largest number: an opcode may be any.
    is_small = int(numbers.min()) >= 0 and int(numbers.max()) < 1 << 16
    found: list[int] = (np.flatnonzero(np.bincount(numbers)) if is_small else sorted_distinct(numbers)).tolist()
    return found


def sorted_distinct(values: Array) -> Array:
    """Return the different values of a long column, in order.

    What np.unique does by hashing takes numpy 2.4 sixty times as long as sorting, which columns nearly are already.
    """
    ordered = np.sort(values, kind="stable")
    is_first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    found: Array = ordered[is_first]
    return found


class Table:
    """Columns of one length that grow together. A column read is a view of the rows there are now."""

    def __init__(self, columns: dict[str, str]) -> None:
        self._arrays = {name: np.empty(0, dtype=kind) for name, kind in columns.items()}
        self._room = 0
        self.count = 0

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name][: self.count]

    def extend(self, count: int) -> slice:
        """Add `count` rows of undefined content; return where they are."""
        needed = self.count + count
        if needed > self._room:
            # Half of it to spare: what is never filled takes no memory, and what grows is copied only now and then.
            self.reserve(needed + needed // 2 if self._room else needed)
        new = slice(self.count, needed)
        self.count = needed
        return new

    def reserve(self, count: int) -> None:
        """Make room for `count` rows in all; room that is never filled takes no memory."""
        self._room = max(count, self.count)
        for name, old in self._arrays.items():
            grown = np.empty(self._room, dtype=old.dtype)
            grown[: self.count] = old[: self.count]
            self._arrays[name] = grown

    def adopt(self, arrays: dict[str, Array]) -> None:
        """Take whole columns as they are, of one length; the table must be empty."""
        assert not self.count
        self._arrays = {name: arrays[name] for name in self._arrays}
        self._room = self.count = len(next(iter(arrays.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        return sum(self.count * array.itemsize for array in self._arrays.values())
