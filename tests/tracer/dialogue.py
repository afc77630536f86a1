"""Traces made of hand-packed bytes: what a kernel and a server would have said, message by message.

Packed here with struct alone, so that a fault in the decoders' declarations cannot hide behind itself.
Layouts: include/uapi/linux/fuse.h.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracer.records import BridgeKind, ChannelInfo, Direction, Gap, RawRecord, RecordFlag
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

LOOKUP, FORGET, GETATTR, SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK = 1, 2, 3, 4, 6, 8, 9, 10
RMDIR, RENAME, LINK, OPEN, READ, WRITE, RELEASE, FSYNC = 11, 12, 13, 14, 15, 16, 18, 20
FLUSH, INIT, OPENDIR, READDIR, CREATE, INTERRUPT, DESTROY = 25, 26, 27, 28, 35, 36, 38
NOTIFY_REPLY, BATCH_FORGET, READDIRPLUS, RENAME2, SYNCFS, TMPFILE = 41, 42, 44, 45, 50, 51
ATTR_SUBMOUNT = 1
RESENT = 1 << 63
DIRECTORY, REGULAR = 0o040755, 0o100644
START_NS = 1_700_000_000_000_000_000


@dataclass
class Dialogue:
    """Records in the order they are said. Uniques go up by two and times by a microsecond, unless told otherwise."""

    channels: list[ChannelInfo] = field(default_factory=lambda: [ChannelInfo("/mnt/test", minor=45)])
    order: str = "<"
    entries: list[RawRecord | Gap] = field(default_factory=list)
    t_ns: int = START_NS
    unique: int = 0
    count: int = 0  # of records

    @property
    def records(self) -> list[RawRecord]:
        return [entry for entry in self.entries if isinstance(entry, RawRecord)]

    def pack(self, layout: str, *values: object) -> bytes:
        return struct.pack(self.order + layout, *values)

    def add(self, direction: Direction, data: bytes, channel: int = 0, **known: object) -> int:
        """Append a record; return its row."""
        self.t_ns += 1_000
        facts: dict = {"wire_len": len(data), "bridge": BridgeKind.SYNTHETIC, **known}
        t_ns = facts.pop("t_ns", self.t_ns)
        self.entries.append(RawRecord(t_ns, channel, direction, data, **facts))
        self.count += 1
        return self.count - 1

    def ask(
        self,
        opcode: int,
        nodeid: int = 1,
        body: bytes = b"",
        *,
        unique: int | None = None,
        pid: int = 100,
        comm: bytes = b"client",
        **known: object,
    ) -> int:
        """Append a request; return its unique."""
        if unique is None:
            self.unique += 2
            unique = self.unique
        head = self.pack("IIQQIIIHH", 40 + len(body), opcode, unique, nodeid, 1000, 1000, pid, 0, 0)
        self.add(Direction.TO_SERVER, head + body, comm=comm, **known)
        return unique

    def answer(self, unique: int, body: bytes = b"", error: int = 0, **known: object) -> int:
        """Append a reply; return its row."""
        return self.add(Direction.TO_KERNEL, self.pack("IiQ", 16 + len(body), error, unique) + body, **known)

    def notify(self, code: int, body: bytes = b"", **known: object) -> int:
        return self.answer(0, body, code, **known)

    def talk(
        self, opcode: int, nodeid: int = 1, body: bytes = b"", reply: bytes = b"", error: int = 0, **known: object
    ) -> int:
        """Append a request and its reply; return the request's row."""
        channel = known.get("channel", 0)
        unique = self.ask(opcode, nodeid, body, **known)
        self.answer(unique, reply, error, channel=channel)
        return self.count - 2

    # ---- what gives, moves and takes names ----

    def entry_out(self, nodeid: int, mode: int = DIRECTORY, submount: bool = False) -> bytes:
        attr = self.pack("6Q10I", nodeid, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, int(submount))
        return self.pack("QQQQII", nodeid, 0, 1, 1, 0, 0) + attr

    def lookup(self, parent: int, name: bytes, nodeid: int, *, submount: bool = False, **known: object) -> int:
        return self.talk(LOOKUP, parent, name + b"\0", self.entry_out(nodeid, submount=submount), **known)

    def create(self, parent: int, name: bytes, nodeid: int, opcode: int = CREATE) -> int:
        body = self.pack("4I", 0o102, REGULAR, 0, 0) + name + b"\0"
        return self.talk(opcode, parent, body, self.entry_out(nodeid, REGULAR) + self.pack("QII", 7, 0, 0))

    def mknod(self, parent: int, name: bytes, nodeid: int) -> int:
        return self.talk(
            MKNOD, parent, self.pack("4I", REGULAR, 0, 0, 0) + name + b"\0", self.entry_out(nodeid, REGULAR)
        )

    def mkdir(self, parent: int, name: bytes, nodeid: int) -> int:
        return self.talk(MKDIR, parent, self.pack("2I", 0o755, 0) + name + b"\0", self.entry_out(nodeid))

    def symlink(self, parent: int, name: bytes, target: bytes, nodeid: int) -> int:
        return self.talk(SYMLINK, parent, name + b"\0" + target + b"\0", self.entry_out(nodeid, 0o120777))

    def link(self, nodeid: int, parent: int, name: bytes) -> int:
        return self.talk(LINK, parent, self.pack("Q", nodeid) + name + b"\0", self.entry_out(nodeid, REGULAR))

    def unlink(self, parent: int, name: bytes, error: int = 0) -> int:
        return self.talk(UNLINK, parent, name + b"\0", error=error)

    def rmdir(self, parent: int, name: bytes) -> int:
        return self.talk(RMDIR, parent, name + b"\0")

    def rename(self, old: tuple[int, bytes], new: tuple[int, bytes], error: int = 0) -> int:
        body = self.pack("Q", new[0]) + old[1] + b"\0" + new[1] + b"\0"
        return self.talk(RENAME, old[0], body, error=error)

    def rename2(self, old: tuple[int, bytes], new: tuple[int, bytes], flags: int = 0) -> int:
        body = self.pack("QII", new[0], flags, 0) + old[1] + b"\0" + new[1] + b"\0"
        return self.talk(RENAME2, old[0], body)

    def readdirplus(self, parent: int, entries: Sequence[tuple[bytes, int, bool]]) -> int:
        """Append a listing of (name, nodeid, is submount)."""
        body = self.pack("QQIIQII", 9, 0, 4096, 0, 0, 0, 0)
        found = b""
        for offset, (name, nodeid, submount) in enumerate(entries, 1):
            record = self.entry_out(nodeid, submount=submount) + self.pack("QQII", nodeid or 99, offset, len(name), 4)
            found += (record + name).ljust((len(record) + len(name) + 7) // 8 * 8, b"\0")
        return self.talk(READDIRPLUS, parent, body, found)

    def forget(self, nodeid: int, nlookup: int = 1) -> int:
        self.ask(FORGET, nodeid, self.pack("Q", nlookup), pid=0, comm=b"")
        return self.count - 1

    def batch_forget(self, *pairs: tuple[int, int]) -> int:
        body = self.pack("II", len(pairs), 0) + b"".join(self.pack("QQ", *pair) for pair in pairs)
        self.ask(BATCH_FORGET, 0, body, pid=0, comm=b"")
        return self.count - 1

    # ---- the rest ----

    def init(
        self, minor: int = 45, server_minor: int | None = None, channel: int = 0, unique: int | None = None
    ) -> int:
        asked = self.pack("IIIII11I", 7, minor, 131072, 0x40000000, 0, *[0] * 11)
        given = self.pack(
            "IIIIHHIIHHII6I", 7, server_minor or minor, 131072, 0x40000000, 12, 9, 131072, 1, 32, 0, 0, 0, *[0] * 6
        )
        return self.talk(INIT, 0, asked, given, pid=0, comm=b"", channel=channel, unique=unique)

    def write_body(self, size: int, offset: int = 0) -> bytes:
        return self.pack("QQIIQII", 7, offset, size, 0, 0, 0, 0) + bytes(size)

    def write(self, nodeid: int, size: int, **known: object) -> int:
        return self.talk(WRITE, nodeid, self.write_body(size), self.pack("II", size, 0), **known)

    def fsync(self, nodeid: int, error: int = 0) -> int:
        return self.talk(FSYNC, nodeid, self.pack("QII", 7, 0, 0), error=error)

    def syncfs(self, nodeid: int = 1, error: int = 0, **known: object) -> int:
        return self.talk(SYNCFS, nodeid, bytes(8), error=error, **{"pid": 812, "comm": b"sync", **known})

    def interrupt(self, target: int, unique: int | None = None) -> int:
        self.ask(INTERRUPT, 0, self.pack("Q", target), unique=target | 1 if unique is None else unique, pid=0, comm=b"")
        return self.count - 1

    def refused(self, unique: int, result: int, error: int = 0, body: bytes = b"") -> int:
        """Append a reply whose write(2) the kernel failed with `result`."""
        return self.answer(unique, body, error, flags=RecordFlag.REJECTED, result=result)

    def gap(self, count: int, reason: str, channel: int = 0) -> None:
        self.entries.append(Gap(self.t_ns, channel, count, reason))

    # ---- a file ----

    def write_to(self, path: Path) -> Path:
        """Write everything to a trace file."""
        with TraceWriter(path) as writer:
            self.feed(writer)
        return path

    def feed(self, writer: TraceWriter) -> None:
        for info in self.channels:
            writer.channel(info)
        for is_gap, entries in itertools.groupby(self.entries, lambda entry: isinstance(entry, Gap)):
            if is_gap:
                for gap in entries:
                    writer.gap(gap)
            else:
                writer.records(list(entries))

    def trace(self, directory: Path, name: str = "made.pcapng") -> Trace:
        """Write everything down and open it."""
        return Trace.open(self.write_to(directory / name))
