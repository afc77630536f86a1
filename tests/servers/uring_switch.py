"""FUSE over io_uring is behind a parameter of the kernel's fuse module: switch it on for a while, and always back."""

from __future__ import annotations

import contextlib
import select
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from examples.demo import mounts, possible

PARAMETER = Path("/sys/module/fuse/parameters/enable_uring")
IO_URING_DISABLED = Path("/proc/sys/kernel/io_uring_disabled")  # Linux >= 6.6; 2: for everybody
WAIT_S = 120  # for another run of the tests on this machine that has it switched on

# A process of its own that puts the value back when its standard input ends, so also when the test is killed.
# The lock is on the parameter itself: whoever switches it next must not take our value for the one to put back.
GUARD = """
before=$(cat "$1") && echo Y >"$1" && echo on || exit 1
cat >/dev/null
echo "$before" >"$1"
"""


class SwitchError(Exception):
    """The parameter could not be changed, or not changed back."""


class _Switch:
    """Counts who needs the parameter in this process; the first starts the guard, the last ends it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.guard: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        with self.lock:
            if self.users == 0:
                self.guard = _started_guard()
            self.users += 1

    def off(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0 and self.guard is not None:
                _end(self.guard)


_switch = _Switch()


def why_no_uring() -> str | None:
    """Return why no FUSE over io_uring can be had here, or None."""
    if not PARAMETER.exists():
        return f"this kernel has no FUSE over io_uring (there is no {PARAMETER}; Linux 6.14, CONFIG_FUSE_IO_URING)"
    with contextlib.suppress(FileNotFoundError):
        if IO_URING_DISABLED.read_text().strip() == "2":
            return "io_uring is switched off here (sysctl kernel.io_uring_disabled=2)"
    return possible.why_not_root() or possible.why_no_program("flock", "util-linux")


@contextlib.contextmanager
def uring_enabled() -> Iterator[None]:
    """Let servers ask for FUSE over io_uring; afterwards, and if this process dies, the parameter is what it was.

    May be nested. SwitchError when it cannot be set, or another run of the tests holds it for too long.
    """
    _switch.on()
    try:
        yield
    finally:
        _switch.off()


def _started_guard() -> subprocess.Popen[bytes]:
    argv = ["flock", "-w", str(WAIT_S), str(PARAMETER), "sh", "-c", GUARD, "guard", str(PARAMETER)]
    guard = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert guard.stdout is not None
    select.select([guard.stdout], [], [], WAIT_S + 10)
    if guard.poll() is None and guard.stdout.readline() == b"on\n":
        return guard
    _close(guard)
    mounts.stop(guard)
    raise SwitchError(f"{PARAMETER} cannot be set, or somebody else holds it for {WAIT_S} s")


def _end(guard: subprocess.Popen[bytes]) -> None:
    _close(guard)
    if mounts.stop(guard, timeout_s=10) != 0:
        raise SwitchError(f"{PARAMETER} was not put back")


def _close(guard: subprocess.Popen[bytes]) -> None:
    for stream in (guard.stdin, guard.stdout):
        if stream is not None:
            stream.close()
