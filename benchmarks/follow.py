"""How far the terminal UI lags behind a recorder: a process appends to a trace, the real app follows it.

    python -m benchmarks.follow --rate 100000 --rate 400000 --seconds 30

The writer is a process of its own that keeps the pace it is given; the app runs without a terminal in this one. Lag is
what the file holds and the app has not indexed; shown is what it has not put on the screen.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from benchmarks import make_trace
from benchmarks.report import quantity
from tracer.records import ChannelInfo, ChannelKind, RawRecord, RecordColumns, RecordFlag
from tracer.store.writer import TraceWriter
from tracer.trace.cache import OFF
from tracer.trace.trace import Trace
from tracer.tui.app import FusewireApp

MADE = 1_000_000  # records that are written again and again, each time with other uniques
TICK_S = 0.02
SAMPLE_S = 0.25
CATCH_UP_S = 300
SIZE = (140, 45)
UNIQUE_AT = 8  # in fuse_in_header and in fuse_out_header
DELIVERED_BYTES = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stand at one moment."""

    s: float  # since the writer began
    written: int
    indexed: int
    told: int  # exchanges that were there
    shown: int  # exchanges that are on the screen's list
    cpu_s: float
    rss_bytes: int
    late_s: float  # by how much the screen's own thread missed its turn


@dataclass(slots=True)
class Run:
    """One measurement."""

    rate: int
    samples: list[Sample] = field(default_factory=list)
    caught_up_s: float = 0.0  # after the writer's end
    writer_s: float = 0.0


def columns_of(records: Iterable[RawRecord]) -> RecordColumns:
    """Return records as columns over one buffer."""
    rows = list(records)
    lengths = np.array([len(row.data) for row in rows], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    kinds = {"t_ns": "i8", "channel": "u2", "direction": "u1", "wire_len": "u4", "bridge": "u1", "flags": "u2"}
    kinds |= {"server_pid": "u4", "server_tid": "u4", "comm": "S16", "queue": "u2", "desc_head": "u4", "result": "i4"}
    columns = (np.array([getattr(row, name) for row in rows], kind) for name, kind in kinds.items())
    return RecordColumns(memoryview(b"".join(row.data for row in rows)), starts, lengths, *columns)


def with_deliveries(records: Iterable[RawRecord]) -> Iterable[RawRecord]:
    """Put a delivery after each request, as `--deliveries` records them."""
    for record in records:
        yield record
        if not record.direction:
            head = DELIVERED_BYTES.to_bytes(4, "little") + record.data[4:DELIVERED_BYTES]
            yield record._replace(data=head, wire_len=DELIVERED_BYTES, flags=int(RecordFlag.DELIVERED))


def write(path: Path, made: Path, rate: int, seconds: float, written: Synchronized[int], go: Event) -> None:
    """Append to a trace at a steady rate: the recorder's process."""
    source = np.load(made, allow_pickle=False)
    content = source["content"]
    names = [name for name in RecordColumns.__dataclass_fields__ if name != "content"]
    columns = {name: source[name] for name in names}
    count, span = len(columns["start"]), int(source["span"])
    with TraceWriter(path, command="synthetic") as writer:
        writer.channel(
            ChannelInfo("/mnt/synthetic0", ChannelKind.VIRTIOFS, fstype="virtiofs", minor=45, snap_bytes=512)
        )
        go.wait()
        begin, done = time.monotonic(), 0
        while (since := time.monotonic() - begin) < seconds:
            due = int(since * rate)
            while done < due:
                turn, at = divmod(done, count)
                some = slice(at, min(count, at + due - done))
                writer.records(_again(content, columns, some, turn * span))
                done += some.stop - some.start
            written.value = done
            time.sleep(TICK_S)


def _again(content: np.ndarray, columns: dict[str, np.ndarray], some: slice, shift: int) -> RecordColumns:
    """Return a batch with uniques that were not used before, sent now."""
    part = {name: column[some] for name, column in columns.items()}
    first, end = int(part["start"][0]), int(part["start"][-1] + part["length"][-1])
    own = content[first:end].copy()
    part["start"] = part["start"] - first
    places = part["start"][:, None] + UNIQUE_AT + np.arange(8)
    unique = own[places].copy().view("<u8")[:, 0]
    own[places] = np.where(unique, unique + np.uint64(shift), 0).astype("<u8")[:, None].view(np.uint8)
    t_ns = part["t_ns"]
    now = time.time_ns()
    part["t_ns"] = now - int(TICK_S * 1e9) + np.linspace(0, TICK_S * 1e9, len(t_ns)).astype(np.int64)
    return RecordColumns(memoryview(own), **part)


def make(path: Path, count: int, deliveries: bool, submounts: int) -> None:
    """Make what the writer writes."""
    records = make_trace.records(count, submounts=submounts)
    made = columns_of(with_deliveries(records) if deliveries else records)
    known = {name: getattr(made, name) for name in RecordColumns.__dataclass_fields__ if name != "content"}
    np.savez(path, content=np.frombuffer(made.content, np.uint8), span=np.uint64(4 * count), **known)


async def follow(path: Path, run: Run, filter_text: str, seconds: float, written: Synchronized[int], go: Event) -> None:
    """Run the app until it has seen all that was written."""
    app = FusewireApp(Trace.open(path), follow=True, filter_text=filter_text)
    async with app.run_test(size=SIZE):
        go.set()
        begin, cpu = time.monotonic(), time.process_time()
        end = 0.0
        while True:
            due = time.monotonic() + SAMPLE_S
            await asyncio.sleep(SAMPLE_S)
            trace, since = app.main._trace, time.monotonic() - begin
            run.samples.append(
                Sample(
                    since,
                    written.value,
                    trace.records.count,
                    trace.exchange_count,
                    app.main.upto,
                    time.process_time() - cpu,
                    _rss_bytes(),
                    time.monotonic() - due,
                )
            )
            last = run.samples[-1]
            is_over = since > seconds + 1
            if is_over and last.indexed >= last.written and last.shown >= last.told:
                run.caught_up_s = max(0.0, end - seconds if end else since - seconds)
                break
            if since > seconds + CATCH_UP_S:
                run.caught_up_s = float("inf")
                break


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(directory: Path, made: Path, rate: int, given: argparse.Namespace) -> Run:
    """Follow one writer."""
    context = multiprocessing.get_context("spawn")
    written, go = context.Value("Q", 0), context.Event()
    path = directory / f"follow-{rate}.pcapng"
    run = Run(rate)
    writer = context.Process(target=write, args=(path, made, rate, given.seconds, written, go))
    writer.start()
    try:
        while not path.exists():
            time.sleep(TICK_S)
        asyncio.run(follow(path, run, given.filter, given.seconds, written, go))
    finally:
        writer.join(10)
        if writer.is_alive():
            writer.terminate()
        path.unlink(missing_ok=True)
    return run


def report(run: Run, seconds: float) -> str:
    """Return a line of the table."""
    during = [sample for sample in run.samples if sample.s <= seconds]
    last = during[-1]
    lags = [sample.written - sample.indexed for sample in during]
    hidden = [sample.told - sample.shown for sample in during]
    half = len(lags) // 2
    return (
        f"| {quantity(run.rate)}/s | {quantity(last.written / last.s)}/s | {quantity(np.median(lags[:half]))} | "
        f"{quantity(np.median(lags[half:]))} | {quantity(max(lags))} = {max(lags) / run.rate:.1f} s | "
        f"{quantity(max(hidden))} | {run.caught_up_s:.1f} s | {100 * last.cpu_s / last.s:.0f} % | "
        f"{run.samples[-1].rss_bytes / max(1, run.samples[-1].indexed):.0f} B | "
        f"{1000 * float(np.median([sample.late_s for sample in during])):.0f}, "
        f"{1000 * max(sample.late_s for sample in during):.0f} ms |"
    )


HEADING = (
    "| asked for | written | lag, first half | second half | largest lag | not shown | caught up after | processor | "
    "memory a record | screen late: median, worst |\n|" + "---|" * 10
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.follow", description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, action="append", help="records a second (default: 100, 200 and 400 k)")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--filter", default="", help="a filter that is active meanwhile")
    parser.add_argument("--deliveries", action="store_true", help="record deliveries too: a third record an exchange")
    parser.add_argument("--submounts", type=int, default=4)
    parser.add_argument("--made", type=int, default=MADE)
    given = parser.parse_args()
    os.environ[OFF] = "1"
    with tempfile.TemporaryDirectory(prefix="fusewire-follow-") as directory:
        made = Path(directory) / "made.npz"
        make(made, given.made, given.deliveries, given.submounts)
        print(HEADING, flush=True)
        for rate in given.rate or [100_000, 200_000, 400_000]:
            print(report(measure(Path(directory), made, rate, given), given.seconds), flush=True)


if __name__ == "__main__":
    sys.exit(main())
