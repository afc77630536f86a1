"""Eight threads, small and large messages: the tap loses, doubles and damages none of them.

Three witnesses that know nothing of the tap: the daemon's log names every message, the program in the guest checks what
it reads back, and what is in each WRITE and READ follows from its file and offset alone.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tracer.lab.archive import Unavailable
from tracer.lab.children import needed
from tracer.lab.daemon_log import Answered, said
from tracer.lab.daemons import Service
from tracer.lab.judging import agreement
from tracer.lab.patterns import READ, Block, read, written
from tracer.lab.qemu import Machine
from tracer.lab.scenario import Evidence, Finding, Scenario
from tracer.output.style import byte_count, counted
from tracer.trace.columns import Kind, distinct
from tracer.trace.trace import Trace

SOURCE = Path(__file__).parent.parent / "inside" / "load.c"
THREADS, ROUNDS = 8, 6
LARGE = 1 << 20
SMALL = 2 * (8 + 64 + 520 + 4096 + 1536 + 24 + 2048 + 136)  # bytes of the 16 small ones of a file
PER_FILE = 17  # messages: 16 small ones and a large one
HIGH = "100000000-"  # where memory goes on above 4 GiB, behind the hole for devices
SCRIPT = f"""
mount_at /mnt/v
ls /mnt/v/mnt1 /mnt/v/mnt2
grep 'System RAM' /proc/iomem
step load
load {THREADS} $(({ROUNDS} * SCALE)) /mnt/v /mnt/v/mnt1 /mnt/v/mnt2
"""


def program() -> Mapping[str, bytes]:
    """Return the program for the guest, which has no libraries; raises Unavailable."""
    compiler = needed("gcc", "gcc")
    with tempfile.TemporaryDirectory(prefix="fusewire-lab-") as directory:
        made = Path(directory) / "load"
        words = [compiler, "-static", "-O2", "-pthread", "-o", str(made), str(SOURCE)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            said_last = done.stderr.strip().splitlines()[-1:]
            raise Unavailable(f"a static program cannot be linked: {said_last}", "apt install libc6-dev")
        return {"load": made.read_bytes()}


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge what passed the tap."""
    trace, files = evidence.trace, THREADS * ROUNDS * evidence.variant.scale
    done = f"{files} files written, read and removed"
    lines = evidence.step("load").lines
    yield Finding("the guest reads back what it wrote", lines == (done,), " / ".join(lines))
    yield agreement(evidence)
    yield _answers(evidence)
    yield once(trace)
    yield _intact("WRITE", written(trace), files)
    yield _intact("READ", read(trace), files)
    depth = most_open(trace)
    yield Finding("requests overlap", depth >= THREADS // 2, f"{depth} at a time")
    memory = [line for line in evidence.step("boot").lines if "System RAM" in line]
    is_split = any(line.strip().startswith(HIGH) for line in memory)
    yield Finding("the guest has memory above 4 GiB, a region of its own", is_split, f"{len(memory)} ranges")


def _answers(evidence: Evidence) -> Finding:
    """Compare the replies with the daemon's own log: unique, error and length."""
    trace = evidence.trace
    table = trace.records
    is_reply = table["kind"] == Kind.REPLY
    if evidence.daemon == "c":  # it says nothing of the data it gives to READ: that is looked at by itself
        is_reply &= (table["opcode"] != READ) | (table["error"] != 0)
    columns = (table[name][is_reply].tolist() for name in ("unique", "error", "wire_len"))
    seen = Counter(Answered(*row) for row in zip(*columns, strict=True))
    logged = said(evidence.daemon, evidence.daemon_log).answered
    only_trace, only_log = (seen - logged).total(), (logged - seen).total()
    words = f"{logged.total()} replies in the log"
    if only_trace or only_log:
        words += f"; {only_trace} only in the trace, {only_log} only in the log"
    return Finding("the daemon's log names the same replies", bool(logged) and not only_trace and not only_log, words)


def once(trace: Trace) -> Finding:
    """Look for numbers that were used twice, and for replies to nothing."""
    table = trace.records
    kind, unique = table["kind"], table["unique"]
    doubled = sum(int((kind == one).sum()) - len(distinct(unique[kind == one])) for one in (Kind.REQUEST, Kind.REPLY))
    orphans = int(((kind == Kind.REPLY) & (table["mate"] < 0)).sum())
    words = f"{counted(int((kind == Kind.REQUEST).sum()), 'request')}, {doubled} doubled, {orphans} replies to none"
    return Finding("no message is there twice, and no reply without its request", not doubled and not orphans, words)


def _intact(name: str, blocks: Iterable[Block], files: int) -> Finding:
    """Compare each block with what its file has there, and all of them with what the program did."""
    sizes, damaged = Counter[int](), list[int]()
    for block in blocks:
        sizes[len(block.data)] += 1
        if not block.is_intact:
            damaged.append(block.row)
    total = sum(size * count for size, count in sizes.items())
    words = f"{sizes.total()} messages, {byte_count(total)}, {sizes[LARGE]} of 1 MiB"
    if damaged:
        words += f"; {len(damaged)} damaged, the first in record {damaged[0]}"
    is_all = sizes.total() == files * PER_FILE and total == files * (LARGE + SMALL) and sizes[LARGE] == files
    return Finding(f"every {name} carries what belongs there, and none is missing", is_all and not damaged, words)


def most_open(trace: Trace) -> int:
    """Return how many requests waited for their answers at once, at most."""
    table = trace.records
    answered = (table["kind"] == Kind.REQUEST) & (table["mate"] >= 0)
    changes = answered.astype(np.int64) - (table["kind"] == Kind.REPLY)
    return int(np.cumsum(changes).max(initial=0))


SCENARIO = Scenario(
    name="load",
    summary="eight threads, small and 1 MiB messages: none is lost, doubled or damaged",
    script=SCRIPT,
    check=check,
    service=Service(cache="none", threads=4),
    machine=Machine(cpus=2, memory_mib=4096),
    files=program,
)
