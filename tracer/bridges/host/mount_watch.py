"""Remembers FUSE mounts that come and go, for a bridge that meets a connection only when its mount is gone again."""

from __future__ import annotations

import os
import select
import threading
from typing import Final

from tracer.bridges.host import processes
from tracer.bridges.host.processes import Mount

_MOST: Final = 4096


class MountWatch:
    """Looks at the mounts whenever they change (proc(5): mountinfo can be polled). Use as a context manager."""

    def __init__(self) -> None:
        self._seen: dict[int, Mount] = {}  # by connection; written by the thread alone
        self._thread = threading.Thread(target=self._watch, name="mount-watch", daemon=True)
        self._stop_read, self._stop_write = -1, -1

    def __enter__(self) -> MountWatch:
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stop_write)
        self._thread.join()
        os.close(self._stop_read)

    def last_of(self, connection: int) -> Mount | None:
        """Return the mount that had this connection last, as this process sees mounts; None when none was seen."""
        return self._seen.get(connection)

    def _watch(self) -> None:
        table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(table, select.POLLPRI)
            poll.register(self._stop_read, select.POLLIN)
            while True:
                self._look()
                if any(fd == self._stop_read for fd, _ in poll.poll()):
                    return
                os.pread(table, 1, 0)
        finally:
            os.close(table)

    def _look(self) -> None:
        for mount in reversed(processes.mounts()):  # of a bind mount and its original the original stays
            if mount.is_fuse:
                self._seen[mount.connection] = mount
        while len(self._seen) > _MOST:
            del self._seen[next(iter(self._seen))]
