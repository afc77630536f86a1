"""A server in mount and pid namespaces of its own, as in a container: its mount is not in our mountinfo.

server = make_server(Namespaced, of=Splicing)
with server.started() as running:
    workload.run(running.mount_point)   # /proc/PID/root/...: the one way to it from outside
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo import mounts, possible
from tests.servers import disturb
from tests.servers.base import START_TIMEOUT_S, Running, Server
from tests.servers.memory import Memory

UNSHARE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child")


@dataclass
class RunningInside(Running):
    """A mounted server inside; `mount_point` is its path from outside, `mount` is as it is inside.

    `pid` is unshare's; `server_pid` is the server's as we see it; inside it is 1.
    """

    server_pid: int

    def unmount(self, timeout_s: float = 10) -> bool:
        """Unmount inside; False when the server had to be killed, which takes the mount away with its namespace."""
        inside = self.mount.mount_point
        if mounts.run_child(_inside(self.server_pid, "umount", "-i", inside), timeout_s).status == 0:
            return True
        self.process.kill()
        return False


@dataclass
class Namespaced(Server):
    """Any server of `of`, made below the same directory, inside namespaces of its own.

    What `of.started` does beside mounting is not done: around a RingMemory goes uring_switch.uring_enabled().
    """

    name = "namespaced"
    of: type[Server] = Memory
    inner: Server = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inner = self.of(self.directory)

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_not_root() or possible.why_no_program("unshare", "util-linux") or _why_no_namespaces()

    def needs(self) -> str | None:
        return super().needs() or self.inner.needs()

    def command(self, mount_point: Path) -> list[str]:
        return [*UNSHARE, "--", *self.inner.command(mount_point)]

    @contextlib.contextmanager
    def started(
        self, launch: Callable[[list[str]], Sequence[str]] = list, timeout_s: float = START_TIMEOUT_S
    ) -> Iterator[RunningInside]:
        """Mount and yield; end it however the test ends, and with it the namespaces and the mount."""
        self.mount_point.mkdir(parents=True, exist_ok=True)
        log = self.directory / "server.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                list(launch(self.command(self.mount_point))),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        pid, mount = 0, None
        try:
            pid, mount = _wait_mounted_inside(process, self.mount_point, timeout_s)
            outside = Path(f"/proc/{pid}/root") / mount.mount_point.lstrip("/")
            yield RunningInside(self, process, mount, outside, log, pid)
        except mounts.MountError as failure:
            raise mounts.MountError(f"{failure}; it said: {log.read_text(errors='backslashreplace')}") from None
        finally:
            if mount is not None:
                mounts.run_child(_inside(pid, "umount", "-i", mount.mount_point), 5)
            mounts.stop(process, timeout_s=1)  # which ends its group: --kill-child ends the server with unshare
            if mount is not None and not disturb.wait_no_connection(mount):
                raise mounts.MountError(f"{mount} outlived its namespace")


def _why_no_namespaces() -> str | None:
    ended = mounts.run_child([*UNSHARE, "--", "true"], 10)
    return None if ended.status == 0 else f"no namespaces can be made here: {ended.output.decode().strip()}"


def _inside(pid: int, *words: str) -> list[str]:
    return ["nsenter", "--mount", "--target", str(pid), *words]


def _descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, theirs, and so on."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from _descendants(int(child))


def _mounted_inside(pid: int, wanted: str) -> mounts.Mount | None:
    with contextlib.suppress(OSError):
        for mount in mounts.parse_mountinfo(os.fsdecode(Path(f"/proc/{pid}/mountinfo").read_bytes())):
            if mount.mount_point == wanted and mounts.FUSE_TYPES.fullmatch(mount.fstype):
                return mount
    return None


def _wait_mounted_inside(
    process: subprocess.Popen[bytes], mount_point: Path, timeout_s: float
) -> tuple[int, mounts.Mount]:
    """Return the server's pid and its mount; MountError when it ends first, or in the end."""
    wanted, deadline = os.fspath(mount_point.absolute()), time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll():
            raise mounts.MountError(f"{process.args} ended with status {process.returncode} before it mounted")
        for pid in _descendants(process.pid):
            if (mount := _mounted_inside(pid, wanted)) is not None:
                return pid, mount
        select.select([], [], [], 0.02)  # no event tells of a mount in a namespace that is not ours
    raise mounts.MountError(f"nothing was mounted at {mount_point} inside the namespace within {timeout_s} s")
