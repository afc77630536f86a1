"""Long recordings of real servers: files in turn, an end by itself, a flight recorder in front of a hung mount."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dissectors.opcodes import OPS_BY_NAME
from tests.e2e import recorder
from tests.e2e.recorder import DEADLINE_S, refused
from tests.servers import workload
from tests.servers.memfs import Memfs, MemfsBlk, Witnessed
from tests.servers.real import Bindfs
from tracer.records import RawRecord
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

pytestmark = [pytest.mark.e2e, pytest.mark.root]

FORGETS = (OPS_BY_NAME["FORGET"].code, OPS_BY_NAME["BATCH_FORGET"].code)


def opened(folder: Path) -> list[Trace]:
    """Open all files in their order; every one must be whole."""
    traces = [Trace.open(path) for path in sorted(folder.glob("t_*.pcapng"))]
    assert all((trace.file.unreadable_bytes, trace.file.damaged) == (0, False) for trace in traces)
    return traces


def records_of(traces: Sequence[Trace]) -> list[RawRecord]:
    return [trace.record(row) for trace in traces for row in range(trace.records.count)]


def in_turn(messages: Sequence[RawRecord] | Sequence[Witnessed], bridge: str) -> tuple[list[bytes], ...]:
    """Return the messages to the server and those to the kernel, each in order: one thread says each of them.

    eBPF sees a FORGET when the server reads it, other requests when they are queued: FORGETs have their own order.
    """
    kinds: tuple[list[bytes], ...] = ([], [], [])
    for message in messages:
        to_server = message.to_server if isinstance(message, Witnessed) else message.direction == 0
        is_apart = to_server and bridge == "ebpf" and int.from_bytes(message.data[4:8], "little") in FORGETS
        kinds[2 if is_apart else 0 if to_server else 1].append(message.data)
    return kinds


def out_in(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "t.pcapng"


def wait_for_file(folder: Path) -> Path:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := sorted(folder.glob("t_*.pcapng"))):
        assert time.monotonic() < deadline, "no file was written"
        time.sleep(0.02)
    return found[0]


def wait_for_records(folder: Path, count: int, work: Callable[[], object]) -> None:
    """Work until so many records are written: what a recorder holds back for a moment dies with it."""
    deadline = time.monotonic() + DEADLINE_S
    while sum(Trace.open(path).records.count for path in folder.glob("t_*.pcapng")) < count:
        assert time.monotonic() < deadline, "too little was written"
        work()


# ---- files in turn ----


@pytest.mark.parametrize("limit", ["64KiB", "100ms"])
def test_files_in_turn_hold_every_message_of_the_server_once_and_in_order(
    bridge: str, limit: str, memfs: Memfs, tmp_path: Path
) -> None:
    out = out_in(tmp_path)
    with memfs.started(recorder.launched(out, "--bridge", bridge, "--snap", "all", "--rotate", limit)) as running:
        workload.run(running.mount_point, "mixed")
        deadline = time.monotonic() + DEADLINE_S
        while len(list(out.parent.glob("t_*.pcapng"))) < 2:
            assert time.monotonic() < deadline, "no second file was begun"
            workload.run(running.mount_point, "reading")
        assert running.unmount()
        assert running.wait() == 0, running.output()
    traces = opened(out.parent)
    assert len(traces) > 1
    assert in_turn(records_of(traces), bridge) == in_turn(memfs.witnessed(), bridge)
    assert all(trace.file.finished for trace in traces)
    assert {trace.sessions[0].context(0).minor for trace in traces} == {45}
    assert {trace.channels[0].mount_point for trace in traces} == {str(running.mount_point)}
    said = running.output()
    assert f"{len(records_of(traces))} records in {len(traces)} files" in said
    if limit == "64KiB":
        sizes = [trace.file.path.stat().st_size for trace in traces if trace.records.count > 1]
        assert max(sizes) <= 64 << 10


def test_only_the_newest_files_are_kept(bridge: str, memfs: Memfs, tmp_path: Path) -> None:
    out = out_in(tmp_path)
    with memfs.started(
        recorder.launched(out, "--bridge", bridge, "--snap", "all", "--rotate", "4KiB", "--keep", "2")
    ) as running:
        workload.run(running.mount_point, "mixed")
        assert running.unmount()
        assert running.wait() == 0, running.output()
    traces = opened(out.parent)
    assert len(traces) == 2
    assert "the newest 2 are kept: " in running.output()
    kept, said = in_turn(records_of(traces), bridge), in_turn(memfs.witnessed(), bridge)
    assert all(own == all_of_them[len(all_of_them) - len(own) :] for own, all_of_them in zip(kept, said, strict=True))


def test_a_recorder_killed_between_files_leaves_files_that_open_and_a_server_that_works(
    bridge: str, memfs: Memfs, tmp_path: Path
) -> None:
    out = out_in(tmp_path)
    with memfs.started(recorder.launched(out, "--bridge", bridge, "--snap", "all", "--rotate", "4KiB")) as running:
        wait_for_records(out.parent, 300, lambda: workload.run(running.mount_point, "stats"))
        running.process.send_signal(signal.SIGKILL)
        running.wait()
        workload.run(running.mount_point, "reading")
        kept = in_turn(records_of(opened(out.parent)), bridge)
        said = in_turn(memfs.witnessed(), bridge)
    assert all(own == all_of_them[: len(own)] for own, all_of_them in zip(kept, said, strict=True))
    assert all(len(own) > 100 for own in kept[:2])


# ---- an end by itself ----


@pytest.mark.parametrize("limit", ["100", "20KiB", "2s"])
def test_a_recording_ends_by_itself_and_the_server_goes_on(
    bridge: str, limit: str, memfs: Memfs, tmp_path: Path
) -> None:
    out = tmp_path / "t.pcapng"
    with memfs.started(recorder.launched(out, "--bridge", bridge, "--stop-after", limit)) as running:
        deadline = time.monotonic() + DEADLINE_S
        while running.process.poll() is None and time.monotonic() < deadline:
            workload.run(running.mount_point, "reading")
        assert running.wait() == 0, running.output()
        workload.run(running.mount_point, "reading")  # nobody is in its way
    trace = Trace.open(out)
    assert trace.file.finished
    if limit == "100":
        assert trace.records.count == 100
        assert "ended after 100 records, as --stop-after asks" in running.output()
    else:
        assert f"ended after {limit}, as --stop-after asks" in running.output()
    if limit == "20KiB":
        assert 16 << 10 < out.stat().st_size < 22 << 10


def test_a_recording_of_a_silent_mount_ends_in_time(bridge: str, bindfs: Bindfs, tmp_path: Path) -> None:
    words = ["--bridge", bridge, "--stop-after", "1s", "--rotate", "1h"]
    with (
        bindfs.started() as running,
        recorder.recording(tmp_path / "t.pcapng", *words, "--pid", str(running.pid)) as quiet,
    ):
        assert quiet.wait() == 0, quiet.said
        assert "ended after 1s, as --stop-after asks" in quiet.said


# ---- the flight recorder ----


def test_a_write_that_hangs_is_on_disk_while_it_hangs(bridge: str, memfs: Memfs, tmp_path: Path) -> None:
    out = out_in(tmp_path)
    memfs.options = ["--write-delay", "5"]
    trigger = ("--trigger", "fuse.opcode == WRITE && fuse.pending_for > 1s", "--after", "1s")
    with memfs.started(recorder.launched(out, "--bridge", bridge, "--snap", "all", *trigger)) as running:
        workload.run(running.mount_point, "reading")
        with subprocess.Popen(["sh", "-c", f"echo hello > {running.mount_point}/file"]) as writer:
            path = wait_for_file(out.parent)
            assert writer.poll() is None
            assert Trace.open(path).channels[0].mount_point == str(running.mount_point)
            assert writer.wait(DEADLINE_S) == 0
        workload.run(running.mount_point, "reading")  # nothing matches any more
        assert running.unmount()
        assert running.wait() == 0, running.output()
    (trace,) = opened(out.parent)
    (write,) = [exchange for exchange in trace.exchanges() if exchange.message.name == "WRITE"]
    assert (write.state, write.path) == (State.PENDING, b"/file")
    assert trace.sessions[0].agreements  # what came before it, INIT included
    said = running.output()
    assert said.count("match: ") == 1
    assert "1 match, 1 file written" in said


def test_a_syncfs_that_is_answered_late_triggers_and_its_late_answer_is_recorded(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path
) -> None:
    out = out_in(tmp_path)
    memfs_fuseblk.options = ["--syncfs", "2"]
    trigger = ("--trigger", "fuse.opcode == SYNCFS && fuse.pending_for > 500ms", "--after", "5")
    with memfs_fuseblk.started(recorder.launched(out, "--bridge", bridge, *trigger)) as running:
        subprocess.run(["sync", "-f", running.mount_point], timeout=DEADLINE_S, check=True)
        assert running.unmount()
        assert running.wait() == 0, running.output()
    (trace,) = opened(out.parent)
    (sync,) = [exchange for exchange in trace.exchanges() if exchange.message.name == "SYNCFS"]
    assert (sync.state, sync.comm) == (State.DONE, b"sync")
    assert sync.latency_ns is not None
    assert sync.latency_ns > 1_900_000_000
    assert "waits for " in running.output()


def test_a_flight_recorder_that_saw_nothing_writes_nothing(bridge: str, memfs: Memfs, tmp_path: Path) -> None:
    out = out_in(tmp_path)
    with memfs.started(
        recorder.launched(out, "--bridge", bridge, "--trigger", "fuse.error == EIO", "--keep", "3")
    ) as running:
        workload.run(running.mount_point, "mixed")
        assert running.unmount()
        assert running.wait() == 0, running.output()
    assert list(out.parent.iterdir()) == []
    assert "0 matches, 0 files written" in running.output()


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--rotate", "1MiB", "--trigger", "fuse.write"), "--rotate and --trigger do not go together"),
        (("--keep", "3"), "--keep is for the files of --rotate or --trigger"),
        (("--before", "3s"), "--before is for --trigger"),
        (("--memory", "64MiB"), "--memory is for --trigger"),
        (("--rotate", "10B"), "--rotate 10B makes too many files"),
        (("--trigger", "fuse.write", "--memory", "10k"), "--memory 10k holds nothing"),
        (("--trigger", "fuse.latncy > 5s"), "fuse.latncy > 5s"),
    ],
)
def test_what_does_not_go_together_is_one_line_before_the_server_is_started(
    words: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    witness = tmp_path / "started"
    first, *_ = refused(tmp_path / "t.pcapng", *words, "--", "touch", str(witness))
    assert reason in first
    assert not witness.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--rotate", "5m"), "may be minutes or mebibytes"),
        (("--rotate", "100"), "write a size (100MiB, 512k) or a time (10s, 5min, 1h)"),
        (("--stop-after", "soon"), "is no amount"),
        (("--keep", "0"), "is no number from 1 on"),
        (("--memory", "10s"), "write a size"),
    ],
)
def test_what_is_no_amount_is_said_with_what_to_write(words: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    lines = refused(tmp_path / "t.pcapng", *words, "--", "true")
    assert reason in " ".join(lines)
