"""Did sync reach the server? Every FUSE_SYNCFS of a trace, per submount, and why there is none where there is none.

The kernel's rules (fuse_sync_fs(), fs/fuse/inode.c): one SYNCFS a superblock, addressed to the nodeid of its root; sent
by virtiofs since 5.14 and by fuseblk since 6.18, never by plain fuse; not for a read-only superblock, not at unmount;
one ENOSYS is taken as success and ends it for the whole connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dissectors.layout import compile_layout, needed_flags
from dissectors.opcodes import OPS_BY_NAME, ROOT_ID
from dissectors.structs import IN_HEADER
from tracer.records import ChannelInfo, ChannelKind
from tracer.trace.columns import Kind, Rows
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

SYNCFS, WRITE, DESTROY = (OPS_BY_NAME[name].code for name in ("SYNCFS", "WRITE", "DESTROY"))
FSYNCS = tuple(OPS_BY_NAME[name].code for name in ("FSYNC", "FSYNCDIR"))
ENOSYS = 38
IN_HEADER_SIZE = sum(item.size for item in IN_HEADER.fields)


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One FUSE_SYNCFS."""

    exchange: int
    t_ns: int
    state: State
    error: int
    latency_ns: int | None
    pid: int
    comm: bytes
    open_writes: int  # WRITEs of this submount that were not answered when it was sent
    open_write_bytes: int
    covered_bytes: int  # bytes written to this submount since its last successful SYNCFS, answered before this one

    @property
    def succeeded(self) -> bool:
        """Whether the server said that everything is on stable storage."""
        return self.state is State.DONE and self.error == 0


@dataclass(slots=True)
class SubmountReport:
    """One superblock: the mount itself (root nodeid 1) or a submount of it."""

    nodeid: int
    path: bytes | None
    st_dev: str
    exchange_count: int
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
        """Superblocks that got no SYNCFS although another one of this connection did."""
        if not any(submount.was_reached for submount in self.submounts):
            return []
        return [submount for submount in self.submounts if not submount.was_reached]


@dataclass(slots=True)
class SyncReport:
    """The whole trace."""

    channels: list[ChannelReport]
    start_ns: int = 0
    has_times: bool = True

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
    submounts = trace.submounts  # brings the columns up to date
    first = trace.first_rows
    t_ns = trace.records["t_ns"]
    channels = []
    for number, info in enumerate(trace.channels):
        roots = [(index, nodeid) for index, (channel, nodeid) in enumerate(submounts) if channel == number]
        if roots:
            channels.append(_channel(trace, number, info, roots))
    return SyncReport(
        channels, int(t_ns[first[0]]) if len(first) else 0, all(c.clock != "none" for c in trace.channels)
    )


def _channel(trace: Trace, number: int, info: ChannelInfo, roots: list[tuple[int, int]]) -> ChannelReport:
    reports = [_submount(trace, number, info, index, nodeid) for index, nodeid in roots]
    report = ChannelReport(number, info, sorted(reports, key=lambda one: one.nodeid))
    enosys = [
        request.t_ns + (request.latency_ns or 0)
        for one in reports
        for request in one.requests
        if request.error == -ENOSYS
    ]
    report.enosys_t_ns = min(enosys) if enosys else None
    report.reasons = _reasons(trace, report)
    report.cut_listings = trace.cut_listings(number)
    return report


def _submount(trace: Trace, channel: int, info: ChannelInfo, index: int, nodeid: int) -> SubmountReport:
    table = trace.records
    rows = np.flatnonzero(
        (table["submount"] == index) & (table["kind"] == Kind.REQUEST) & (table["channel"] == channel)
    )
    opcode = table["opcode"][rows]
    last = table.count - 1
    writes = _Writes(trace, rows[opcode == WRITE], rows[np.isin(opcode, FSYNCS)])
    report = SubmountReport(
        nodeid,
        trace.names(channel).path(nodeid, last),
        info.st_dev if nodeid == ROOT_ID else "",
        len(rows),
        written_bytes=writes.answered_bytes,
    )
    synced_t_ns: int | None = None
    for row in rows[opcode == SYNCFS].tolist():
        request = _request(trace, row, writes, synced_t_ns)
        report.requests.append(request)
        if request.succeeded:
            synced_t_ns = request.t_ns
    report.unsynced_bytes = writes.unsynced_bytes(synced_t_ns)
    return report


def _request(trace: Trace, row: int, writes: _Writes, synced_t_ns: int | None) -> SyncRequest:
    table = trace.records
    number = trace.exchange_of(row)
    mate = int(table["mate"][row])
    t_ns = int(table["t_ns"][row])
    open_count, open_bytes = writes.open_at(t_ns)
    return SyncRequest(
        number,
        t_ns,
        trace.state(number),
        int(table["error"][mate]) if mate >= 0 else 0,
        trace.latency_ns(number),
        int(table["pid"][row]),
        trace.comm(row),
        open_count,
        open_bytes,
        writes.answered_between(synced_t_ns, t_ns),
    )


class _Writes:
    """The WRITEs of one submount: when each was sent and answered, how many bytes, of which file."""

    def __init__(self, trace: Trace, rows: Rows, fsyncs: Rows) -> None:
        table = trace.records
        mate = table["mate"][rows]
        answered = mate >= 0
        replies = np.where(answered, mate, 0)
        self._ok = answered & (table["error"][replies] == 0)
        self._sent = table["t_ns"][rows]
        self._answered_at = np.where(answered, table["t_ns"][replies], np.iinfo(np.int64).max)
        self._bytes = table["wire_len"][rows].astype(np.int64) - IN_HEADER_SIZE - _head_size(trace, rows)
        self._nodeid = table["nodeid"][rows]
        fsync_mate = table["mate"][fsyncs]
        good = (fsync_mate >= 0) & (table["error"][np.where(fsync_mate >= 0, fsync_mate, 0)] == 0)
        self._fsync_sent, self._fsync_nodeid = table["t_ns"][fsyncs[good]], table["nodeid"][fsyncs[good]]

    @property
    def answered_bytes(self) -> int:
        return int(self._bytes[self._ok].sum())

    def open_at(self, t_ns: int) -> tuple[int, int]:
        is_open = (self._sent < t_ns) & (self._answered_at > t_ns)
        return int(is_open.sum()), int(self._bytes[is_open].sum())

    def answered_between(self, after_ns: int | None, until_ns: int) -> int:
        inside = self._ok & (self._answered_at <= until_ns)
        if after_ns is not None:
            inside &= self._answered_at > after_ns
        return int(self._bytes[inside].sum())

    def unsynced_bytes(self, synced_ns: int | None) -> int:
        """Count bytes whose WRITE was not answered before the last good SYNCFS, nor before an FSYNC of the file."""
        left = self._ok.copy()
        if synced_ns is not None:
            left &= self._answered_at > synced_ns
        for nodeid in np.unique(self._fsync_nodeid).tolist():
            latest = self._fsync_sent[self._fsync_nodeid == nodeid].max()
            left &= (self._nodeid != nodeid) | (self._answered_at > latest)
        return int(self._bytes[left].sum())


def _head_size(trace: Trace, rows: Rows) -> int:
    """Return the size of fuse_write_in in this session: what a WRITE has before its data."""
    fields = OPS_BY_NAME["WRITE"].request
    context = trace.context(int(rows[-1])) if len(rows) else None
    minor = context.effective_minor if context else 99
    return compile_layout(fields, minor, needed_flags(fields), "<").head_size


def _reasons(trace: Trace, report: ChannelReport) -> list[str]:
    """Say why no SYNCFS can appear, or why there is none, as far as it can be known."""
    if any(submount.was_reached for submount in report.submounts):
        return []
    info, reasons = report.info, []
    if info.kind is ChannelKind.DEV_FUSE:
        reasons.append(
            "a plain fuse mount never sends SYNCFS: the kernel sends it for virtiofs since 5.14 and fuseblk since 6.18"
        )
    elif info.kind is ChannelKind.CUSE:
        reasons.append("a CUSE character device has no superblock to sync")
    if info.read_only:
        reasons.append("the superblock is mounted read-only: there is nothing to write")
    table = trace.records
    destroyed = (table["opcode"] == DESTROY) & (table["kind"] == Kind.REQUEST) & (table["channel"] == report.channel)
    if destroyed.any():
        reasons.append("the mount was unmounted: an unmount sends DESTROY, never SYNCFS")
    if not reasons:
        reasons.append(
            "nobody called sync(2) or syncfs(2) on it while it was recorded, or its kernel is older than that"
        )
    return reasons
