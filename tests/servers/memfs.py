"""The project's own server, examples/demo/server.py, as a test drives it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from examples.demo import mounts, possible
from tests.servers.base import Running, Server

SERVER = Path(mounts.__file__).with_name("server.py")


class Witnessed(NamedTuple):
    """One message as the server itself read or wrote it."""

    t_ns: int
    mount: int  # 0, or 1 for the second of two mounts
    to_server: bool
    data: bytes
    errno: int  # why the kernel refused the server's write; 0: it did not

    @property
    def opcode(self) -> int:
        return struct.unpack_from("=I", self.data, 4)[0]

    @property
    def error(self) -> int:
        """Return a reply's errno, negative, or a notification's code."""
        return struct.unpack_from("=i", self.data, 4)[0]

    @property
    def unique(self) -> int:
        return struct.unpack_from("=Q", self.data, 8)[0]

    @property
    def nodeid(self) -> int:
        return struct.unpack_from("=Q", self.data, 16)[0]

    @property
    def pid(self) -> int:
        return struct.unpack_from("=I", self.data, 32)[0]


@dataclass
class Memfs(Server):
    """Mounted as type fuse; `options` are server.py's own words."""

    name = "memfs"
    options: Sequence[str] = ()
    two: bool = False
    device: str = field(default="", init=False)

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_not_root()

    @property
    def journal_path(self) -> Path:
        return self.directory / "journal.ndjson"

    @property
    def second_mount_point(self) -> Path:
        return self.directory / "mnt2"

    def mount_points(self) -> tuple[Path, ...]:
        return (self.mount_point, self.second_mount_point) if self.two else (self.mount_point,)

    def command(self, mount_point: Path) -> list[str]:
        second = ["--two", str(self.second_mount_point)] if self.two else []
        journal = ["--journal", str(self.journal_path)]
        return [sys.executable, str(SERVER), *self._kind(), *second, *journal, *self.options, str(mount_point)]

    def _kind(self) -> list[str]:
        return ["--type", "fuse"]

    def notify(self, running: Running) -> None:
        """Make it send its notifications; only when it was launched without a recorder in front."""
        os.kill(running.pid, signal.SIGUSR1)

    def witnessed(self) -> list[Witnessed]:
        """Return every message so far, by time; all of them once the server has ended."""
        text = self.journal_path.read_text()
        lines = map(json.loads, text[: text.rfind("\n") + 1].splitlines())
        messages = [
            Witnessed(line["t_ns"], line["mount"], line["to"] == "server", bytes.fromhex(line["bytes"]), line["errno"])
            for line in lines
        ]
        return sorted(messages, key=lambda message: message.t_ns)

    def requests(self, opcode: int | None = None) -> list[Witnessed]:
        """Return the requests so far, or those of one opcode."""
        return [m for m in self.witnessed() if m.to_server and opcode in (None, m.opcode)]

    def reply_to(self, request: Witnessed) -> Witnessed | None:
        """Return the reply to a request, or None when there was none."""
        found = (m for m in self.witnessed() if not m.to_server and m.mount == request.mount)
        return next((reply for reply in found if reply.unique == request.unique), None)


@dataclass
class MemfsBlk(Memfs):
    """Mounted as type fuseblk on a loop device: the kernel sends FUSE_SYNCFS, and DESTROY at the end."""

    name = "memfs-fuseblk"

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_no_fuseblk()

    def _kind(self) -> list[str]:
        return ["--type", "fuseblk", "--device", self.device]

    @contextlib.contextmanager
    def lent_device(self) -> Iterator[str]:
        """Attach the loop device that `command` names; `started` does it by itself."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with mounts.loop_device(self.directory / "image") as self.device:
            yield self.device

    @contextlib.contextmanager
    def started(self, *args, **kwargs) -> Iterator[Running]:  # type: ignore[no-untyped-def]
        with self.lent_device(), super().started(*args, **kwargs) as running:
            yield running
