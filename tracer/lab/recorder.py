"""`fusewire record --vhost-user` as a person would run it, between a guest and its daemon."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tracer.errors import CaptureError
from tracer.lab import children

READY = b"waiting for a VMM"
START_S = 30.0


class Recorder:
    """A recorder that runs; what it says is kept in a file."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes], log: IO[bytes]) -> None:
        self.process = process
        self._pipe, self._said, self._log = said, b"", log

    def fileno(self) -> int:
        """Return the descriptor that is readable when it has said something."""
        return self._pipe.fileno()

    def take_in(self) -> bool:
        """Read what it has said; False when it is gone."""
        piece = os.read(self.fileno(), 65536)
        self._said += piece
        self._log.write(piece)
        self._log.flush()
        return bool(piece)

    def wait_until_ready(self) -> None:
        """Wait until a VMM can connect; CaptureError with its own words when it cannot start."""
        deadline = time.monotonic() + START_S
        while READY not in self._said:
            ready, _, _ = select.select([self], [], [], max(0.0, deadline - time.monotonic()))
            if not ready or not self.take_in():
                lines = self._said.decode(errors="backslashreplace").splitlines()
                raise CaptureError(lines[0] if lines else "fusewire record did not start")

    def finish(self, timeout_s: float) -> int | None:
        """Take in the rest and return its exit status, which tells of losses; None when it does not end in time."""
        deadline = time.monotonic() + timeout_s
        while select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not self.take_in():
                return self.process.wait()
        return None


@contextlib.contextmanager
def recording(trace: Path, tag: str, listen: Path, daemon: Path, log: Path, lifetime_s: float) -> Iterator[Recorder]:
    """Record what passes between a VMM at `listen` and the daemon, every byte of it."""
    words = [sys.executable, "-m", "tracer.cli.main", "record", "-o", str(trace), "--snap", "all"]
    words += ["--vhost-user", str(listen), "--daemon", str(daemon), "--tag", tag]
    with open(log, "wb") as kept, children.child(words, subprocess.PIPE, lifetime_s=lifetime_s) as process:
        assert process.stdout is not None
        with process.stdout as said:
            yield Recorder(process, said, kept)
