"""Which channel an event is of: its connection's, until an INIT says that the number is another connection's now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from tracer.bridges.ebpf.event import EVENT_BYTES
from tracer.bridges.ebpf.joining import SEND, Bytes, Events, Rows

ChannelOf = Callable[[int, int], int]
Begins = Callable[[int, int, int], None]

_OPCODE_WORD: Final = EVENT_BYTES // 4 + 1
_OPCODE_INIT: Final = 26  # enum fuse_opcode


class Channels:
    """Remembers the channel of each connection and superblock."""

    def __init__(self, channel_of: ChannelOf, begins: Begins | None = None) -> None:
        """`begins(connection, since_ns, until_ns)` is told of each INIT before its channel is asked for.

        Another connection has the number from then on; `until_ns` is when the next one gets it (0: unknown).
        """
        self._channel_of = channel_of
        self._begins = begins
        self._keys = np.empty(0, np.uint64)  # connection << 32 | s_dev, in order
        self._numbers = np.empty(0, np.int64)
        self._coming: list[tuple[int, int]] = []  # time and connection of INITs that wait, or follow

    def look_ahead(self, events: Events, content: Bytes, at: Rows) -> None:
        """Take note of INITs among events that are still to come to `of`."""
        rows = _inits(events, content, at)
        self._coming = sorted(zip(events["t_ns"][rows].tolist(), events["connection"][rows].tolist(), strict=True))

    def of(self, events: Events, content: Bytes, at: Rows) -> Rows:
        """Return the channel of each event, asking for those not met before. `events` are in order."""
        keys = events["connection"].astype(np.uint64) << np.uint64(32) | events["s_dev"]
        if not self._coming:
            return self._numbers_of(keys)
        numbers, begin = np.empty(len(keys), np.int64), 0
        for row in _inits(events, content, at).tolist():
            numbers[begin:row] = self._numbers_of(keys[begin:row])
            self._forget(int(events["connection"][row]), int(events["t_ns"][row]))
            begin = row
        numbers[begin:] = self._numbers_of(keys[begin:])
        return numbers

    def _numbers_of(self, keys: npt.NDArray[np.uint64]) -> Rows:
        places = np.searchsorted(self._keys, keys)
        known = np.append(self._keys, np.uint64(0))[places] == keys
        known &= places < len(self._keys)
        if not known.all():
            for key in sorted(set(keys[~known].tolist())):
                place = int(np.searchsorted(self._keys, np.uint64(key)))
                self._keys = np.insert(self._keys, place, np.uint64(key))
                self._numbers = np.insert(self._numbers, place, self._channel_of(key >> 32, key & 0xFFFF_FFFF))
            places = np.searchsorted(self._keys, keys)
        numbers: Rows = self._numbers[places]
        return numbers

    def _forget(self, connection: int, t_ns: int) -> None:
        others = self._keys >> np.uint64(32) != connection
        self._keys, self._numbers = self._keys[others], self._numbers[others]
        if self._begins is not None:
            later = (other_ns for other_ns, other in self._coming if other == connection and other_ns > t_ns)
            self._begins(connection, t_ns, next(later, 0))


def _inits(events: Events, content: Bytes, at: Rows) -> Rows:
    """Return the rows of INIT requests."""
    sends = np.flatnonzero((events["kind"] == SEND) & (events["kept"] >= 8))
    opcodes = content.view("<u4")[at[sends] // 4 + _OPCODE_WORD]
    rows: Rows = sends[opcodes == _OPCODE_INIT]
    return rows
