"""Mounts from outside: see them come and go, end them whatever state their server is in, lend a loop device.

Whoever touches a mount with a dead or slow server hangs with it, so everything here that does so is a child
process with a deadline, and the last resort aborts the connection.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.demo.memfs import syscalls

MOUNTINFO = "/proc/self/mountinfo"
FUSE_TYPES = re.compile(r"fuse(\.[^ ]*)?|fuseblk")
LOOP_IMAGE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    mount_point: str
    st_dev: str  # "0:45"
    fstype: str
    source: str
    read_only: bool  # the superblock, not just this mount of it


class MountError(Exception):
    """A mount did not come, or would not go, in time."""


def _unescaped(text: str) -> str:
    octal = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), os.fsencode(text))
    return os.fsdecode(octal)


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts in a mountinfo file (proc_pid_mountinfo(5)), oldest first."""
    mounts = []
    for line in text.split("\n")[:-1]:
        head, tail = line.split(" - ", 1)
        _, _, st_dev, _, mount_point, *_ = head.split(" ")
        fstype, source, options = tail.split(" ", 2)
        read_only = "ro" in options.split(",")
        mounts.append(Mount(_unescaped(mount_point), st_dev, fstype, _unescaped(source), read_only))
    return mounts


def fuse_mounts() -> list[Mount]:
    """Return the FUSE mounts this process can see, oldest first."""
    text = os.fsdecode(Path(MOUNTINFO).read_bytes())
    return [mount for mount in parse_mountinfo(text) if FUSE_TYPES.fullmatch(mount.fstype)]


def fuse_mount_at(mount_point: Path) -> Mount | None:
    """Return the newest FUSE mount at a path, or None. Does not touch the path."""
    wanted = os.fspath(mount_point.absolute())
    return next((mount for mount in reversed(fuse_mounts()) if mount.mount_point == wanted), None)


def wait_mounted(mount_point: Path, process: subprocess.Popen[bytes] | None = None, timeout_s: float = 20) -> Mount:
    """Wait until a FUSE file system is mounted; MountError when `process` fails first, or in the end."""
    deadline = time.monotonic() + timeout_s
    with open(MOUNTINFO) as table:
        changes = select.poll()
        changes.register(table, select.POLLPRI)
        while (mount := fuse_mount_at(mount_point)) is None:
            if process is not None and process.poll():
                raise MountError(f"{process.args} ended with status {process.returncode} before it mounted")
            if time.monotonic() > deadline:
                raise MountError(f"nothing was mounted at {mount_point} within {timeout_s} s")
            changes.poll(100)  # ms: a server's early death is no change of the table
    return mount


def wait_unmounted(mount_point: Path, timeout_s: float) -> bool:
    """Wait until no FUSE file system is mounted at a path; False when one still is."""
    deadline = time.monotonic() + timeout_s
    with open(MOUNTINFO) as table:
        changes = select.poll()
        changes.register(table, select.POLLPRI)
        while fuse_mount_at(mount_point) is not None:
            if time.monotonic() > deadline:
                return False
            changes.poll(100)
    return True


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child process ended; `status` is None when it had to be left behind, stuck in the kernel."""

    pid: int
    status: int | None
    output: bytes


def run_child(argv: Sequence[str | Path], timeout_s: float, started: Callable[[int], None] | None = None) -> Ended:
    """Run a program that may hang in the kernel, for at most `timeout_s`; its failure is no exception.

    A child in an uninterruptible wait does not die of SIGKILL before the connection is aborted: it is killed,
    but not waited for. `started` is told the pid.
    """
    argv = [os.fspath(word) for word in argv]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if started:
        started(process.pid)
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return _abandoned(process)
    return Ended(process.pid, process.returncode, output)


def _abandoned(process: subprocess.Popen[bytes]) -> Ended:
    try:
        output, _ = process.communicate(timeout=1)
    except subprocess.TimeoutExpired as late:
        if process.stdout:
            process.stdout.close()
        process.returncode = -signal.SIGKILL  # so that Popen neither waits nor warns; the thread takes its end
        threading.Thread(target=os.waitpid, args=(process.pid, 0), daemon=True).start()
        return Ended(process.pid, None, late.output or b"")
    return Ended(process.pid, None, output)


def unmount(mount_point: Path, timeout_s: float = 10) -> bool:
    """Unmount everything of FUSE at a path; True when that went politely.

    When the server hangs or a file stays open, aborts the connection and unmounts lazily: False. MountError when
    even that fails.
    """
    deadline = time.monotonic() + timeout_s
    while fuse_mount_at(mount_point) is not None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            abort(mount_point)
            return False
        if not _unmounted_once(mount_point, left_s):
            wait_unmounted(mount_point, 0.05)  # busy: somebody is about to close a file
    return True


def _unmounted_once(mount_point: Path, timeout_s: float) -> bool:
    if os.geteuid() != 0:
        return run_child(["fusermount3", "-u", mount_point], timeout_s).status == 0
    refusals: list[OSError] = []

    def attempt() -> None:
        try:
            syscalls.umount(os.fspath(mount_point.absolute()))
        except OSError as refusal:
            refusals.append(refusal)

    # Not umount(8): it asks the server for STATFS first. A daemon thread, because a hung server holds it.
    thread = threading.Thread(target=attempt, name="umount", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return not thread.is_alive() and not refusals


def abort(mount_point: Path) -> None:
    """Abort the connections behind a path, which frees every waiting client, and take the mounts away."""
    while fuse_mount_at(mount_point) is not None:
        if os.geteuid() == 0:
            syscalls.umount(os.fspath(mount_point.absolute()), syscalls.MNT_FORCE | syscalls.MNT_DETACH)
        elif run_child(["fusermount3", "-u", "-z", mount_point], 5).status != 0:
            raise MountError(f"{mount_point} cannot be unmounted")


def stop(process: subprocess.Popen[bytes], timeout_s: float = 5) -> int | None:
    """End a process, the leader of its group: wait, SIGTERM, SIGKILL; return its status, None when it is stuck."""
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
                os.killpg(process.pid, signal.SIGCONT)  # a stopped process takes no SIGTERM
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout_s)
    return None


@contextlib.contextmanager
def loop_device(image: Path, size_bytes: int = LOOP_IMAGE_BYTES) -> Iterator[str]:
    """Make an empty image and lend a loop device on it; both are gone afterwards. Needs root."""
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    attached = run_child(["losetup", "--find", "--show", image], 20)
    if attached.status != 0:
        image.unlink()
        raise MountError(f"losetup: {attached.output.decode(errors='replace').strip()}")
    device = attached.output.decode().strip()
    try:
        yield device
    finally:
        run_child(["losetup", "--detach", device], 20)
        image.unlink(missing_ok=True)
