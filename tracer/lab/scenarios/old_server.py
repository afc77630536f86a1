"""A server that answers SYNCFS with ENOSYS: the kernel takes that for success, and never asks it again."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial

from tracer.analysis.sync import sync_report
from tracer.lab.injection import LOG, refusing, synced
from tracer.lab.judging import agreement, channel_report, places, syncs_in
from tracer.lab.scenario import Evidence, Finding, Scenario
from tracer.output.style import Painter
from tracer.output.sync_text import sync_lines

SCRIPT = """
mount_at /mnt/v
ls /mnt/v/mnt1 /mnt/v/mnt2
step write
dd if=/dev/zero of=/mnt/v/mnt1/file bs=64k count=4
step first-sync
sync
echo sync ended with $?
step write-again
dd if=/dev/zero of=/mnt/v/mnt2/file bs=64k count=4
step second-sync
sync
echo sync ended with $?
step umount
umount /mnt/v
"""
EXPLAINED = "ENOSYS: this server will never be asked again: sync(2) is a no-op on this connection since"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge both syncs, and what the report says of them."""
    channel = channel_report(evidence.trace)
    first, second = evidence.step("first-sync"), evidence.step("second-sync")
    sent = syncs_in(channel, first)
    refused = [sync for sync in sent if sync.request.error == -errno.ENOSYS]
    yield Finding(
        "the first sync sends one SYNCFS, which is answered with ENOSYS",
        len(sent) == len(refused) == 1,
        f"{len(sent)} SYNCFS for {places(sync.submount for sync in sent)}, {len(refused)} ENOSYS",
    )
    lines = (*first.lines, *second.lines)
    fine = [line for line in lines if line == "sync ended with 0"]
    yield Finding("sync(2) tells nobody: both end with success", len(fine) == 2, " / ".join(lines))
    late = syncs_in(channel, second)
    yield Finding("the second sync sends nothing", not late, f"SYNCFS for {places(sync.submount for sync in late)}")
    report = sync_lines(sync_report(evidence.trace), Painter(enabled=False))
    said = [line.strip() for line in report if EXPLAINED in line]
    yield Finding("fusewire sync says why", len(said) == 1, " / ".join(said) or "it does not")
    unsynced = sum(submount.unsynced_bytes for submount in channel.submounts)
    written = sum(submount.written_bytes for submount in channel.submounts)
    yield Finding("everything written is still at risk", 0 < unsynced == written, f"{unsynced} of {written} bytes")
    asked = list(synced((evidence.directory / LOG).read_text()))
    told = ", ".join(f"syncfs({one.path}) = {one.error or 0}" for one in asked)
    yield Finding("strace saw the daemon try once", [one.error for one in asked] == ["ENOSYS"], told)
    yield agreement(evidence)


SCENARIO = Scenario(
    name="old-server",
    summary="a server that knows no SYNCFS is asked once, and sync(2) is a no-op from then on",
    script=SCRIPT,
    check=check,
    around_daemon=partial(refusing, "ENOSYS"),
)
