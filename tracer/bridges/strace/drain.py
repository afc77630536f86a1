"""Reads strace's output the moment it is written.

strace stops the server while its output pipe is full, and the server's clients hang with it; not even SIGKILL frees
them then. So nothing that can wait (a disk, a screen, the parser) may stand between strace and this thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

READ_BYTES: Final = 1 << 20
SMALL_BYTES: Final = 64 << 10
GATHER_S: Final = 0.001
PIPE_BYTES: Final = 1 << 20  # the default pipe-max-size: what an ordinary user may ask for
BACKLOG_BYTES: Final = 256 << 20


class Drained(NamedTuple):
    """What came since the last call."""

    chunks: list[bytes]
    dropped_bytes: int  # given up because the backlog was full; they lie before the chunks
    has_ended: bool  # strace closed its end, and this is the last of it


class Drain(threading.Thread):
    """A thread that empties a FIFO into memory, and gives up bytes rather than make strace wait."""

    def __init__(self, fifo: Path, backlog_bytes: int = BACKLOG_BYTES) -> None:
        super().__init__(name="strace-drain", daemon=True)
        os.mkfifo(fifo, 0o600)
        # A reader that opens without waiting, before strace opens to write: neither waits for the other.
        self._fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_fd, self._waker_fd = os.pipe2(os.O_CLOEXEC)
        self._limit = backlog_bytes
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._backlog = 0
        self._dropped = 0
        self._has_ended = False
        with contextlib.suppress(OSError):  # a smaller pipe only means more, shorter reads
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def run(self) -> None:
        """Read until strace closes the FIFO or `cancel` is called."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake_fd, select.POLLIN)
        try:
            while True:
                events = dict(poll.poll())
                # Without a writer so far there is no POLLHUP: the kernel keeps a count of writers for that.
                chunk = os.read(self._fd, READ_BYTES) if events.get(self._fd) else b""
                if chunk:
                    self._put(chunk)
                    if len(chunk) < SMALL_BYTES:  # strace writes line by line; the pipe holds what comes meanwhile
                        time.sleep(GATHER_S)
                elif events.get(self._fd, 0) & select.POLLHUP or self._wake_fd in events:
                    break
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify()
            os.close(self._fd)

    def take(self, timeout_s: float) -> Drained:
        """Return what has come, waiting up to `timeout_s` for the first of it."""
        with self._changed:
            if not self._chunks and not self._has_ended:
                self._changed.wait(timeout_s)
            drained = Drained(list(self._chunks), self._dropped, self._has_ended)
            self._chunks.clear()
            self._backlog = self._dropped = 0
        return drained

    def cancel(self) -> None:
        """End the thread although strace has not closed the FIFO; what it has written by now is read first."""
        os.write(self._waker_fd, b"x")
        self.join()

    def close(self) -> None:
        """End the thread and release the descriptors."""
        self.cancel()
        os.close(self._wake_fd)
        os.close(self._waker_fd)

    def _put(self, chunk: bytes) -> None:
        with self._changed:
            if self._backlog + len(chunk) > self._limit:
                # All or nothing, so that what is lost is one stretch of the log and lies before what is kept.
                self._dropped += self._backlog
                self._chunks.clear()
                self._backlog = 0
            self._chunks.append(chunk)
            self._backlog += len(chunk)
            self._changed.notify()
