"""What is left out on purpose, through the command line: opcodes, callers, lengths, other mounts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from examples.demo import mounts
from tests.conftest import MakeServer
from tests.e2e.recorder import recording
from tests.servers import disturb, workload
from tests.servers.base import Running
from tests.servers.memory import Memory
from tests.tracer.bridges.ebpf.recorded import FLUSH, HEADER_IN, INIT, LIVE, WRITE
from tracer.records import Direction, RawRecord
from tracer.trace.trace import Trace

pytestmark = LIVE

OPENS = {"LOOKUP": 1, "OPEN": 14, "CREATE": 35}


@pytest.fixture
def mounted(memory: Memory) -> Iterator[Running]:
    with memory.started() as running:
        yield running


def records_of(out: Path) -> tuple[Trace, list[RawRecord]]:
    trace = Trace.open(out)
    return trace, [trace.record(row) for row in range(trace.records.count)]


def code(record: RawRecord) -> int:
    return int.from_bytes(record.data[4:8], "little")


def requests(records: list[RawRecord]) -> list[RawRecord]:
    return [record for record in records if record.direction is Direction.TO_SERVER]


def test_only_the_opcodes_asked_for_are_recorded_with_their_replies_and_init(memory: Memory, tmp_path: Path) -> None:
    out = tmp_path / "t.pcapng"
    with recording(out, "--all", "--snap", "all", "--opcodes", ",".join(OPENS).lower()) as recorder:
        recorder.wait_for("attached to")
        with memory.started() as running:
            workload.run(running.mount_point)
            assert running.unmount()
            running.wait()
        assert recorder.stop() == 0, recorder.said
    trace, records = records_of(out)
    (number,) = [n for n, info in enumerate(trace.channels) if info.mount_point == str(memory.mount_point)]
    records = [record for record in records if record.channel == number]
    wanted = {*OPENS.values(), INIT}
    witnessed = memory.witnessed()
    uniques = {m.unique for m in witnessed if m.to_server and m.opcode in wanted}
    assert sorted(r.data for r in requests(records)) == sorted(
        m.data for m in witnessed if m.to_server and m.opcode in wanted
    )
    assert sorted(r.data for r in records if r.direction is Direction.TO_KERNEL) == sorted(
        m.data for m in witnessed if not m.to_server and m.unique in uniques
    )


def test_only_what_one_caller_asks_is_recorded(mounted: Running, tmp_path: Path) -> None:
    out = tmp_path / "t.pcapng"
    with disturb.waiting_reader(mounted.mount_point / "hello.txt", at_once=False) as reader:
        words = ["--mount", str(mounted.mount_point), "--caller", str(reader.pid)]
        with recording(out, *words) as recorder:
            recorder.wait_for("attached to")
            workload.run(mounted.mount_point)
            reader.begin()
            assert reader.outcome() == "hello from memfs"
            assert recorder.stop() == 0, recorder.said
    _, records = records_of(out)
    assert {int.from_bytes(r.data[32:36], "little") for r in requests(records)} == {reader.pid}
    assert FLUSH in {code(record) for record in requests(records)}


@pytest.mark.parametrize("snap", [64, 100, 4096])
def test_so_many_bytes_are_kept_and_every_length_is_true(
    snap: int, memory: Memory, mounted: Running, tmp_path: Path
) -> None:
    out = tmp_path / "t.pcapng"
    with recording(out, "--mount", str(mounted.mount_point), "--snap", str(snap)) as recorder:
        recorder.wait_for("attached to")
        workload.run(mounted.mount_point)
        memory.store((mounted.mount_point / "hello.txt").stat().st_ino, 0, bytes(5000))
        assert recorder.stop() == 0, recorder.said
    trace, records = records_of(out)
    assert trace.gaps == []
    assert all(len(record.data) == min(record.wire_len, snap) for record in records)
    witnessed = {(m.to_server, m.unique, len(m.data)): m.data for m in memory.witnessed() if m.unique}
    for record in records:
        unique = int.from_bytes(record.data[8:16], "little")
        if unique:
            whole = witnessed[record.direction is Direction.TO_SERVER, unique, record.wire_len]
            assert record.data == whole[:snap]
    longest = max(requests(records), key=lambda record: record.wire_len)
    assert (code(longest), longest.wire_len > HEADER_IN + 40 + 4096) == (WRITE, True)
    assert [r for r in records if r.direction is Direction.TO_KERNEL and r.wire_len == 16 + 24 + 5000]  # STORE


def test_one_connection_is_recorded_while_another_is_not(make_server: MakeServer, tmp_path: Path) -> None:
    one, other = make_server(Memory, "one"), make_server(Memory, "other")
    out = tmp_path / "t.pcapng"
    with one.started() as first, other.started() as second, ExitStack() as stack:
        words = ["--mount", str(first.mount_point), "--snap", "all"]
        recorder = stack.enter_context(recording(out, *words))
        recorder.wait_for("attached to")
        tallies = workload.run_at_once([first.mount_point, second.mount_point])
        assert recorder.stop() == 0, recorder.said
    trace, records = records_of(out)
    assert [info.mount_point for info in trace.channels] == [str(first.mount_point)]
    asked = {int.from_bytes(r.data[32:36], "little") for r in requests(records)}
    assert tallies[0].pid in asked
    assert tallies[1].pid not in asked


def test_a_recording_of_the_whole_host_says_how_much_there_is(mounted: Running, tmp_path: Path) -> None:
    with recording(tmp_path / "t.pcapng", "--all") as recorder:
        recorder.wait_for("attached to every FUSE connection of the host")
        ended = mounts.run_child([sys.executable, "-c", f"open({str(mounted.mount_point / 'x')!r}, 'w')"], 10)
        assert ended.status == 0
        recorder.wait_for(str(mounted.mount_point))
        assert recorder.stop() == 0, recorder.said
