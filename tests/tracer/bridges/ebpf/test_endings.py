"""How requests end, or do not: aborts, killed servers, requests that nobody read; and when servers read them."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import disturb, workload
from tests.servers.base import Running
from tests.servers.memory import Memory
from tests.tracer.bridges.collecting import Collected
from tests.tracer.bridges.ebpf import recorded
from tests.tracer.bridges.ebpf.recorded import LIVE, READ
from tracer.bridges.ebpf import Source
from tracer.records import Direction, RawRecord, RecordFlag
from tracer.trace.exchange import Exchange

pytestmark = LIVE


@pytest.fixture
def mounted(memory: Memory) -> Iterator[Running]:
    with memory.started() as running:
        yield running


def error_of(reply: RawRecord) -> int:
    return int.from_bytes(reply.data[4:8], "little", signed=True)


def reads_in(collected: Collected, running: Running, path: Path) -> list[Exchange]:
    return recorded.exchanges_of(recorded.trace_of(collected, path), running.mount_point, "READ")


def of_mount(running: Running) -> Source:
    return Source(mount=str(running.mount_point))


@pytest.mark.parametrize("way", ["abort", "kill"])
def test_a_reader_that_an_end_frees_gets_the_error_that_is_recorded(
    way: str, memory: Memory, mounted: Running, tmp_path: Path
) -> None:
    with (
        recorded.recording(of_mount(mounted)) as capture,
        disturb.waiting_reader(mounted.mount_point / "held") as reader,
    ):
        memory.await_held(1)
        if way == "abort":
            with disturb.connection(mounted.mount) as connection:
                connection.abort()
        else:
            mounted.process.kill()
        outcome = reader.outcome()
        collected = capture.end()
    (read,) = recorded.requests_of(collected.all, READ)
    ended = recorded.reply_to(collected.all, read)
    assert ended is not None
    assert ended.flags & RecordFlag.ABORTED
    assert (errno.errorcode[-error_of(ended)], len(ended.data), recorded.caller(read)) == (outcome, 16, reader.pid)
    assert ended.server_pid == 0 or ended.server_pid == mounted.pid
    (exchange,) = reads_in(collected, mounted, tmp_path / "t.pcapng")
    assert exchange.state.name == "ABORTED"
    assert exchange.reply is not None
    assert exchange.reply.error == error_of(ended)


def test_what_follows_an_abort_is_no_message_and_no_loss(mounted: Running) -> None:
    with recorded.recording(of_mount(mounted)) as capture:
        with disturb.connection(mounted.mount) as connection:
            connection.abort()
        for name in ("hello.txt", "numbers.bin", "dir"):
            with pytest.raises(OSError, match=r"not connected|abort"):
                (mounted.mount_point / name).stat()
        collected = capture.end()
    # requests that were refused have no number: the server never saw them, and no answer belongs to them
    assert [r for r in collected.all if recorded.unique(r) == 0 and r.direction is Direction.TO_SERVER] == []
    assert collected.gaps == []


def test_a_request_that_is_still_held_is_pending(memory: Memory, mounted: Running, tmp_path: Path) -> None:
    with recorded.recording(of_mount(mounted)) as capture:
        with disturb.waiting_reader(mounted.mount_point / "held"):
            memory.await_held(1)
            collected = capture.end()
        memory.release()
    (exchange,) = reads_in(collected, mounted, tmp_path / "t.pcapng")
    assert (exchange.state.name, exchange.reply, exchange.timing.latency_ns) == ("PENDING", None, None)
    assert collected.gaps == []


def test_a_request_that_is_taken_back_unread_stays_pending_without_a_delivery(mounted: Running, tmp_path: Path) -> None:
    """The kernel tells nobody when it takes back the request of a caller that was killed (fs/fuse/dev.c)."""
    with (
        recorded.recording(of_mount(mounted), deliveries=True) as capture,
        disturb.connection(mounted.mount) as connection,
        disturb.waiting_reader(mounted.mount_point / "held", at_once=False) as reader,
    ):
        with disturb.stopped(mounted.pid):
            reader.begin()
            connection.wait_waiting(1)
            reader.kill()
            reader.wait_killed()
        collected = capture.end()
    (exchange,) = reads_in(collected, mounted, tmp_path / "t.pcapng")
    assert (exchange.state.name, exchange.timing.queue_wait_ns) == ("PENDING", None)
    assert exchange.message.header_value("pid") == reader.pid


# Deliveries.


def test_queue_wait_and_service_make_up_the_latency(mounted: Running, tmp_path: Path) -> None:
    with recorded.recording(deliveries=True) as capture:
        workload.run(mounted.mount_point, "mixed")
        workload.run(mounted.mount_point, "parallel")
        collected = capture.end()
    trace = recorded.trace_of(collected, tmp_path / "t.pcapng")
    number = recorded.channel_at(collected, mounted.mount_point)
    ended = [one for one in trace.exchanges() if one.channel == number and one.state.name == "DONE"]
    assert len(ended) > 500
    for exchange in ended:
        assert exchange.timing.latency_ns is not None
        assert exchange.timing.queue_wait_ns is not None
        assert exchange.timing.service_ns is not None
        assert exchange.timing.queue_wait_ns > 0
        assert exchange.timing.service_ns > 0
        assert exchange.timing.queue_wait_ns + exchange.timing.service_ns == exchange.timing.latency_ns


def test_what_waits_for_a_stopped_server_is_told_from_what_it_holds(
    memory: Memory, mounted: Running, tmp_path: Path
) -> None:
    with recorded.recording(of_mount(mounted), deliveries=True) as capture:
        path = mounted.mount_point / "held"
        with disturb.waiting_reader(path) as taken, disturb.waiting_reader(path, at_once=False) as queued:
            memory.await_held(1)
            with disturb.connection(mounted.mount) as connection, disturb.stopped(mounted.pid):
                queued.begin()
                connection.wait_waiting(2)
                collected = capture.end()
        memory.release()
    reads = {one.message.header_value("pid"): one for one in reads_in(collected, mounted, tmp_path / "t.pcapng")}
    assert {one.state.name for one in reads.values()} == {"PENDING"}
    assert reads[queued.pid].timing.queue_wait_ns is None
    assert (reads[taken.pid].timing.queue_wait_ns or 0) > 0


def test_a_stopped_server_shows_as_queue_wait_and_a_slow_one_as_service(
    memory: Memory, mounted: Running, tmp_path: Path
) -> None:
    with recorded.recording(of_mount(mounted), deliveries=True) as capture:
        path = mounted.mount_point / "held"
        with disturb.waiting_reader(path, at_once=False) as reader, disturb.connection(mounted.mount) as connection:
            with disturb.stopped(mounted.pid):
                reader.begin()
                connection.wait_waiting(1)
                stopped_ns = waited_ns()
            memory.await_held(1)
            held_ns = waited_ns()
            memory.release()
            assert reader.outcome() == "released"
        collected = capture.end()
    (exchange,) = reads_in(collected, mounted, tmp_path / "t.pcapng")
    assert (exchange.timing.queue_wait_ns or 0) >= stopped_ns
    assert (exchange.timing.service_ns or 0) >= held_ns


def waited_ns() -> int:
    """Let a tenth of a second go by; what is tested is that this time is told."""
    begin_ns = time.monotonic_ns()
    threading.Event().wait(0.1)
    return time.monotonic_ns() - begin_ns
