"""Questions about a batch, whether its records are tuples or columns: how large, since when, where an INIT is."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any

from dissectors.opcodes import OPS_BY_NAME
from tracer.records import Direction, RawRecord, RecordColumns, RecordFlag
from tracer.store.writer import MAX_MESSAGE, block_size, blocks_of

_INIT = OPS_BY_NAME["INIT"].code
BIG_INIT = _INIT.to_bytes(4, "big")
_INITS = frozenset((_INIT.to_bytes(4, "little"), BIG_INIT))
_EMPTY = RawRecord(0, 0, Direction.TO_SERVER, b"", 0)
_BY_TIME, _CHANNEL, _CONTENT = itemgetter(0), itemgetter(1), itemgetter(3)


def fitting(batch: Sequence[RawRecord], start: int, room: int) -> tuple[int, int]:
    """Return the place of the first record from `start` on that no longer fits into `room` bytes of a trace.

    And how many bytes those before it take.
    """
    if isinstance(batch, RecordColumns):
        import numpy as np

        ends = np.cumsum(((np.minimum(batch.length[start:], MAX_MESSAGE) + 3) & ~3) + block_size(_EMPTY))
        count = int(np.searchsorted(ends, room, "right"))
        return start + count, int(ends[count - 1]) if count else 0
    before = 0
    for place, size in enumerate(accumulate(map(block_size, batch[start:] if start else batch)), start):
        if size > room:
            return place, before
        before = size
    return len(batch), before


def all_fit(batch: Sequence[RawRecord], room: int) -> bool:
    """Tell whether a batch certainly fits into `room` bytes of a trace: most do, and this is quick to say."""
    most = int(batch.length.sum()) if isinstance(batch, RecordColumns) else sum(map(len, map(_CONTENT, batch)))
    return most + (block_size(_EMPTY) + 3) * len(batch) <= room


def since(batch: Sequence[RawRecord], t_ns: int, start: int = 0) -> int:
    """Return the place of the first record from `start` on that is not older than `t_ns`."""
    if isinstance(batch, RecordColumns):
        return start + int(batch.t_ns[start:].searchsorted(t_ns))
    return bisect_left(batch, t_ns, start, key=_BY_TIME)


def time_of(batch: Sequence[RawRecord], place: int) -> int:
    """Return the time of one record."""
    return int(batch.t_ns[place]) if isinstance(batch, RecordColumns) else batch[place].t_ns


def packed(batch: Sequence[RawRecord]) -> tuple[bytes, dict[int, int]]:
    """Return the blocks of a trace, and how many records of each channel are in them."""
    if isinstance(batch, RecordColumns):
        from tracer.store import packing

        counts = {channel: count for channel, count in enumerate(packing.counted(batch)) if count}
        return b"".join(packing.packed(batch)), counts
    return b"".join(blocks_of(batch)), dict(Counter(map(_CHANNEL, batch)))


def inits(batch: Sequence[RawRecord]) -> list[RawRecord]:
    """Return the INIT requests."""
    if isinstance(batch, RecordColumns):
        found: list[RawRecord] = [batch[place] for place in _init_places(batch)]
    else:
        found = [record for record in batch if record[3][4:8] in _INITS]
    delivered = RecordFlag.DELIVERED.value
    return [one for one in found if one.direction == Direction.TO_SERVER and not one.flags & delivered]


def _init_places(batch: RecordColumns) -> list[int]:
    """Return where the second word is INIT's opcode, in either byte order."""
    import numpy as np

    rows: Any = np.flatnonzero((batch.direction == Direction.TO_SERVER) & (batch.length >= 40))
    if not len(rows):
        return []
    at, content = batch.start[rows] + 4, np.frombuffer(batch.content, np.uint8)
    words = [content[at + place] for place in range(4)]
    is_init = ((words[0] == _INIT) & (words[3] == 0)) | ((words[0] == 0) & (words[3] == _INIT))
    places: list[int] = rows[is_init & (words[1] == 0) & (words[2] == 0)].tolist()
    return places


def replies(batch: Sequence[RawRecord]) -> list[RawRecord]:
    """Return what went to the kernel."""
    if isinstance(batch, RecordColumns):
        return list(batch.taken(batch.direction == Direction.TO_KERNEL))
    return [record for record in batch if record[2] == Direction.TO_KERNEL]
