"""Traces for the filter tests: one of every golden message, one that a table of filters is checked on."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from dissectors.layout import Context
from dissectors.message import MessageKind
from tests.dissectors.samples import SAMPLES, Sample
from tests.tracer.dialogue import INIT, READ, Dialogue
from tracer.records import ChannelInfo, Direction, RecordFlag
from tracer.trace.trace import Trace

KEPT_OF_CUT = (7, 15, 23, 30, 39, 41, 47, 60)


def with_unique(data: bytes, unique: int, big_endian: bool) -> bytes:
    """Return a message with another unique; one too short to have any stays as it is."""
    packed = struct.pack(">Q" if big_endian else "<Q", unique)
    return data[:8] + packed + data[16:] if len(data) >= 16 else data


def say(dialogue: Dialogue, sample: Sample, data: bytes, *, channel: int, kept: int | None = None) -> None:
    """Append a message, of a reply its request before it; `kept` cuts the message itself."""
    big = sample.context.big_endian
    dialogue.unique += 2
    if sample.answers and SAMPLES[sample.answers].context.big_endian == big:
        request = with_unique(SAMPLES[sample.answers].data, dialogue.unique, big)
        dialogue.add(Direction.TO_SERVER, request, channel)
    if sample.kind is not MessageKind.NOTIFICATION:
        data = with_unique(data, dialogue.unique, big)
    direction = Direction.TO_SERVER if sample.kind is MessageKind.REQUEST else Direction.TO_KERNEL
    dialogue.add(direction, data[:kept], channel, wire_len=len(data), server_pid=77, server_tid=78, queue=3)


def channel_of(context: Context, name: str) -> ChannelInfo:
    """Return a channel whose session is what `context` says."""
    return ChannelInfo(
        name, minor=context.minor or 0, init_flags=context.init_flags or 0, big_endian=context.big_endian
    )


def every_message(directory: Path) -> Trace:
    """Make a trace of every golden message, each also cut at several places; one channel for each kind of session."""
    dialogue = Dialogue(channels=[])
    numbers: dict[Context | str, int] = {}
    for sample in SAMPLES.values():
        # What INIT agrees on counts for the whole of its channel: it gets one of its own.
        key = sample.name if sample.name.startswith("init") else sample.context
        if key not in numbers:
            numbers[key] = len(dialogue.channels)
            dialogue.channels.append(channel_of(sample.context, f"channel {len(numbers)}"))
        say(dialogue, sample, sample.data, channel=numbers[key])
        for kept in KEPT_OF_CUT:
            if kept < len(sample.data):
                say(dialogue, sample, sample.data, channel=numbers[key], kept=kept)
    return dialogue.trace(directory, "every.pcapng")


def damaged_messages(directory: Path, found: Iterable[tuple[Sample, bytes, int]]) -> Trace:
    """Make a trace of damaged messages, each on a channel of its own; the number says how many bytes were kept."""
    dialogue = Dialogue(channels=[])
    for channel, (sample, data, kept) in enumerate(found):
        dialogue.channels.append(channel_of(sample.context, f"channel {channel}"))
        say(dialogue, sample, data, channel=channel, kept=kept)
    return dialogue.trace(directory, "damaged.pcapng")


def session(directory: Path) -> Trace:
    """Make the session that the table of filters is about; the comments are the exchanges' numbers."""
    info = ChannelInfo("/mnt/test", mount_point="/mnt/test", minor=45)
    say_ = Dialogue(channels=[info, ChannelInfo("virtiofs tag home", minor=45)])
    ms = 1_000_000
    say_.init()  # 0
    say_.lookup(1, b"mnt1", 5, submount=True)  # 1
    say_.lookup(5, b"tmp.txt", 6)  # 2
    say_.talk(1, 5, b"missing\0", error=-2)  # 3
    say_.create(5, b"new file", 7)  # 4
    say_.write(6, 4096, comm=b"dd", pid=200)  # 5
    say_.write(7, 100, comm=b"cp", pid=201)  # 6
    late = say_.ask(READ, 6, say_.pack("QQIIQII", 7, 0, 65536, 0, 0, 0, 0), comm=b"dd", pid=200)  # 7
    say_.t_ns += 20 * ms
    say_.answer(late, b"content of a file")
    say_.syncfs(1)  # 8
    say_.syncfs(5, error=-38)  # 9
    say_.talk(14, 6, say_.pack("II", 0o1001, 0), say_.pack("QIi", 9, 2, 0))  # 10: OPEN, O_WRONLY|O_TRUNC
    say_.talk(14, 6, say_.pack("II", 0o100000, 0), say_.pack("QIi", 9, 0, 0))  # 11: OPEN, O_RDONLY|O_LARGEFILE
    say_.forget(7)  # 12
    say_.notify(3, say_.pack("QII", 5, 7, 0) + b"tmp.txt\0")  # 13: INVAL_ENTRY
    say_.ask(READ, 6, say_.pack("QQIIQII", 7, 0, 4096, 0, 0, 0, 0))  # 14: never answered
    say_.readdirplus(1, [(b"mnt1", 5, True), (b"other", 9, False)])  # 15
    say_.talk(1, 1, b"on home\0", error=-2, channel=1, server_pid=9, queue=2)  # 16
    say_.answer(999, b"?")  # 17: an answer to nothing
    say_.talk(50, 1, bytes(9), comm=b"sync", pid=812)  # 18: SYNCFS with a byte too many
    say_.talk(1, 9, b"\xff\x1b[31m\0", error=-2, flags=RecordFlag.TIME_UNKNOWN)  # 19
    return say_.trace(directory, "session.pcapng")


assert INIT == 26
