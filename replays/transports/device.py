"""The server's end of the connection, which it takes for /dev/fuse: ours until it serves, then the server's alone.

With a copy of ours open, nobody would see that the server has closed its own. But some servers open the device once for
each thread, after the mount: then the end is borrowed back from the server that has it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tracer.bridges.host import processes

_PIDFD_GETFD: Final = 438  # alike on every machine, as all system calls since Linux 5.1

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Device:
    """The server's end; two threads use it: the one that answers the server's calls, and the one that lets go."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._name = f"socket:[{os.fstat(end.fileno()).st_ino}]"
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lent(self, tid: int) -> Iterator[int | None]:
        """Yield a descriptor of it for a thread that opens it; None when neither we nor its process have one."""
        with self._lock:
            if self._end.fileno() >= 0:
                yield self._end.fileno()
                return
        fd = self._borrowed(processes.thread_group(tid))
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def let_go(self) -> None:
        """Close our copy; nothing happens the second time."""
        with self._lock:
            self._end.close()

    def _borrowed(self, pid: int) -> int | None:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                if str(entry.readlink()) == self._name:
                    return _copied(pid, int(entry.name))
        return None


def _copied(pid: int, number: int) -> int | None:
    """Return a copy of another process's descriptor, None when that is refused (ptrace(2), access mode checking)."""
    pidfd = os.pidfd_open(pid)
    try:
        words = (ctypes.c_long(word) for word in (_PIDFD_GETFD, pidfd, number, 0))
        copy = int(_libc.syscall(*words))
    finally:
        os.close(pidfd)
    return copy if copy >= 0 else None
