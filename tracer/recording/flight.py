"""The flight recorder: keeps the last seconds in memory and writes them down when something matches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tracer.errors import TraceFileError
from tracer.filters.filter import Filter
from tracer.output.lines import Lines
from tracer.output.style import byte_count, clock, counted, duration
from tracer.recording.batches import packed, time_of
from tracer.recording.channels import ChannelList
from tracer.recording.lookout import Lookout
from tracer.recording.ring import Piece, Ring
from tracer.recording.series import Series
from tracer.records import ChannelInfo, Gap, RawRecord
from tracer.store.writer import TraceWriter
from tracer.trace.columns import Rows

LAG_NS = 2 * 10**9  # kept longer than asked: what matches is found a moment later
PACE_S = 0.2
AT_ONCE_BYTES = 16 << 20  # evaluated in one step
PIECE_RECORDS = 4096
SHOWN_MATCHES, SHOWN_MISSES = 3, 3


@dataclass(frozen=True, slots=True)
class Window:
    """How much is kept: so long before a match and after it, in memory of at most so many bytes."""

    before_ns: int = 30 * 10**9
    after_ns: int = 10 * 10**9
    most_bytes: int = 256 << 20


class FlightRecorder:
    """A Sink that writes a file when an exchange passes `filter`. A context manager, which runs the evaluation.

    Who records only packs records and appends them to a ring; a thread of its own evaluates and writes. A failure of
    that thread calls `on_failure`, and is raised from the next call of the recording one.
    """

    def __init__(
        self,
        series: Series,
        filter: Filter,
        window: Window,
        *,
        say: Callable[[str], None],
        on_failure: Callable[[], None],
    ) -> None:
        self.series = series
        self.record_count = self.gap_count = self.lost_count = self.match_count = self.missed_count = 0
        self._window, self._say, self._on_failure = window, say, on_failure
        self._channels = ChannelList()
        self._ring = Ring(window.before_ns + LAG_NS, window.most_bytes)
        self._lookout = Lookout(filter, self._channels.described)
        self._next_piece = self._miss_count = 0
        self._output: _Output | None = None
        self._failure: BaseException | None = None
        self._was_raised = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trigger", daemon=True)

    @property
    def path(self) -> Path:
        """What the files are named after."""
        return self.series.path

    # ---- the recording thread --------------------------------------------------------------------------------------

    def channel(self, info: ChannelInfo) -> int:
        """Take note of a channel; return its number."""
        self._channels.add(info)
        return len(self._channels) - 1

    def records(self, batch: Sequence[RawRecord]) -> None:
        """Keep a batch for a while."""
        self._check()
        self._channels.look(batch)
        for start in range(0, len(batch), PIECE_RECORDS):
            part = batch[start : start + PIECE_RECORDS]
            content, counts = packed(part)
            self._add(time_of(part, 0), time_of(part, len(part) - 1), content, counts)
        self.record_count += len(batch)

    def gap(self, gap: Gap) -> None:
        """Keep a loss for a while, among the records."""
        if not len(self._channels):
            self.channel(ChannelInfo(name="unknown"))
        self.gap_count += 1
        self.lost_count += gap.count
        self._add(gap.t_ns, gap.t_ns, b"", {}, gap)

    def _add(self, first_ns: int, last_ns: int, content: bytes, counts: dict[int, int], gap: Gap | None = None) -> None:
        self._ring.add(Piece(self._next_piece, first_ns, last_ns, content, counts, gap))
        self._next_piece += 1

    def _check(self) -> None:
        if self._failure is not None and not self._was_raised:
            self._was_raised = True
            raise self._failure

    # ---- the evaluating thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            is_behind = False
            while not self._end.wait(0 if is_behind else PACE_S):
                is_behind = self.step(time.time_ns())
        except BaseException as failure:
            self._failure = failure
            self._on_failure()

    def step(self, now_ns: int) -> bool:
        """Evaluate what came since the last step, as of `now_ns`; tell whether there is more of it."""
        pieces = self._ring.take(AT_ONCE_BYTES)
        self._tell_missed(now_ns)
        if pieces:
            self._lookout.feed(pieces)
            if self._output is not None:
                self._output.add(pieces)
        hits = self._lookout.matches(now_ns)
        if len(hits):
            self._matched(hits, pieces, now_ns)
        if self._output is not None and now_ns >= self._output.until_ns:
            self._finish()
        return sum(piece.size for piece in pieces) >= AT_ONCE_BYTES

    def _tell_missed(self, now_ns: int) -> None:
        missed = self._ring.missed_count - self.missed_count
        if not missed:
            return
        self.missed_count += missed
        self._miss_count += 1
        self._lookout.forget()
        if self._miss_count <= SHOWN_MISSES:
            self._say(f"the evaluation fell behind: {counted(missed, 'record')} went by without a look")
        if self._output is not None:
            reason = "memory was full before they could be written"
            self._output.writer.gap(Gap(now_ns, -1, missed, reason))

    def _matched(self, hits: Rows, pieces: list[Piece], now_ns: int) -> None:
        self.match_count += len(hits)
        if self._output is None:
            self._say_matches(hits)
            self._output = self._begun(hits, pieces)
        self._output.match_count += len(hits)
        self._output.until_ns = now_ns + self._window.after_ns

    def _say_matches(self, hits: Rows) -> None:
        shown, trace = hits[:SHOWN_MATCHES], self._lookout.trace
        lines = Lines(trace)
        for line, pending_ns in zip(map(lines.line, shown.tolist()), trace.pending_ns(shown).tolist(), strict=True):
            waits = f"(waits for {duration(pending_ns)})" if pending_ns >= 0 else ""
            words = (line.time, line.opcode, line.path, line.what, line.who, waits)
            self._say("match: " + " ".join(filter(None, words)))
        if len(hits) > SHOWN_MATCHES:
            self._say(f"and {len(hits) - SHOWN_MATCHES} more")

    def _begun(self, hits: Rows, latest: list[Piece]) -> _Output:
        """Begin a file with what memory holds of the time before, and the `latest` pieces."""
        asked_ns, reached_ns = self._lookout.times_ns(hits)
        held = self._ring.since(asked_ns - self._window.before_ns)
        # The latest may have had to go from memory meanwhile.
        pieces = [piece for piece in held if not latest or piece.number < latest[0].number] + latest
        first_piece = pieces[0].number if pieces else self._next_piece
        older = self._lookout.older_records(hits, first_piece)
        begin_ns = min([piece.first_ns for piece in pieces[:1]] + [record.t_ns for record in older], default=asked_ns)
        self.series.make_room()
        infos = self._channels.described(begin_ns)
        output = _Output(self.series.begin(infos, begin_ns), self._channels, len(infos))
        self._say(f"writing {output.writer.path}")
        if self._ring.dropped_ns > reached_ns - self._window.before_ns:
            kept_ns = max(0, reached_ns - pieces[0].first_ns) if pieces else 0
            full = f"the {byte_count(self._window.most_bytes)} of memory were full"
            self._say(f"of the {duration(self._window.before_ns)} before it {duration(kept_ns)} are there: {full}")
        output.writer.records(older)
        output.add(pieces)
        return output

    def _finish(self) -> None:
        assert self._output is not None
        output, self._output = self._output, None
        output.writer.close()
        what = f"{matches(output.match_count)} and {counted(output.writer.record_count, 'record')}"
        self._say(f"{what} in {output.writer.path}, until {clock(time.time_ns())}")

    # ---- beginning and end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Evaluate what is left, complete the file that is being written, and raise what went wrong meanwhile."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            while self._failure is None and self.step(time.time_ns()):
                pass
            if self._output is not None:
                self._finish()
        except TraceFileError as failure:
            self._failure = self._failure or failure
        finally:
            self._lookout.close()
        self._check()

    def __enter__(self) -> FlightRecorder:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def matches(count: int) -> str:
    """Say how many matches there are."""
    return "1 match" if count == 1 else f"{count} matches"


class _Output:
    """A file that is being written."""

    def __init__(self, writer: TraceWriter, channels: ChannelList, channel_count: int) -> None:
        """`channel_count` of the channels are described in it already."""
        self.writer = writer
        self.until_ns = self.match_count = 0
        self._channels, self._channel_count = channels, channel_count

    def add(self, pieces: Sequence[Piece]) -> None:
        """Write pieces, and the channels they are the first to need."""
        for piece in pieces:
            if max(piece.counts, default=-1) >= self._channel_count:
                infos = self._channels.described(piece.first_ns)
                for info in infos[self._channel_count :]:
                    self.writer.channel(info)
                self._channel_count = len(infos)
            if piece.gap is not None:
                self.writer.gap(piece.gap)
            if piece.counts:
                self.writer.blocks(piece.content, piece.counts)
