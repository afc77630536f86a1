"""The guest's console: its lines, in steps, at each of which the guest waits for us."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

from tracer.lab.scenario import Step

STEP = "FUSEWIRE-STEP "
DONE, FAILED = "SCENARIO-DONE", "SCENARIO-FAILED"
BOOT = "boot"
MOST_BYTES = 16 << 20  # of a guest that has gone mad


class Console:
    """Reads the serial port from `connection`, keeps all of it in a file, and divides it into steps."""

    def __init__(self, connection: socket.socket, log: Path, on_step: Callable[[str], None]) -> None:
        """`on_step` is called when a step begins, while the guest waits."""
        self.steps: list[Step] = []
        self.last_word = ""  # the name of the step that has begun last
        self._connection, self._log, self._on_step = connection, log.open("wb"), on_step
        self._unread, self._bytes = b"", 0
        self._name, self._t_ns, self._lines = BOOT, time.time_ns(), list[str]()

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to take in."""
        return self._connection.fileno()

    def take_in(self) -> bool:
        """Read what is there, and do what it asks; False when the guest is gone."""
        try:
            piece = self._connection.recv(65536)
        except ConnectionError:
            piece = b""
        self._bytes += len(piece)
        if not piece or self._bytes > MOST_BYTES:
            return False
        self._log.write(piece)
        self._log.flush()
        *lines, self._unread = (self._unread + piece).split(b"\n")
        for line in lines:
            self._take(line.rstrip(b"\r").decode(errors="backslashreplace"))
        return True

    def close(self) -> None:
        """End the last step, and let go of the port and the file."""
        self._end_step()
        self._connection.close()
        self._log.close()

    def _take(self, line: str) -> None:
        before, mark, name = line.partition(STEP)  # what a command printed last need not end its line
        if before or not mark:
            self._lines.append(before)
        if mark:
            self._end_step()
            self._name = self.last_word = name
            self._on_step(name)
            self._t_ns = time.time_ns()
            self._connection.sendall(b"go on\n")

    def _end_step(self) -> None:
        self.steps.append(Step(self._name, self._t_ns, time.time_ns(), tuple(self._lines)))
        self._lines = []
