"""A recording that ends by itself ends exactly where it was told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.tracer.columns_of import columns_of
from tests.tracer.dialogue import Dialogue
from tracer.recording.limits import Unit, read_limit
from tracer.recording.stopping import StopAfter
from tracer.records import RawRecord
from tracer.store.writer import TraceWriter, block_size
from tracer.trace.trace import Trace

AS = pytest.mark.parametrize("form", [list, columns_of], ids=["tuples", "columns"])
Form = Callable[[Sequence[RawRecord]], Sequence[RawRecord]]


def dialogue() -> Dialogue:
    talk = Dialogue()
    for number in range(50):
        talk.write(5, 100 + number)
    return talk


def stopped(path: Path, limit: str, form: Form, step: int) -> tuple[Trace, StopAfter, threading.Event]:
    talk, stop = dialogue(), threading.Event()
    with TraceWriter(path) as writer, StopAfter(writer, read_limit(limit, *Unit), stop) as sink:
        sink.channel(talk.channels[0])
        for start in range(0, len(talk.records), step):
            sink.records(form(talk.records[start : start + step]))
    return Trace.open(path), sink, stop


@AS
@pytest.mark.parametrize("step", [1, 7, 100])
def test_after_so_many_records_no_other_is_written(form: Form, step: int, tmp_path: Path) -> None:
    trace, sink, stop = stopped(tmp_path / "t.pcapng", "42", form, step)
    assert [trace.record(row) for row in range(trace.records.count)] == dialogue().records[:42]
    assert sink.was_reached
    assert stop.is_set()


@AS
@pytest.mark.parametrize("step", [1, 7, 100])
def test_after_so_many_bytes_no_other_record_is_written(form: Form, step: int, tmp_path: Path) -> None:
    trace, sink, stop = stopped(tmp_path / "t.pcapng", "5k", form, step)
    records = dialogue().records
    count = trace.records.count
    assert [trace.record(row) for row in range(count)] == records[:count]
    assert sum(map(block_size, records[:count])) <= 5120 < sum(map(block_size, records[: count + 1]))
    assert sink.was_reached
    assert stop.is_set()


def test_what_is_never_reached_stops_nothing(tmp_path: Path) -> None:
    trace, sink, stop = stopped(tmp_path / "t.pcapng", "101", list, 7)
    assert trace.records.count == 100
    assert (sink.was_reached, stop.is_set()) == (False, False)


def test_time_ends_a_recording_that_hears_nothing(tmp_path: Path) -> None:
    stop = threading.Event()
    with TraceWriter(tmp_path / "t.pcapng") as writer, StopAfter(writer, read_limit("10ms", Unit.NS), stop) as sink:
        assert stop.wait(30)
    assert sink.was_reached


def test_a_recording_that_ends_before_its_time_does_not_wait_for_it(tmp_path: Path) -> None:
    trace, sink, _ = stopped(tmp_path / "t.pcapng", "300d", list, 7)
    assert trace.records.count == 100
    assert not sink.was_reached
