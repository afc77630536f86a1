"""Evaluates a filter on a dialogue as it goes on, over the ordinary machinery of traces, in bounded memory.

Records are appended to a trace in memory (memfd), which `Trace.refresh` indexes. When it is long enough, another one
takes its place; requests that still wait are carried over with their times, so that their replies find them, and so are
the latest records that gave or took names, as many as an eighth of the memory holds: paths are known from those.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dissectors.opcodes import OPS_BY_NAME
from tracer.filters.filter import Filter
from tracer.recording.ring import Piece
from tracer.records import ChannelInfo, RawRecord
from tracer.store.prefix import FUSE_AT
from tracer.store.writer import TraceWriter
from tracer.trace.columns import Array, CodeSet, Kind, Rows
from tracer.trace.events import ENTRY_OPS, FORGET, READDIRPLUS, REMOVALS, RENAMES
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

MOST_BYTES = 32 << 20  # of one trace in memory
AFTER_ALL_NS = 1 << 62  # whatever INIT agreed on was before
MOST_CARRIED_BYTES = 64 << 20  # of requests that wait; of more the newest are carried over

_NAMING = CodeSet((*ENTRY_OPS, READDIRPLUS, *REMOVALS, *RENAMES))
_FORGETTING = CodeSet((FORGET, OPS_BY_NAME["BATCH_FORGET"].code))


class Lookout:
    """Feed it pieces, ask it for matches. `described` returns the channels met so far, for a time to begin at."""

    def __init__(
        self, filter: Filter, described: Callable[[int], Sequence[ChannelInfo]], most_bytes: int = MOST_BYTES
    ) -> None:
        self._filter, self._described, self._most_bytes = filter, described, most_bytes
        self._fd = -1
        self._begin(0, b"", {}, [])
        self._told: set[int] = set()  # exchanges that matched while they waited

    def _begin(self, begin_ns: int, content: bytes, counts: Mapping[int, int], pieces: list[int]) -> None:
        """Begin a trace with records carried over: their blocks, and the piece that each of them came with."""
        fresh = os.memfd_create("fusewire-lookout")
        path = Path(f"/proc/self/fd/{fresh}")
        writer = TraceWriter(path)
        self.close()
        self._fd, self._writer = fresh, writer
        self._channel_count = 0
        self._announce(begin_ns, None)
        writer.blocks(content, counts)
        self.trace = Trace.open(path)
        self._open: Rows = np.empty(0, np.int64)
        self._seen = self.trace.exchange_count
        self._rows, self._pieces = list(range(len(pieces))), pieces  # the first row of each piece, and its number

    def _announce(self, begin_ns: int, channels: Iterable[int] | None) -> None:
        """Describe all channels, or those that `channels` need."""
        if channels is not None and max(channels, default=-1) < self._channel_count:
            return
        infos = self._described(begin_ns)
        for info in infos[self._channel_count :]:
            self._writer.channel(info)
        self._channel_count = len(infos)

    def feed(self, pieces: Sequence[Piece]) -> None:
        """Take in what was recorded."""
        if self._writer.size > self._most_bytes:
            self._begin_anew(pieces[0].first_ns)
        row = self._writer.record_count
        for piece in pieces:
            if not piece.counts:
                continue
            self._announce(piece.first_ns, piece.counts)
            self._writer.blocks(piece.content, piece.counts)
            self._rows.append(row)
            self._pieces.append(piece.number)
            row += piece.record_count
        self.trace.refresh()

    def _begin_anew(self, begin_ns: int) -> None:
        trace = self.trace
        waiting_rows = latest_rows(trace, trace.first_rows[self._open].astype(np.int64), MOST_CARRIED_BYTES)
        waiting = self._open[len(self._open) - len(waiting_rows) :]
        rows = np.union1d(waiting_rows, naming_rows(trace, self._most_bytes // 8))
        channels = np.bincount(trace.records["channel"][rows]).tolist() if len(rows) else []
        counts = {channel: count for channel, count in enumerate(channels) if count}
        told = np.isin(waiting, list(self._told))
        self._begin(begin_ns, _blocks(trace, rows), counts, [self._piece_of(row) for row in rows.tolist()])
        self._open = np.searchsorted(self.trace.first_rows, np.searchsorted(rows, waiting_rows))
        self._told = set(self._open[told].tolist())
        vars(trace).clear()  # it refers to itself: its memory, which is large, would wait for the garbage collector

    def forget(self) -> None:
        """Begin anew without the requests that wait: some records were missed, perhaps the replies to them."""
        vars(self.trace).clear()
        self._begin(AFTER_ALL_NS, b"", {}, [])
        self._told = set()

    def matches(self, now_ns: int) -> Rows:
        """Return the exchanges that pass the filter now and were not returned before.

        Asked are those that are new, were answered, or wait: one may match while it waits, and again once answered.
        """
        trace = self.trace
        trace.now_ns = now_ns
        new = np.arange(self._seen, trace.exchange_count, dtype=np.int64)
        asked = np.concatenate([self._open, new])
        self._seen = trace.exchange_count
        waits: Array = trace.states(asked) == State.PENDING.value
        self._open = asked[waits]
        passing = self._filter.mask(trace, asked) if len(asked) else np.zeros(0, np.bool_)
        hits = asked[passing & ~(waits & np.isin(asked, list(self._told)))]
        self._told &= set(self._open.tolist())
        self._told.update(asked[passing & waits].tolist())
        return hits

    def times_ns(self, numbers: Rows) -> tuple[int, int]:
        """Return when the first of these exchanges began, and when the first of them came to what it is now."""
        trace = self.trace
        first = trace.first_rows[numbers]
        begun = trace.records["t_ns"][first]
        mate = trace.records["mate"][first]
        reached = np.where(mate >= 0, trace.records["t_ns"][np.maximum(mate, 0)], begun)
        if trace.now_ns is not None:
            reached = np.where(trace.states(numbers) == State.PENDING.value, trace.now_ns, reached)
        return int(begun.min()), int(reached.min())

    def older_records(self, numbers: Rows, piece: int) -> list[RawRecord]:
        """Return the records of exchanges, and of all that wait, that came with pieces before `piece`; by time."""
        trace = self.trace
        first = trace.first_rows[np.union1d(numbers, self._open)]
        mates = trace.records["mate"][first]
        rows = np.union1d(first, mates[mates >= 0]).tolist()
        return [trace.record(row) for row in rows if self._piece_of(row) < piece]

    def _piece_of(self, row: int) -> int:
        return self._pieces[bisect_right(self._rows, row) - 1]

    def close(self) -> None:
        """Let the memory go."""
        if self._fd >= 0:
            self._writer.close()
            os.close(self._fd)
            self._fd = -1


def naming_rows(trace: Trace, most_bytes: int) -> Rows:
    """Return the latest records that gave, moved or took names, requests and replies, about `most_bytes` of them."""
    table = trace.records
    kind, opcode, mate = table["kind"], table["opcode"], table["mate"]
    is_naming = (kind == Kind.REPLY) & (mate >= 0) & (table["error"] == 0) & _NAMING.holds(opcode)
    is_naming |= (kind == Kind.REQUEST) & _FORGETTING.holds(opcode)
    rows = latest_rows(trace, np.flatnonzero(is_naming), most_bytes // 2)  # a request is about as long as its reply
    return np.union1d(rows, mate[rows][kind[rows] == Kind.REPLY]).astype(np.int64)


def latest_rows(trace: Trace, rows: Rows, most_bytes: int) -> Rows:
    """Return the last of `rows`, as many as `most_bytes` hold."""
    size = np.cumsum(trace.records["kept"][rows][::-1].astype(np.int64) + FUSE_AT)
    return rows[len(rows) - int(np.searchsorted(size, most_bytes, "right")) :]


def _blocks(trace: Trace, rows: Rows) -> bytes:
    """Return the blocks of records, as they lie in the trace."""
    starts = trace.records["at"][rows].astype(np.int64) - FUSE_AT
    sizes = trace.file.words[(starts >> 2) + 1]
    mapped = trace.file.mapped
    return b"".join([mapped[at : at + size] for at, size in zip(starts.tolist(), sizes.tolist(), strict=True)])
