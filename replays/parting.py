"""Long values of which only a part is kept: from where the two sides part.

A trace of large reads may differ in thousands of them, a mebibyte a side: what is kept whole is bounded over all
differences, and the messages themselves are in the traces anyway.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any, NamedTuple

from dissectors.message import Value

MOST_WHOLE = 4 << 20  # bytes of values that are kept whole, in all differences of a replay together
ALWAYS_WHOLE = 64  # bytes of a value that is kept whole whatever was kept before
KEPT_BYTES, KEPT_NAMES = 64, 16  # of a part
_BLOCK = 4096


class Part(NamedTuple):
    """What is kept of content, or of a list of names."""

    length: int  # of the whole: bytes, or names
    at: int  # where the two sides part: what is kept begins there
    kept: bytes | list[Any]


Kept = Value | Part | None


def parting(one: bytes, other: bytes) -> int:
    """Return where two contents part: the place of the first byte that is not the same, or where the shorter ends."""
    end = min(len(one), len(other))
    at = next((at for at in range(0, end, _BLOCK) if one[at : at + _BLOCK] != other[at : at + _BLOCK]), end)
    pairs = zip(one[at : at + _BLOCK], other[at : at + _BLOCK], strict=False)
    return at + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class Keeper:
    """Keeps the values of one replay's differences: whole while there is room, then in part."""

    def __init__(self, room: int = MOST_WHOLE) -> None:
        self._room = room

    def kept(self, recorded: Value | None, live: Value | None) -> tuple[Kept, Kept]:
        """Return what is kept of the two values of a difference."""
        size = _size(recorded) + _size(live)
        if size <= ALWAYS_WHOLE:
            return recorded, live
        if size <= self._room:
            self._room -= size
            return recorded, live
        self._room = 0  # the first differences are whole, not those that happen to be short
        at = parting(recorded, live) if isinstance(recorded, bytes) and isinstance(live, bytes) else 0
        return _part(recorded, at), _part(live, at)


def _size(value: Value | None) -> int:
    if isinstance(value, list):
        return sum(len(item) for item in value if isinstance(item, bytes))
    return len(value) if isinstance(value, bytes) else 0


def _part(value: Value | None, at: int) -> Kept:
    if isinstance(value, bytes):
        return Part(len(value), at, value[at : at + KEPT_BYTES])
    return Part(len(value), 0, value[:KEPT_NAMES]) if isinstance(value, list) else value
