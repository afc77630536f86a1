"""Makes records of drained events: in time order, with their unique, channel and server, whole columns at a time.

| event | record |
|---|---|
| SEND, READ | to the server |
| END | to the kernel; none when nobody was to answer (NOTIFY_REPLY) |
| END of what nobody answered | to the kernel, flag ABORTED: the error is the kernel's, not the server's |
| END with unique 0 | none: the request was refused before it had a number, and its SEND, if any, is none either |
| WRITE | to the kernel; a refused one has the flag REJECTED |
| DELIVER | to the server, flag DELIVERED, when wanted |
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tracer.bridges.ebpf.channels import Begins, ChannelOf, Channels
from tracer.bridges.ebpf.event import EVENT, EVENT_BYTES, Flag, Kind
from tracer.bridges.ebpf.joining import (
    BACKGROUND,
    DELIVER,
    END,
    NO_REPLY,
    RING_FULL,
    SEND,
    WRITE,
    Joiner,
    UniqueOf,
    before_effects,
)
from tracer.bridges.ebpf.losses import Losses
from tracer.bridges.ebpf.ring import LIMIT_BYTES, Drained
from tracer.records import BridgeKind, Direction, Gap, RecordColumns, RecordFlag
from tracer.store.packing import windows

Events = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

HOLD_NS: Final = (
    2_000_000  # an event is numbered in time before it is copied: 1 MiB takes 0.3 ms, a preempted vCPU more
)
HELD_BYTES: Final = 16 << 20
DELIVERED_BYTES: Final = 16
_TO_KERNEL: Final = np.zeros(256, np.uint8)
_TO_KERNEL[[Kind.END, Kind.WRITE]] = Direction.TO_KERNEL
_RECORD_FLAGS: Final = np.zeros(256, np.uint16)  # by event flags; the other ENDs that got no reply are no records
for _bits in range(256):
    _RECORD_FLAGS[_bits] |= RecordFlag.SPLICED if _bits & Flag.SPLICED else 0
    _RECORD_FLAGS[_bits] |= RecordFlag.ABORTED if _bits & Flag.NO_REPLY else 0
_IS_KNOWN: Final = np.zeros(256, np.bool_)
_IS_KNOWN[list(Kind)] = True


class Source(Protocol):
    """What events are drained from: a Ring."""

    def pending(self) -> int:
        """Return how many bytes wait."""
        ...

    def drain(self, limit_bytes: int, room: int) -> Drained:
        """Return a copy of what is committed, after `room` bytes."""
        ...


class Batch(NamedTuple):
    """What came of one drain."""

    records: RecordColumns
    gaps: list[Gap]


class Batches:
    """Drains a ring into batches of records. Events that are too new to be in order, or lack their unique, wait."""

    def __init__(
        self,
        source: Source,
        channel_of: ChannelOf,
        *,
        clock_offset_ns: int,
        begins: Begins | None = None,
        unique_of: UniqueOf | None = None,
        delivered: bool = False,
        hold_ns: int = HOLD_NS,
    ) -> None:
        """`channel_of(connection, s_dev)` is asked once for each pair; a negative answer: those are not wanted.
        `begins` is told of each INIT: what had its number before is no more, and is asked about anew.

        `clock_offset_ns` is what to add to CLOCK_MONOTONIC. `unique_of(req, opcode, nodeid)` tells the unique of a
        request that is still open, None when it is no more; needed on kernels that number requests after SEND.
        """
        self.never_sent = 0  # requests the kernel refused before they had a unique
        self.unnumbered = 0  # requests whose unique was never learnt; it is 0 in the record
        self.unknown = 0  # events of a kind this version does not know
        self.cut = 0  # messages of which only the head found room in the ring
        self._source = source
        self._channels = Channels(channel_of, begins)
        self._offset_ns = clock_offset_ns
        self._joiner = Joiner(unique_of)
        self._delivered = delivered
        self._hold_ns = hold_ns
        self._losses = Losses(clock_offset_ns)
        self._servers = np.zeros(1 << 16, np.uint32)  # last known process of each channel
        self._has_server = np.ones(1 << 16, np.bool_)
        self._held = _NOTHING

    @property
    def held_bytes(self) -> int:
        """How much of what was drained waits."""
        return len(self._held.content)

    @property
    def lost(self) -> int:
        """How many events are known to be lost: what the gaps' counts amount to."""
        return self._losses.reported

    def take(self, now_ns: int, limit_bytes: int = LIMIT_BYTES) -> Batch:
        """Drain once and return what is in order by now. `now_ns`: CLOCK_MONOTONIC, read before the call."""
        drained = self._source.drain(limit_bytes, self.held_bytes)
        return self._taken(drained, now_ns, is_behind=self._source.pending() > 0)

    def finish(self, made: npt.NDArray[np.uint64] | None = None) -> Batch:
        """Return all that waits, once nothing is added any more and take() has drained everything.

        `made`: how many events each CPU made, by the programs' own count; the rest of what is lost becomes a gap.
        """
        batch = self._taken(self._source.drain(0, self.held_bytes), None, is_behind=False)
        return Batch(batch.records, batch.gaps + self._losses.at_end(made))

    def _taken(self, drained: Drained, now_ns: int | None, *, is_behind: bool) -> Batch:
        content, at, size = drained
        content[: self.held_bytes] = self._held.content
        held_count = len(self._held.at)
        at, size = np.concatenate((self._held.at, at)), np.concatenate((self._held.size, size))
        events = _events(content, at)
        gaps = self._losses.found(events[held_count:])
        np.minimum(events["kept"], size - EVENT_BYTES, out=events["kept"], casting="unsafe")
        keep, horizon_ns = self._chosen(events, content, at, now_ns, is_behind)
        self._channels.look_ahead(events, content, at)
        order_ns, is_moved = before_effects(events, content, at)
        is_ripe = order_ns <= horizon_ns
        self._held = _NOTHING if bool(is_ripe.all()) else _from(content, at[~is_ripe], size[~is_ripe])
        keep &= is_ripe
        self._count(events[is_ripe & ~keep])
        rows = _in_order(order_ns, is_moved, np.flatnonzero(keep))
        events, at, t_ns = events[rows], at[rows], order_ns[rows]
        channel = self._channels.of(events, content, at)
        wanted = channel >= 0
        if not wanted.all():
            events, at, t_ns, channel = events[wanted], at[wanted], t_ns[wanted], channel[wanted]
        return Batch(self._records(content, at, events, t_ns, channel), gaps)

    def _chosen(
        self, events: Events, content: npt.NDArray[np.uint8], at: Rows, now_ns: int | None, is_behind: bool
    ) -> tuple[Mask, int]:
        """Give SENDs their unique; tell which events are records, and up to which time they are complete."""
        kind = events["kind"]
        keep = _IS_KNOWN[kind]
        if not self._delivered:
            keep &= kind != DELIVER
        is_silent = (kind == END) & (events["flags"] & NO_REPLY != 0)
        is_silent &= (events["error"] == 0) | (events["unique"] == 0)
        keep &= ~is_silent
        horizon_ns = _NO_END if now_ns is None else now_ns - self._hold_ns
        if is_behind and len(events):  # what is still in the ring may be as old as the newest that came
            horizon_ns = min(horizon_ns, int(events["t_ns"].max()) - self._hold_ns)
        waits = now_ns is not None
        if len(content) > HELD_BYTES + LIMIT_BYTES:
            waits, horizon_ns = False, _NO_END
        is_unnumbered = (kind == SEND) & (events["unique"] == 0)
        if is_unnumbered.any():
            joined = self._joiner.join(events, content, at, is_unnumbered, now_ns, is_behind=is_behind, waits=waits)
            keep[joined.never_sent] = False
            horizon_ns = min(horizon_ns, joined.open_since_ns - 1)
        return keep, horizon_ns

    def _count(self, left_out: Events) -> None:
        """Count what became no record."""
        self.unknown += int(np.count_nonzero(~_IS_KNOWN[left_out["kind"]]))
        is_refused = (left_out["kind"] == END) & (left_out["error"] != 0)
        self.never_sent += int(np.count_nonzero(is_refused))

    def has_no_server(self, channel: int) -> None:
        """Say that a channel's server is no process of this kernel (virtiofs): whoever ends its requests is none."""
        self._has_server[channel] = False

    def _records(
        self, content: npt.NDArray[np.uint8], at: Rows, events: Events, t_ns: Rows, channel: Rows
    ) -> RecordColumns:
        kind, error, event_flags = events["kind"], events["error"], events["flags"]
        start, length, wire_len = at + EVENT_BYTES, events["kept"].astype(np.int64), events["wire_len"].copy()
        flags = _RECORD_FLAGS[event_flags]
        is_aborted = event_flags & NO_REPLY != 0
        result = np.where(kind == WRITE, np.minimum(error, 0), 0).astype(np.int32)
        flags[result < 0] |= np.uint16(RecordFlag.REJECTED)
        rows = np.flatnonzero(kind == DELIVER)
        if len(rows):
            flags[rows] |= np.uint16(RecordFlag.DELIVERED)
            start[rows] -= DELIVERED_BYTES
            length[rows] = wire_len[rows] = DELIVERED_BYTES
            _lay_out_delivered(content, start[rows], events[rows])
        is_send = kind == SEND
        self.unnumbered += int(np.count_nonzero(is_send & (events["unique"] == 0)))
        self.cut += int(np.count_nonzero(event_flags & RING_FULL))
        has_caller = is_send & (event_flags & BACKGROUND == 0)
        by_server = ~(is_send | is_aborted) & self._has_server[channel]
        return RecordColumns(
            content.data,
            start,
            length,
            t_ns=t_ns + self._offset_ns,
            channel=channel.astype(np.uint16),
            direction=_TO_KERNEL[kind],
            wire_len=wire_len,
            bridge=np.broadcast_to(np.uint8(BridgeKind.EBPF), len(events)),
            flags=flags,
            server_pid=self._servers_of(channel, events["tgid"], by_server),
            server_tid=np.where(by_server, events["tid"], np.uint32(0)),
            comm=np.where(has_caller, events["comm"], np.bytes_(b"")).astype("S16"),
            queue=events["queue"].copy(),
            desc_head=events["s_dev"].copy(),
            result=result,
        )

    def _servers_of(self, channel: Rows, tgid: npt.NDArray[np.uint32], by_server: Mask) -> npt.NDArray[np.uint32]:
        """Return the server's process: who did it, or whom that channel's requests went to last."""
        before = self._servers[channel]
        self._servers[channel[by_server]] = tgid[by_server]
        known = np.where(before != 0, before, self._servers[channel])
        return np.where(by_server, tgid, known)


_NO_END: Final = 2**63 - 1
_NOTHING: Final = Drained(np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64))


def _events(content: npt.NDArray[np.uint8], at: Rows) -> Events:
    """Return a copy of the headers."""
    return windows(content, EVENT_BYTES)[at].view(EVENT) if len(at) else np.empty(0, EVENT)


def _from(content: npt.NDArray[np.uint8], at: Rows, size: Rows) -> Drained:
    """Return the part of `content` from the first of these events on; a view, as it is copied into the next drain."""
    first = int(at.min())
    return Drained(content[first:], at - first, size)


def _in_order(order_ns: Rows, is_moved: Mask | None, rows: Rows) -> Rows | slice:
    """Return the rows by time, those moved to the time of another event before it."""
    times = order_ns[rows]
    if is_moved is not None:
        return rows[np.lexsort((~is_moved[rows], times))]
    if (times[1:] < times[:-1]).any():
        return rows[np.argsort(times, kind="stable")]
    # A slice takes nothing apart.
    is_run = len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows)
    return slice(int(rows[0]), int(rows[-1]) + 1) if is_run else rows


def _lay_out_delivered(content: npt.NDArray[np.uint8], start: Rows, events: Events) -> None:
    """Write {length, opcode 0, unique} into the end of each event's own header, which was copied out before."""
    message = np.zeros(len(events), [("len", "<u4"), ("opcode", "<u4"), ("unique", "<u8")])
    message["len"], message["unique"] = events["wire_len"], events["unique"]
    target: Any = windows(content, DELIVERED_BYTES)
    target[start] = message.view(f"V{DELIVERED_BYTES}")
