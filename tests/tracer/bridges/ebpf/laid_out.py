"""A ring in memory: for what no program can be made to do, because the verifier refuses it."""

from __future__ import annotations

import mmap
import os

import numpy as np

from tracer.bridges.ebpf.ring import Ring


class LaidOut:
    """A ring whose records are put there one by one; the Ring that drains it is the real one."""

    def __init__(self, size: int = 4 * mmap.PAGESIZE, position: int = 0) -> None:
        self.size = size
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * size)
        self.end = position
        for page in (0, 1):
            os.pwrite(self.fd, position.to_bytes(8, "little"), page * mmap.PAGESIZE)
        self.ring = Ring(self.fd, size)

    def add(self, content: bytes, flag: int = 0, page: int | None = None) -> int:
        """Reserve a record and fill it; return where its header is."""
        at = self.end & (self.size - 1)
        if page is None:
            page = 3 + at // mmap.PAGESIZE
        self._put(at, np.array([len(content) | flag, page], "<u4").tobytes() + content)
        self.end += (len(content) + 15) & ~7
        os.pwrite(self.fd, self.end.to_bytes(8, "little"), mmap.PAGESIZE)
        return at

    def set_length(self, at: int, word: int) -> None:
        self._put(at, word.to_bytes(4, "little"))

    def consumed(self) -> int:
        return int.from_bytes(os.pread(self.fd, 8, 0), "little")

    def _put(self, at: int, content: bytes) -> None:
        fits = self.size - at  # the rest goes to the beginning, and the data is there twice
        for start in (0, self.size):
            os.pwrite(self.fd, content[:fits], 2 * mmap.PAGESIZE + start + at)
            os.pwrite(self.fd, content[fits:], 2 * mmap.PAGESIZE + start)

    def close(self) -> None:
        self.ring.close()
        os.close(self.fd)
