"""What every real FUSE server looks like to a test: whether it can run here, its command, and how to run it safely."""

from __future__ import annotations

import contextlib
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from examples.demo import mounts, possible

NUMBERS = bytes(range(256)) * 256
START_TIMEOUT_S = 20.0


def seed(directory: Path) -> None:
    """Make the files every server shows: those of the server under examples/, which has them built in."""
    (directory / "dir").mkdir(parents=True)
    (directory / "hello.txt").write_bytes(b"hello from memfs\n")
    (directory / "numbers.bin").write_bytes(NUMBERS)
    (directory / "dir" / "inner.txt").write_bytes(b"inside\n")
    (directory / "link").symlink_to("hello.txt")


def end_child(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Kill a child that may hang in the mount, and let go of it: its server may be gone, and then it never ends."""
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


@dataclass
class Running:
    """A mounted server. `process` is what was launched: the server, or the recorder in front of it."""

    server: Server
    process: subprocess.Popen[bytes]
    mount: mounts.Mount
    mount_point: Path
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def unmount(self, timeout_s: float = 10) -> bool:
        """Unmount; False when the connection had to be aborted."""
        return mounts.unmount(self.mount_point, timeout_s)

    def wait(self, timeout_s: float = 30) -> int:
        """Return the exit status, once it has been unmounted; subprocess.TimeoutExpired when it lives on."""
        return self.process.wait(timeout_s)

    def output(self) -> str:
        """Return what the server printed, on either stream."""
        return self.log.read_text(errors="backslashreplace")


@dataclass
class Server(ABC):
    """A real FUSE server that runs in the foreground; its files lie below `directory`."""

    name: ClassVar[str]
    writable: ClassVar[bool] = True
    directory: Path
    mount_point: Path = field(init=False)

    def __post_init__(self) -> None:
        self.mount_point = self.directory / "mnt"

    @classmethod
    @abstractmethod
    def lacks(cls) -> str | None:
        """Return what this machine lacks to run it beside FUSE itself, or None."""

    def needs(self) -> str | None:
        """Return the true reason why it cannot run here, or None."""
        return possible.why_no_fuse() or self.lacks()

    @abstractmethod
    def command(self, mount_point: Path) -> list[str]:
        """Return the argv that serves `mount_point` in the foreground; makes the files it needs."""

    def mount_points(self) -> tuple[Path, ...]:
        """Return every place it mounts."""
        return (self.mount_point,)

    @contextlib.contextmanager
    def started(
        self, launch: Callable[[list[str]], Sequence[str]] = list, timeout_s: float = START_TIMEOUT_S
    ) -> Iterator[Running]:
        """Mount and yield; unmount and end it however the test ends.

        `launch` turns the server's argv into what is run: put the recorder's own words in front.
        """
        for mount_point in self.mount_points():
            mount_point.mkdir(parents=True, exist_ok=True)
        argv = list(launch(self.command(self.mount_point)))
        log = self.directory / "server.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            found = [mounts.wait_mounted(place, process, timeout_s) for place in self.mount_points()]
            yield Running(self, process, found[0], self.mount_point, log)
        except mounts.MountError as failure:
            raise mounts.MountError(f"{failure}; it said: {log.read_text(errors='backslashreplace')}") from None
        finally:
            for place in self.mount_points():
                mounts.unmount(place)
            mounts.stop(process)
