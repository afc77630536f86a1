"""What goes wrong on a mount: READs that wait, signals, aborted connections, servers that die.

with disturb.waiting_reader(running.mount_point / "held") as reader:   # a file of tests/servers/memory.py
    server.await_held(1)
    reader.interrupt()                                                 # INTERRUPT, and READ is answered EINTR
    assert reader.outcome() == "EINTR"
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.demo import mounts
from examples.demo.memfs import syscalls
from tests.servers.base import end_child

OUTCOME_TIMEOUT_S = 20.0
MINOR_BITS = 20  # of the kernel's dev_t

# Its handler returns, so the system call is over with EINTR; os.read would begin anew (PEP 475), libc's does not.
READER = """
import ctypes, errno, os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.siginterrupt(signal.SIGUSR1, True)
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)
fd = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
got = libc.read(fd, buffer, 4096)
print(buffer.raw[:got].decode().strip() if got >= 0 else errno.errorcode[ctypes.get_errno()], flush=True)
"""


@dataclass
class WaitingReader:
    """A process with a file open and, once begun, one read(2) of it under way; `pid` is what READ's header says."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self) -> None:
        """Let it read; needed only when it was started to wait for this."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Send a signal that it handles: the kernel sends INTERRUPT and goes on waiting for the answer."""
        self.process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """Send SIGKILL: the kernel sends INTERRUPT; it dies when the server answers or the connection ends."""
        self.process.kill()

    def outcome(self, timeout_s: float = OUTCOME_TIMEOUT_S) -> str:
        """Return what it read, or the name of the errno; subprocess.TimeoutExpired when it still waits."""
        said, _ = self.process.communicate(timeout=timeout_s)
        return said.strip()

    def wait_killed(self, timeout_s: float = OUTCOME_TIMEOUT_S) -> None:
        """Wait until SIGKILL has ended it; subprocess.TimeoutExpired while the kernel holds it."""
        assert self.process.wait(timeout_s) == -signal.SIGKILL


@contextlib.contextmanager
def waiting_reader(path: Path, at_once: bool = True) -> Iterator[WaitingReader]:
    """Start a process that reads a file, and yield once it has opened it; killed at the end if it still waits.

    It reads at once, or not before `begin`. Who then wants to be sure that READ has reached the server asks it
    (Memory.await_held).
    """
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "open\n", "the reader could not open its file"
        reader = WaitingReader(process)
        if at_once:
            reader.begin()
        yield reader
    finally:
        end_child(process)


@dataclass(frozen=True)
class Connection:
    """A FUSE connection in fusectl, which sees a hung one too."""

    directory: Path

    @property
    def number(self) -> int:
        """The kernel's name for it: what the tracepoints of FUSE call `connection`."""
        return int(self.directory.name)

    def waiting(self) -> int:
        """Return how many requests are queued or being served."""
        return int((self.directory / "waiting").read_text())

    def wait_waiting(self, count: int, timeout_s: float = 10) -> int:
        """Wait until so many requests are queued or being served; return how many; TimeoutError when they are not."""
        deadline = time.monotonic() + timeout_s
        while (waiting := self.waiting()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{waiting} of {count} requests wait after {timeout_s} s")
            select.select([], [], [], 0.01)  # fusectl tells nobody of a change
        return waiting

    def abort(self) -> None:
        """End the connection: who waits gets ECONNABORTED, the server's read ENODEV."""
        (self.directory / "abort").write_text("1")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a server, all threads of it: what is sent meanwhile stays in the kernel's queue."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while not all("\nState:\tT" in status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")):
            select.select([], [], [], 0.001)  # a stop of somebody else's child tells nobody
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def fusectl() -> Iterator[Path]:
    """Mount the control file system at a place of our own; it is often not mounted in a container. Needs root."""
    with tempfile.TemporaryDirectory(prefix="fusewire-fusectl-") as directory:
        syscalls.mount("none", directory, "fusectl")
        try:
            yield Path(directory)
        finally:
            syscalls.umount(directory, syscalls.MNT_DETACH)


def connection_number(st_dev: str) -> int:
    """Return the number of the connection whose mount has this major:minor in mountinfo.

    It is the kernel's dev_t; of an anonymous device (major 0) that is the minor, of fuseblk it is not.
    """
    major, minor = map(int, st_dev.split(":"))
    return major << MINOR_BITS | minor


def wait_no_connection(mount: mounts.Mount, timeout_s: float = 10) -> bool:
    """Wait until nothing is mounted on a device any more, in whatever namespace; False when something still is."""
    deadline = time.monotonic() + timeout_s
    with fusectl() as root:
        while (root / str(connection_number(mount.st_dev))).exists():
            if time.monotonic() > deadline:
                return False
            select.select([], [], [], 0.02)  # fusectl tells nobody of a change
    return True


@contextlib.contextmanager
def connection(mount: mounts.Mount) -> Iterator[Connection]:
    """Lend the connection behind a mount; FileNotFoundError when there is none."""
    with fusectl() as root:
        directory = root / str(connection_number(mount.st_dev))
        if not directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
        yield Connection(directory)
