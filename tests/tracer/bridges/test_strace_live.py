"""Real servers on this kernel, recorded as they work."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from examples.demo import mounts, possible
from tests.servers import workload
from tests.servers.base import NUMBERS, Server
from tests.servers.memfs import Memfs
from tests.servers.real import Bindfs, PassthroughLl
from tests.tracer.bridges.collecting import Collected, missing_uniques, opcode, orphans, unique
from tracer.bridges.host.processes import status, tracer_of
from tracer.bridges.strace import Snap, StraceBridge
from tracer.errors import CaptureError, TraceFileError, TracerError
from tracer.records import BridgeKind, Direction, RawRecord, RecordFlag

pytestmark = [pytest.mark.e2e, pytest.mark.root]

DEADLINE_S = 20.0
# The opcodes of what a workload says it made the kernel ask (<linux/fuse.h>, enum fuse_opcode).
OPCODES = {
    "SETATTR": 4, "SYMLINK": 6, "MKDIR": 9, "UNLINK": 10, "RMDIR": 11, "RENAME": 12, "LINK": 13, "FSYNC": 20,
    "SETXATTR": 21, "REMOVEXATTR": 24, "CREATE": 35,
}  # fmt: skip
INIT, READ = 26, 15


class Recording:
    """A bridge at work in a thread of its own."""

    def __init__(self, bridge: StraceBridge, sink: Collected) -> None:
        self.bridge = bridge
        self.sink = sink
        self.stop = threading.Event()
        self.error: TracerError | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        until(lambda: self.bridge.attached.is_set() or not self._thread.is_alive(), "the bridge is attached")

    def wait(self, timeout_s: float = DEADLINE_S) -> Collected:
        """Wait until the capture ends by itself."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the capture goes on"
        if self.error is not None:
            raise self.error
        return self.sink

    def end(self) -> Collected:
        self.stop.set()
        return self.wait()

    def _run(self) -> None:
        try:
            self.bridge.run(self.sink, self.stop)
        except TracerError as error:
            self.error = error


def until(is_so: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.005)


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def record(notes: list[str]) -> Iterator[Callable[..., Recording]]:
    """Return a function that starts a capture; captures end with the test."""
    if (reason := possible.why_no_program("strace", "strace") or possible.why_not_root()) is not None:
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:

        def start(sink: Collected | None = None, **options: object) -> Recording:
            bridge = StraceBridge(on_note=notes.append, **options)  # type: ignore[arg-type]
            recording = Recording(bridge, sink or Collected())
            stack.callback(recording._thread.join, DEADLINE_S)
            stack.callback(recording.stop.set)
            recording.start()
            return recording

        yield start


@contextlib.contextmanager
def launched(
    record: Callable[..., Recording], server: Server, argv: Sequence[str] = (), **options: object
) -> Iterator[Recording]:
    """Start a server under the bridge, and unmount it in the end."""
    for place in server.mount_points():
        place.mkdir(parents=True, exist_ok=True)
    recording = record(server_argv=argv or server.command(server.mount_point), **options)
    try:
        for place in server.mount_points():
            mounts.wait_mounted(place)
        yield recording
    finally:
        for place in server.mount_points():
            mounts.unmount(place)


def check_is_whole(collected: Collected) -> None:
    """Every request is there, every reply belongs to one, and nothing was lost."""
    assert collected.gaps == []
    assert orphans(collected) == []
    for channel in range(len(collected.channels)):
        assert missing_uniques(collected, channel) == []
    refused = [r for r in collected.all if r.flags & RecordFlag.REJECTED]
    assert all(int.from_bytes(r.data[:4], "little") == r.wire_len for r in collected.all if r not in refused)


def check_holds(collected: Collected, tally: workload.Tally) -> None:
    """Every request that the workload made the kernel send is there. With writeback caching it also sends SETATTR."""
    made = Counter(map(opcode, collected.requests))
    made[OPCODES["SETATTR"]] = min(made[OPCODES["SETATTR"]], tally.requests.get("SETATTR", 0))
    assert {name: made[OPCODES[name]] for name in tally.requests} == tally.requests


def test_a_server_is_launched_and_recorded_from_init_to_unmount(packaged_server: Server, record) -> None:
    with launched(record, packaged_server) as recording:
        tally = workload.run(packaged_server.mount_point, "mixed" if packaged_server.writable else "reading")
    collected = recording.wait()
    check_is_whole(collected)
    assert opcode(collected.requests[0]) == INIT
    check_holds(collected, tally)
    assert {record.bridge for record in collected.all} == {BridgeKind.STRACE}
    assert b"python" in b" ".join(record.comm for record in collected.requests)


def test_a_channel_says_what_it_is(bindfs: Bindfs, record) -> None:
    with launched(record, bindfs) as recording:
        workload.run(bindfs.mount_point, "reading")
        mount = mounts.fuse_mount_at(bindfs.mount_point)
    (info,) = recording.wait().channels
    assert mount is not None
    assert info.name == info.mount_point == str(bindfs.mount_point)
    assert info.fstype == "fuse"
    assert info.connection == int(info.st_dev.split(":")[1])
    assert info.server_command == f"bindfs -f {bindfs.source} {bindfs.mount_point}"
    assert info.kernel == os.uname().release
    assert (info.clock, info.snap_bytes, info.read_only) == ("realtime", 512, False)
    assert any("512 bytes" in note for note in info.notes)
    assert all(record.server_pid == info.server_pid for record in recording.sink.all)


def test_lossless_capture_holds_every_byte_the_server_saw(memfs: Memfs, record) -> None:
    """The server keeps a journal of what it read and wrote: the capture is the same, byte for byte, in that order."""
    with launched(record, memfs, snap_bytes=Snap.ALL) as recording:
        workload.run(memfs.mount_point)
    collected = recording.wait()
    witnessed = memfs.witnessed()
    assert collected.bytes_lost == 0
    assert Counter((r.direction is Direction.TO_SERVER, r.data, -r.result) for r in collected.all) == Counter(
        (w.to_server, w.data, w.errno) for w in witnessed
    )
    assert collected.channels[0].snap_bytes == 0


def test_the_default_keeps_headers_and_names_and_counts_what_it_cuts(memfs: Memfs, record) -> None:
    with launched(record, memfs) as recording:
        workload.run(memfs.mount_point)
    collected = recording.wait()
    full = {(w.to_server, w.unique, len(w.data)): w.data for w in memfs.witnessed()}
    assert collected.bytes_lost > workload.BIG_BYTES
    for kept in collected.all:
        whole = full[kept.direction is Direction.TO_SERVER, unique(kept), kept.wire_len]
        assert whole.startswith(kept.data)
        assert len(kept.data) >= min(512, len(whole))


def test_two_mounts_of_one_process_are_two_channels(make_server, record) -> None:
    server = make_server(Memfs, two=True)
    with launched(record, server) as recording:
        workload.run(server.mount_point, "reading")
        workload.run(server.second_mount_point, "reading")
    collected = recording.wait()
    check_is_whole(collected)
    assert sorted(info.mount_point for info in collected.channels) == sorted(map(str, server.mount_points()))
    journal = Counter((w.mount, w.unique) for w in server.witnessed() if w.to_server)
    by_mount = {info.mount_point: number for number, info in enumerate(collected.channels)}
    channels = [by_mount[str(place)] for place in server.mount_points()]
    assert Counter((channels.index(r.channel), unique(r)) for r in collected.requests) == journal


SYNC_AND_STAY = """
import ctypes, os, sys
with open("/proc/self/comm", "w") as comm:
    comm.write("stays-for-sync")
assert ctypes.CDLL(None).syncfs(os.open(sys.argv[1], os.O_RDONLY)) == 0
sys.stdin.read()
"""


@contextlib.contextmanager
def syncing_and_staying(place: Path) -> Iterator[None]:
    """Let a process call syncfs(2), and live until the block ends: its name can be looked up in /proc all that time."""
    caller = subprocess.Popen([sys.executable, "-c", SYNC_AND_STAY, str(place)], stdin=subprocess.PIPE)
    assert caller.stdin is not None
    try:
        yield
        caller.stdin.close()
        assert caller.wait(DEADLINE_S) == 0
    finally:
        caller.kill()
        caller.stdin.close()
        caller.wait(DEADLINE_S)


def test_a_fuseblk_mount_is_named_and_its_syncfs_is_recorded(memfs_fuseblk, record) -> None:
    place = memfs_fuseblk.mount_point
    with memfs_fuseblk.lent_device(), launched(record, memfs_fuseblk) as recording, syncing_and_staying(place):
        until(lambda: 50 in map(opcode, recording.sink.requests), "the SYNCFS is passed on")
    collected = recording.wait()
    check_is_whole(collected)
    assert collected.channels[0].fstype.startswith("fuseblk")
    assert collected.channels[0].kind.name == "FUSEBLK"
    (syncfs,) = [record for record in collected.requests if opcode(record) == 50]
    assert syncfs.comm == b"stays-for-sync"


def test_a_server_with_clone_fd_and_threads_is_one_channel(make_server, record) -> None:
    server = make_server(PassthroughLl, options=("clone_fd", "cache=never"))
    with launched(record, server) as recording:
        tally = workload.run(server.mount_point, "parallel")
    collected = recording.wait()
    check_is_whole(collected)
    assert len(collected.channels) == 1
    assert len({record.server_tid for record in collected.all}) > 1
    check_holds(collected, tally)


def test_a_server_that_becomes_a_daemon_is_followed(bindfs: Bindfs, record) -> None:
    argv = [word for word in bindfs.command(bindfs.mount_point) if word != "-f"]
    with launched(record, bindfs, argv) as recording:
        workload.run(bindfs.mount_point, "reading")
        until(lambda: status(recording.bridge.server_pid).get("State", "Z")[0] == "Z", "its first process has ended")
        before = len(recording.sink.all)
        workload.run(bindfs.mount_point, "reading")
        assert recording.sink.wait_for(before + 5)
    check_is_whole(recording.wait())


@pytest.mark.parametrize("options", [(), ("--multithreaded",)])
def test_attaching_sees_what_comes_then_and_lets_the_server_go(
    bindfs: Bindfs, record, notes: list[str], options: tuple[str, ...]
) -> None:
    with bindfs.started(lambda argv: [argv[0], *options, *argv[1:]]) as running:
        workload.run(bindfs.mount_point, "reading")
        recording = record(pid=running.pid)
        assert tracer_of(running.pid) != 0
        tally = workload.run(bindfs.mount_point)
        collected = recording.end()
        assert tracer_of(running.pid) == 0
        workload.run(bindfs.mount_point, "reading")
        assert running.process.poll() is None
    check_holds(collected, tally)
    assert INIT not in map(opcode, collected.requests)
    assert missing_uniques(collected, 0) == []
    assert any("INIT was not seen" in note for note in collected.channels[0].notes)
    assert any(f"attached to {running.pid}" in note for note in notes)


@pytest.mark.parametrize("below", [".", "dir", "dir/inner.txt"])
def test_the_server_of_a_mount_is_found(bindfs: Bindfs, record, below: str, tmp_path: Path) -> None:
    with bindfs.started() as running:
        (tmp_path / "link").symlink_to(bindfs.mount_point)
        recording = record(mount=tmp_path / "link" / below)
        assert tracer_of(running.pid) != 0
        workload.run(bindfs.mount_point, "reading")
        collected = recording.end()
        assert collected.channels[0].server_pid == running.pid


def test_finding_the_server_of_a_mount_asks_it_nothing(memfs: Memfs, record) -> None:
    """A mount whose server hangs would hang whoever touches it: here the server is stopped."""
    with memfs.started() as running:
        before = workload.run(memfs.mount_point, "reading")
        asked = len(memfs.witnessed())
        os.kill(running.pid, signal.SIGSTOP)
        try:
            recording = record(mount=memfs.mount_point / "dir")
            recording.end()
        finally:
            os.kill(running.pid, signal.SIGCONT)
        after = workload.run(memfs.mount_point, "reading")
    assert {w.pid for w in memfs.witnessed()[asked:] if w.to_server} <= {0, before.pid, after.pid}


def test_a_sink_that_stands_still_does_not_stall_the_server(bindfs: Bindfs, record) -> None:
    class Stuck(Collected):
        def __init__(self) -> None:
            super().__init__()
            self.go_on = threading.Event()

        def records(self, batch: Sequence[RawRecord]) -> None:
            assert self.go_on.wait(60)
            super().records(batch)

    sink = Stuck()
    with launched(record, bindfs, sink=sink) as recording:
        for _ in range(3):
            workload.run(bindfs.mount_point, "stats", timeout_s=30)
        assert sink.all == []
        sink.go_on.set()
    collected = recording.wait()
    check_is_whole(collected)
    assert len(collected.all) > 3 * workload.STAT_ROUNDS


def test_a_sink_that_fails_ends_the_capture_and_lets_the_server_go(bindfs: Bindfs, record) -> None:
    class Full(Collected):
        def records(self, batch: Sequence[RawRecord]) -> None:
            raise TraceFileError("the disk is full")

    with launched(record, bindfs, sink=Full()) as recording:
        workload.run(bindfs.mount_point, "reading")
        with pytest.raises(TraceFileError, match="disk is full"):
            recording.wait()
        until(lambda: tracer_of(recording.bridge.server_pid) == 0, "the server is not traced any more")
        workload.run(bindfs.mount_point, "reading")


def test_killing_strace_leaves_the_server_alive_and_says_so(bindfs: Bindfs, record) -> None:
    with launched(record, bindfs) as recording:
        workload.run(bindfs.mount_point, "reading")
        os.kill(tracer_of(recording.bridge.server_pid), signal.SIGKILL)
        collected = recording.wait()
        workload.run(bindfs.mount_point, "reading")
    assert [gap.reason for gap in collected.gaps] == [
        "strace ended while the server went on: nothing was seen after this"
    ]
    assert READ in map(opcode, collected.requests)


def test_killing_the_recorder_leaves_the_server_alive(bindfs: Bindfs, record) -> None:
    recorder = (
        "import sys, threading\n"
        "from tests.tracer.bridges.collecting import Collected\n"
        "from tracer.bridges.strace import StraceBridge\n"
        "StraceBridge(server_argv=sys.argv[1:]).run(Collected(), threading.Event())\n"
    )
    bindfs.mount_point.mkdir(parents=True)
    argv = [sys.executable, "-c", recorder, *bindfs.command(bindfs.mount_point)]
    process = subprocess.Popen(argv, cwd=Path(__file__).parents[3])
    try:
        mounts.wait_mounted(bindfs.mount_point, process)
        workload.run(bindfs.mount_point, "reading")
        process.kill()
        process.wait()
        workload.run(bindfs.mount_point, "reading", timeout_s=20)
    finally:
        mounts.unmount(bindfs.mount_point)
        mounts.stop(process)


def test_the_capture_ends_with_its_server(bindfs: Bindfs, record) -> None:
    with bindfs.started() as running:
        recording = record(pid=running.pid)
        workload.run(bindfs.mount_point, "reading")
        running.process.kill()
        assert recording.wait().gaps == []


def test_stopping_lets_a_launched_server_live(bindfs: Bindfs, record) -> None:
    with launched(record, bindfs) as recording:
        workload.run(bindfs.mount_point, "reading")
        collected = recording.end()
        pid = recording.bridge.server_pid
        assert status(pid)["State"].startswith("S")
        assert tracer_of(pid) == 0
        workload.run(bindfs.mount_point, "reading")
        assert collected.gaps == []


def test_what_the_server_says_is_passed_on_escaped(record, notes: list[str]) -> None:
    with pytest.raises(CaptureError) as refused:
        record(server_argv=["sh", "-c", "printf 'cannot \\033[31mstart\\n' >&2; exit 3"]).wait()
    assert "exit code 3" in refused.value.message
    assert "cannot \\x1b[31mstart" in refused.value.message
    assert "server: cannot \\x1b[31mstart" in notes


def test_a_server_that_does_not_start_is_quoted(bindfs: Bindfs, record, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    with pytest.raises(CaptureError, match=r"bindfs ended with exit code 1 before it served FUSE: .*no-such-source"):
        record(server_argv=["bindfs", "-f", str(tmp_path / "no-such-source"), str(tmp_path / "mnt")]).wait()


def test_a_server_killed_before_it_serves_is_told_so(record) -> None:
    with pytest.raises(CaptureError, match="killed by signal 9"):
        record(server_argv=["sh", "-c", "kill -9 $$"]).wait()


def test_a_process_traced_by_another_is_refused_with_its_name(bindfs: Bindfs, record) -> None:
    with bindfs.started() as running:
        record(pid=running.pid)
        with pytest.raises(CaptureError, match=rf"process {running.pid} is already traced by \d+ \(strace\)"):
            StraceBridge(pid=running.pid).run(Collected(), threading.Event())


def test_hex_dumps_asked_of_strace_fill_what_the_snap_cut(memfs: Memfs, record) -> None:
    options = ("-e", "read=all", "-e", "write=all")
    with launched(record, memfs, snap_bytes=32, strace_options=options) as recording:
        workload.run(memfs.mount_point, "reading")
    collected = recording.wait()
    assert collected.bytes_lost == 0
    reads = {unique(r) for r in collected.requests if opcode(r) == READ}
    assert NUMBERS in b"".join(r.data[16:] for r in collected.replies if unique(r) in reads)
