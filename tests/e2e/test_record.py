"""`fusewire record` in front of real servers and beside them: nothing is missing, nothing is hurt."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from examples.demo import mounts
from tests.conftest import MakeServer
from tests.e2e.recorder import DEADLINE_S, launched, recording, refused
from tests.servers import workload
from tests.servers.base import Server
from tests.servers.memfs import Memfs, MemfsBlk
from tests.servers.real import Bindfs, FuseOverlayfs, PassthroughLl
from tests.tracer.small_disk import small_disk
from tracer.records import ChannelKind, Direction, RecordFlag
from tracer.trace.columns import Kind
from tracer.trace.trace import Trace

pytestmark = [pytest.mark.e2e, pytest.mark.root]

# fuse-overlayfs keeps a writeback cache: the kernel sends the times of a written file by SETATTR when it likes.
SENDS_MORE = {FuseOverlayfs.name: {"SETATTR"}}


def opcodes(trace: Trace) -> Counter[str]:
    return Counter(exchange.message.name for exchange in trace.exchanges() if exchange.request)


def check_whole(trace: Trace) -> None:
    """Nothing lost, nothing cut, every request answered, every unique there."""
    assert (trace.gaps, trace.missing_uniques(), trace.cut_listings()) == ([], [], 0)
    assert (trace.file.unreadable_bytes, trace.file.finished) == (0, True)
    # File data that the server splices passes through no buffer of its own; its length is known.
    cut = trace.records["kept"] < trace.records["wire_len"]
    assert (trace.records["flags"][cut] & RecordFlag.SPLICED).all()
    assert {exchange.state.name for exchange in trace.exchanges()} <= {"DONE", "NO_REPLY", "NOTIFY"}
    assert not [
        e.message.name for e in trace.exchanges() if e.message.is_malformed or (e.reply and e.reply.is_malformed)
    ]


def test_a_launched_server_is_recorded_without_a_loss(bridge: str, any_server: Server, tmp_path: Path) -> None:
    out = tmp_path / "t.pcapng"
    with any_server.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
        tally = workload.run(running.mount_point, "mixed" if any_server.writable else "reading")
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()
    trace = Trace.open(out)
    check_whole(trace)
    seen = opcodes(trace)
    more = SENDS_MORE.get(any_server.name, set())
    assert {name: seen[name] for name in tally.requests if name not in more} == {
        name: count for name, count in tally.requests.items() if name not in more
    }
    assert all(seen[name] >= tally.requests[name] for name in more)
    assert seen["INIT"] == 1
    written = trace.records["wire_len"][(trace.records["opcode"] == 16) & (trace.records["kind"] == Kind.REQUEST)]
    assert int(written.sum()) - 80 * len(written) == tally.written_bytes
    (info,) = trace.channels
    assert (info.name, info.mount_point) == (str(running.mount_point), str(running.mount_point))
    assert (info.kind is ChannelKind.FUSEBLK) is (any_server.name == MemfsBlk.name)
    assert info.st_dev == running.mount.st_dev
    assert trace.sessions[0].minor_is_known


def test_names_of_a_launched_server_are_those_of_the_workload(bridge: str, any_server: Server, tmp_path: Path) -> None:
    out = tmp_path / "t.pcapng"
    with any_server.started(launched(out, "--bridge", bridge, "--snap", "listings")) as running:
        workload.run(running.mount_point, "mixed" if any_server.writable else "reading")
        assert running.unmount()
        assert running.wait() == 0, running.output()
    trace = Trace.open(out)
    paths = {exchange.path for exchange in trace.exchanges() if exchange.message.nodeid}
    assert {b"/", b"/hello.txt", b"/dir/inner.txt"} <= paths
    if any_server.writable:
        assert {b"/work", b"/work/big.bin", b"/work/moved.bin", b"/work/" + workload.ODD_NAME} <= paths
    assert {exchange.submount for exchange in trace.exchanges()} == {1}
    pids = {e.message.header_value("pid") for e in trace.exchanges() if e.message.name == "LOOKUP"}
    assert pids - {0}


def test_what_is_recorded_is_to_the_byte_what_the_server_read_and_wrote(
    bridge: str, memfs: Memfs, tmp_path: Path
) -> None:
    out = tmp_path / "t.pcapng"
    memfs.options = ["--threads", "3", "--clone-fd"]
    with memfs.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
        workload.run(running.mount_point, "parallel")
        assert running.unmount()
        assert running.wait() == 0, running.output()
    trace = Trace.open(out)
    check_whole(trace)
    records = [trace.record(row) for row in range(trace.records.count)]
    witnessed = memfs.witnessed()
    for direction in Direction:
        to_server = direction is Direction.TO_SERVER
        seen = Counter(record.data for record in records if record.direction is direction)
        assert seen == Counter(message.data for message in witnessed if message.to_server is to_server)
    times = [record.t_ns for record in records]
    assert times == sorted(times)
    by_data = {message.data: message.t_ns for message in witnessed}
    assert max(abs(record.t_ns - by_data[record.data]) for record in records) < 1_000_000_000


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PassthroughLl, {}),
        (FuseOverlayfs, {}),
        (Memfs, {"options": ("--threads", "3", "--clone-fd")}),
    ],
    ids=["passthrough_ll", "fuse-overlayfs", "memfs-clones"],
)
def test_clients_in_parallel_are_paired_and_named_though_threads_answer_in_any_order(
    bridge: str, kind: type[Server], options: dict[str, object], make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(kind, **options)
    out = tmp_path / "t.pcapng"
    with server.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
        tally = workload.run(running.mount_point, "parallel")
        assert running.unmount()
        assert running.wait() == 0, running.output()
    trace = Trace.open(out)
    check_whole(trace)
    seen = opcodes(trace)
    assert {name: seen[name] for name in tally.requests} == tally.requests
    # strace tells when calls of two threads return, each by its own words: once in thousands a request seems to have
    # been read a moment before the answer that named its node was written.
    nameless = [e.message.name for e in trace.exchanges() if e.message.nodeid and e.path is None]
    assert len(nameless) <= (2 if bridge == "strace" else 0), nameless
    files = {f"/client-{client}/{turn}".encode() for client in range(4) for turn in range(10)}
    assert {e.path for e in trace.exchanges() if e.message.name == "WRITE"} == files
    missing = [
        e for e in trace.exchanges() if e.message.name == "LOOKUP" and e.message.values["name"].endswith(b".missing")
    ]  # type: ignore[union-attr]
    assert len(missing) == tally.missing
    assert {e.reply.error if e.reply else None for e in missing} <= {-2, 0}  # ENOENT, or a negative entry
    assert all(e.latency_ns is not None and e.latency_ns > 0 for e in trace.exchanges() if e.state.name == "DONE")


def test_with_headers_only_every_byte_that_is_missing_is_counted(bridge: str, memfs: Memfs, tmp_path: Path) -> None:
    out = tmp_path / "t.pcapng"
    with memfs.started(launched(out, "--bridge", bridge)) as running:
        workload.run(running.mount_point, "mixed")
        assert running.unmount()
        running.wait()
    trace = Trace.open(out)
    lengths = Counter((r.direction, r.wire_len) for r in map(trace.record, range(trace.records.count)))
    assert lengths == Counter((Direction(not m.to_server), len(m.data)) for m in memfs.witnessed())
    assert int(trace.records["kept"].sum()) < int(trace.records["wire_len"].sum())
    assert (trace.gaps, trace.missing_uniques()) == ([], [])


def test_two_mounts_of_one_server_are_two_channels(bridge: str, make_server: MakeServer, tmp_path: Path) -> None:
    memfs = make_server(Memfs, two=True)
    out = tmp_path / "t.pcapng"
    with memfs.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
        workload.run(running.mount_point, "reading")
        workload.run(memfs.second_mount_point, "stats")
        assert mounts.unmount(memfs.second_mount_point)
        assert running.unmount()
        assert running.wait() == 0, running.output()
    trace = Trace.open(out)
    check_whole(trace)
    assert [info.mount_point for info in trace.channels] == [str(place) for place in memfs.mount_points()]
    for number in (0, 1):
        own = [record for record in map(trace.record, range(trace.records.count)) if record.channel == number]
        assert Counter(r.data for r in own) == Counter(m.data for m in memfs.witnessed() if m.mount == number)


@pytest.mark.parametrize("way", ["pid", "mount"])
def test_a_running_server_is_recorded_and_goes_on_when_we_stop(
    bridge: str, way: str, bindfs: Bindfs, tmp_path: Path
) -> None:
    out = tmp_path / "t.pcapng"
    with bindfs.started() as running:
        words = ["--pid", str(running.pid)] if way == "pid" else ["--mount", str(running.mount_point / "dir")]
        with recording(out, "--bridge", bridge, "--snap", "all", *words) as recorder:
            recorder.wait_for("attached to")
            tally = workload.run(running.mount_point, "mixed")
            assert recorder.stop() == 0, recorder.said
        workload.run(running.mount_point, "reading")
        trace = Trace.open(out)
        seen = opcodes(trace)
        assert {name: seen[name] for name in tally.requests} == tally.requests
        assert (trace.missing_uniques(), trace.file.finished) == ([], True)
        assert not trace.sessions[0].agreements
        assert "INIT" not in seen
        assert {e.state.name for e in trace.exchanges()} <= {"DONE", "NO_REPLY", "ORPHAN_REPLY"}
        assert running.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_launched_server_is_let_go_when_the_recorder_is_stopped(
    bridge: str, number: signal.Signals, memfs: Memfs, tmp_path: Path
) -> None:
    out = tmp_path / "t.pcapng"
    with memfs.started(launched(out, "--bridge", bridge)) as running:
        workload.run(running.mount_point, "reading")
        running.process.send_signal(number)
        assert running.wait(DEADLINE_S) == 0, running.output()
        workload.run(running.mount_point, "reading")  # nobody is in its way
        assert Trace.open(out).file.finished


def test_a_killed_recorder_leaves_a_trace_that_opens_and_a_server_that_works(
    bridge: str, memfs: Memfs, tmp_path: Path
) -> None:
    out = tmp_path / "t.pcapng"
    with memfs.started(launched(out, "--bridge", bridge)) as running:
        deadline = time.monotonic() + DEADLINE_S
        while Trace.open(out).exchange_count <= 200:  # what it holds back for a moment dies with it
            assert time.monotonic() < deadline, "too little was written"
            workload.run(running.mount_point, "stats")
        running.process.kill()
        running.wait()
        workload.run(running.mount_point, "reading")
    trace = Trace.open(out)
    assert trace.exchange_count > 200
    assert not trace.file.finished


def test_a_full_disk_ends_the_recording_in_one_line_and_keeps_what_was_captured(
    bridge: str, memfs: Memfs, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", 200 << 10) as disk:
        out = disk / "t.pcapng"
        with memfs.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
            workload.run(running.mount_point, "parallel")
            assert running.wait(DEADLINE_S) == 2, running.output()
            workload.run(running.mount_point, "reading")
        said = running.output()
        trace = Trace.open(out)
        assert f"no room left for {out}; it is complete up to here ({trace.records.count} records)" in said
        assert "free some room" in said
        assert "Traceback" not in said
        assert (trace.file.unreadable_bytes, trace.file.damaged) == (0, False)
        kept = [trace.content(row) for row in range(trace.records.count)]
        witnessed = [message.data for message in memfs.witnessed()]
        if bridge == "strace":
            assert kept == witnessed[: len(kept)]
        else:  # the kernel queues requests while the server answers others
            assert not Counter(kept) - Counter(witnessed)
        assert out.stat().st_size > 180 << 10


# ---- what cannot start ----


def test_a_server_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "t.pcapng"
    out.write_bytes(b"older")
    first, *rest = refused(out, "--", "no-such-server", "/mnt")
    assert "no-such-server" in first
    assert len(rest) <= 1
    assert out.read_bytes() == b"older"


def test_a_server_that_ends_at_once_is_quoted(bindfs: Bindfs, tmp_path: Path) -> None:
    lines = refused(tmp_path / "t.pcapng", "--", "bindfs", "-f", str(tmp_path / "none"), str(tmp_path))
    assert any("bindfs" in line for line in lines)
    assert not (tmp_path / "t.pcapng").exists()


def test_a_pid_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    first, *rest = refused(tmp_path / "t.pcapng", "--pid", str(gone.pid))
    assert str(gone.pid) in first
    assert len(rest) <= 1


@pytest.mark.parametrize("pid", ["2", "self"], ids=["kernel-thread", "traced-already"])
def test_a_pid_that_may_not_be_traced_is_one_line(pid: str, tmp_path: Path) -> None:
    if pid == "2":
        first, *_ = refused(tmp_path / "t.pcapng", "--pid", "2")
        assert first.startswith("fusewire: ")
        return
    with subprocess.Popen(["sleep", "60"]) as victim:
        tracer = subprocess.Popen(
            ["strace", "-o", "/dev/null", "-p", str(victim.pid)], stderr=subprocess.PIPE, text=True
        )
        with tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            lines = refused(tmp_path / "t.pcapng", "--bridge", "strace", "--pid", str(victim.pid))
            assert any("trace" in line for line in lines), lines
            tracer.terminate()
        victim.terminate()


def test_a_directory_that_is_no_fuse_mount_is_one_line(tmp_path: Path) -> None:
    first, hint = refused(tmp_path / "t.pcapng", "--mount", str(tmp_path))
    assert first.endswith("is not on a FUSE mount")
    assert hint.strip()


def test_without_strace_the_package_is_named(tmp_path: Path) -> None:
    first, hint = refused(tmp_path / "t.pcapng", "--bridge", "strace", "--", sys.executable, PATH=str(tmp_path))
    assert "strace" in first
    assert "apt-get install strace" in hint


@pytest.mark.parametrize("words", [(), ("--pid", "1", "--mount", "/"), ("--pid", "1", "--", "bindfs")])
def test_what_to_record_is_said_once(words: tuple[str, ...], tmp_path: Path) -> None:
    first, hint = refused(tmp_path / "t.pcapng", *words)
    assert ("say what to record" in first) is (not words)
    assert "fusewire record -o trace.pcapng -- bindfs" in hint


@pytest.mark.parametrize("place", [".", "no/such/place"])
def test_a_place_that_takes_no_trace_is_refused_before_the_server_is_started(place: str, tmp_path: Path) -> None:
    witness = tmp_path / "started"
    first, _ = refused(tmp_path / place, "--", "touch", str(witness))
    assert "director" in first
    assert not witness.exists()


def test_a_server_that_is_a_script_is_recorded(bridge: str, bindfs: Bindfs, tmp_path: Path) -> None:
    """What serves is a grandchild: strace follows it there."""
    script = tmp_path / "serve"
    script.write_text('#!/bin/sh\n"$@" &\nwait\n')
    script.chmod(0o755)
    out = tmp_path / "t.pcapng"
    with bindfs.started(
        lambda argv: launched(out, "--bridge", bridge, "--snap", "all")([str(script), *argv])
    ) as running:
        workload.run(running.mount_point, "reading")
        assert running.unmount()
        assert running.wait() == 0, running.output()
    trace = Trace.open(out)
    check_whole(trace)
    assert opcodes(trace)["INIT"] == 1


def test_demo_tools_are_not_needed_to_read_a_trace(bridge: str, memfs: Memfs, tmp_path: Path) -> None:
    """A trace is complete in itself: it is read the same where there is no strace and no /dev/fuse."""
    out = tmp_path / "t.pcapng"
    with memfs.started(launched(out, "--bridge", bridge)) as running:
        workload.run(running.mount_point, "reading")
    copy = tmp_path / "copy.pcapng"
    shutil.copy(out, copy)
    words = [sys.executable, "-m", "tracer.cli.main", "show", str(copy)]
    here = subprocess.run(words, capture_output=True, timeout=60, check=True).stdout
    there = subprocess.run(
        words, capture_output=True, timeout=60, check=True, env={**os.environ, "PATH": "/nonexistent"}
    ).stdout
    assert here == there
    assert here.count(b"\n") > 20
