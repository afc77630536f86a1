"""Runs `fusewire record` as a person does: in front of a server, or beside one that runs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.demo import mounts

PROGRAM = (sys.executable, "-m", "tracer.cli.main")
DEADLINE_S = 30.0


def launched(out: Path, *options: str) -> Callable[[list[str]], list[str]]:
    """Return what puts the recorder in front of a server's argv (`Server.started(launch=...)`)."""
    return lambda argv: [*PROGRAM, "record", "-o", str(out), *options, "--", *argv]


@dataclass
class Recorder:
    """A recorder that runs beside the server; `said` is what it printed so far."""

    process: subprocess.Popen[bytes]
    said: str = ""

    def wait_for(self, words: str) -> None:
        """Read what it says until `words` come; AssertionError with all it said when they do not."""
        deadline = time.monotonic() + DEADLINE_S
        while words not in self.said:
            assert self._read(deadline), f"{words!r} never came; it said: {self.said}"

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end; return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read(deadline):
            pass
        return self.process.wait(DEADLINE_S)

    def _read(self, deadline: float) -> bool:
        assert self.process.stderr is not None
        ready, _, _ = select.select([self.process.stderr], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(self.process.stderr.fileno(), 65536) if ready else b""
        self.said += piece.decode(errors="backslashreplace")
        return bool(piece)


@contextlib.contextmanager
def recording(out: Path, *words: str) -> Iterator[Recorder]:
    """Run `fusewire record -o OUT WORDS`; it is ended however the test ends."""
    process = subprocess.Popen(
        [*PROGRAM, "record", "-o", str(out), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Recorder(process)
    finally:
        if process.stderr is not None:
            process.stderr.close()
        mounts.stop(process, timeout_s=0.1 if process.poll() is None else 0)


def refused(out: Path, *words: str, **environment: str) -> list[str]:
    """Run a recording that must not start; return the lines it says, for which it must exit with 2."""
    ended = subprocess.run(
        [*PROGRAM, "record", "-o", str(out), *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, **environment},
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()
