"""What a server prints: its last words are kept, however much it says."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Final

from tracer.bridges.host.words import printable

KEPT_BYTES: Final = 8192
_READ_BYTES: Final = 65536
_LINE_SHOWN: Final = 300


class Output:
    """Reads a pipe to its end in a thread of its own, so that a server that prints a lot is never held up."""

    def __init__(self) -> None:
        self._from, self.to = os.pipe()
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._thread = threading.Thread(target=self._run, name="server-output", daemon=True)

    def start(self) -> None:
        """Begin to read, once the server has its end; ours of it is closed."""
        os.close(self.to)
        self._thread.start()

    def _run(self) -> None:
        while piece := os.read(self._from, _READ_BYTES):
            self._kept.append(piece[-KEPT_BYTES:])
            self._size += len(self._kept[-1])
            while self._size - len(self._kept[0]) >= KEPT_BYTES:
                self._size -= len(self._kept.popleft())
        os.close(self._from)

    def lines(self, wait_s: float = 0.0) -> list[str]:
        """Return the last lines, safe to show; first wait for the end of the output, but no longer than told."""
        self._thread.join(wait_s)
        text = b"".join(tuple(self._kept))[-KEPT_BYTES:]
        return [printable(line, _LINE_SHOWN) for line in text.splitlines() if line.strip()]
