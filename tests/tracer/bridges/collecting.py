"""A sink that keeps everything, and the ways tests look at what it got."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from tracer.bridges.strace import StraceLog, StraceStats
from tracer.errors import TraceFileError
from tracer.records import ChannelInfo, Direction, Gap, RawRecord, RecordFlag

LOGS = Path(__file__).parents[2] / "data" / "strace"


class Collected:
    """Keeps what a bridge hands over, and checks the promises of `Sink` while it does."""

    def __init__(self) -> None:
        self.channels: list[ChannelInfo] = []
        self.all: list[RawRecord] = []
        self.gaps: list[Gap] = []
        self.stats = StraceStats()
        self._changed = threading.Condition()

    def channel(self, info: ChannelInfo) -> int:
        self.channels.append(info)
        return len(self.channels) - 1

    def records(self, batch: Sequence[RawRecord]) -> None:
        assert batch, "a batch is never empty"
        times = [record.t_ns for record in self.all[-1:] + list(batch)]
        assert times == sorted(times), "records come in time order"
        assert all(0 <= record.channel < len(self.channels) for record in batch), "channels are announced first"
        assert all(len(record.data) <= record.wire_len for record in batch)
        with self._changed:
            self.all += batch
            self._changed.notify_all()

    def gap(self, gap: Gap) -> None:
        assert -1 <= gap.channel < len(self.channels)
        self.gaps.append(gap)

    def wait_for(self, wanted: int, timeout_s: float = 20) -> bool:
        """Wait until there are `wanted` records."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.all) >= wanted, timeout_s)

    @property
    def requests(self) -> list[RawRecord]:
        return [record for record in self.all if record.direction is Direction.TO_SERVER]

    @property
    def replies(self) -> list[RawRecord]:
        return [record for record in self.all if record.direction is Direction.TO_KERNEL]

    @property
    def bytes_lost(self) -> int:
        return sum(record.wire_len - len(record.data) for record in self.all)


def import_log(path: Path) -> Collected:
    """Import a log; one without any message gives nothing instead of an error."""
    collected = Collected()
    log = StraceLog(path)
    try:
        log.run(collected, threading.Event())
    except TraceFileError:
        assert not collected.all
    collected.stats = log.stats
    return collected


def unique(record: RawRecord) -> int:
    return int.from_bytes(record.data[8:16], "little")


def opcode(record: RawRecord) -> int:
    return int.from_bytes(record.data[4:8], "little")


def orphans(collected: Collected) -> list[RawRecord]:
    """Return accepted replies that no earlier request of their channel asked for."""
    asked: set[tuple[int, int]] = set()
    found = []
    for record in collected.all:
        if record.direction is Direction.TO_SERVER:
            asked.add((record.channel, unique(record)))
        elif (
            unique(record) and not record.flags & RecordFlag.REJECTED and (record.channel, unique(record)) not in asked
        ):
            found.append(record)
    return found


def missing_uniques(collected: Collected, channel: int) -> list[int]:
    """Return the uniques that the kernel must have given out between the first request of a channel and the last.

    It steps by 2, and an INTERRUPT borrows the number of what it interrupts, plus one.
    """
    seen = {unique(r) & ~1 for r in collected.requests if r.channel == channel}
    return sorted(set(range(min(seen), max(seen) + 2, 2)) - seen)
