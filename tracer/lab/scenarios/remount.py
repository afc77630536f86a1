"""The same device mounted twice: the second mount must show the root, and on many kernels shows a submount.

virtiofs looks for the superblock that the device already has (sget_fc(), virtio_fs_test_super() in
fs/fuse/virtio_fs.c) and takes any that shares its connection. Each submount has one that does, and the youngest is
found first. The guest cannot tell why; the trace can: it holds the node that was asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.opcodes import ROOT_ID
from dissectors.text import escape
from tracer.analysis.sync import ChannelReport
from tracer.lab.fixed_module import fixed_virtiofs
from tracer.lab.judging import channel_report, exchanges_in, place
from tracer.lab.scenario import Evidence, Finding, Scenario
from tracer.trace.exchange import Exchange

SCRIPT = """
mount_at /mnt/first
ls /mnt/first/mnt1
ls /mnt/first/mnt2
step first
ls -1 /mnt/first
step second
mount_at /mnt/second
ls -1 /mnt/second
step umount
umount /mnt/second
umount /mnt/first
"""
SUBMOUNTS = ("mnt1", "mnt2")


def check_stock(evidence: Evidence) -> Iterator[Finding]:
    """Judge a kernel as it is: what it shows must be explained by the node it asked."""
    yield from _both(evidence)
    channel = channel_report(evidence.trace)
    nodeid = _listed(evidence, "second")
    where = _named(channel, nodeid)
    if nodeid == ROOT_ID:
        words = f"it asked {where}: this kernel has no such bug"
    else:
        words = f"it asked {where} in place of the root: the bug that remount-fixed is without"
    yield Finding(
        "the trace tells what the second mount shows", nodeid in {one.nodeid for one in channel.submounts}, words
    )


def check_fixed(evidence: Evidence) -> Iterator[Finding]:
    """Judge a kernel whose virtiofs takes the root's superblock only."""
    yield from _both(evidence)
    nodeid = _listed(evidence, "second")
    words = f"it asked {_named(channel_report(evidence.trace), nodeid)}"
    yield Finding("the second mount shows the root", nodeid == ROOT_ID, words)
    lines = evidence.step("second").lines
    yield Finding("the guest sees both submounts there", lines == SUBMOUNTS, f"ls printed {_words(lines)}")


def _both(evidence: Evidence) -> Iterator[Finding]:
    """Judge what holds with and without the bug: the first mount is right, and the trace has what the guest printed."""
    lines = evidence.step("first").lines
    yield Finding("the first mount shows the root", lines == SUBMOUNTS, f"ls printed {_words(lines)}")
    for step in ("first", "second"):
        printed = list(evidence.step(step).lines)
        names = sorted(name for one in _listings(evidence, step) for name in _names(one))
        yield Finding(
            f"the {step} listing in the trace is what the guest printed",
            bool(names) and names == printed,
            f"{_words(names)} in the trace, {_words(printed)} on the console",
        )


def _listed(evidence: Evidence, step: str) -> int:
    """Return the node whose listing was read in a step; 0 when there was none, or several were."""
    nodeids = {one.request.nodeid for one in _listings(evidence, step) if one.request is not None}
    return nodeids.pop() if len(nodeids) == 1 else 0


def _listings(evidence: Evidence, step: str) -> list[Exchange]:
    exchanges = exchanges_in(evidence.trace, evidence.step(step))
    return [one for one in exchanges if one.message.name in ("READDIR", "READDIRPLUS")]


def _names(listing: Exchange) -> Iterator[str]:
    """Yield the names that a listing gives, without the two that every directory has."""
    entries = listing.reply.values.get("entries") if listing.reply is not None else None
    for entry in entries if isinstance(entries, list) else []:
        name = entry.get("dirent.name", entry.get("name")) if isinstance(entry, dict) else None
        if isinstance(name, bytes) and name not in (b".", b".."):
            yield escape(name)


def _named(channel: ChannelReport, nodeid: int) -> str:
    found = [place(one) for one in channel.submounts if one.nodeid == nodeid]
    return found[0] if found else f"node {nodeid}"


def _words(lines: tuple[str, ...] | list[str]) -> str:
    return " ".join(lines) or "nothing"


STOCK = Scenario(
    name="remount",
    summary="a device mounted twice shows a submount in place of its root, on kernels as Debian has them",
    script=SCRIPT,
    check=check_stock,
    submounts=SUBMOUNTS,
)
FIXED = Scenario(
    name="remount-fixed",
    summary="the same with that bug mended in the guest's virtiofs: the second mount shows the root",
    script=SCRIPT,
    check=check_fixed,
    submounts=SUBMOUNTS,
    instead=lambda kernel: {"virtiofs": fixed_virtiofs(kernel)},
)
