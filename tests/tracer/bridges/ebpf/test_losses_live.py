"""A ring that runs full while nobody drains it: what is missing is told exactly, and the dialogue stays whole."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.demo import mounts
from tests.e2e.recorder import recording
from tests.servers import disturb, load, workload
from tests.servers.memfs import Witnessed
from tests.servers.memory import Memory
from tests.tracer.bridges.ebpf import transfers
from tests.tracer.bridges.ebpf.recorded import BATCH_FORGET, FORGET, LIVE, until
from tracer.records import Direction
from tracer.trace.trace import Trace

pytestmark = LIVE


def journal_of(memory: Memory) -> Counter[tuple[bool, int, int]]:
    """Return (to the server?, unique, length) of every message, once the server has answered all it was asked."""
    messages: list[Witnessed] = []

    def is_quiet() -> bool:
        messages[:] = memory.witnessed()
        asked = {m.unique for m in messages if m.to_server and m.opcode not in (FORGET, BATCH_FORGET)}
        return asked == {m.unique for m in messages if not m.to_server}

    until(is_quiet, "everything is answered")
    return Counter((m.to_server, m.unique, len(m.data)) for m in messages)


def recorded_in(trace: Trace) -> Counter[tuple[bool, int, int]]:
    records = map(trace.record, range(trace.records.count))
    return Counter(
        (r.direction is Direction.TO_SERVER, int.from_bytes(r.data[8:16], "little"), r.wire_len) for r in records
    )


def test_the_number_reported_lost_is_what_is_missing(memory: Memory, tmp_path: Path) -> None:
    out = tmp_path / "t.pcapng"
    with memory.started() as running:
        (running.mount_point / "hello.txt").stat()  # so that INIT is over
        before = journal_of(memory)
        words = ["--mount", str(running.mount_point), "--snap", "all", "--ring", "1"]
        with recording(out, *words) as recorder:
            recorder.wait_for("attached to")
            with disturb.stopped(recorder.process.pid):
                for _ in range(6):  # more than 1 MiB even as headers
                    workload.run(running.mount_point, "parallel")
            workload.run(running.mount_point, "reading")  # found room again
            assert recorder.stop() == 3, recorder.said
        after = journal_of(memory)
    trace = Trace.open(out)
    missing = after - before - recorded_in(trace)
    assert missing.total() > 100
    assert sum(gap.count for gap in trace.gaps) == missing.total()
    assert not recorded_in(trace) - after
    assert f"known to be lost: {missing.total()} records" in recorder.said
    assert "ring buffer was full" in recorder.said


def test_a_payload_that_finds_no_room_leaves_its_header_so_the_dialogue_is_whole(
    memory: Memory, tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "t.pcapng"
    source.write_bytes(bytes(3 << 20))
    with memory.started() as running:
        (running.mount_point / "hello.txt").stat()  # so that INIT is over
        before = journal_of(memory)
        words = ["--mount", str(running.mount_point), "--snap", "all", "--ring", "1"]
        with recording(out, *words) as recorder:
            recorder.wait_for("attached to")
            with disturb.stopped(recorder.process.pid):
                words = [sys.executable, transfers.__file__, running.mount_point / "long", source]
                assert mounts.run_child(words, 30).status == 0
            assert recorder.stop() == 0, recorder.said
        after = journal_of(memory)
    trace = Trace.open(out)
    assert trace.gaps == []
    assert recorded_in(trace) == after - before
    kept, sent = trace.records["kept"], trace.records["wire_len"]
    assert int((kept < sent).sum()) > 10
    assert {exchange.state.name for exchange in trace.exchanges()} <= {"DONE", "NO_REPLY"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_waits_in_the_ring_when_the_recorder_is_ended_is_recorded(
    number: signal.Signals, memory: Memory, tmp_path: Path
) -> None:
    out = tmp_path / "t.pcapng"
    with memory.started() as running:
        (running.mount_point / "hello.txt").stat()  # so that INIT is over
        before = journal_of(memory)
        with recording(out, "--mount", str(running.mount_point), "--snap", "all") as recorder:
            recorder.wait_for("attached to")
            with load.on(running.mount_point) as busy, disturb.stopped(recorder.process.pid):
                busy.wait_rounds(20)
            recorder.process.send_signal(number)
            assert recorder.wait() == 0, recorder.said
        after = journal_of(memory)
    assert recorded_in(Trace.open(out)) == after - before
