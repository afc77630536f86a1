"""The project's server in C (tests/fixtures/memory_server.c), over /dev/fuse or io_uring, and what a test tells it.

ring = make_server(RingMemory)
with ring.started() as running:
    workload.run(running.mount_point, "mixed")
    ring.inval_entry("hello.txt")
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.demo import possible
from tests.servers import compiled, uring_switch
from tests.servers.base import Running, Server
from tests.servers.memfs import Witnessed

ROOT_NODEID = 1
POLL, INVAL_INODE, INVAL_ENTRY, STORE, RETRIEVE, DELETE, RESEND, INC_EPOCH, PRUNE = range(1, 10)
CONTROL_TIMEOUT_S = 20.0
JOURNAL_RECORD = struct.Struct("=QIIQ")  # t_ns, to the server?, errno of the write, bytes of the message that follows
RETRIEVE_IN_BYTES = 40  # struct fuse_notify_retrieve_in, which precedes the data of a NOTIFY_REPLY


@dataclass
class Memory(Server):
    """A tree in memory over /dev/fuse, without libfuse; it notifies, and holds back replies, when told to.

    Beside the files of `seed` its root has `held` (a READ is answered at `release`, or EINTR when it is interrupted),
    `stubborn` (the same, but it ignores INTERRUPT) and `pollable` (not ready before `poll_wakeup`). A file's st_ino
    is its nodeid. `cache_s` is how long the kernel may keep names and attributes: 0 makes it ask every time.
    """

    name = "memory"
    cache_s: int = 1
    with_journal: bool = False  # for `witnessed`; costs a write(2) a message
    is_different: bool = False  # poll, ioctl, lseek and GETLK answer otherwise, as a server may

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_not_root() or compiled.why_no_compiler()

    @property
    def control_path(self) -> Path:
        return self.directory / "control"

    @property
    def journal_path(self) -> Path:
        return self.directory / "journal"

    def command(self, mount_point: Path) -> list[str]:
        words = ["-c", str(self.control_path), "-t", str(self.cache_s)]
        words += ["-j", str(self.journal_path)] if self.with_journal else []
        words += ["-d"] if self.is_different else []
        return [str(compiled.memory_server()), *self._transport(), *words, str(mount_point)]

    def _transport(self) -> list[str]:
        return []

    def witnessed(self) -> list[Witnessed]:
        """Return every message so far, by time, as /dev/fuse would have carried it; all of them once it has ended."""
        content, at, messages = self.journal_path.read_bytes(), 0, []
        while at + JOURNAL_RECORD.size <= len(content):
            t_ns, is_to_server, refusal, size = JOURNAL_RECORD.unpack_from(content, at)
            at += JOURNAL_RECORD.size + size
            if at > len(content):  # it is being written
                break
            messages.append(Witnessed(t_ns, 0, bool(is_to_server), content[at - size : at], refusal))
        return sorted(messages, key=lambda message: message.t_ns)

    def await_request(self, opcode: int, count: int = 1, timeout_s: float = CONTROL_TIMEOUT_S) -> list[Witnessed]:
        """Wait until so many requests of an opcode are in the journal, which FORGETs reach late; TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while len(found := [m for m in self.witnessed() if m.to_server and m.opcode == opcode]) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} requests with opcode {opcode} after {timeout_s} s")
            select.select([], [], [], 0.01)  # a file that grows tells nobody
        return found

    # What it is told, over its control socket.

    def tell(self, line: str, timeout_s: float = CONTROL_TIMEOUT_S) -> str:
        """Say one line of tests/fixtures/control.c and return the answer; TimeoutError when none comes."""
        directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX) as control, control.makefile("r") as answer:
                control.settimeout(timeout_s)
                # a socket's path has 108 bytes only
                control.connect(f"/proc/self/fd/{directory}/{self.control_path.name}")
                control.sendall(line.encode() + b"\n")
                return answer.readline().strip()
        finally:
            os.close(directory)

    def notify(self, code: int, payload: bytes = b"") -> int:
        """Send a notification; return the errno with which the kernel refused it, or 0."""
        return int(self.tell(f"notify {code} {payload.hex()}"))

    def inval_inode(self, nodeid: int, offset: int = 0, length: int = 0) -> int:
        """Make the kernel forget attributes and pages (none: a negative offset); errno or 0."""
        return self.notify(INVAL_INODE, struct.pack("=Qqq", nodeid, offset, length))

    def inval_entry(self, name: str, parent: int = ROOT_NODEID) -> int:
        """Make the kernel forget a name; errno (ENOENT: it did not know it) or 0."""
        text = os.fsencode(name)
        return self.notify(INVAL_ENTRY, struct.pack("=QII", parent, len(text), 0) + text + b"\0")

    def delete(self, name: str, nodeid: int, parent: int = ROOT_NODEID) -> int:
        """Tell the kernel that a name is gone (the server still has it); errno or 0."""
        text = os.fsencode(name)
        return self.notify(DELETE, struct.pack("=QQII", parent, nodeid, len(text), 0) + text + b"\0")

    def store(self, nodeid: int, offset: int, data: bytes) -> int:
        """Put data into the kernel's page cache; errno or 0."""
        return self.notify(STORE, struct.pack("=QQII", nodeid, offset, len(data), 0) + data)

    def retrieve(self, nodeid: int, offset: int, size: int, notify_unique: int = 77) -> bytes:
        """Ask for what is in the page cache; return the data of the NOTIFY_REPLY. OSError when refused."""
        if refusal := self.notify(RETRIEVE, struct.pack("=QQQII", notify_unique, nodeid, offset, size, 0)):
            raise OSError(refusal, os.strerror(refusal))
        return bytes.fromhex(self.tell(f"await retrieved {notify_unique}"))[RETRIEVE_IN_BYTES:]

    def poll_wakeup(self) -> int:
        """Wait until somebody polls `pollable`, let it be ready, and notify; errno or 0."""
        handle = int(self.tell("await poll"))
        self.tell("ready")
        return self.notify(POLL, struct.pack("=Q", handle))

    def await_held(self, count: int) -> int:
        """Wait until so many READs and SETLKWs are held back; return how many are."""
        return int(self.tell(f"await held {count}"))

    def await_interrupts(self, count: int) -> int:
        """Wait until so many INTERRUPTs came since the start; return how many did."""
        return int(self.tell(f"await interrupts {count}"))

    def release(self) -> int:
        """Answer every READ that is held back; return how many."""
        return int(self.tell("release"))


@dataclass
class RingMemory(Memory):
    """The same over io_uring: reads of /dev/fuse bring INIT, FORGET and INTERRUPT only, writes only notifications.

    It has 8 ring entries a CPU: more requests than that wait in the kernel while so many are held back.
    `started` switches the kernel's parameter on and back (tests/servers/uring_switch.py).
    """

    name = "memory-io_uring"

    @classmethod
    def lacks(cls) -> str | None:
        return super().lacks() or uring_switch.why_no_uring()

    def _transport(self) -> list[str]:
        return ["-u"]

    @contextlib.contextmanager
    def started(self, *args, **kwargs) -> Iterator[Running]:  # type: ignore[no-untyped-def]
        with uring_switch.uring_enabled(), super().started(*args, **kwargs) as running:
            yield running
