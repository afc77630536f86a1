"""Did sync reach the server? Every FUSE_SYNCFS of a trace, per submount, and why there is none where there is none.

The kernel's rules (fuse_sync_fs(), fs/fuse/inode.c): one SYNCFS a superblock, addressed to the nodeid of its root; sent
by virtiofs since 5.14 and by fuseblk since 6.18, never by plain fuse; not for a read-only superblock, not at unmount;
one ENOSYS is taken as success and ends it for the whole connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dissectors.opcodes import OPS_BY_NAME, ROOT_ID
from dissectors.text import escape
from tracer.analysis.kernels import SYNCFS_SINCE, is_too_old
from tracer.analysis.writes import Writes
from tracer.records import ChannelInfo, ChannelKind
from tracer.trace.columns import Kind, Rows, distinct
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

SYNCFS, WRITE, DESTROY = (OPS_BY_NAME[name].code for name in ("SYNCFS", "WRITE", "DESTROY"))
SYNCFS_MINOR = OPS_BY_NAME["SYNCFS"].since
FSYNCS = tuple(OPS_BY_NAME[name].code for name in ("FSYNC", "FSYNCDIR"))
ENOSYS = 38


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One FUSE_SYNCFS."""

    exchange: int
    t_ns: int
    state: State
    error: int
    latency_ns: int | None
    pid: int | None  # None: the capture cut the header before it
    comm: bytes
    refused: int  # errno with which the kernel refused the answer, 0: it took it; the caller got EIO
    open_writes: int  # WRITEs of this submount that were not answered when it was sent
    open_write_bytes: int
    covered_bytes: int  # bytes written to this submount since its last successful SYNCFS, answered before this one
    risk_before_bytes: int  # of those, not covered by an FSYNC of their file: what a crash may have cost until here
    risk_after_bytes: int | None  # the same when the answer came; None: none came
    flushed_writes: int  # WRITEs from the kernel's page cache since the SYNCFS before this one
    flushed_bytes: int
    late_writes: int  # the same from this one on until the next one: since Linux 7.0 sync(2) does not wait for them
    late_bytes: int
    pending_ns: int | None  # how long it has waited for an answer, when none came

    @property
    def succeeded(self) -> bool:
        """Whether the server said that everything is on stable storage."""
        return self.state is State.DONE and self.error == 0 and not self.refused


@dataclass(slots=True)
class SubmountReport:
    """One superblock: the mount itself (root nodeid 1) or a submount of it."""

    nodeid: int
    path: bytes | None
    st_dev: str
    exchange_count: int
    since_exchange: int = 0  # the one that told that it is there
    requests: list[SyncRequest] = field(default_factory=list)
    written_bytes: int = 0  # by answered WRITEs, over the whole trace
    unsynced_bytes: int = 0  # of those, since the last successful SYNCFS and not covered by an FSYNC of the file

    @property
    def was_reached(self) -> bool:
        """Whether any SYNCFS was sent to it."""
        return bool(self.requests)


@dataclass(slots=True)
class ChannelReport:
    """One connection. `enosys_t_ns` is since when sync(2) is a no-op on it."""

    channel: int
    info: ChannelInfo
    submounts: list[SubmountReport]
    enosys_t_ns: int | None = None
    reasons: list[str] = field(default_factory=list)  # why no SYNCFS can appear, one sentence each
    cut_listings: int = 0  # READDIRPLUS replies cut by the capture: submounts in them are unknown

    @property
    def left_out(self) -> list[SubmountReport]:
        """Superblocks that got no SYNCFS although another one of this connection did while they were there."""
        sent = [request.exchange for submount in self.submounts for request in submount.requests]
        return [one for one in self.submounts if not one.was_reached and sent and one.since_exchange < max(sent)]


@dataclass(slots=True)
class SyncReport:
    """The whole trace."""

    channels: list[ChannelReport]
    start_ns: int = 0
    has_times: bool = True
    is_live: bool = False  # somebody still records: who waits, waits until now

    @property
    def requests(self) -> list[SyncRequest]:
        """Every SYNCFS, in the order of the trace."""
        found = [request for channel in self.channels for one in channel.submounts for request in one.requests]
        return sorted(found, key=lambda request: request.exchange)

    @property
    def has_finding(self) -> bool:
        """Whether something needs a person's attention: a failure, no answer, ENOSYS, a submount left out."""
        failed = any(not request.succeeded for request in self.requests)
        return failed or any(channel.left_out for channel in self.channels)


def sync_report(trace: Trace) -> SyncReport:
    """Report on every SYNCFS of `trace`, as it stands now."""
    requests = _Requests(trace)
    roots: dict[int, list[tuple[int, int]]] = {}
    for index, (channel, nodeid) in enumerate(trace.submounts):
        roots.setdefault(channel, []).append((index, nodeid))
    channels = [_channel(trace, requests, channel, roots[channel]) for channel in sorted(roots)]
    first, t_ns = trace.first_rows, trace.records["t_ns"]
    return SyncReport(
        channels,
        int(t_ns[first[0]]) if len(first) else 0,
        all(c.clock != "none" for c in trace.channels),
        trace.now_ns is not None,
    )


class _Requests:
    """The requests of a trace by submount, found in one pass: a host may have thousands of submounts."""

    def __init__(self, trace: Trace) -> None:
        count = len(trace.submounts)  # brings the columns up to date
        table = trace.records
        rows = np.flatnonzero((table["kind"] == Kind.REQUEST) & (table["submount"] >= 0))
        submounts = table["submount"][rows]
        self._rows = rows[np.argsort(submounts, kind="stable")]
        self._starts = np.searchsorted(np.sort(submounts), np.arange(count + 1))
        destroys = rows[table["opcode"][rows] == DESTROY]
        self.destroyed = set(distinct(table["channel"][destroys]))  # channels

    def of(self, index: int) -> Rows:
        """Return the requests of the submount with number `index`, in the order of time."""
        return self._rows[self._starts[index] : self._starts[index + 1]]


def _channel(trace: Trace, requests: _Requests, number: int, roots: list[tuple[int, int]]) -> ChannelReport:
    info = trace.channels[number]
    reports = [_submount(trace, number, requests.of(index), nodeid) for index, nodeid in roots]
    report = ChannelReport(number, info, sorted(reports, key=_place))
    enosys = [
        request.t_ns + (request.latency_ns or 0)
        for one in reports
        for request in one.requests
        if request.error == -ENOSYS and not request.refused
    ]
    report.enosys_t_ns = min(enosys) if enosys else None
    agreement = trace.sessions[number].agreement(trace.records.count)
    report.reasons = _reasons(report, number in requests.destroyed, agreement.kernel_minor if agreement else 0)
    report.cut_listings = trace.cut_listings(number)
    return report


def _place(submount: SubmountReport) -> tuple[bool, bool, bytes, int]:
    """Order the root first, then by path: nodeids follow the order in which somebody looked."""
    return submount.nodeid != ROOT_ID, submount.path is None, submount.path or b"", submount.nodeid


def _submount(trace: Trace, channel: int, rows: Rows, nodeid: int) -> SubmountReport:
    table = trace.records
    opcode = table["opcode"][rows]
    last = table.count - 1
    writes = Writes(trace, rows[opcode == WRITE], rows[np.isin(opcode, FSYNCS)])
    report = SubmountReport(
        nodeid,
        trace.names(channel).last_path(nodeid, last),
        trace.channels[channel].st_dev if nodeid == ROOT_ID else _st_dev(trace, rows),
        len(rows),
        trace.exchange_of(trace.names(channel).submounts[nodeid]) if nodeid != ROOT_ID else 0,
        written_bytes=writes.answered_bytes,
    )
    synced = -1
    syncs = [-1, *rows[opcode == SYNCFS].tolist(), table.count]
    for before, row, after in zip(syncs, syncs[1:], syncs[2:], strict=False):
        request = _request(trace, row, writes, synced, (before, after))
        report.requests.append(request)
        if request.succeeded:
            synced = row
    report.unsynced_bytes = writes.unsynced_bytes(synced)
    return report


def _st_dev(trace: Trace, rows: Rows) -> str:
    """Return the device number of a submount: that of a SYNCFS if there is one, which is about no other."""
    syncs = rows[trace.records["opcode"][rows] == SYNCFS]
    told = (trace.record(row).st_dev for row in (*syncs[:1].tolist(), *rows[-1:].tolist()))
    return next(filter(None, told), "")


def _request(trace: Trace, row: int, writes: Writes, synced: int, around: tuple[int, int]) -> SyncRequest:
    """Return the SYNCFS at `row`; `synced` is the last one that succeeded, `around` are the ones before and after."""
    table = trace.records
    number = trace.exchange_of(row)
    mate = int(table["mate"][row])
    state, error = trace.state(number), int(table["error"][mate]) if mate >= 0 else 0
    refused = trace.refusal(mate) if mate >= 0 else 0
    succeeded = state is State.DONE and not error and not refused
    pending_ns = int(trace.pending_ns(np.array([number]))[0])
    return SyncRequest(
        number,
        int(table["t_ns"][row]),
        state,
        error,
        trace.latency_ns(number),
        int(table["pid"][row]) if trace.has_pid(np.array([row])).all() else None,
        trace.comm(row),
        refused,
        *writes.open_at(row),
        writes.answered_between(synced, row),
        writes.unsynced_bytes(synced, row),
        writes.unsynced_bytes(row if succeeded else synced, mate) if mate >= 0 else None,
        *writes.flushed_between(around[0], row),
        *writes.flushed_between(row, around[1]),
        pending_ns if pending_ns >= 0 else None,
    )


def _reasons(report: ChannelReport, destroyed: bool, kernel_minor: int) -> list[str]:
    """Say why no SYNCFS can appear, or why there is none, as far as it can be known; `kernel_minor` 0: no INIT seen."""
    if any(submount.was_reached for submount in report.submounts):
        return []
    info, reasons = report.info, []
    if is_too_old(info.kind, info.kernel):
        kernel = escape(info.kernel.encode("utf-8", "surrogateescape"))
        since = ".".join(map(str, SYNCFS_SINCE[info.kind]))
        reasons.append(f"Linux {kernel} sends none to {info.kind.name.lower()}: that began with {since}")
    elif 0 < kernel_minor < SYNCFS_MINOR:  # of a guest, nothing else tells how old it is
        reasons.append(f"the kernel speaks 7.{kernel_minor}: SYNCFS came with 7.{SYNCFS_MINOR} (Linux 5.14)")
    elif info.kind is ChannelKind.DEV_FUSE and not destroyed:  # the kernel sends DESTROY to other kinds only
        reasons.append(_of_dev_fuse(info))
    elif info.kind is ChannelKind.CUSE:
        reasons.append("a CUSE character device has no superblock to sync")
    if info.read_only:
        reasons.append("the superblock is mounted read-only: there is nothing to write")
    if destroyed:
        reasons.append("the mount was unmounted: an unmount sends DESTROY, never SYNCFS")
    if not reasons:
        reasons.append(
            "nobody called sync(2) or syncfs(2) on it while it was recorded, or its kernel is older than that"
        )
    return reasons


def _of_dev_fuse(info: ChannelInfo) -> str:
    """Say why a server that reads /dev/fuse got none: fuse and fuseblk both do, only the mount tells them apart."""
    sends = "the kernel sends it for virtiofs since 5.14 and fuseblk since 6.18"
    if info.fstype:
        return f"a plain fuse mount never sends SYNCFS: {sends}"
    return f"its mount is not known; a plain fuse mount never sends SYNCFS, {sends}"
