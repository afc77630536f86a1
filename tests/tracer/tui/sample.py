"""A small recorded dialogue, byte by byte: virtiofs with two submounts, and an old server that knows no SYNCFS."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

from tracer.records import BridgeKind, ChannelInfo, ChannelKind, Direction, Gap, RawRecord, RecordFlag
from tracer.store.writer import TraceWriter

START_NS = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20 UTC
MS = 1_000_000

LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INIT, SYNCFS = (
    1,
    2,
    3,
    14,
    15,
    16,
    18,
    20,
    25,
    26,
    50,
)
ROOT, MNT1, MNT2, NOTES, DATA, EVIL, OLD_FILE = 1, 16, 32, 7, 17, 8, 5
EACCES, ENOENT, ENOSYS, ECONNABORTED = 13, 2, 38, 103
NOTIFY_INVAL_INODE = 2
ATTR_SUBMOUNT = 1
SUBMOUNTS_FLAG = 1 << 27
EVIL_NAME = b"evil\x1b[31m [red]x[/red]\n\xff.txt"


def request(opcode: int, unique: int, nodeid: int, body: bytes = b"", pid: int = 4711) -> bytes:
    """fuse_in_header and a body."""
    return struct.pack("<IIQQIIIHH", 40 + len(body), opcode, unique, nodeid, 1000, 1000, pid, 0, 0) + body


def reply(unique: int, body: bytes = b"", error: int = 0) -> bytes:
    """fuse_out_header and a body."""
    return struct.pack("<IiQ", 16 + len(body), -error, unique) + body


def attributes(ino: int, mode: int, size: int = 0, flags: int = 0) -> bytes:
    """fuse_attr"""
    times = struct.pack("<QQQIII", 1_699_999_000, 1_699_999_000, 1_699_999_000, 0, 0, 0)
    return (
        struct.pack("<QQQ", ino, size, (size + 511) // 512)
        + times
        + struct.pack("<IIIIIII", mode, 1, 1000, 1000, 0, 4096, flags)
    )


def entry(nodeid: int, mode: int = 0o100644, size: int = 0, flags: int = 0) -> bytes:
    """fuse_entry_out"""
    return struct.pack("<QQQQII", nodeid, 0, 1, 1, 0, 0) + attributes(nodeid, mode, size, flags)


def init_request(minor: int) -> bytes:
    return struct.pack("<IIIII44x", 7, minor, 131072, SUBMOUNTS_FLAG | 0x3, 0)


def init_reply(minor: int) -> bytes:
    return struct.pack("<IIIIHHIIHHI28x", 7, minor, 131072, SUBMOUNTS_FLAG | 0x3, 12, 9, 1 << 20, 1, 256, 0, 0)


def open_reply(fh: int) -> bytes:
    return struct.pack("<QII", fh, 0, 0)


def write_request(fh: int, offset: int, data: bytes) -> bytes:
    return struct.pack("<QQIIQII", fh, offset, len(data), 0, 0, 0o100001, 0) + data


def fsync_request(fh: int) -> bytes:
    return struct.pack("<QII", fh, 0, 0)


def inval_inode(nodeid: int) -> bytes:
    return struct.pack("<IiQQqq", 40, NOTIFY_INVAL_INODE, 0, nodeid, 0, 0)


@dataclass
class Story:
    """Records in the order in which they will be written, each with its time in ms since the start."""

    records: list[RawRecord] = field(default_factory=list)
    unique: int = 0

    def say(
        self,
        ms: float,
        channel: int,
        data: bytes,
        to_kernel: bool = False,
        comm: bytes = b"",
        cut: int = 0,
        flags: int = 0,
    ) -> None:
        direction = Direction.TO_KERNEL if to_kernel else Direction.TO_SERVER
        kept = data[: len(data) - cut]
        t_ns = START_NS + int(ms * MS)
        self.records.append(
            RawRecord(t_ns, channel, direction, kept, len(data), BridgeKind.SYNTHETIC, flags, 900, 900, comm)
        )

    def delivered(self, ms: float) -> None:
        """Let the server read the latest request."""
        self.say(ms, 0, struct.pack("<IIQ", 16, 0, self.unique), flags=RecordFlag.DELIVERED)

    def ask(
        self,
        ms: float,
        opcode: int,
        nodeid: int,
        body: bytes = b"",
        answer: bytes | None = b"",
        *,
        took: float = 0.2,
        error: int = 0,
        channel: int = 0,
        comm: bytes = b"dd",
        cut: int = 0,
    ) -> int:
        """Add a request, and its reply unless `answer` is None; return its unique."""
        self.unique += 2
        self.say(ms, channel, request(opcode, self.unique, nodeid, body), comm=comm, cut=cut)
        if answer is not None:
            self.say(ms + took, channel, reply(self.unique, answer, error), to_kernel=True)
        return self.unique

    def sorted(self) -> list[RawRecord]:
        return sorted(self.records, key=lambda record: record.t_ns)


HOME = ChannelInfo("virtiofs tag home", ChannelKind.VIRTIOFS, fstype="virtiofs", st_dev="0:45", server_pid=900)
OLD = ChannelInfo("/mnt/old", ChannelKind.FUSEBLK, fstype="fuseblk.oldfs", st_dev="7:0", server_pid=950)


def story() -> Story:
    """Two mounts at work: everything the UI has to show happens once."""
    told = Story()
    told.ask(0, INIT, 0, init_request(45), init_reply(45), comm=b"mount")
    told.ask(5, LOOKUP, ROOT, b"mnt1\0", entry(MNT1, 0o040755, flags=ATTR_SUBMOUNT), comm=b"ls")
    told.ask(8, LOOKUP, ROOT, b"mnt2\0", entry(MNT2, 0o040755, flags=ATTR_SUBMOUNT), comm=b"ls")
    told.ask(12, LOOKUP, ROOT, b"notes.txt\0", entry(NOTES, size=42), comm=b"vim")
    told.ask(20, LOOKUP, ROOT, EVIL_NAME + b"\0", entry(EVIL, size=3), comm=b"\x1b[2J[bold]")
    told.ask(30, LOOKUP, ROOT, b"missing\0", error=ENOENT, comm=b"vim")
    told.ask(35, LOOKUP, MNT1, b"data.bin\0", entry(DATA), comm=b"dd")
    told.ask(40, OPEN, DATA, struct.pack("<II", 0o100001, 0), open_reply(0x1001))
    for number in range(24):
        size = 512 if number % 3 else 3000
        told.ask(
            90 + 12 * number,
            WRITE,
            DATA,
            write_request(0x1001, 4096 * number, b"FUSEWIRE" * (size // 8)),
            struct.pack("<II", size // 8 * 8, 0),
            took=1.5,
            cut=0 if number else 400,
        )
    told.ask(400, FSYNC, DATA, fsync_request(0x1001), took=30)
    told.ask(500, SYNCFS, ROOT, bytes(8), took=3.25, comm=b"sync")
    told.ask(501, SYNCFS, MNT1, bytes(8), took=120, comm=b"sync")
    told.ask(700, SYNCFS, MNT2, bytes(8), None, comm=b"sync")
    told.ask(560, OPEN, NOTES, struct.pack("<II", 2, 0), error=EACCES, comm=b"vim")
    told.say(650, 0, inval_inode(NOTES), to_kernel=True)
    for number in range(6):
        told.ask(
            720 + 20 * number,
            WRITE,
            DATA,
            write_request(0x1001, 4096 * number, b"later..." * 64),
            struct.pack("<II", 512, 0),
            took=2,
        )
    told.ask(860, FORGET, NOTES, struct.pack("<Q", 1), None, comm=b"vim")
    told.ask(60, INIT, 0, init_request(45), init_reply(31), channel=1, comm=b"mount")
    told.ask(70, LOOKUP, ROOT, b"old.db\0", entry(OLD_FILE, size=4096), channel=1, comm=b"sqlite3")
    told.ask(
        610,
        WRITE,
        OLD_FILE,
        write_request(0x22, 0, b"row " * 200),
        struct.pack("<II", 800, 0),
        channel=1,
        comm=b"sqlite3",
    )
    told.ask(640, SYNCFS, ROOT, bytes(8), error=ENOSYS, channel=1, comm=b"sync")
    told.ask(
        900,
        GETATTR,
        OLD_FILE,
        struct.pack("<IIQ", 0, 0, 0),
        struct.pack("<QII", 1, 0, 0) + attributes(OLD_FILE, 0o100644, 4096),
        channel=1,
        comm=b"sqlite3",
    )
    return told


def write_trace(path: Path, records: list[RawRecord] | None = None, gap: bool = True) -> Path:
    """Write the dialogue as a trace."""
    with TraceWriter(path) as writer:
        for info in (HOME, OLD):
            writer.channel(info)
        writer.records(story().sorted() if records is None else records)
        if gap:
            writer.gap(Gap(START_NS + 680 * MS, 0, 3, "the bridge's buffer was full"))
    return path


def write_hung(path: Path) -> Path:
    """Write what a bridge that sees deliveries, and loses some records, overhears of a server that hangs."""
    told = Story()
    told.ask(0, INIT, 0, init_request(45), init_reply(45), comm=b"mount")
    told.ask(10, LOOKUP, ROOT, b"data.bin\0", entry(DATA), took=4)
    told.delivered(11)
    aborted = told.ask(20, OPEN, DATA, struct.pack("<II", 0o100001, 0), None, comm=b"vim")
    told.say(2020, 0, reply(aborted, error=ECONNABORTED), to_kernel=True, flags=RecordFlag.ABORTED)
    told.ask(30, WRITE, DATA, write_request(0x1001, 0, bytes(512)), None, cut=400)
    told.delivered(60)
    told.ask(2200, GETATTR, DATA, bytes(16), None, comm=b"ls")
    told.ask(4230, GETATTR, ROOT, bytes(16), None, comm=b"df")
    with TraceWriter(path) as writer:
        writer.channel(replace(HOME, name="/mnt/home", kind=ChannelKind.DEV_FUSE, fstype="fuse.home", deliveries=True))
        writer.records(told.sorted())
        writer.gap(Gap(START_NS + 4000 * MS, -1, 1234, "the ring buffer was full (CPU 1)"))
    return path
