"""Makes a trace of any size: a realistic mix, real pairing with many requests in flight, several submounts.

    python -m benchmarks.make_trace N FILE

The same N and seed give the same messages. Content is cut at 512 bytes a message, as a recorder does by default.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks import wire, workload
from benchmarks.wire import IN_SIZE, OUT_SIZE, in_header, out_header
from dissectors.opcodes import OPS_BY_NAME
from tracer.records import BridgeKind, ChannelInfo, ChannelKind, Direction, RawRecord
from tracer.store.writer import TraceWriter

IN_FLIGHT = 16
BATCH = 8192
TASKS_AT_WORK = ((b"rsync", 4100), (b"find", 4205), (b"python3", 5310), (b"make", 6001), (b"cc1", 6002), (b"bash", 911))
SERVER_PID = 2200
DRAWS = 1 << 16  # random choices are drawn once and used again and again: drawing them costs more than using them
TO_SERVER, TO_KERNEL = Direction.TO_SERVER, Direction.TO_KERNEL
SYNTHETIC = BridgeKind.SYNTHETIC


def records(count: int, *, channels: int = 1, submounts: int = 4, seed: int = 1) -> Iterator[RawRecord]:
    """Yield `count` records in time order, those of several channels mixed."""
    sources = [_dialogue(channel, submounts, seed) for channel in range(channels)]
    if channels == 1:
        return islice(sources[0], count)
    return islice(_mixed(sources, random.Random(seed)), count)


def _mixed(sources: list[Iterator[RawRecord]], chance: random.Random) -> Iterator[RawRecord]:
    t_ns = wire.FIRST_SECOND * 10**9
    while True:
        for source in chance.choices(sources, k=DRAWS):
            t_ns += 1500
            yield next(source)._replace(t_ns=t_ns)


def _dialogue(channel: int, submounts: int, seed: int) -> Iterator[RawRecord]:
    """Yield what one kernel and one server say, without end."""
    chance = random.Random(seed * 1000 + channel)
    root, dirs = wire.tree(submounts, 40, 60, workload.SIZES)
    filesystem = workload.Filesystem(chance, root, dirs)
    kinds = filesystem.tasks()
    picks = [chance.randrange(IN_FLIGHT) for _ in range(DRAWS)]
    gaps = [min(60_000, 300 + int(chance.expovariate(1 / 2500))) for _ in range(DRAWS)]
    t_ns = wire.FIRST_SECOND * 10**9
    for header_and_body in _init():
        t_ns += 20_000
        yield _record(t_ns, channel, header_and_body)

    unique = 2
    tasks: list[workload.Task] = [iter(()) for _ in range(IN_FLIGHT)]
    waiting: list[tuple[bytes, int, int] | None] = [None] * IN_FLIGHT  # replies to come, by slot
    while True:
        for slot, gap in zip(picks, gaps, strict=True):
            t_ns += gap
            reply = waiting[slot]
            comm, pid = TASKS_AT_WORK[slot % len(TASKS_AT_WORK)]
            if reply is not None:
                waiting[slot] = None
                data, lost, tid = reply
                kept = len(data)
                yield RawRecord(t_ns, channel, TO_KERNEL, data, kept + lost, SYNTHETIC, 0, SERVER_PID, tid, comm)
                continue
            request = next(tasks[slot], None)
            while request is None:
                tasks[slot] = kinds[int(chance.random() * len(kinds))]()
                request = next(tasks[slot], None)
            opcode, nodeid, content, error, answer, lost, request_lost = request
            unique += 2
            length = IN_SIZE + len(content)
            tid = SERVER_PID + 1 + slot % 4
            wire_len = length + request_lost
            if opcode not in workload.NOT_ANSWERED:
                size = OUT_SIZE + len(answer)
                waiting[slot] = (out_header(size + lost, -error, unique) + answer, lost, tid)
            yield RawRecord(
                t_ns,
                channel,
                TO_SERVER,
                in_header(wire_len, opcode, unique, nodeid, 1000, 1000, pid, 0, 0) + content,
                wire_len,
                SYNTHETIC,
                0,
                SERVER_PID,
                tid,
                comm,
            )


def _init() -> Iterator[bytes]:
    op = OPS_BY_NAME["INIT"]
    asked = wire.body(op.request, major=7, minor=wire.MINOR, max_readahead=131072, flags=wire.INIT_FLAGS)
    yield in_header(IN_SIZE + len(asked), op.code, 2, 0, 0, 0, 0, 0, 0) + asked
    granted = wire.body(
        wire.reply_fields("INIT"),
        major=7,
        minor=wire.MINOR,
        max_readahead=131072,
        flags=wire.INIT_FLAGS,
        max_background=12,
        congestion_threshold=9,
        max_write=1 << 20,
        time_gran=1,
        max_pages=256,
    )
    yield out_header(OUT_SIZE + len(granted), 0, 2) + granted


def _record(t_ns: int, channel: int, data: bytes) -> RawRecord:
    direction = TO_KERNEL if len(data) == OUT_SIZE + 64 else TO_SERVER
    return RawRecord(t_ns, channel, direction, data, len(data), SYNTHETIC, 0, SERVER_PID, SERVER_PID)


def make(path: Path, count: int, *, channels: int = 1, submounts: int = 4, seed: int = 1) -> None:
    """Write a trace of `count` records to `path`. Raises TraceFileError as TraceWriter does."""
    with TraceWriter(path, command="synthetic") as writer:
        for number in range(channels):
            writer.channel(
                ChannelInfo(
                    f"/mnt/synthetic{number}",
                    ChannelKind.VIRTIOFS,
                    mount_point=f"/mnt/synthetic{number}",
                    fstype="virtiofs",
                    server_pid=SERVER_PID,
                    snap_bytes=512,
                )
            )
        source = records(count, channels=channels, submounts=submounts, seed=seed)
        while batch := list(islice(source, BATCH)):
            writer.records(batch)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.make_trace", description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, metavar="N", help="records, requests and replies together")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--submounts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begin = time.perf_counter()
    make(given.file, given.count, channels=given.channels, submounts=given.submounts, seed=given.seed)
    size = given.file.stat().st_size
    print(
        f"{given.count} records, {size / 1e6:.0f} MB, {time.perf_counter() - begin:.1f} s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
