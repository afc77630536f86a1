"""Chunks of a log -> lines."""

from __future__ import annotations

from typing import Final

MAX_LINE_BYTES: Final = 256 << 20  # a message of 64 MiB, every byte as four characters


class LineSplitter:
    """Cuts chunks into lines without their line breaks; keeps what follows the last one."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._dropped = 0
        self._max = max_line_bytes
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._is_dropping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes."""
        lines = chunk.split(b"\n")
        if len(lines) == 1:
            self._hold(chunk)
            return []
        self._parts.append(lines[0])
        lines[0] = b"".join(self._parts)
        rest = lines.pop()
        if self._is_dropping:
            del lines[0]
        self._parts, self._held_bytes, self._is_dropping = [], 0, False
        self._hold(rest)
        return lines

    def take_dropped(self) -> int:
        """Return how many lines were longer than the limit since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def skip_line(self) -> None:
        """Forget the line begun, and leave out the rest of it: bytes in the middle of it were lost."""
        self._parts, self._held_bytes, self._is_dropping = [], 0, True

    def rest(self) -> bytes:
        """Return what is left behind the last line break, once."""
        rest = b"" if self._is_dropping else b"".join(self._parts)
        self._parts, self._held_bytes, self._is_dropping = [], 0, False
        return rest

    def _hold(self, part: bytes) -> None:
        self._held_bytes += len(part)
        if self._held_bytes > self._max and not self._is_dropping:
            self._is_dropping = True
            self._dropped += 1
        if self._is_dropping:
            self._parts.clear()
        elif part:
            self._parts.append(part)
