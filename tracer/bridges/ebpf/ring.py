"""Takes records out of a BPF ring buffer, many at once.

Source: kernel/bpf/ringbuf.c. Page 0 holds the consumer's position, page 1 the producer's, then the data follows, mapped
twice, so that no record wraps. A record is a header {u32 length and two flags, u32 page} and its bytes, padded to 8.
It is reserved with the flag BUSY under a lock, filled, and committed by one store to the length; records behind it may
be committed earlier. `page` is the header's distance from the buffer's start, which tells headers from other bytes.
"""

from __future__ import annotations

import mmap
import platform
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.bridges.ebpf.failures import Cause, LoadFailure
from tracer.bridges.host.processor import is_strongly_ordered

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

BUSY: Final = 1 << 31
DISCARD: Final = 1 << 30
HEADER_SIZE: Final = 8
LIMIT_BYTES: Final = 8 << 20  # a copy that malloc gives from the same memory each time
_LENGTH: Final = DISCARD - 1
_LEAST_WINDOW: Final = 32 << 10  # bytes searched for headers at once
_LARGEST_WINDOW: Final = 256 << 10  # what the second-level cache holds
_STEPS: Final = 512  # records walked one by one before looking again whether they are short
_WORTH_SEARCHING: Final = 512  # bytes a record: one step costs as much as searching so many


class Drained(NamedTuple):
    """A copy of whole committed records."""

    content: Bytes  # `room` bytes of undefined content, then the records with their headers
    at: Positions  # where the bytes of each record begin in `content`, a multiple of 8 where `room` is one
    size: Positions  # how many there are


class Ring:
    """A BPF ring buffer, whose only consumer this is."""

    def __init__(self, fd: int, size: int) -> None:
        """Map the ring of `size` bytes, as `max_entries` of its map says.

        Raises LoadFailure on a processor whose loads may overtake each other, and OSError when it cannot be mapped.
        """
        _refuse_weakly_ordered()
        self.size = size
        self._head = mmap.mmap(fd, mmap.PAGESIZE)
        self._rest = mmap.mmap(fd, mmap.PAGESIZE + 2 * size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        # Read and written with one access of 8 bytes each: struct would move them byte by byte, and the kernel would
        # see half a position.
        self._consumer = memoryview(self._head)[:8].cast("Q")
        self._producer = memoryview(self._rest)[:8].cast("Q")
        self._data = np.frombuffer(self._rest, np.uint8, offset=mmap.PAGESIZE)
        self._words = memoryview(self._rest)[mmap.PAGESIZE :].cast("I")
        self._heads = self._data.view(np.uint32).reshape(-1, mmap.PAGESIZE // HEADER_SIZE, 2)
        self._page_of = np.arange(len(self._heads), dtype=np.uint32) % np.uint32(size // mmap.PAGESIZE)
        self._first_page = -1  # not known before the first record

    def pending(self) -> int:
        """Return how many bytes are reserved or committed, and not yet taken."""
        return self._producer[0] - self._consumer[0]

    def drain(self, limit_bytes: int = LIMIT_BYTES, room: int = 0) -> Drained:
        """Copy out the committed records, up to the first that is not, and give their place back to the kernel.

        What is copied ends with the first record that reaches `limit_bytes`. `room` bytes before it are left for the
        caller's use. Discarded records are passed over.
        """
        taken = self._consumer[0]
        begin = taken & (self.size - 1)
        stop = begin + min(self._producer[0] - taken, limit_bytes)
        # On a strongly ordered processor what is loaded after a header is at least as new: the walk sees the
        # commit, so the copy after it sees the bytes. The copy's own order of loads means nothing.
        found = self._walk(begin, stop)
        places = np.concatenate(found) if found else np.empty((0, 2), np.int64)
        heads, sizes = places[:, 0], places[:, 1]
        end = int(_next(places[-1:])[0]) if len(places) else begin
        content = np.empty(room + end - begin, np.uint8)
        content[room:] = self._data[begin:end]
        self._consumer[0] = taken + end - begin
        is_discarded = sizes & DISCARD != 0
        if is_discarded.any():
            heads, sizes = heads[~is_discarded], sizes[~is_discarded]
        return Drained(content, heads + (room + HEADER_SIZE - begin), sizes)

    def close(self) -> None:
        """Unmap the ring; what was drained stays."""
        for view in (self._consumer, self._producer, self._words):
            view.release()
        del self._data, self._heads
        self._head.close()
        self._rest.close()

    def _walk(self, begin: int, stop: int) -> list[Positions]:
        """Return (place, length word) of each header from `begin` on that lies before `stop`, up to the first BUSY."""
        found: list[Positions] = []
        window = _LEAST_WINDOW
        while begin < stop:
            end = min(begin + window, stop)
            part = self._search(begin, end) if window and end - begin > mmap.PAGESIZE else None
            if part is None:
                part = self._step(begin, stop)
                window = _LEAST_WINDOW
            else:
                is_dense = len(part) * _WORTH_SEARCHING > end - begin
                window = min(2 * window, _LARGEST_WINDOW) if is_dense else 0
            busy = np.flatnonzero(part[:, 1] & BUSY)
            if len(busy):
                part = part[: busy[0]]
            if len(part):
                found.append(part)
                begin = int(_next(part[-1:])[0])
            if len(busy):
                break
        return found

    def _step(self, at: int, stop: int) -> Positions:
        """Walk from header to header, a bounded number of them; ends with the first BUSY one."""
        words, beyond = self._words, 2 * HEADER_SIZE - 1
        heads: list[int] = []
        lengths: list[int] = []
        for _ in range(_STEPS):
            if at >= stop:
                break
            word = words[at >> 2]
            heads.append(at)
            lengths.append(word)
            if word & BUSY:
                break
            at += (word & _LENGTH) + beyond & -HEADER_SIZE
        return np.array((heads, lengths), np.int64).T

    def _search(self, begin: int, end: int) -> Positions | None:
        """Find all headers from `begin` to `end` at once; None when they are not told by their page.

        Whatever has the right page may be a header. Only what the length before it leads to is one: so the result is
        that of the walk, whatever bytes a record holds.
        """
        first, last = begin // mmap.PAGESIZE, -(-end // mmap.PAGESIZE)
        if self._first_page < 0:
            self._first_page = self._words[(begin >> 2) + 1] - int(self._page_of[first])
        pages = self._page_of[first:last, None] + np.uint32(self._first_page & 0xFFFF_FFFF)
        places = np.flatnonzero(self._heads[first:last, :, 1] == pages)
        low, high = np.searchsorted(places, ((begin - first * mmap.PAGESIZE) >> 3, (end - first * mmap.PAGESIZE) >> 3))
        places = places[low:high]
        found = np.empty((len(places), 2), np.int64)
        found[:, 0] = (places << 3) + first * mmap.PAGESIZE
        found[:, 1] = self._heads.reshape(-1, 2)[found[:, 0] >> 3, 0]
        if not len(found) or found[0, 0] != begin:
            return None
        return _linked(found)


def _linked(found: Positions) -> Positions:
    """Return those of the places that the lengths lead to, from the first one on."""
    after = _next(found)
    breaks = np.flatnonzero(after[:-1] != found[1:, 0]).tolist()
    if not breaks:
        return found
    kept, at = [], 0
    for place in breaks:
        if place < at:
            continue
        kept.append(found[at : place + 1])
        at = int(np.searchsorted(found[:, 0], after[place]))
        if at == len(found) or found[at, 0] != after[place]:
            return np.concatenate(kept)
    return np.concatenate([*kept, found[at:]])


def _next(found: Positions) -> Positions:
    """Return where the header after each one is."""
    after: Positions = found[:, 0] + ((found[:, 1] & _LENGTH) + 2 * HEADER_SIZE - 1 & -HEADER_SIZE)
    return after


def _refuse_weakly_ordered() -> None:
    if not is_strongly_ordered():
        raise LoadFailure(Cause.PROCESSOR, platform.machine())
