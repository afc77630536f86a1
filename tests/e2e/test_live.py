"""`fusewire live` in a real terminal, on a server that stops reading."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

import pytest

from examples.demo import mounts
from tests.conftest import MakeServer
from tests.e2e.recorder import DEADLINE_S, PROGRAM
from tests.servers.memfs import Memfs
from tests.tracer.bridges.ebpf.possible import why_no_ebpf
from tracer.trace.trace import Trace

pytestmark = [pytest.mark.e2e, pytest.mark.root]

LINES, COLUMNS = 24, 80
CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")


@dataclass
class Terminal:
    """The end of a pty that a person sits at; `drawn` is what was written, without control sequences."""

    fd: int
    process: subprocess.Popen[bytes]
    drawn: str = ""
    _raw: bytes = field(default=b"", repr=False)

    def wait_for(self, pattern: str) -> None:
        """Read until the pattern is drawn; AssertionError with the end of what was when it never is."""
        deadline = time.monotonic() + DEADLINE_S
        while re.search(pattern, self.drawn) is None:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} was never drawn; the end is {self.drawn[-2000:]!r}"
            self._raw += os.read(self.fd, 65536)
            self.drawn = CONTROL.sub(b"", self._raw).decode(errors="replace")

    def leave(self) -> int:
        """Press q; return the exit status."""
        os.write(self.fd, b"q")
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # EIO: the other end is closed
                    os.read(self.fd, 65536)
        return self.process.wait(1)


@contextlib.contextmanager
def live(*words: str) -> Iterator[Terminal]:
    """Run `fusewire live` in a terminal of its own."""
    fd, theirs = pty.openpty()
    ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [*PROGRAM, "live", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    try:
        yield Terminal(fd, process)
    finally:
        mounts.stop(process, timeout_s=0.1 if process.poll() is None else 0)
        os.close(fd)


def test_on_a_mount_that_hangs_it_is_told_that_the_server_has_not_read_the_request(
    make_server: MakeServer, tmp_path: Path
) -> None:
    if (reason := why_no_ebpf()) is not None:
        pytest.skip(reason)
    out = tmp_path / "hung.pcapng"
    with make_server(Memfs, options=("--cache", "0")).started() as running:
        words = ("-o", str(out), "--bridge", "ebpf", "--deliveries", "--mount", str(running.mount_point))
        with live(*words) as terminal:
            terminal.wait_for("no FUSE message yet")
            mounts.run_child(["stat", str(running.mount_point)], DEADLINE_S)
            terminal.wait_for("GETATTR")
            os.kill(running.pid, signal.SIGSTOP)
            waiting = subprocess.Popen(["stat", str(running.mount_point / "nowhere")], stderr=subprocess.DEVNULL)
            try:
                terminal.wait_for(r"LOOKUP · pending [1-9]\.\d\ds, not read")
            finally:
                os.kill(running.pid, signal.SIGCONT)
                waiting.wait(DEADLINE_S)
            terminal.wait_for(r"queue \+ ")
            assert terminal.leave() == 0
    trace = Trace.open(out)
    (lookup,) = (one for one in trace.exchanges() if one.message.name == "LOOKUP")
    assert lookup.timing.queue_wait_ns is not None
    assert lookup.timing.queue_wait_ns > 1_000_000_000
    assert lookup.timing.service_ns is not None
    assert lookup.timing.service_ns < lookup.timing.queue_wait_ns
