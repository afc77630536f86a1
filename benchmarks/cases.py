"""What is measured. A case prepares nothing twice: the traces are made once, by `Bench`."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ebpf, make_trace, strace_log
from benchmarks.measure import Times, forget, repeat, repeat_command
from benchmarks.report import Row, Target
from benchmarks.screen import SIZE, key_presses
from dissectors.columns import gather
from dissectors.fast import HeadReader, request_head
from dissectors.opcodes import OPS
from tracer.bridges.strace import StraceLog
from tracer.records import ChannelInfo, Gap, RawRecord
from tracer.store.writer import TraceWriter
from tracer.trace import cache
from tracer.trace.columns import Kind
from tracer.trace.trace import Trace

FUSEWIRE = (sys.executable, "-m", "tracer.cli.main")
BATCH = 8192
SLOW_COMPARISON = 10  # what takes tshark a minute is done on a tenth of the messages


@dataclass
class Bench:
    """What the cases share: files, how often, how many."""

    directory: Path
    runs: int
    records: int
    with_tshark: bool = True

    @cached_property
    def trace(self) -> Path:
        """A trace of `records` messages."""
        return self._made("trace.pcapng", self.records)

    @cached_property
    def part(self) -> Path:
        """A trace of a tenth of that, for what is too slow for all of it."""
        return self._made("part.pcapng", self.records // SLOW_COMPARISON)

    @cached_property
    def few(self) -> Path:
        """A trace of a hundred messages."""
        return self._made("few.pcapng", 100)

    @cached_property
    def log(self) -> Path:
        """What strace would have printed of a third of the messages."""
        path = self.directory / "server.strace"
        strace_log.write(path, make_trace.records(self.log_records))
        return path

    @property
    def log_records(self) -> int:
        """How many messages the strace log holds."""
        return self.records // 3

    @cached_property
    def opened(self) -> Trace:
        """The trace, indexed and followed to its end."""
        trace = Trace.open(self.trace)
        trace.advance_state()
        return trace

    def _made(self, name: str, count: int) -> Path:
        path = self.directory / name
        make_trace.make(path, count)
        return path

    def tshark(self, arguments: Sequence[str], path: Path, before: Callable[[], object] | None = None) -> Times | None:
        """Time tshark on a trace; None when it is not installed or not wanted."""
        if not self.with_tshark or shutil.which("tshark") is None:
            return None
        return repeat_command(["tshark", "-n", "-r", str(path), *arguments], self.runs, before)


def index(bench: Bench) -> list[Row]:
    """Open and index a file that is not in the page cache."""
    path, count = bench.trace, bench.records
    cold = repeat(lambda _: Trace.open(path), bench.runs, lambda: forget(path))
    warm = repeat(lambda _: Trace.open(path), bench.runs)
    whole = repeat_command([sys.executable, "-c", _OPEN, str(path)], bench.runs, lambda: forget(path))
    theirs = bench.tshark(["-q", "-z", "io,stat,0"], path, lambda: forget(path))
    how = "Trace.open(FILE): map, scan, columns, pairing; the file dropped from the page cache before each run"
    target = Target(">= 2 M/s", least_rate=2e6)
    return [
        Row("open + index, cold", how, cold, count, target=target),
        Row("open + index, in the page cache", "the same, without dropping it", warm, count, target=target),
        Row(
            "open + index, whole process, cold",
            "a Python that imports tracer.trace and opens FILE, against tshark -q -z io,stat,0",
            whole,
            count,
            theirs=theirs,
            their_count=count,
            what_theirs="no dissection, one pass",
        ),
        *_memory(bench),
    ]


def cached(bench: Bench) -> list[Row]:
    """Open a trace whose index was kept from the last time."""
    path = bench.trace
    os.environ["XDG_CACHE_HOME"] = str(bench.directory)
    limit = cache.LEAST_RECORDS
    try:
        os.environ.pop(cache.OFF, None)
        cache.LEAST_RECORDS = 1
        Trace.open(path)
        times = repeat(lambda _: Trace.open(path), bench.runs)
    finally:
        os.environ[cache.OFF] = "1"
        cache.LEAST_RECORDS = limit
    how = "Trace.open(FILE) when the index is in tracer.trace.cache: map it, check it"
    return [Row("open, indexed before", how, times, bench.records)]


_OPEN = "import sys; from tracer.trace.trace import Trace; Trace.open(sys.argv[1])"
_MEMORY = """
import sys
from tracer.trace.trace import Trace
Trace.open(sys.argv[2])
def anonymous():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("RssAnon"))
before = anonymous()
trace = Trace.open(sys.argv[1])
print(trace.nbytes, anonymous() - before, trace.records.count)
"""


def _memory(bench: Bench) -> list[Row]:
    argv = [sys.executable, "-c", _MEMORY, str(bench.trace), str(bench.few)]
    output = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=600).stdout
    columns, grown, count = map(int, output.split())
    how = "in a fresh process: Trace.nbytes, and what RssAnon of /proc/self/status grew by, which leaves out the file"
    target = Target("<= 100 B", most_bytes=100)
    return [
        Row("memory of the index", how, size_bytes=columns / count, target=target),
        Row("memory a process grows by", how, size_bytes=grown / count, target=target),
    ]


def state(bench: Bench) -> list[Row]:
    """Follow names, lookup counts and submounts through the trace."""
    times = repeat(lambda trace: trace.advance_state(), bench.runs, lambda: Trace.open(bench.trace))
    return [
        Row("names and submounts", "Trace.advance_state() over the whole trace, once indexed", times, bench.records)
    ]


HEADER_FILTERS = ("fuse.opcode == READ", "fuse.latency > 1ms && fuse.error != 0", "fuse.nodeid in {1, 5, 7}")
BODY_FILTERS = ("fuse.read.size >= 64KiB", "fuse.write.offset > 0", 'fuse.lookup.name contains "report"')


def filters(bench: Bench) -> list[Row]:
    """Filter every exchange; a filter is compiled anew in each run."""
    try:
        compile_filter = importlib.import_module("tracer.filters").compile_filter
    except (ImportError, AttributeError):
        print("tracer.filters is not there: display filters are not measured", file=sys.stderr)
        return []
    trace = bench.opened
    numbers = np.arange(trace.exchange_count, dtype=np.int64)
    theirs = bench.tshark(["-Y", "frame.len > 700 && frame.time_relative > 0.01"], bench.trace)
    rows = []
    for text, target_s in [*((one, 0.1) for one in HEADER_FILTERS), *((one, 0.5) for one in BODY_FILTERS)]:
        times = repeat(lambda one: compile_filter(one).mask(trace, numbers), bench.runs, partial(str, text))
        rows.append(
            Row(
                f"filter {text}",
                "compile_filter(TEXT).mask(trace, every exchange), against tshark -Y on frame fields",
                times,
                bench.records,
                target=Target(f"<= {target_s} s for 1 M", least_rate=1e6 / target_s),
                theirs=theirs,
                their_count=bench.records,
                what_theirs="frame fields",
            )
        )
    return rows


def decode(bench: Bench) -> list[Row]:
    """Read header and arguments of every request whose head is whole, as tuples."""
    trace = bench.opened
    runs = [(head, starts) for head, starts in _heads(trace) if len(starts)]
    count = sum(len(starts) for _, starts in runs)
    content = trace.file.content

    def work(_: object) -> None:
        for head, starts in runs:
            for begin in range(0, len(starts), BATCH):
                joined = gather(content, starts[begin : begin + BATCH], head.size)
                deque(head.unpack_joined(joined), maxlen=0)

    how = "dissectors.fast.request_head(op).unpack_joined(gather(file, starts)) for each opcode: tuples of all fields"
    times = repeat(work, bench.runs)
    target = Target(">= 3 M/s", least_rate=3e6)
    return [
        Row("struct decode, header + arguments", how, times, count, "requests", target=target),
        _values(bench, trace),
    ]


def _heads(trace: Trace) -> list[tuple[HeadReader, Any]]:
    table, found = trace.records, []
    is_request = table["kind"] == Kind.REQUEST
    for op in OPS.values():
        head = request_head(op, trace.sessions[0].context(0))
        found.append((head, table["at"][is_request & (table["opcode"] == op.code) & (table["kept"] >= head.size)]))
    return found


def _values(bench: Bench, trace: Trace) -> Row:
    """Read every body as a dictionary, one after the other, as rows on screen do."""
    rows = range(min(trace.records.count, bench.records // 4))

    def work(_: object) -> None:
        for row in rows:
            trace.fast_values(row)

    return Row("struct decode, a dictionary a message", "Trace.fast_values(row)", repeat(work, bench.runs), len(rows))


def json(bench: Bench) -> list[Row]:
    """Print everything as JSON, a line an exchange."""
    path, count = bench.trace, bench.records
    ours = repeat_command([*FUSEWIRE, "show", "-T", "ndjson", str(path)], bench.runs)
    part = bench.part
    theirs = bench.tshark(["-T", "ek"], part)
    row = Row(
        "batch JSON, whole process",
        "fusewire show -T ndjson FILE > /dev/null, against tshark -T ek > /dev/null on a tenth of the messages",
        ours,
        count,
        target=Target(">= 150 k/s", least_rate=150e3),
        theirs=theirs,
        their_count=count // SLOW_COMPARISON,
        what_theirs="frames only, no FUSE",
    )
    text = repeat_command([*FUSEWIRE, "show", str(part)], bench.runs)
    return [row, Row("text, whole process", "fusewire show FILE > /dev/null", text, count // SLOW_COMPARISON)]


class _Nowhere:
    """A Sink that counts."""

    def __init__(self) -> None:
        self.count = 0

    def channel(self, _: ChannelInfo) -> int:
        return 0

    def records(self, batch: Sequence[RawRecord]) -> None:
        self.count += len(batch)

    def gap(self, _: Gap) -> None:
        return


def strace(bench: Bench) -> list[Row]:
    """Import a strace log: the parser alone, and with the writer."""
    log, count = bench.log, bench.log_records
    stop = threading.Event()
    alone = repeat(lambda sink: StraceLog(log).run(sink, stop), bench.runs, _Nowhere)
    output = bench.directory / "imported.pcapng"

    def whole(_: object) -> None:
        with TraceWriter(output) as writer:
            StraceLog(log).run(writer, stop)

    written = repeat(whole, bench.runs)
    megabytes = log.stat().st_size / 1e6
    how = "StraceLog(LOG).run(sink) over a log in the form of strace -f -ttt -T -yy -s 512"
    return [
        _import_row("strace import, parser alone", how, alone, count, megabytes),
        _import_row("strace import, written to a trace", how, written, count, megabytes),
    ]


def _import_row(work: str, how: str, times: Times, count: int, megabytes: float) -> Row:
    target = Target(">= 150 k/s or 100 MB/s", least_rate=min(150e3, 100 * count / megabytes))
    return Row(work, how, times, count, target=target, note=f"{megabytes / times.cpu_s:.0f} MB/s of log")


def writer(bench: Bench) -> list[Row]:
    """Write records that are made already."""
    count = min(bench.records, 500_000)
    source = make_trace.records(count)
    batches = list(iter(lambda: list(islice(source, BATCH)), []))
    path = bench.directory / "written.pcapng"

    def work(_: object) -> None:
        with TraceWriter(path) as trace:
            trace.channel(ChannelInfo("bench"))
            for batch in batches:
                trace.records(batch)

    return [
        Row("write a trace", f"TraceWriter.records() in batches of {BATCH}", repeat(work, bench.runs), count, "records")
    ]


def drain(bench: Bench) -> list[Row]:
    """Drain a BPF ring, alone and into a trace."""
    return ebpf.drain(bench.runs, bench.directory)


def start(bench: Bench) -> list[Row]:
    """Start the command for next to nothing."""
    few = bench.few
    help_ = repeat_command([*FUSEWIRE, "--help"], bench.runs)
    first = repeat_command([*FUSEWIRE, "show", "-c", "1", str(few)], bench.runs)
    theirs = bench.tshark(["-c", "1"], few)
    return [
        Row("start: fusewire --help", "the command, in the page cache", help_),
        Row(
            "start: fusewire show -c 1",
            "the command on a trace of 100 messages, against tshark -c 1",
            first,
            theirs=theirs,
            what_theirs="the same",
        ),
    ]


def screen(bench: Bench) -> list[Row]:
    """Press keys in the terminal UI, once the trace is indexed."""
    how = f"the app without a terminal, {'x'.join(map(str, SIZE))} cells: from the key until everything is drawn"
    how += "; wall time holds the driver's own waiting"
    target = Target("<= 0.1 s", most_seconds=0.1)
    return [
        Row(f"key in the terminal UI: {key}", how, times, target=target)
        for key, times in key_presses(Trace.open(bench.trace), bench.runs).items()
    ]


def making(bench: Bench) -> list[Row]:
    """Make a trace: what the other cases wait for."""
    count = bench.records // SLOW_COMPARISON
    path = bench.directory / "made.pcapng"
    times = repeat(lambda _: make_trace.make(path, count), min(bench.runs, 3))
    return [Row("make_trace", "python -m benchmarks.make_trace N FILE", times, count)]


# Add a case here; `python -m benchmarks --only NAME` runs it alone.
CASES: dict[str, Callable[[Bench], list[Row]]] = {
    "index": index,
    "cached": cached,
    "state": state,
    "filter": filters,
    "decode": decode,
    "json": json,
    "strace": strace,
    "writer": writer,
    "drain": drain,
    "start": start,
    "screen": screen,
    "make": making,
}
