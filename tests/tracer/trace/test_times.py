"""Times of exchanges: queue wait against service time, and ends that nobody answered."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.tracer.dialogue import GETATTR, Dialogue
from tracer.filters import compile_filter
from tracer.records import Direction, RecordFlag
from tracer.store.writer import TraceWriter
from tracer.trace import cache
from tracer.trace.columns import Kind
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

ECONNABORTED = 103


def deliver(dialogue: Dialogue, unique: int, opcode: int = GETATTR, **known: object) -> int:
    return dialogue.add(
        Direction.TO_SERVER, struct.pack("<IIQ", 16, opcode, unique), flags=RecordFlag.DELIVERED, **known
    )


def test_the_time_in_the_queue_and_the_time_of_the_server_add_up_to_the_latency(tmp_path: Path) -> None:
    dialogue = Dialogue()
    first, second = dialogue.ask(GETATTR), dialogue.ask(GETATTR)
    deliver(dialogue, second)
    deliver(dialogue, first)
    dialogue.answer(first, error=-2)
    dialogue.answer(second, error=-2)
    trace = dialogue.trace(tmp_path)
    assert trace.queue_waits_ns().tolist() == [3_000, 1_000]
    assert trace.service_ns().tolist() == [1_000, 3_000]
    assert trace.latencies_ns().tolist() == [4_000, 4_000]
    exchange = trace.exchange(1)
    assert (exchange.timing.queue_wait_ns, exchange.timing.service_ns) == (1_000, 3_000)
    numbers = np.arange(2)
    assert compile_filter("fuse.queue_wait > 2us").mask(trace, numbers).tolist() == [True, False]
    assert compile_filter("fuse.service > 2us").mask(trace, numbers).tolist() == [False, True]


def test_a_delivery_is_no_exchange_and_belongs_to_its_request(tmp_path: Path) -> None:
    dialogue = Dialogue()
    asked = dialogue.ask(GETATTR, nodeid=7)
    row = deliver(dialogue, asked)
    trace = dialogue.trace(tmp_path)
    assert trace.exchange_count == 1
    assert trace.state(0) is State.PENDING
    assert trace.records["kind"][row] == Kind.DELIVERY
    assert trace.exchange_of(row) == 0
    assert trace.records["nodeid"][row] == 7
    assert trace.queue_waits_ns().tolist() == [1_000]
    assert trace.service_ns().tolist() == [-1]
    assert trace.missing_uniques() == []


def test_a_delivery_after_its_unique_was_used_again_goes_to_the_request_before_it(tmp_path: Path) -> None:
    dialogue = Dialogue()
    dialogue.ask(GETATTR, unique=2)
    deliver(dialogue, 2)
    dialogue.answer(2, error=-2)
    dialogue.ask(GETATTR, unique=2)
    deliver(dialogue, 2, t_ns=dialogue.t_ns + 9_000)
    assert dialogue.trace(tmp_path).queue_waits_ns().tolist() == [1_000, 9_000]


def test_a_delivery_without_a_request_changes_nothing(tmp_path: Path) -> None:
    dialogue = Dialogue()
    deliver(dialogue, 4)
    asked = dialogue.ask(GETATTR)
    deliver(dialogue, 999)
    dialogue.answer(asked, error=-2)
    trace = dialogue.trace(tmp_path)
    assert trace.exchange_count == 1
    assert trace.queue_waits_ns().tolist() == [-1]


def test_deliveries_are_found_as_the_trace_grows(tmp_path: Path) -> None:
    dialogue = Dialogue()
    asked = dialogue.ask(GETATTR)
    path = tmp_path / "growing.pcapng"
    with TraceWriter(path) as writer:
        dialogue.feed(writer)
        trace = Trace.open(path)
        assert trace.queue_waits_ns().tolist() == [-1]
        deliver(dialogue, asked)
        writer.records(dialogue.records[1:])
        trace.refresh()
        assert trace.queue_waits_ns().tolist() == [1_000]


def test_deliveries_are_the_same_from_the_cached_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.OFF, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LEAST_RECORDS", 1)
    dialogue = Dialogue()
    asked = dialogue.ask(GETATTR)
    deliver(dialogue, asked)
    trace = dialogue.trace(tmp_path)
    again = Trace.open(trace.file.path)
    assert list((tmp_path / "cache" / "fusewire" / "index").iterdir()), "an entry was kept"
    assert again.queue_waits_ns().tolist() == [1_000]


def test_what_the_kernel_ended_itself_is_aborted_not_done(tmp_path: Path) -> None:
    dialogue = Dialogue()
    asked, other = dialogue.ask(GETATTR), dialogue.ask(GETATTR)
    dialogue.answer(asked, error=-ECONNABORTED, flags=RecordFlag.ABORTED)
    dialogue.answer(other, error=-ECONNABORTED)
    trace = dialogue.trace(tmp_path)
    assert [State(state) for state in trace.states(np.arange(2))] == [State.ABORTED, State.DONE]
