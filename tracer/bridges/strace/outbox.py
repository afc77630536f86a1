"""From the parsers to the sink: in time order, in batches, with the channels resolved."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from tracer.bridges.framing import OUT_HEADER_SIZE
from tracer.bridges.strace.assembler import OF_ONE_LINE, SPLICED, Loss
from tracer.bridges.strace.channels import ChannelBook
from tracer.records import Direction, Gap, RawRecord, Sink

_BY_TIME: Final = itemgetter(0)
WINDOW: Final = 16384  # records held by an import, so that lines printed late find their place


@dataclass(slots=True)
class StraceStats:
    """What a run of the bridge has seen."""

    lines: int = 0
    messages: int = 0
    bytes_lost: int = 0
    unparsed_lines: int = 0
    gaps: int = 0


class Outbox:
    """Holds records until no earlier one can come, then hands them to the sink.

    A write is stamped when it was entered and printed when it returned; records of other threads may be printed in
    between. Writes to the device return in microseconds, so a short window puts everything in order. One that took
    longer than the window is given the time of the last record handed over.
    """

    def __init__(self, sink: Sink, book: ChannelBook, stats: StraceStats) -> None:
        self.longest_cut = 0  # bytes strace kept of a long string, as far as known when channels are announced
        self._sink = sink
        self._book = book
        self._stats = stats
        self._pending: list[RawRecord] = []
        self._losses: list[Loss] = []
        self._last_ns = 0

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits to be handed over."""
        return bool(self._pending or self._losses)

    def take(self, records: Iterable[RawRecord], losses: Iterable[Loss]) -> None:
        """Take what a parser has finished."""
        self._pending += records
        self._losses += losses

    def flush_half(self) -> None:
        """Hand over the older half when the window is full (import)."""
        if len(self._pending) >= WINDOW:
            self._flush(len(self._pending) - WINDOW // 2)

    def flush_before(self, t_ns: int) -> None:
        """Hand over what is older than `t_ns` (live)."""
        if self._pending or self._losses:
            self._sort()
            self._flush(bisect_left(self._pending, t_ns, key=_BY_TIME))

    def flush(self) -> None:
        """Hand over everything."""
        self._flush(len(self._pending))

    def _sort(self) -> None:
        self._pending.sort(key=_BY_TIME)  # stable: records of one instant keep the order in which they were printed

    def _flush(self, count: int) -> None:
        self._sort()
        if self._book.has_unresolved:
            self.longest_cut = self._longest_cut()
        self._pending = self._book.resolve(self._pending, self._sink)
        batch, self._pending = self._pending[:count], self._pending[count:]
        if batch:
            self._hand_over(batch)
        losses, self._losses = self._losses, []
        for loss in losses:
            self._tell(loss)

    def _longest_cut(self) -> int:
        cut = [r for r in self._pending if r.wire_len > len(r.data) and not r.flags & SPLICED]
        requests = [len(r.data) for r in cut if r.direction is Direction.TO_SERVER]
        # A reply is written as a header and a body, and strace cuts each string by itself.
        return max(requests or [len(r.data) - OUT_HEADER_SIZE for r in cut], default=0)

    def _hand_over(self, batch: list[RawRecord]) -> None:
        if batch[0].t_ns < self._last_ns:
            batch = [r if r.t_ns >= self._last_ns else r._replace(t_ns=self._last_ns) for r in batch]
        self._last_ns = batch[-1].t_ns
        self._book.remember(batch)
        stats = self._stats
        stats.messages += len(batch)
        stats.bytes_lost += sum([record.wire_len - len(record.data) for record in batch])
        self._sink.records(batch)

    def _tell(self, loss: Loss) -> None:
        self._stats.gaps += 1
        channel = loss.stream.channel if loss.stream is not None and loss.stream.channel >= 0 else -1
        where = f" (line {loss.line_number})" if loss.reason in OF_ONE_LINE else ""
        self._sink.gap(Gap(loss.t_ns, channel, loss.count, loss.reason + where))
