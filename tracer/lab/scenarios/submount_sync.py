"""sync(2) in a guest: one FUSE_SYNCFS for the root and one for each submount that was entered, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dissectors.opcodes import OPS_BY_NAME, ROOT_ID
from tracer.analysis.sync import ChannelReport, SubmountReport
from tracer.lab.daemon_log import Asked
from tracer.lab.judging import Synced, agreement, announced, asked, channel_report, place, places, syncs_in
from tracer.lab.scenario import Evidence, Finding, Scenario
from tracer.output.style import counted

SYNCFS = OPS_BY_NAME["SYNCFS"].code
NO_PROBE = "this kernel takes no such probe"
# struct fuse_req has `in.h` at 0x38 in Linux 6.1; later kernels find it themselves, by BTF (since 6.6)
SCRIPT = f"""
cd /sys/kernel/tracing
case $(uname -r) in
  6.1.*) fields='op=+0x3c(%si):u32 unique=+0x40(%si):u64 nodeid=+0x48(%si):u64' ;;
  *) fields='op=req->in.h.opcode unique=req->in.h.unique nodeid=req->in.h.nodeid' ;;
esac
if echo "p:sent virtio_fs_enqueue_req $fields" > kprobe_events; then
  echo 'op == {SYNCFS}' > events/kprobes/sent/filter
  echo 1 > events/kprobes/sent/enable
fi
cd /

mount_at /mnt/v
step early-sync
sync
step list
ls -l /mnt/v
ls /mnt/v/mnt1
ls /mnt/v/mnt2
step write
seq 1 2000 > /mnt/v/mnt1/numbers
seq 1 500 > /mnt/v/mnt2/numbers
step sync
sync
step sync-one
sync -f /mnt/v/mnt2/THIS_IS_MNT2
step kprobes
if [ -e /sys/kernel/tracing/events/kprobes/sent ]; then
  grep sent: /sys/kernel/tracing/trace || echo none
else
  echo {NO_PROBE}
fi
step umount
umount /mnt/v
"""
PROBED = re.compile(rf"op={SYNCFS} unique=(\d+) nodeid=(\d+)")


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge every sync of the script."""
    channel = channel_report(evidence.trace)
    by_path = {submount.path: submount for submount in channel.submounts}
    marked = announced(evidence.trace)
    yield Finding(
        "the daemon marks both submounts, and the trace knows them",
        [one.path for one in channel.submounts] == [b"/", b"/mnt1", b"/mnt2"]
        and marked == {one.nodeid for one in channel.submounts} - {ROOT_ID},
        f"{places(channel.submounts)}; {counted(len(marked), 'node')} marked FUSE_ATTR_SUBMOUNT",
    )
    root = [one for one in channel.submounts if one.nodeid == ROOT_ID]
    one = [by_path[b"/mnt2"]] if b"/mnt2" in by_path else []
    yield _expected("sync before any access reaches the root alone", channel, evidence, "early-sync", root)
    yield _expected("sync reaches every superblock once", channel, evidence, "sync", channel.submounts)
    yield _expected("sync -f in a submount reaches that one alone", channel, evidence, "sync-one", one)
    yield agreement(evidence)
    if evidence.step("kprobes").lines != (NO_PROBE,):  # an old kernel has another struct, and cannot find it by BTF
        yield _probed(evidence)


def _expected(
    promise: str, channel: ChannelReport, evidence: Evidence, step: str, wanted: list[SubmountReport]
) -> Finding:
    """Compare who got a SYNCFS in a step with who should have; the order is the kernel's own affair."""
    found = syncs_in(channel, evidence.step(step))
    holds = sorted(sync.submount.nodeid for sync in found) == sorted(one.nodeid for one in wanted)
    holds = holds and bool(wanted) and all(sync.request.succeeded for sync in found)
    words = f"SYNCFS for {_told(found)}"
    return Finding(promise, holds, words if holds else f"{words}; expected for {places(wanted)}")


def _told(found: list[Synced]) -> str:
    told = [place(sync.submount) + ("" if sync.request.succeeded else " without success") for sync in found]
    return ", ".join(told) or "nobody"


def _probed(evidence: Evidence) -> Finding:
    """Compare with a kprobe in the guest, on the function that puts a request into the virtqueue."""
    sent = PROBED.findall("\n".join(evidence.step("kprobes").lines))
    probed = [Asked(int(unique), SYNCFS, int(nodeid)) for unique, nodeid in sent]
    seen = [one for one in asked(evidence.trace) if one.opcode == SYNCFS]
    holds = bool(probed) and probed == seen
    words = f"{len(probed)}, with the same uniques and nodes in the same order"
    if not holds:
        words = f"{_uniques(probed)}; in the trace {_uniques(seen)}"
    return Finding("a kprobe in the guest saw the same SYNCFS", holds, words)


def _uniques(syncs: list[Asked]) -> str:
    return ", ".join(f"unique {one.unique} node {one.nodeid}" for one in syncs) or "nothing"


SCENARIO = Scenario(
    name="submount-sync",
    summary="sync(2) reaches the root and each submount that was entered, with one SYNCFS each",
    script=SCRIPT,
    check=check,
)
