"""What a trace shows to be lost: uniques that never came, listings that were cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracer.records import ChannelInfo, RecordFlag
from tracer.trace.columns import Array, Kind, Table, sorted_distinct
from tracer.trace.events import READDIRPLUS
from tracer.trace.pairing import NOTIFY_REPLY

UNIQUE_STEP = 2  # since Linux 4.20 the kernel counts requests in twos (FUSE_REQ_ID_STEP in fs/fuse/fuse_i.h)


@dataclass(frozen=True, slots=True)
class MissingUniques:
    """Uniques that never came: requests that may have been lost, or that ended before the server read them."""

    channel: int
    count: int
    ranges: tuple[tuple[int, int], ...]  # first and last missing unique, the first few ranges


def cut_listings(table: Table, channel: int | None = None) -> int:
    """Count READDIRPLUS replies of which the end was not kept; of one channel, or of all."""
    cut = (table["opcode"] == READDIRPLUS) & (table["kind"] == Kind.REPLY) & (table["kept"] < table["wire_len"])
    if channel is not None:
        cut &= table["channel"] == channel
    return int(cut.sum())


def cut_short(table: Table, channels: Sequence[ChannelInfo], rows: slice) -> int:
    """Count records of which less was kept than was asked for: the ring was full. Spliced content is another matter."""
    snap = np.array([info.snap_bytes or 1 << 32 for info in channels], dtype=np.int64)
    if not len(snap):
        return 0
    kept, wire_len = table["kept"][rows], table["wire_len"][rows]
    cut = np.flatnonzero(kept < wire_len)
    wanted = np.minimum(wire_len[cut], snap[table["channel"][rows][cut]])
    is_spliced = (table["flags"][rows][cut] & int(RecordFlag.SPLICED)) != 0
    return int(((kept[cut] < wanted) & ~is_spliced).sum())


def missing_uniques(table: Table, channels: int) -> list[MissingUniques]:
    """Report gaps in the uniques of each channel (fuse_get_unique() counts without a hole)."""
    is_own = (table["kind"] == Kind.REQUEST) & (table["opcode"] != NOTIFY_REPLY) & (table["unique"] != 0)
    found = []
    for channel in range(channels):
        unique = sorted_distinct(table["unique"][is_own & (table["channel"] == channel)] & np.uint64(2**63 - 1))
        gap = _missing(channel, unique)
        if gap is not None:
            found.append(gap)
    return found


def _missing(channel: int, unique: Array) -> MissingUniques | None:
    even = unique[unique % np.uint64(2) == 0]
    step = UNIQUE_STEP if len(even) * 2 > len(unique) else 1
    unique = even if step == UNIQUE_STEP else unique
    if len(unique) < 2:
        return None
    jumps = np.diff(unique)
    holes = np.flatnonzero(jumps > np.uint64(step))
    if not len(holes):
        return None
    count = int((jumps[holes] // np.uint64(step) - np.uint64(1)).sum())
    ranges = tuple((int(unique[hole]) + step, int(unique[hole + 1]) - step) for hole in holes[:8].tolist())
    return MissingUniques(channel, count, ranges)
