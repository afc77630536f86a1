"""Traces as hostile servers, short recordings and broken disks leave them: made ones with messages cut and changed."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks import make_trace
from tests.tracer.dialogue import Dialogue
from tracer.records import ChannelInfo, Direction, RawRecord, RecordFlag
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace


def odd_dialogue(order: str = "<") -> list[RawRecord]:
    """Return what the made traces lack: notifications, two names, orphans, refused answers, xattrs, unknown opcodes."""
    said = Dialogue([ChannelInfo("/mnt/odd")], order)
    said.init()
    said.lookup(1, b"dir", 2)
    said.lookup(1, b"sub", 3, submount=True)
    said.symlink(2, b"link", b"target/of it", 4)
    said.link(4, 3, b"second")
    said.mknod(2, b"node", 5)
    said.create(2, b"", 6, opcode=51)
    said.rename2((2, b"link"), (3, b"node"), 2)
    said.readdirplus(2, [(b".", 2, False), (b"one", 7, False), (b"a\nb", 8, True), (b"none", 0, False)])
    said.talk(22, 4, said.pack("II", 0, 0) + b"user.a\0", said.pack("II", 5, 0))
    said.talk(22, 4, said.pack("II", 5, 0) + b"user.a\0", b"\xff\0bcd")
    said.talk(23, 4, said.pack("II", 50, 0), b"user.a\0user.b\0")
    said.talk(5, 4, b"", b"tar\x1bget")
    said.talk(
        28, 2, said.pack("QQIIQII", 9, 0, 4096, 0, 0, 0, 0), said.pack("QQII", 7, 1, 3, 8) + b"one".ljust(8, b"\0")
    )
    said.notify(2, said.pack("Qqq", 7, 0, 0))
    said.notify(3, said.pack("QII", 2, 3, 0) + b"one\0")
    said.notify(77, b"unknown")
    said.answer(99_999, b"nobody asked")
    said.refused(said.ask(3, 4, bytes(16)), -22, 0, b"x" * 8)
    said.talk(999, 4, b"what is it", b"nothing")
    said.talk(39, 4, said.pack("QIIQII", 1, 0, 5, 0, 3, 0) + b"abc", said.pack("iIII", 0, 0, 0, 0) + b"xyz")
    said.syncfs(3)
    said.syncfs(2, -38)
    said.batch_forget((7, 1), (8, 1), (6, 3))
    said.forget(5)
    said.rmdir(1, b"dir")
    said.ask(3, 4, bytes(16))
    return said.records


def mangle(record: RawRecord, chance: random.Random) -> RawRecord:
    """Return a record cut, changed, or with another length than it says."""
    data = record.data
    match chance.randrange(6):
        case 0:
            data = data[: chance.randrange(len(data) + 1)]
        case 1 if data:
            at = chance.randrange(len(data))
            data = data[:at] + bytes([chance.choice([0, 1, 4, 47, 255, chance.randrange(256)])]) + data[at + 1 :]
        case 2:
            data += chance.randbytes(chance.randrange(1, 20))
        case 3:
            at = chance.randrange(0, 48, 4)
            data = (
                data[:at] + chance.choice([0, 1, 5, 40, 0x7FFFFFFF, 0xFFFFFFFF]).to_bytes(4, "little") + data[at + 4 :]
            )
        case 4:
            return record._replace(flags=int(RecordFlag.TIME_UNKNOWN), wire_len=record.wire_len + chance.randrange(3))
        case _:
            return record._replace(direction=Direction(1 - record.direction))
    return record._replace(data=data, wire_len=chance.choice([len(data), record.wire_len]))


def mangled_trace(path: Path, seed: int, *, share: float = 0.2, big_endian: bool = False) -> Trace:
    """Write a trace of which a share of the records is mangled, and open it."""
    chance = random.Random(seed)
    made = [] if big_endian else list(make_trace.records(300, seed=seed))
    records = made + odd_dialogue(">" if big_endian else "<")
    with TraceWriter(path) as writer:
        writer.channel(ChannelInfo("/mnt/mangled", big_endian=big_endian))
        for n, record in enumerate(records):
            kept = record if n < 2 or chance.random() >= share else mangle(record, chance)
            writer.records([kept._replace(t_ns=n * 1000)])
    return Trace.open(path)
