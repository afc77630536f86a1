"""The last seconds of a recording in memory: packed records, bounded in time and in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from tracer.records import Gap

PIECE_BYTES = 400  # what a piece takes beside its content


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records as the blocks of a trace, or one loss. Numbered from 0 on, without a hole."""

    number: int
    first_ns: int
    last_ns: int
    content: bytes
    counts: Mapping[int, int] = field(default_factory=dict)  # records by channel
    gap: Gap | None = None

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return len(self.content) + PIECE_BYTES

    @property
    def record_count(self) -> int:
        """How many records."""
        return sum(self.counts.values())


class Ring:
    """Pieces in their order. One thread adds, another takes: neither waits for more than the other's few list steps.

    What was taken stays for `since` as long as it is young enough. The bound on bytes holds always; when what was not
    yet taken has to go for it, `missed_count` counts its records.
    """

    def __init__(self, keep_ns: int, most_bytes: int) -> None:
        self.missed_count = 0
        self.dropped_ns = -1  # time of the latest record that had to go for lack of room, though young enough
        self._keep_ns, self._most_bytes = keep_ns, most_bytes
        self._pieces: deque[Piece] = deque()
        self._size = 0
        self._taken = -1  # number of the last piece taken
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of memory it takes now."""
        return self._size

    def add(self, piece: Piece) -> None:
        """Append a piece, and drop what is too old or too much."""
        with self._lock:
            self._pieces.append(piece)
            self._size += piece.size
            oldest_ns = piece.last_ns - self._keep_ns
            while self._pieces[0].last_ns < oldest_ns and self._pieces[0].number <= self._taken:
                self._drop()
            while self._size > self._most_bytes and len(self._pieces) > 1:
                self._drop_for_room()

    def _drop(self) -> Piece:
        gone = self._pieces.popleft()
        self._size -= gone.size
        return gone

    def _drop_for_room(self) -> None:
        gone = self._drop()
        self.dropped_ns = max(self.dropped_ns, gone.last_ns)
        if gone.number > self._taken:
            self._taken = gone.number
            self.missed_count += gone.record_count

    def take(self, most_bytes: int) -> list[Piece]:
        """Return pieces that were not taken yet, oldest first: about `most_bytes` of them, one at least if any."""
        with self._lock:
            first = self._pieces[0].number if self._pieces else 0
            taken: list[Piece] = []
            size = 0
            for piece in islice(self._pieces, max(0, self._taken + 1 - first), None):
                taken.append(piece)
                size += piece.size
                if size >= most_bytes:
                    break
            if taken:
                self._taken = taken[-1].number
            return taken

    def since(self, t_ns: int) -> list[Piece]:
        """Return the pieces taken so far that hold anything not older than `t_ns`."""
        with self._lock:
            return [piece for piece in self._pieces if piece.last_ns >= t_ns and piece.number <= self._taken]
