"""What the server itself saw and said, one JSON object a line: the witness a capture is compared with."""

from __future__ import annotations

import json
import os
import threading


class Journal:
    """Writes a line per message read from or written to /dev/fuse; does nothing without a path.

    A line has `t_ns` (CLOCK_REALTIME, after the read or before the write), `mount` (its number in this process),
    `to` ("server" or "kernel"), `bytes` (the whole message in hex) and `errno` (0, or why the kernel refused the
    server's write).
    """

    def __init__(self, path: str | None) -> None:
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644) if path else -1

    def note(self, t_ns: int, mount: int, to: str, message: bytes, error: int = 0) -> None:
        """Write one message down; lines of several threads need not be in the order of their times."""
        if self._fd < 0:
            return
        line = {"t_ns": t_ns, "mount": mount, "to": to, "errno": error, "bytes": message.hex()}
        with self._lock:
            os.write(self._fd, json.dumps(line).encode() + b"\n")
