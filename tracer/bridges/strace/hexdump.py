"""The dumps that strace prints behind a call with -e read=... and -e write=...: whole, whatever -s says."""

from __future__ import annotations

import re
from typing import Final

_ROW: Final = re.compile(rb" \| ([0-9a-f]{5,16})  ((?:[0-9a-f]{2} ){1,8}(?: (?:[0-9a-f]{2} ){1,8})?) ").match
_BUFFER: Final = re.compile(rb" \* (\d{1,10}) bytes in buffer \d{1,10}\s*$").match


def is_dump(line: bytes) -> bool:
    """Tell whether a line belongs to the dump of the call before it."""
    return line.startswith((b" | ", b" * ")) and bool(_ROW(line) or _BUFFER(line))


class Dump:
    """Collects the rows of one dump."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._buffer = bytearray()
        self._announced = -1  # length of the buffer being filled
        self._is_broken = False

    def add(self, line: bytes) -> None:
        """Take the next row; rows out of order end what can be trusted."""
        if row := _ROW(line):
            if int(row[1], 16) != len(self._buffer):
                self._is_broken = True
            if not self._is_broken:
                self._buffer += bytes.fromhex(row[2].decode())
        elif buffer := _BUFFER(line):
            if self._announced not in (-1, len(self._buffer)):
                self._is_broken = True
            if not self._is_broken:
                self._done.append(bytes(self._buffer))
                self._buffer.clear()
                self._announced = int(buffer[1])

    def data(self) -> bytes:
        """Return the bytes of all buffers so far."""
        return b"".join(self._done) + bytes(self._buffer)
