"""dd, then sync: how many bytes are at risk in each superblock, before and after, with and without a writeback cache.

After the cover letter of "virtiofs: propagate sync() to file server" (Greg Kurz, 2021), the series that brought SYNCFS.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dissectors.opcodes import OPS_BY_NAME
from tracer.analysis.kernels import kernel_version
from tracer.lab.daemons import Service
from tracer.lab.judging import Synced, agreement, channel_report, place, places, syncs_in
from tracer.lab.scenario import Evidence, Finding, Scenario, Step
from tracer.output.style import byte_count
from tracer.trace.columns import Kind
from tracer.trace.trace import Trace

WRITE = OPS_BY_NAME["WRITE"].code
WRITE_HEAD = 40 + 40  # fuse_in_header and fuse_write_in
MIB = 1 << 20
WRITTEN = {b"/": MIB, b"/mnt1": 4 * MIB, b"/mnt2": 2 * MIB}  # before the first sync
AGAIN = {b"/": 0, b"/mnt1": 0, b"/mnt2": MIB}  # after it
THROUGH_SCRIPT = """
mount_at /mnt/v
ls /mnt/v/mnt1 /mnt/v/mnt2
step write
dd if=/dev/zero of=/mnt/v/file bs=1M count=1
dd if=/dev/zero of=/mnt/v/mnt1/file bs=1M count=4
dd if=/dev/zero of=/mnt/v/mnt2/file bs=1M count=2
step sync
sync
step write-again
dd if=/dev/zero of=/mnt/v/mnt2/file bs=1M count=1 conv=notrunc
"""
# Left alone, a guest writes back most of this before it syncs: fuse has a small share of the page cache (strictlimit in
# fuse_bdi_init()), and sends what it has of a file when that is closed (fuse_flush()). So the share is raised, and each
# dd keeps its file open.
BACK_SCRIPT = """
mount_at /mnt/v
ls /mnt/v/mnt1 /mnt/v/mnt2
fill() {  # a descriptor that dd reads from, the file it writes to, how large that is to become, bytes that takes
  head -c $4 /dev/zero >&$1
  until [ "$(stat -c %s $2)" = $3 ]; do usleep 10000; done
}
begin() {
  mkfifo /tmp/$1
  dd if=/tmp/$1 of=$2 bs=64k &
  eval "exec $1>/tmp/$1"
  fill $1 $2 $3 $3
}
for bdi in /sys/class/bdi/*; do
  echo 100 > $bdi/max_ratio
  echo 20 > $bdi/min_ratio
done
step write
begin 5 /mnt/v/file 1048576
begin 6 /mnt/v/mnt1/file 4194304
begin 7 /mnt/v/mnt2/file 2097152
step sync
sync
step write-again
fill 7 /mnt/v/mnt2/file 3145728 1048576
step close
exec 5>&- 6>&- 7>&-
wait
"""


def check_through(evidence: Evidence) -> Iterator[Finding]:
    """Judge a guest that writes through: what a process wrote has been sent when its write(2) ends."""
    total = sum(WRITTEN.values())
    expected = {"write": total, "sync": 0, "write-again": sum(AGAIN.values())}
    yield _sent("dd sends every byte, sync none", evidence, expected)
    yield from _of_both(evidence)


def check_back(evidence: Evidence) -> Iterator[Finding]:
    """Judge a guest that writes back: sync sends the bytes, and a SYNCFS only when they are answered.

    Since Linux 7.0 sync(2) only starts to write back what fuse has in the page cache (SB_I_NO_DATA_INTEGRITY in
    sync_inodes_sb()): a SYNCFS may come before the WRITEs it should cover. Then the report has to say so.
    """
    waits = kernel_version(evidence.kernel) < (7, 0)
    found = syncs_in(channel_report(evidence.trace), evidence.step("sync"))
    if waits:
        expected = {"write": 0, "sync": sum(WRITTEN.values()), "write-again": 0, "close": sum(AGAIN.values())}
        yield _sent("dd sends nothing while it runs, sync every byte", evidence, expected)
        is_open = [sync for sync in found if sync.request.open_writes]
        words = f"open WRITEs in {places(sync.submount for sync in is_open)}"
        yield Finding("no SYNCFS is sent before they are answered", bool(found) and not is_open, words)
        yield from _of_both(evidence)
    else:
        yield _sent("dd sends nothing while it runs", evidence, {"write": 0})
        yield agreement(evidence)
    yield _counted(found, WRITTEN if waits else None)


def _counted(found: list[Synced], before: dict[bytes, int] | None) -> Finding:
    """Compare what the page cache sent before and after each SYNCFS, by the report, with what was written."""
    requests = {sync.submount.path: sync.request for sync in found}
    total = {path: request.flushed_bytes + request.late_bytes for path, request in requests.items()}
    holds = total == {path: size + AGAIN[path] for path, size in WRITTEN.items()}
    if before is not None:
        holds &= before == {path: request.flushed_bytes for path, request in requests.items()}
    sizes = {place(sync.submount): (sync.request.flushed_bytes, sync.request.late_bytes) for sync in found}
    told = (f"{where} {byte_count(early)} before, {byte_count(late)} after" for where, (early, late) in sizes.items())
    return Finding("fusewire sync counts what the page cache sent before and after each SYNCFS", holds, ", ".join(told))


def _sent(promise: str, evidence: Evidence, expected: dict[str, int]) -> Finding:
    """Compare how many bytes were written in each step."""
    found = {name: _bytes_written(evidence.trace, evidence.step(name)) for name in expected}
    return Finding(promise, found == expected, ", ".join(f"{name} {byte_count(size)}" for name, size in found.items()))


def _bytes_written(trace: Trace, step: Step) -> int:
    """Count the data of every WRITE that was sent in a step."""
    table = trace.records
    is_write = (table["kind"] == Kind.REQUEST) & (table["opcode"] == WRITE)
    rows = is_write & (table["t_ns"] >= step.t_ns) & (table["t_ns"] < step.end_ns)
    return int((table["wire_len"][rows].astype(np.int64) - WRITE_HEAD).sum())


def _of_both(evidence: Evidence) -> Iterator[Finding]:
    channel = channel_report(evidence.trace)
    found = syncs_in(channel, evidence.step("sync"))
    risks = {one.submount.path: (one.request.risk_before_bytes, one.request.risk_after_bytes) for one in found}
    yield Finding(
        "the bytes of each superblock are at risk before its SYNCFS, and not after it",
        risks == {path: (size, 0) for path, size in WRITTEN.items()} and all(one.request.succeeded for one in found),
        ", ".join(f"{place(one.submount)} {byte_count(one.request.risk_before_bytes)}" for one in found),
    )
    left = {submount.path: submount.unsynced_bytes for submount in channel.submounts}
    words = ", ".join(f"{place(one)} {byte_count(one.unsynced_bytes)}" for one in channel.submounts)
    yield Finding("what is written after it is at risk at the end", left == AGAIN, words)
    yield agreement(evidence)


THROUGH = Scenario(
    name="write-sync",
    summary="dd, then sync: the bytes at risk in each superblock, before and after its SYNCFS",
    script=THROUGH_SCRIPT,
    check=check_through,
)
BACK = Scenario(
    name="writeback-sync",
    summary="the same with a writeback cache: sync sends the WRITEs, then SYNCFS",
    script=BACK_SCRIPT,
    check=check_back,
    service=Service(writeback=True),
)
