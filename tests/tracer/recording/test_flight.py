"""The flight recorder: what came before a match and after it is written, from bounded memory, whatever matched."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.tracer.columns_of import columns_of
from tests.tracer.dialogue import GETATTR, READ, START_NS, SYNCFS, WRITE, Dialogue
from tests.tracer.small_disk import small_disk
from tracer.errors import TraceFileError
from tracer.filters import compile_filter
from tracer.recording.channels import INIT_BEFORE
from tracer.recording.flight import FlightRecorder, Window
from tracer.recording.lookout import Lookout
from tracer.recording.ring import PIECE_BYTES, Piece, Ring
from tracer.recording.series import Series
from tracer.records import ChannelInfo, RawRecord
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

SECOND = 10**9
WINDOW = Window(before_ns=5 * SECOND, after_ns=2 * SECOND, most_bytes=4 << 20)


class Flight:
    """A recorder whose evaluation the test steps by hand, and a dialogue with a clock."""

    def __init__(self, folder: Path, text: str, window: Window = WINDOW, *, keep: int = 0) -> None:
        self.said: list[str] = []
        self.failed = threading.Event()
        self.talk = Dialogue([ChannelInfo("/mnt/test")])
        series = Series(folder / "t.pcapng", keep=keep, command="test")
        self.recorder = FlightRecorder(
            series, compile_filter(text), window, say=self.said.append, on_failure=self.failed.set
        )
        self.recorder.channel(self.talk.channels[0])
        self._fed = 0

    def wait(self, seconds: float) -> None:
        self.talk.t_ns += int(seconds * SECOND)

    def feed(self, form: Callable[[Sequence[RawRecord]], Sequence[RawRecord]] = list) -> None:
        """Hand over what was said since the last time."""
        fresh = self.talk.records[self._fed :]
        self._fed += len(fresh)
        if fresh:
            self.recorder.records(form(fresh))

    def until_it_fails(self) -> None:
        self.feed()
        assert self.failed.wait(30)
        self.talk.syncfs()
        self.feed()

    def step(self) -> None:
        self.feed()
        self.recorder.step(self.talk.t_ns)

    def busy(self, seconds: float, *, every: float = 0.1) -> None:
        """Say something every moment, and let the evaluation follow."""
        for _ in range(round(seconds / every)):
            self.wait(every)
            self.talk.talk(GETATTR, 5)
            self.step()


def opened(folder: Path) -> list[Trace]:
    return [Trace.open(path) for path in sorted(folder.iterdir())]


def times(trace: Trace) -> list[float]:
    return [round((t_ns - START_NS) / SECOND, 1) for t_ns in trace.records["t_ns"].tolist()]


def records_of(trace: Trace) -> list[RawRecord]:
    return [trace.record(row) for row in range(trace.records.count)]


def test_a_match_writes_what_came_before_it_and_after_it_and_nothing_else(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS")
    flight.busy(20)
    flight.talk.syncfs()
    flight.step()
    flight.busy(20)
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert trace.file.finished
    assert times(trace)[0] == 15.1
    assert 22.0 <= times(trace)[-1] <= 22.1
    first = flight.talk.records.index(trace.record(0))
    assert records_of(trace) == flight.talk.records[first : first + trace.records.count]
    assert flight.recorder.match_count == 1
    assert any(line.startswith("match: ") and "SYNCFS" in line for line in flight.said)


def test_nothing_matches_nothing_is_written(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS")
    flight.busy(20)
    flight.recorder.close()
    assert list(tmp_path.iterdir()) == []
    assert (flight.recorder.record_count, flight.recorder.match_count) == (400, 0)


def test_a_request_that_is_not_answered_matches_though_nothing_is_heard_any_more(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.pending_for > 3s")
    flight.busy(10)
    flight.talk.ask(READ, 7)
    asked_ns = flight.talk.t_ns
    for _ in range(40):
        flight.wait(0.1)
        flight.step()
    assert len(list(tmp_path.iterdir())) == 1  # written while it hangs, not when it is over
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert (trace.records["t_ns"][-1], trace.state(trace.exchange_count - 1)) == (asked_ns, State.PENDING)
    assert times(trace)[0] <= 5.1  # all that led up to it
    assert "(waits for 3." in flight.said[0]


def test_a_request_older_than_the_window_is_in_the_file_and_its_reply_matches_once_more(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.pending_for > 30s || fuse.latency > 30s")
    unique = flight.talk.ask(READ, 7)
    flight.busy(60)
    flight.talk.answer(unique)
    flight.step()
    flight.busy(10)
    flight.recorder.close()
    hung, answered = opened(tmp_path)
    assert times(hung)[:2] == [0.0, 23.1]  # the window, and what is kept longer because a match is found late
    assert hung.state(0) is State.PENDING
    assert times(answered)[0] == 0.0
    assert answered.state(0) is State.DONE
    assert flight.recorder.match_count == 2


def test_a_request_that_hangs_on_matches_once(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.pending_for > 1s")
    flight.talk.ask(READ, 7)
    flight.busy(60)
    flight.recorder.close()
    assert flight.recorder.match_count == 1
    assert len(opened(tmp_path)) == 1


def test_a_match_while_a_file_is_written_extends_it(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS")
    flight.busy(10)
    for _ in range(3):
        flight.talk.syncfs()
        flight.busy(1.5)
    flight.busy(10)
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert 15.0 <= times(trace)[-1] <= 15.2
    assert [line[:5] for line in flight.said] == ["match", "writi", "3 mat"]
    records = records_of(trace)
    first = flight.talk.records.index(records[0])
    assert records == flight.talk.records[first : first + len(records)]


def test_only_the_newest_files_are_kept(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS", keep=2)
    for _ in range(4):
        flight.talk.syncfs()
        flight.busy(10)
    flight.recorder.close()
    assert [path.name[:8] for path in sorted(tmp_path.iterdir())] == ["t_00003_", "t_00004_"]
    assert flight.recorder.match_count == 4


def test_a_recording_that_ends_while_a_file_is_written_completes_it(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS")
    flight.busy(1)
    flight.talk.syncfs()
    flight.feed()
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert (records_of(trace), trace.file.finished) == (flight.talk.records, True)


def test_an_init_that_memory_no_longer_holds_is_in_the_description(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS")
    flight.talk.init(minor=31)
    flight.busy(20)
    flight.talk.syncfs()
    flight.step()
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert (trace.channels[0].minor, INIT_BEFORE in trace.channels[0].notes) == (31, True)
    assert not any(exchange.message.name == "INIT" for exchange in trace.exchanges())


def test_channels_keep_their_numbers_when_they_are_met_before_during_and_after(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.channel == 'b' && fuse.opcode == SYNCFS".replace("'", '"'))
    flight.busy(1)
    assert flight.recorder.channel(ChannelInfo("b")) == 1
    flight.talk.syncfs(channel=1)
    flight.step()
    assert flight.recorder.channel(ChannelInfo("c")) == 2
    flight.talk.syncfs(channel=2)
    flight.step()
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert [info.name for info in trace.channels] == ["/mnt/test", "b", "c"]
    assert records_of(trace) == flight.talk.records


def test_a_loss_is_part_of_what_is_written(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS")
    flight.busy(1)
    flight.talk.gap(5, "the ring was full")
    flight.recorder.gap(flight.talk.entries[-1])  # type: ignore[arg-type]
    flight.talk.syncfs()
    flight.step()
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert [(gap.count, gap.reason) for gap in trace.gaps] == [(5, "the ring was full")]
    assert (flight.recorder.gap_count, flight.recorder.lost_count) == (1, 5)


@pytest.mark.parametrize("form", [list, columns_of], ids=["tuples", "columns"])
def test_tuples_and_columns_are_kept_alike(
    form: Callable[[Sequence[RawRecord]], Sequence[RawRecord]], tmp_path: Path
) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS")
    flight.talk.init()
    for _ in range(5000):
        flight.talk.write(5, 10)
    flight.talk.syncfs()
    flight.feed(form)
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert records_of(trace) == flight.talk.records


# ---- bounds ----


def test_when_memory_was_the_bound_and_not_the_time_it_is_said(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS", Window(60 * SECOND, SECOND, 1 << 20))
    for _ in range(100):
        flight.wait(0.1)
        flight.talk.write(5, 100_000)
        flight.step()
    flight.talk.syncfs()
    flight.step()
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert trace.file.path.stat().st_size < 1.2 * (1 << 20)
    assert any("of the 60.0s before it" in line and "1.0 MiB of memory were full" in line for line in flight.said)
    assert flight.recorder.missed_count == 0


def test_an_evaluation_that_falls_behind_counts_what_it_never_saw(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS", Window(60 * SECOND, SECOND, 1 << 20))
    for _ in range(100):
        flight.talk.write(5, 100_000)
        flight.feed()
    flight.step()
    seen = flight.recorder._lookout.trace.records.count
    assert flight.recorder.missed_count == 200 - seen > 0
    assert any(f"{200 - seen} records went by without a look" in line for line in flight.said)
    flight.recorder.close()


def test_a_request_whose_reply_may_have_been_missed_raises_no_false_alarm(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.pending_for > 1s", Window(60 * SECOND, SECOND, 1 << 20))
    flight.talk.init(minor=31)
    unique = flight.talk.ask(READ, 7)
    flight.step()
    flight.talk.answer(unique)
    for _ in range(100):
        flight.talk.write(5, 100_000)
        flight.feed()
    flight.step()
    assert flight.recorder.missed_count
    assert flight.recorder._lookout.trace.context(0).minor == 31
    flight.busy(5)
    assert flight.recorder.match_count == 0
    flight.talk.ask(READ, 7)
    flight.busy(5)
    assert flight.recorder.match_count == 1
    flight.recorder.close()


def test_what_was_missed_while_a_file_was_written_is_a_loss_in_it(tmp_path: Path) -> None:
    flight = Flight(tmp_path, "fuse.opcode == SYNCFS", Window(60 * SECOND, 60 * SECOND, 1 << 20))
    flight.talk.syncfs()
    flight.step()
    for _ in range(100):
        flight.talk.write(5, 100_000)
        flight.feed()
    flight.step()
    flight.recorder.close()
    (trace,) = opened(tmp_path)
    assert sum(gap.count for gap in trace.gaps) == flight.recorder.missed_count == 202 - trace.records.count


def test_a_full_disk_is_raised_from_the_next_records(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 65536) as disk:
        flight = Flight(disk, "fuse.opcode == SYNCFS")
        for _ in range(50):
            flight.talk.write(5, 10_000)
        flight.talk.syncfs()
        with pytest.raises(TraceFileError, match="no room left"), flight.recorder:
            flight.until_it_fails()
        (trace,) = opened(disk)
        assert records_of(trace) == flight.talk.records[: trace.records.count]


def test_the_ring_is_bounded_in_bytes_and_keeps_what_was_not_taken_as_long_as_it_can() -> None:
    ring = Ring(5, 10 * (100 + PIECE_BYTES))
    for number in range(100):
        ring.add(Piece(number, number, number, bytes(100), {0: 1}))
        assert ring.size <= 10 * (100 + PIECE_BYTES)
    assert ring.missed_count == 90
    assert [piece.number for piece in ring.take(1 << 20)] == list(range(90, 100))
    assert ring.take(1 << 20) == []
    ring.add(Piece(100, 100, 100, bytes(100), {0: 1}))
    assert [piece.number for piece in ring.since(0)] == list(range(95, 100))


def test_the_ring_gives_piece_by_piece_when_little_is_asked_for() -> None:
    ring = Ring(5, 1 << 20)
    for number in range(3):
        ring.add(Piece(number, number, number, bytes(100), {0: 1}))
    assert [[piece.number for piece in ring.take(1)] for _ in range(4)] == [[0], [1], [2], []]


# ---- the evaluation over a long time ----


class Watched:
    """A lookout with little memory, fed by hand."""

    def __init__(self, text: str, most_bytes: int) -> None:
        self.talk = Dialogue([ChannelInfo("/mnt/test", minor=45)])
        self.lookout = Lookout(compile_filter(text), lambda _: self.talk.channels, most_bytes)
        self.hits: list[int] = []  # uniques
        self._numbers = itertools.count()
        self._fed = 0

    def step(self) -> None:
        from tracer.recording.batches import packed

        batch = self.talk.records[self._fed :]
        self._fed += len(batch)
        content, counts = packed(batch)
        self.lookout.feed([Piece(next(self._numbers), batch[0].t_ns, batch[-1].t_ns, content, counts)])
        trace = self.lookout.trace
        for number in self.lookout.matches(self.talk.t_ns).tolist():
            self.hits.append(int(trace.records["unique"][trace.first_rows[number]]))


@pytest.mark.parametrize("most_bytes", [1, 2000, 20_000, 1 << 20])
def test_every_exchange_is_found_once_however_often_the_trace_in_memory_begins_anew(most_bytes: int) -> None:
    watched = Watched("fuse.write.reply", most_bytes)
    waiting, expected = [], []
    for turn in range(200):
        waiting.append(watched.talk.ask(WRITE, 5, watched.talk.write_body(50)))
        watched.talk.talk(GETATTR, 5)
        if len(waiting) > turn % 17:
            unique = waiting.pop(turn % len(waiting))
            watched.talk.answer(unique, watched.talk.pack("II", 50, 0))
            expected.append(unique)
        watched.step()
    assert watched.hits == expected
    watched.lookout.close()


@pytest.mark.parametrize("most_bytes", [1, 2000, 1 << 20])
def test_what_waits_is_found_once_and_its_record_is_at_hand(most_bytes: int) -> None:
    watched = Watched("fuse.pending_for > 50us || fuse.opcode == SYNCFS", most_bytes)
    asked = [watched.talk.ask(READ, 7), watched.talk.ask(READ, 8)]
    requests = watched.talk.records[:2]
    for _ in range(100):
        watched.talk.talk(GETATTR, 5)
        watched.step()
    assert watched.hits == asked
    watched.talk.talk(SYNCFS, 1, bytes(8))
    watched.step()
    latest = watched.lookout.trace.exchange_count - 1
    numbers = watched.lookout.matches(watched.talk.t_ns)
    assert numbers.tolist() == []
    assert watched.lookout.older_records(numbers, 5) == requests
    assert latest > 0
    watched.lookout.close()


def test_paths_stay_known_when_the_trace_in_memory_begins_anew() -> None:
    watched = Watched('fuse.path == "/dir/file" && fuse.read', 40_000)
    watched.talk.lookup(1, b"dir", 2)
    watched.talk.lookup(2, b"file", 3)
    watched.talk.lookup(1, b"other", 4)
    watched.talk.forget(4)
    for _ in range(200):
        watched.talk.talk(GETATTR, 5, bytes(500))
        watched.step()
    wanted = watched.talk.ask(READ, 3, bytes(40))
    watched.talk.ask(READ, 4, bytes(40))
    watched.step()
    trace = watched.lookout.trace
    assert trace.records.count < 200
    assert watched.hits == [wanted]
    watched.lookout.close()
