"""Ring-buffer files: a recording cut into files of a size or a time, each of which opens alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tracer.recording.batches import all_fit, fitting, since, time_of
from tracer.recording.channels import ChannelList
from tracer.recording.limits import Limit, Unit
from tracer.recording.series import Series
from tracer.records import ChannelInfo, Gap, RawRecord
from tracer.store.pcapng import statistics
from tracer.store.writer import TraceWriter

_CLOSING_BYTES = len(statistics(0, 0, b"end of capture", received=0, dropped=0))  # a channel


class RotatingWriter:
    """A Sink that begins another file where the next record does not fit into `limit`. Use as a context manager.

    No record is split or lost: all files' records, one file after another, are those of one long file. A record larger
    than the limit has a file to itself. Time is that of the records: a mount that is silent begins no file. Requests
    are not repeated, so the reply to one of an earlier file stands alone (ORPHAN_REPLY).
    """

    def __init__(self, path: Path, limit: Limit, *, keep: int = 0, command: str = "") -> None:
        self.series = Series(path, keep=keep, command=command)
        self._limit = limit
        self._channels = ChannelList()
        self._begin_ns: int | None = None  # of the first record in the file
        self._before = [0, 0, 0]  # records, gaps and lost records of the files before
        self._writer = self.series.begin([], time.time_ns())

    @property
    def path(self) -> Path:
        """The file that is being written."""
        return self._writer.path

    @property
    def record_count(self) -> int:
        """Records written, into all files."""
        return self._before[0] + self._writer.record_count

    @property
    def gap_count(self) -> int:
        """Losses heard of."""
        return self._before[1] + self._writer.gap_count

    @property
    def lost_count(self) -> int:
        """Records known to be lost."""
        return self._before[2] + self._writer.lost_count

    def channel(self, info: ChannelInfo) -> int:
        """Describe a channel, in this file and all that follow."""
        number = self._writer.channel(info)
        self._channels.add(info)
        return number

    def gap(self, gap: Gap) -> None:
        """Write a loss down where it happened."""
        if not len(self._channels):
            self.channel(ChannelInfo(name="unknown"))
        self._writer.gap(gap)

    def records(self, batch: Sequence[RawRecord]) -> None:
        """Write a batch, in time order, into as many files as it takes."""
        self._channels.look(batch)
        start = 0
        while start < len(batch):
            if self._begin_ns is None:
                self._begin_ns = time_of(batch, start)
                end = max(self._fitting(batch, start), start + 1)
            else:
                end = self._fitting(batch, start)
            if end > start:
                self._writer.records(batch if end - start == len(batch) else batch[start:end])
            if end < len(batch):
                self._next(time_of(batch, end))
            start = end

    def _fitting(self, batch: Sequence[RawRecord], start: int) -> int:
        """Return the place of the first record from `start` on that does not fit into the file."""
        if self._limit.unit is Unit.NS:
            assert self._begin_ns is not None
            return since(batch, self._begin_ns + self._limit.amount, start)
        room = self._limit.amount - self._writer.size - len(self._channels) * _CLOSING_BYTES
        if not start and all_fit(batch, room):
            return len(batch)
        return fitting(batch, start, room)[0]

    def _next(self, begin_ns: int) -> None:
        self.series.make_room()  # first, on a disk that is nearly full
        self._writer.close()
        fresh = self.series.begin(self._channels.described(begin_ns), begin_ns)
        for place, count in enumerate((self._writer.record_count, self._writer.gap_count, self._writer.lost_count)):
            self._before[place] += count
        self._writer, self._begin_ns = fresh, None

    def close(self) -> None:
        """Write the last file's totals and close it."""
        self._writer.close()

    def __enter__(self) -> RotatingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        TraceWriter.__exit__(self._writer, kind, error, trace)
