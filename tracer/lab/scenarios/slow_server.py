"""A server that takes its time over SYNCFS, and one that never answers: sync(2) waits, and can stall for ever."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tracer.analysis.sync import SyncRequest, sync_report
from tracer.lab import children
from tracer.lab.injection import LOG, delaying, synced
from tracer.lab.judging import Synced, agreement, channel_report, place, places, syncs_in
from tracer.lab.scenario import Evidence, Finding, Live, Scenario
from tracer.output.style import Painter, duration
from tracer.output.sync_text import sync_lines
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

SLOW_S, NEVER_S = 1, 600
WATCHED_S = 1.0  # how long a SYNCFS has waited when we look
REPORT = "sync-while-it-waits.txt"
SLOW_SCRIPT = """
mount_at /mnt/v
ls /mnt/v/mnt1 /mnt/v/mnt2
step write
dd if=/dev/zero of=/mnt/v/mnt1/file bs=64k count=4
step sync
sync
step umount
umount /mnt/v
"""
NEVER_SCRIPT = """
mount_at /mnt/v
ls /mnt/v/mnt1 /mnt/v/mnt2
step write
dd if=/dev/zero of=/mnt/v/mnt1/file bs=64k count=4
step sync
sync &
echo the pid of sync is $!
step watch
cat /proc/$!/wchan
step give-up
"""
SECOND_NS = 1_000_000_000


def check_slow(evidence: Evidence) -> Iterator[Finding]:
    """Judge a sync whose SYNCFS are all answered late."""
    step, channel = evidence.step("sync"), channel_report(evidence.trace)
    found = syncs_in(channel, step)
    took = [sync.request.latency_ns or 0 for sync in found]
    yield Finding(
        f"each superblock's SYNCFS is answered, after {SLOW_S} s or more",
        len(found) == len(channel.submounts) > 2
        and all(sync.request.succeeded for sync in found)
        and min(took) >= SLOW_S * SECOND_NS,
        ", ".join(f"{place(sync.submount)} {duration(sync.request.latency_ns)}" for sync in found) or "none was sent",
    )
    yield Finding(
        "sync(2) waits for one after another",
        step.end_ns - step.t_ns >= sum(took) > 0 and _one_after_another(found),
        f"{duration(step.end_ns - step.t_ns)} for {duration(sum(took))} of SYNCFS",
    )
    at_risk = [sync for sync in found if sync.request.risk_before_bytes]
    yield Finding(
        "what was written is at risk until its own submount is answered",
        [sync.submount.path for sync in at_risk] == [b"/mnt1"] and at_risk[0].request.risk_after_bytes == 0,
        places(sync.submount for sync in at_risk),
    )
    paths = sorted(one.path for one in synced((evidence.directory / LOG).read_text()))
    yield Finding("strace saw each superblock synced", paths == ["/", "/mnt1", "/mnt2"], " ".join(paths))
    yield agreement(evidence)


def _one_after_another(found: list[Synced]) -> bool:
    """Tell whether no SYNCFS was sent before the one before it was answered."""
    requests = [sync.request for sync in found]
    return all(one.t_ns + (one.latency_ns or 0) <= other.t_ns for one, other in itertools.pairwise(requests))


def watch(live: Live) -> None:
    """Wait until a SYNCFS has waited for a while, and keep what `fusewire sync` says meanwhile."""
    trace = live.trace_when(lambda now: any((one.pending_ns or 0) > WATCHED_S * SECOND_NS for one in _pending(now)))
    _save_report(trace, live.directory)


def _pending(trace: Trace) -> list[SyncRequest]:
    return [request for request in sync_report(trace).requests if request.state is State.PENDING]


def end_daemon(live: Live) -> None:
    """End the daemon: as long as it owes an answer, QEMU waits for it and the guest cannot even power off."""
    children.stop(live.served.process)


def _save_report(trace: Trace, directory: Path) -> None:
    lines = sync_lines(sync_report(trace), Painter(enabled=False))
    (directory / REPORT).write_text("".join(f"{line}\n" for line in lines))


def check_never(evidence: Evidence) -> Iterator[Finding]:
    """Judge a sync that hangs, while it hangs and afterwards."""
    channel = channel_report(evidence.trace)
    found = [Synced(submount, request) for submount in channel.submounts for request in submount.requests]
    waiting = [sync for sync in found if sync.request.state is State.PENDING]
    yield Finding(
        "the first SYNCFS waits, and no other superblock gets one",
        len(found) == len(waiting) == 1,
        f"{places(sync.submount for sync in waiting)} of {places(sync.submount for sync in found)}",
    )
    told = re.search(r"the pid of sync is (\d+)", "\n".join(evidence.step("sync").lines))
    pid = int(told[1]) if told else 0
    yield Finding(
        "the trace names who waits",
        bool(pid) and [sync.request.pid for sync in waiting] == [pid],
        f"pid {pid} in the guest, {[sync.request.pid for sync in waiting]} in the trace",
    )
    where = " ".join(evidence.step("watch").lines)
    yield Finding("its kernel has it wait for the answer", where == "request_wait_answer", where)
    report = (evidence.directory / REPORT).read_text()
    line = next((line.strip() for line in report.splitlines() if "not answered, for" in line), "")
    yield Finding("fusewire sync says since when, and who, while it waits", f"by pid {pid}: not answered" in line, line)
    risk = {submount.path: submount.unsynced_bytes for submount in channel.submounts}
    yield Finding(
        "what was written stays at risk", risk.get(b"/mnt1") == 4 << 16, f"{risk.get(b'/mnt1')} bytes in /mnt1"
    )
    yield agreement(evidence)


SLOW = Scenario(
    name="slow-server",
    summary="a server that takes a second for each SYNCFS: sync(2) takes the sum of them",
    script=SLOW_SCRIPT,
    check=check_slow,
    around_daemon=partial(delaying, SLOW_S),
)
STALLED = Scenario(
    name="stalled-server",
    summary="a server that never answers SYNCFS: sync(2) hangs, and the trace shows who waits for whom",
    script=NEVER_SCRIPT,
    check=check_never,
    host={"watch": watch, "give-up": end_daemon},
    around_daemon=partial(delaying, NEVER_S),
)
