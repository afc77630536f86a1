"""What the programs tell of a running kernel is what a server witnessed, byte for byte."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo import possible
from tests.conftest import MakeServer
from tests.servers import disturb, workload
from tests.servers.base import Running
from tests.servers.memory import Memory, RingMemory
from tests.servers.splicing import Splicing
from tests.tracer.bridges.ebpf.captured import IN_HEADER, Event, capturing, why_not_built
from tracer.bridges.ebpf import libbpf, objects
from tracer.bridges.ebpf import programs as programs_module
from tracer.bridges.ebpf.event import EVENT_BYTES, SMALL_BYTES, Choice, ConnectionFlag, Flag, Kind
from tracer.bridges.ebpf.programs import Config, Programs

LOOKUP, FORGET, GETATTR, READ, WRITE, RELEASE, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 15, 16, 18, 26, 36, 42
HEADER_OUT, HEADER_IN = 16, 40
MIB = 1 << 20

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(possible.why_not_root() is not None, reason=str(possible.why_not_root())),
    pytest.mark.skipif(why_not_built() is not None, reason=str(why_not_built())),
]


@pytest.fixture
def memory(make_server: MakeServer) -> Memory:
    return make_server(Memory, with_journal=True)


@pytest.fixture
def mounted(memory: Memory) -> Iterator[Running]:
    with memory.started() as running:
        yield running


def of_server(memory: Memory) -> tuple[Counter[bytes], Counter[bytes]]:
    """Return what a server was sent and what it sent, each message with how often."""
    witnessed = memory.witnessed()
    return (
        Counter(message.data for message in witnessed if message.to_server),
        Counter(message.data for message in witnessed if not message.to_server),
    )


def of_kernel(events: list[Event]) -> tuple[Counter[bytes], Counter[bytes]]:
    """Return the same as the events tell it."""
    answered = [event for event in events if event.kind == Kind.END and not event.flags & Flag.NO_REPLY]
    return (
        Counter(event.data for event in events if event.kind in (Kind.SEND, Kind.READ)),
        Counter(event.data for event in [*answered, *(event for event in events if event.kind == Kind.WRITE)]),
    )


def disturb_all(memory: Memory, running: Running) -> None:
    """Let everything happen that a server can see: files of all sizes, notifications, interrupts, forgets."""
    workload.run(running.mount_point, "mixed")
    large = running.mount_point / "large"
    large.write_bytes(os.urandom(3 * MIB + 17))
    memory.inval_inode(large.stat().st_ino)  # so that it is read from the server
    large.read_bytes()
    nodeid = (running.mount_point / "numbers.bin").stat().st_ino
    memory.store(nodeid, 0, os.urandom(5000))
    memory.retrieve(nodeid, 0, 5000)
    assert memory.inval_entry("nothing of this name") == errno.ENOENT
    with disturb.waiting_reader(running.mount_point / "held") as reader:
        memory.await_held(1)
        reader.interrupt()
        assert reader.outcome() == "EINTR"
    for name in ("hello.txt", "numbers.bin", "large"):
        memory.inval_entry(name)
    memory.await_request(FORGET)


@pytest.mark.parametrize("copy_twice", [False, True], ids=["straight into the ring", "by way of a buffer"])
@pytest.mark.parametrize("kind", [Memory, RingMemory], ids=lambda kind: kind.name)
def test_every_message_that_a_server_witnessed_is_told_byte_for_byte(
    kind: type[Memory], copy_twice: bool, make_server: MakeServer
) -> None:
    memory = make_server(kind, with_journal=True)
    with capturing(Config(), copy_twice=copy_twice) as capture:
        with memory.started() as running:
            number = disturb.connection_number(running.mount.st_dev)
            capture.programs.configure(Config(connections=(number,), choice=Choice.ONLY))  # the host may be busy
            disturb_all(memory, running)
            assert running.unmount()
        events = [event for event in capture.events() if event.connection == number]
        sent, answered = of_server(memory)
        told_sent, told_answered = of_kernel(events)
        assert not sent - told_sent
        assert not told_sent - sent
        assert not answered - told_answered
        assert not told_answered - answered
        assert [capture.counted(name) for name in ("dropped_events", "cut_events", "faults")] == [0, 0, 0]
        assert capture.programs.recursion_misses() == 0
        assert max(len(event.data) for event in events) > 64 * 1024


def test_payloads_that_only_pipes_saw_are_told_as_they_are_on_disk(make_server: MakeServer) -> None:
    server = make_server(Splicing)
    content = os.urandom(2 * MIB + 4321)
    with server.started() as running, capturing(Config()) as capture:
        path = running.mount_point / "spliced"
        path.write_bytes(content)
        with open(os.open(path, os.O_RDONLY | os.O_DIRECT), "rb", buffering=0) as file, mmap.mmap(-1, MIB) as buffer:
            while file.readinto(buffer):
                pass
        assert running.unmount()
        events = capture.events(Kind.SEND, Kind.END)
    requests = {event.unique: event for event in events if event.kind == Kind.SEND and event.opcode in (READ, WRITE)}
    read, written = bytearray(len(content)), bytearray(len(content))
    for event in events:
        request = requests.get(event.unique)
        if request is None or event.kind != Kind.END:
            continue
        at = struct.unpack_from("<Q", request.data, HEADER_IN + 8)[0]
        if request.opcode == WRITE:
            written[at : at + len(request.data) - 80] = request.data[80:]
        else:
            read[at : at + len(event.data) - HEADER_OUT] = event.data[HEADER_OUT:]
    assert bytes(written) == content
    assert bytes(read) == content


def test_forgets_that_a_server_splices_are_told(make_server: MakeServer) -> None:
    server = make_server(Splicing)
    with server.started() as running, capturing(Config()) as capture:
        path = running.mount_point / "short-lived"
        path.write_bytes(b"gone soon")
        path.unlink()
        forget = capture.await_event(Kind.READ, FORGET)
        assert running.unmount()
    assert forget.flags & Flag.SPLICED
    assert forget.is_whole
    assert len(forget.data) == HEADER_IN + 8
    assert forget.tgid == running.pid


def test_a_snapped_message_keeps_its_length_and_says_why_it_is_cut(mounted: Running) -> None:
    with capturing(Config(snap=100)) as capture:
        (mounted.mount_point / "cut").write_bytes(bytes(10_000))
        assert mounted.unmount()
        events = capture.events(Kind.SEND, Kind.END)
    write = next(event for event in events if event.kind == Kind.SEND and event.opcode == WRITE)
    assert (len(write.data), write.wire_len, write.flags) == (100, 80 + 10_000, Flag.CUT_BY_SNAP)
    assert all(len(event.data) == min(event.wire_len, 100) for event in events)
    assert all(bool(event.flags & Flag.CUT_BY_SNAP) == (event.wire_len > 100) for event in events)


def test_without_payloads_only_what_lies_in_pages_is_left_out(mounted: Running) -> None:
    with capturing(Config(want_payload=False)) as capture:
        (mounted.mount_point / "a name that stays").write_bytes(bytes(100))
        events = capture.events(Kind.SEND)
    write = next(event for event in events if event.opcode == WRITE)
    assert (len(write.data), write.wire_len, write.flags) == (80, 180, Flag.CUT_BY_SNAP)
    assert all(event.is_whole for event in events if event.opcode != WRITE)


def test_a_full_ring_keeps_headers_and_counts_each_event_that_is_missing(memory: Memory, mounted: Running) -> None:
    with capturing(Config(), ring_bytes=64 * 1024) as capture:
        for number in range(3):
            (mounted.mount_point / f"file{number}").write_bytes(bytes(2 * MIB))
        workload.run(mounted.mount_point, "stats")
        events = capture.events()
        numbers = [sorted(event.seq for event in events if event.cpu == cpu) for cpu in range(os.cpu_count() or 1)]
        made = capture.programs.counters()["events"].tolist()
        missing = sum(made) - len(events)
        assert all(number == sorted(set(number)) for number in numbers)
        assert missing > 0
        assert capture.counted("dropped_events") == missing
        assert capture.counted("dropped_bytes") >= missing * (EVENT_BYTES + HEADER_OUT)
        cut = [event for event in events if event.flags & Flag.RING_FULL]
        assert cut
        assert capture.counted("cut_events") == len(cut)
        assert all(HEADER_OUT <= len(event.data) <= SMALL_BYTES < event.wire_len for event in cut)


def test_only_chosen_opcodes_are_told(mounted: Running) -> None:
    with capturing(Config(opcodes=frozenset({GETATTR, WRITE}))) as capture:
        workload.run(mounted.mount_point, "mixed")
        sent = capture.events(Kind.SEND)
        assert {event.opcode for event in sent} == {GETATTR, WRITE}
        assert {event.req for event in capture.events(Kind.END)} <= {event.req for event in sent}
        assert not capture.events(Kind.READ, Kind.WRITE)


def test_connections_can_be_chosen_and_left_out_while_the_programs_run(make_server: MakeServer) -> None:
    one, other = make_server(Memory, "one"), make_server(Memory, "other")
    with one.started() as first, other.started() as second, capturing(Config()) as capture:
        chosen = disturb.connection_number(first.mount.st_dev)

        def seen_with(choice: Choice) -> set[int]:
            before = len(capture.events())
            capture.programs.configure(Config(connections=(chosen,), choice=choice))
            for running in (first, second):
                (running.mount_point / choice.name).write_bytes(b"x")
            return {event.connection for event in capture.events()[before:] if event.kind == Kind.SEND}

        assert seen_with(Choice.ONLY) == {chosen}
        assert disturb.connection_number(second.mount.st_dev) in seen_with(Choice.EXCEPT)
        assert chosen not in seen_with(Choice.EXCEPT)


def test_only_requests_of_a_chosen_caller_are_told(mounted: Running) -> None:
    with capturing(Config(pid=os.getpid())) as capture:
        tally = workload.run(mounted.mount_point, "mixed")
        assert not [event for event in capture.events() if event.tgid == tally.pid]
        (mounted.mount_point / "ours").write_bytes(b"x")
        assert {event.tgid for event in capture.events(Kind.SEND)} == {os.getpid()}


def test_who_asked_and_who_answered_is_told(mounted: Running) -> None:
    with capturing(Config()) as capture:
        (mounted.mount_point / "ours").write_bytes(b"x")
        events = capture.events(Kind.SEND, Kind.END)
    sent = next(event for event in events if event.kind == Kind.SEND and event.opcode == WRITE)
    ended = next(
        event for event in events if event.kind == Kind.END and event.req == sent.req and event.t_ns > sent.t_ns
    )
    assert (sent.tgid, sent.tid) == (os.getpid(), threading.get_native_id())
    assert sent.comm == Path("/proc/thread-self/comm").read_bytes().strip()
    assert ended.tgid == mounted.pid
    assert sent.t_ns < ended.t_ns
    assert sent.s_dev == disturb.connection_number(mounted.mount.st_dev)


def test_the_unique_of_an_open_request_is_told_by_its_address_until_it_ends(memory: Memory, mounted: Running) -> None:
    with capturing(Config()) as capture, disturb.waiting_reader(mounted.mount_point / "held") as reader:
        memory.await_held(1)
        event = capture.await_event(Kind.SEND, READ)
        nodeid = IN_HEADER.unpack_from(event.data)[3]
        assert capture.programs.unique_of(event.req, READ, nodeid) == event.unique
        assert capture.programs.unique_of(event.req, WRITE, nodeid) is None
        assert capture.programs.unique_of(event.req, READ, nodeid + 1) is None
        assert capture.programs.unique_of(0, READ, nodeid) is None
        memory.release()
        assert reader.outcome() == "released"
        assert capture.programs.unique_of(event.req, READ, nodeid) is None


def test_a_delivery_is_told_between_the_sending_and_the_end(mounted: Running) -> None:
    with capturing(Config(want_deliver=True)) as capture:
        (mounted.mount_point / "ours").write_bytes(b"x")
        events = capture.events()
    times = {kind: {event.unique: event.t_ns for event in events if event.kind == kind} for kind in Kind}
    delivered = [unique for unique in times[Kind.DELIVER] if unique in times[Kind.SEND] and unique in times[Kind.END]]
    assert delivered
    assert all(times[Kind.SEND][one] < times[Kind.DELIVER][one] < times[Kind.END][one] for one in delivered)
    assert not any(event.data for event in events if event.kind == Kind.DELIVER)


def test_an_aborted_request_ends_without_an_answer(memory: Memory, mounted: Running) -> None:
    with capturing(Config()) as capture, disturb.waiting_reader(mounted.mount_point / "held") as reader:
        memory.await_held(1)
        sent = capture.await_event(Kind.SEND, READ)
        with disturb.connection(mounted.mount) as connection:
            connection.abort()
        assert reader.outcome() == "ECONNABORTED"
        ended = next(event for event in capture.events(Kind.END) if event.unique == sent.unique)
    assert ended.flags & Flag.NO_REPLY
    assert ended.error == -errno.ECONNABORTED


def test_open_devices_are_listed_with_what_init_agreed(mounted: Running) -> None:
    with capturing(Config()) as capture:
        number = disturb.connection_number(mounted.mount.st_dev)
        found = [one for one in capture.programs.connections() if one.connection == number]
    assert {one.tgid for one in found} == {mounted.pid}
    one = found[0]
    assert (one.s_dev, one.minor > 30, one.max_write >= 4096, one.max_pages > 0) == (number, True, True, True)
    assert one.flags >= ConnectionFlag.INITIALIZED | ConnectionFlag.CONNECTED
    assert not one.flags & ConnectionFlag.ON_MOUNT


def test_a_connection_is_found_by_its_mount_without_a_request(mounted: Running) -> None:
    with capturing(Config()) as capture:
        number = disturb.connection_number(mounted.mount.st_dev)
        fd = os.open(mounted.mount_point, os.O_PATH)
        try:
            found = [one for one in capture.programs.connections() if one.fd == fd and one.tgid == os.getpid()]
        finally:
            os.close(fd)
        assert [event for event in capture.events() if event.connection == number] == []
    assert [(one.connection, one.s_dev) for one in found] == [(number, number)]
    assert found[0].flags & ConnectionFlag.ON_MOUNT
    assert found[0].minor > 30


def test_what_is_in_the_ring_can_be_read_after_detaching(mounted: Running) -> None:
    with capturing(Config()) as capture:
        (mounted.mount_point / "before").write_bytes(b"x")
        capture.programs.detach()
        (mounted.mount_point / "after").write_bytes(b"x")
        told = b"".join(event.data for event in capture.events())
    assert b"before\0" in told
    assert b"after\0" not in told


def test_more_connections_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        Config(connections=tuple(range(17)), choice=Choice.ONLY).pack(None)


def test_all_and_no_opcodes_are_what_they_say() -> None:
    assert Config().pack(None)["opcodes"][0] == (1 << 64) - 1
    none = Config(opcodes=frozenset()).pack(None)
    assert (none["opcodes"][0], none["other_opcodes"][0]) == (0, 0)
    beyond = Config(opcodes=frozenset({4096})).pack(None)
    assert (beyond["opcodes"][0], beyond["other_opcodes"][0]) == (0, 1)


KILLED = """
import signal
from tracer.bridges.ebpf.programs import Config, Programs
programs = Programs.load(Config(), 1 << 20)
print(*programs.ids(), flush=True)
signal.pause()
"""


def test_a_killed_recorder_leaves_no_program_and_the_mount_goes_on(mounted: Running) -> None:
    with capturing(Config()):
        pass  # skips where nothing can be loaded
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        ids = [int(word) for word in recorder.stdout.readline().split()]
        assert len(ids) >= 2
        assert all(program_exists(number) for number in ids)
        recorder.kill()
    deadline = time.monotonic() + 10  # the kernel frees them when no CPU can be running them any more
    while any(program_exists(number) for number in ids):
        assert time.monotonic() < deadline
    workload.run(mounted.mount_point, "mixed")


def program_exists(number: int) -> bool:
    """Ask the kernel for an eBPF program by its number."""
    library = libbpf.load()
    library.bpf_prog_get_fd_by_id.argtypes = (ctypes.c_uint32,)
    fd = library.bpf_prog_get_fd_by_id(number)
    if fd < 0:
        assert ctypes.get_errno() == errno.ENOENT
        return False
    os.close(fd)
    return True


def test_attaching_and_detaching_under_load_harms_nobody(mounted: Running) -> None:
    numbers = (mounted.mount_point / "numbers.bin").read_bytes()
    with capturing(Config()):
        pass  # skips where nothing can be loaded
    load = subprocess.Popen(["dd", f"if={mounted.mount_point}/numbers.bin", "of=/dev/null", "bs=1", "status=none"])
    try:
        for _ in range(10):
            Programs.load(Config(), 1 << 16).close()
    finally:
        load.kill()
        load.wait(10)
    assert (mounted.mount_point / "numbers.bin").read_bytes() == numbers


def test_the_probe_tells_what_can_be_captured_here_and_records_nothing(mounted: Running) -> None:
    with capturing(Config()) as capture:
        findings = programs_module.probe()
        assert findings[0].is_good
        assert ("eBPF payloads" in [one.name for one in findings if one.is_good]) == (
            capture.programs.direct_map is not None
        )


def test_the_probe_tells_why_nothing_can_be_captured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(objects, "OBJECT", tmp_path / "absent.bpf.o")
    (finding,) = programs_module.probe()
    assert not finding.is_good
    assert "clang" in finding.fact
    assert "apt-get install" in finding.mend
