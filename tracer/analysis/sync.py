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
from dissectors.text import escape
from tracer.analysis.kernels import SYNCFS_SINCE, is_too_old
from tracer.records import ChannelInfo, ChannelKind, RecordFlag
from tracer.trace.columns import BIG_ENDIAN, Array, Kind, Rows, distinct
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

SYNCFS, WRITE, DESTROY = (OPS_BY_NAME[name].code for name in ("SYNCFS", "WRITE", "DESTROY"))
FSYNCS = tuple(OPS_BY_NAME[name].code for name in ("FSYNC", "FSYNCDIR"))
ENOSYS = 38
WRITE_OUT_AT = 16  # of fuse_write_out.size, from the beginning of the reply
IN_HEADER_SIZE = sum(item.size for item in IN_HEADER.fields)


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
        channels, int(t_ns[first[0]]) if len(first) else 0, all(c.clock != "none" for c in trace.channels)
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
    report = ChannelReport(number, info, sorted(reports, key=lambda one: one.nodeid))
    enosys = [
        request.t_ns + (request.latency_ns or 0)
        for one in reports
        for request in one.requests
        if request.error == -ENOSYS and not request.refused
    ]
    report.enosys_t_ns = min(enosys) if enosys else None
    report.reasons = _reasons(report, number in requests.destroyed)
    report.cut_listings = trace.cut_listings(number)
    return report


def _submount(trace: Trace, channel: int, rows: Rows, nodeid: int) -> SubmountReport:
    table = trace.records
    opcode = table["opcode"][rows]
    last = table.count - 1
    writes = _Writes(trace, rows[opcode == WRITE], rows[np.isin(opcode, FSYNCS)])
    report = SubmountReport(
        nodeid,
        trace.names(channel).last_path(nodeid, last),
        trace.channels[channel].st_dev if nodeid == ROOT_ID else _st_dev(trace, rows),
        len(rows),
        trace.exchange_of(trace.names(channel).submounts[nodeid]) if nodeid != ROOT_ID else 0,
        written_bytes=writes.answered_bytes,
    )
    synced = -1
    for row in rows[opcode == SYNCFS].tolist():
        request = _request(trace, row, writes, synced)
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


def _request(trace: Trace, row: int, writes: _Writes, synced: int) -> SyncRequest:
    table = trace.records
    number = trace.exchange_of(row)
    mate = int(table["mate"][row])
    open_count, open_bytes = writes.open_at(row)
    return SyncRequest(
        number,
        int(table["t_ns"][row]),
        trace.state(number),
        int(table["error"][mate]) if mate >= 0 else 0,
        trace.latency_ns(number),
        int(table["pid"][row]) if trace.has_pid(np.array([row])).all() else None,
        trace.comm(row),
        trace.refusal(mate) if mate >= 0 else 0,
        open_count,
        open_bytes,
        writes.answered_between(synced, row),
    )


class _Writes:
    """The WRITEs of one submount: when each was sent and answered, how many bytes, of which file.

    "When" is a record's row: rows are in the order of time, also where times are unknown or too coarse.
    """

    def __init__(self, trace: Trace, rows: Rows, fsyncs: Rows) -> None:
        table = trace.records
        mate = table["mate"][rows].astype(np.int64)
        self._ok = _succeeded(trace, rows)
        self._sent = rows
        self._answered = np.where(mate >= 0, mate, np.iinfo(np.int64).max)
        asked = table["wire_len"][rows].astype(np.int64) - IN_HEADER_SIZE - _head_size(trace, rows)
        self._bytes = np.maximum(np.where(self._ok, np.minimum(asked, _written(trace, mate)), asked), 0)
        good = fsyncs[_succeeded(trace, fsyncs)]
        # Reversed: the latest FSYNC of each file is the first found.
        nodeids, latest = np.unique(table["nodeid"][good][::-1], return_index=True)
        place = np.minimum(np.searchsorted(nodeids, table["nodeid"][rows]), max(len(nodeids) - 1, 0))
        self._fsynced = np.full(len(rows), -1, dtype=np.int64)
        if len(nodeids):
            same = nodeids[place] == table["nodeid"][rows]
            self._fsynced[same] = good[::-1][latest][place[same]]

    @property
    def answered_bytes(self) -> int:
        return int(self._bytes[self._ok].sum())

    def open_at(self, row: int) -> tuple[int, int]:
        is_open = (self._sent < row) & (self._answered > row)
        return int(is_open.sum()), int(self._bytes[is_open].sum())

    def answered_between(self, after: int, until: int) -> int:
        return int(self._bytes[self._ok & (self._answered > after) & (self._answered < until)].sum())

    def unsynced_bytes(self, synced: int) -> int:
        """Count bytes whose WRITE was not answered before the last good SYNCFS, nor before an FSYNC of the file."""
        left = self._ok & (self._answered > synced) & (self._answered > self._fsynced)
        return int(self._bytes[left].sum())


def _succeeded(trace: Trace, rows: Rows) -> Array:
    """Tell which requests were answered without an error, in a way the kernel took."""
    table = trace.records
    mate = table["mate"][rows]
    replies = np.where(mate >= 0, mate, 0)
    taken = (table["flags"][replies] & RecordFlag.REJECTED) == 0
    ok: Array = (mate >= 0) & (table["error"][replies] == 0) & taken
    return ok


def _written(trace: Trace, mate: Rows) -> Array:
    """Return how many bytes the replies to WRITEs say were written; as many as can be where they do not say."""
    table = trace.records
    mate = np.where(mate >= 0, mate, 0)
    says = table["kept"][mate] >= WRITE_OUT_AT + 4
    at = np.where(says, table["at"][mate], table["at"][:1]) + WRITE_OUT_AT
    size = trace.file.words[np.where(says, at // 4, 0)]
    size = np.where(table["bits"][mate] & BIG_ENDIAN, size.byteswap(), size).astype(np.int64)
    return np.where(says, size, np.iinfo(np.int64).max)


def _head_size(trace: Trace, rows: Rows) -> int:
    """Return the size of fuse_write_in in this session: what a WRITE has before its data."""
    fields = OPS_BY_NAME["WRITE"].request
    context = trace.context(int(rows[-1])) if len(rows) else None
    minor = context.effective_minor if context else 99
    return compile_layout(fields, minor, needed_flags(fields), "<").head_size


def _reasons(report: ChannelReport, destroyed: bool) -> list[str]:
    """Say why no SYNCFS can appear, or why there is none, as far as it can be known."""
    if any(submount.was_reached for submount in report.submounts):
        return []
    info, reasons = report.info, []
    if is_too_old(info.kind, info.kernel):
        kernel = escape(info.kernel.encode("utf-8", "surrogateescape"))
        since = ".".join(map(str, SYNCFS_SINCE[info.kind]))
        reasons.append(f"Linux {kernel} sends none to {info.kind.name.lower()}: that began with {since}")
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
