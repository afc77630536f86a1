"""What the eBPF bridge does with a ring that the kernel filled: drain it, make records of it, write them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.made_ring import CannotMake, MadeRing
from benchmarks.measure import repeat
from benchmarks.report import Row, Target
from tracer.bridges.ebpf.batch import Batches
from tracer.bridges.ebpf.ring import Ring
from tracer.records import ChannelInfo
from tracer.store.writer import TraceWriter

RING_BYTES = 64 << 20
FULL = 0.9
SMALL = (144,)  # an event of 64 FUSE bytes: a GETATTR, a reply with attributes cut
USUAL = (120, 96, 136, 224, 104, 208, 248, 160)  # metadata: requests and replies of several opcodes
LARGE = (80 + 80 + (1 << 20), 96)  # a WRITE of 1 MiB and its reply


def drain(runs: int, directory: Path) -> list[Row]:
    """Drain a ring, alone and on the way into a trace; no rows where no ring can be made."""
    try:
        made = MadeRing(RING_BYTES)
    except CannotMake as error:
        print(f"draining a ring is not measured: {error}", file=sys.stderr)
        return []
    with made, _mapped(made) as ring:
        output = directory / "drained.pcapng"
        two_million, one_million = Target(">= 2 M/s", least_rate=2e6), Target(">= 1 M/s", least_rate=1e6)
        one_gigabyte = Target(">= 1 GB/s", least_rate=2e9 / sum(LARGE))
        row = partial(_row, made, output, runs)
        drained, written = _drained(ring), _written(ring, output)
        return [
            row("drain", SMALL, drained, two_million),
            row("drain, metadata", USUAL, drained, two_million),
            row("drain, writes of 1 MiB", LARGE, drained),
            row("drain, packed and written", SMALL, written, one_million),
            row("drain, packed and written, metadata", USUAL, written, one_million),
            row("drain, packed and written, writes of 1 MiB", LARGE, written, one_gigabyte),
        ]


@contextmanager
def _mapped(made: MadeRing) -> Iterator[Ring]:
    ring = Ring(made.fd, made.size)
    yield ring
    ring.close()


def _drained(ring: Ring) -> Callable[[], int]:
    def work() -> int:
        count = 0
        while ring.pending():
            count += len(ring.drain().at)
        return count

    return work


def _written(ring: Ring, path: Path) -> Callable[[], int]:
    def work() -> int:
        with TraceWriter(path) as writer:
            writer.channel(ChannelInfo("bench"))
            batches = Batches(ring, lambda *_: 0, clock_offset_ns=time.time_ns() - time.monotonic_ns())
            while ring.pending():
                writer.records(batches.take(time.monotonic_ns()).records)
            writer.records(batches.finish().records)
            return writer.record_count

    return work


def _row(
    made: MadeRing,
    output: Path,
    runs: int,
    name: str,
    sizes: Sequence[int],
    work: Callable[[], int],
    target: Target | None = None,
) -> Row:
    turn_bytes = sum((size + 15) & ~7 for size in sizes)
    count = int(FULL * RING_BYTES) // turn_bytes * len(sizes)

    def fill() -> None:
        output.unlink(missing_ok=True)  # giving back the pages of an older file takes as long as the work
        made.fill(count, sizes)

    def checked(_: object) -> None:
        if (done := work()) != count:
            raise RuntimeError(f"{name}: {done} of {count} events came")

    checked(fill())  # the first turn meets pages that are not mapped yet
    times = repeat(checked, runs, fill)
    average = sum(sizes) / len(sizes)
    how = f"a BPF ring of {RING_BYTES >> 20} MiB that a program filled with {count} events of {average:.0f} bytes"
    note = f"{count * average / times.cpu_s / 1e9:.2f} GB/s"
    return Row(name, how, times, count, "events", target=target, note=note)
