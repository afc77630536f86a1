"""A recording that ends by itself: after so many records, so many bytes, or so long."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType

from tracer.recording.batches import fitting
from tracer.recording.limits import Limit, Unit
from tracer.records import ChannelInfo, Gap, RawRecord, Sink


class StopAfter:
    """A Sink that passes on no more than `limit` allows and then sets `stop`. A context manager, for its clock.

    Bytes are those that records take in a trace.
    """

    def __init__(self, sink: Sink, limit: Limit, stop: threading.Event) -> None:
        self.was_reached = False
        self._sink, self._limit, self._stop = sink, limit, stop
        self._left = limit.amount
        self._timer: threading.Timer | None = None
        if limit.unit is Unit.NS:
            self._timer = threading.Timer(limit.amount / 1e9, self._reach)
            self._timer.daemon = True

    def channel(self, info: ChannelInfo) -> int:
        """Pass a channel on."""
        return self._sink.channel(info)

    def gap(self, gap: Gap) -> None:
        """Pass a loss on."""
        self._sink.gap(gap)

    def records(self, batch: Sequence[RawRecord]) -> None:
        """Pass on what is allowed; what comes after the end was not asked for."""
        if self._limit.unit is Unit.NS:
            self._sink.records(batch)
            return
        kept, size = self._allowed(batch)
        if kept and not self.was_reached:
            self._sink.records(batch if kept == len(batch) else batch[:kept])
        self._left -= size
        if kept < len(batch) or not self._left:
            self._reach()

    def _allowed(self, batch: Sequence[RawRecord]) -> tuple[int, int]:
        """Return how many records are allowed, and how much of the limit they take."""
        if self._limit.unit is Unit.RECORDS:
            kept = min(len(batch), self._left)
            return kept, kept
        return fitting(batch, 0, self._left)

    def _reach(self) -> None:
        self.was_reached = True
        self._stop.set()

    def __enter__(self) -> StopAfter:
        if self._timer is not None:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
