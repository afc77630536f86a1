"""The whole tap between a VMM and a daemon on real sockets, rings and eventfds."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tracer.bridges.collecting import Collected, unique
from tests.tracer.bridges.vhost_user.peers import NEED_REPLY, TIMEOUT_S, Daemon, Vmm
from tests.tracer.bridges.vhost_user.rings import Driver, GuestMemory, reply_bytes, request_bytes
from tracer.bridges.vhost_user import VhostUserBridge
from tracer.errors import CaptureError, TraceFileError
from tracer.records import BridgeKind, ChannelKind, RawRecord


def answer(request: bytes) -> bytes:
    (number,) = struct.unpack_from("<Q", request, 8)
    return reply_bytes(number, request[40:][::-1])


@dataclass
class Set:
    """A guest, its VMM, the tap and the daemon."""

    guest: GuestMemory
    vmm: Vmm
    bridge: VhostUserBridge
    daemon: Daemon
    collected: Collected
    notes: list[str]
    thread: threading.Thread
    failures: list[BaseException]

    def ended(self) -> str:
        """Wait for the end of the session, and return its reason."""
        self.thread.join(TIMEOUT_S)
        assert not self.thread.is_alive()
        return self.bridge.stats.reason


@contextlib.contextmanager
def tapped(
    *,
    event_idx: bool = True,
    by_table: bool = False,
    sink: Collected | None = None,
    most_waiting: int = 1 << 28,
    by_descriptor: bool = False,
) -> Iterator[Set]:
    collected, notes, failures = sink or Collected(), list[str](), list[BaseException]()
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        daemon = stack.enter_context(Daemon(directory / "daemon", answer))
        listen: Path | int = directory / "tap"
        if by_descriptor:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.fspath(directory / "tap"))
            listener.listen(1)
            listen = listener.detach()
        bridge = VhostUserBridge(listen, daemon.path, most_waiting=most_waiting, on_note=notes.append)

        def run() -> None:
            try:
                bridge.run(collected, stop)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        stack.callback(thread.join, TIMEOUT_S)
        stack.callback(stop.set)
        assert bridge.listening.wait(TIMEOUT_S)
        guest = GuestMemory()
        stack.callback(guest.close)
        vmm = Vmm(directory / "tap", guest, event_idx=event_idx, by_table=by_table)
        stack.callback(vmm.close)
        yield Set(guest, vmm, bridge, daemon, collected, notes, thread, failures)


def load(s: Set, driver: Driver, count: int, first: int = 2) -> dict[int, bytes]:
    """Ask `count` things, as many at a time as fit, waiting only when told; return what came back."""
    random.seed(count)
    sent, heads, got, number = {}, dict[int, int](), dict[int, bytes](), first
    while len(got) < count:
        while len(sent) < count:
            request, old = request_bytes(number, random.randbytes(random.randrange(2000))), driver.available
            head = driver.submit(request, len(request), indirect=bool(number & 2), cut=random.randrange(60))
            if head is None:
                break
            sent[number], heads[head] = request, number
            number += 2
            if driver.must_kick(old):
                os.eventfd_write(s.vmm.kick, 1)
        for head, length, data in driver.collect():
            assert length == len(data)
            got[heads.pop(head)] = data
        if heads and not _has_more(driver):
            s.vmm.wait()
    assert got == {number: answer(request) for number, request in sent.items()}
    return sent


def _has_more(driver: Driver) -> bool:
    (used,) = struct.unpack("<H", driver.memory.at(driver.ring_at + 0x10002, 2))
    return bool(used != driver.seen)


@pytest.mark.parametrize("by_table", [False, True], ids=["ADD_MEM_REG", "SET_MEM_TABLE"])
@pytest.mark.parametrize("event_idx", [True, False], ids=["EVENT_IDX", "flags"])
def test_thousands_of_requests_go_through_and_every_one_is_overheard(event_idx: bool, by_table: bool) -> None:
    with tapped(event_idx=event_idx, by_table=by_table) as s:
        s.vmm.negotiate()
        s.vmm.share()
        driver = Driver(s.guest, 16, event_idx)
        s.vmm.start(driver)
        sent = load(s, driver, 2000)
        assert s.vmm.stop() == 2000
        s.vmm.connection.shutdown(socket.SHUT_RDWR)
        assert s.ended() == "the VMM closed the connection"
        assert not s.failures
    collected = s.collected
    assert {unique(record): record.data for record in collected.requests} == sent
    assert {unique(record): record.data for record in collected.replies} == {n: answer(r) for n, r in sent.items()}
    assert len(collected.all) == 4000
    assert not collected.gaps
    assert {(r.bridge, r.queue) for r in collected.all} == {(BridgeKind.VHOST_USER, 1)}
    assert [info.kind for info in collected.channels] == [ChannelKind.VIRTIOFS]


@pytest.mark.parametrize("event_idx", [True, False], ids=["EVENT_IDX", "flags"])
def test_several_queues_under_load_at_once_do_not_mix(event_idx: bool) -> None:
    queues = range(3)
    with tapped(event_idx=event_idx) as s:
        s.vmm.negotiate()
        s.vmm.share()
        drivers = [Driver(s.guest, 16, event_idx, lane=index) for index in queues]
        for index, driver in enumerate(drivers):
            s.vmm.start(driver, index=index)
        random.seed(1)
        sent: dict[int, bytes] = {}
        heads: list[dict[int, int]] = [{} for _ in queues]
        got: dict[int, bytes] = {}
        number = 2
        while len(got) < 1500:
            for index, driver in enumerate(drivers):
                old = driver.available
                for _ in range(random.randrange(8)):
                    request = request_bytes(number, bytes([index]) + random.randbytes(random.randrange(1500)))
                    head = driver.submit(request, len(request), indirect=bool(number & 2), cut=40)
                    if head is not None:
                        sent[number], heads[index][head] = request, number
                        number += 2
                if driver.available != old and driver.must_kick(old):
                    os.eventfd_write(s.vmm.kick, 1)
            for index, driver in enumerate(drivers):
                for head, _, data in driver.collect():
                    got[heads[index].pop(head)] = data
            if any(heads) and not any(map(_has_more, drivers)):
                s.vmm.wait()
        assert got == {number: answer(request) for number, request in sent.items() if number in got}
        s.vmm.connection.shutdown(socket.SHUT_RDWR)
        s.ended()
    assert {unique(record): (record.queue, record.data) for record in s.collected.requests} == {
        number: (request[40], request) for number, request in sent.items()
    }
    replies = {unique(record): record for record in s.collected.replies}
    assert all(
        replies[number].data == data and replies[number].queue == sent[number][40] for number, data in got.items()
    )
    assert not s.collected.gaps


def test_a_socket_that_listens_already_is_taken_over() -> None:
    with tapped(by_descriptor=True) as s:
        s.vmm.negotiate()
        s.vmm.share()
        driver = Driver(s.guest, 32)
        s.vmm.start(driver)
        sent = load(s, driver, 50)
        s.vmm.connection.shutdown(socket.SHUT_RDWR)
        assert s.ended() == "the VMM closed the connection"
    assert len(s.collected.requests) == len(sent)
    assert s.collected.channels[0].name.startswith("virtiofs at descriptor ")


@pytest.mark.parametrize("kind", ["file", "pair", "closed"])
def test_a_descriptor_that_does_not_listen_is_refused(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        number = 999_999
        if kind == "file":
            number = stack.enter_context(open(tmp_path / "file", "w")).fileno()
        elif kind == "pair":
            one, other = socket.socketpair()
            stack.callback(one.close)
            stack.callback(other.close)
            number = one.fileno()
        with pytest.raises(CaptureError, match=f"descriptor {number} is no "):
            VhostUserBridge(number, tmp_path / "daemon").run(Collected(), threading.Event())


def test_a_ring_is_set_up_anew_after_the_driver_was_reloaded() -> None:
    with tapped() as s:
        s.vmm.negotiate()
        s.vmm.share()
        for round_number in range(3):
            s.guest.put(s.guest.places[0].guest, bytes(0x20000))
            driver = Driver(s.guest, 16)
            s.vmm.start(driver)
            load(s, driver, 100, first=2 + 1000 * round_number)
            assert s.vmm.stop() == 100
        assert s.collected.wait_for(600)
        assert [request for request, _, _ in s.daemon.seen].count(37) == 3  # two of the guest, one of the tap


def test_a_stopped_ring_goes_on_where_it_was() -> None:
    with tapped() as s:
        s.vmm.negotiate()
        s.vmm.share()
        driver = Driver(s.guest, 16)
        s.vmm.start(driver)
        load(s, driver, 50)
        base = s.vmm.stop()
        s.vmm.start(driver, base)
        load(s, driver, 50, first=1002)
        assert s.collected.wait_for(200)


def test_what_would_blind_the_tap_reaches_neither_side() -> None:
    with tapped() as s:
        s.vmm.negotiate()
        assert not s.vmm.offered & (1 << 26 | 1 << 34)
        assert s.vmm.offered & 1 << 29
        assert not s.vmm.protocol & 1 << 1
        assert s.vmm.slots == 31
        assert s.notes[1:] == [
            "LOG_ALL is not offered to the VMM: a migration would miss what the tap writes into the guest's rings",
            "RING_PACKED is not offered to the VMM: the tap copies split rings only",
            "LOG_SHMFD is not offered to the VMM: a migration would miss what the tap writes into the guest's rings",
        ]


BAD = {
    "unknown": (99, b"", "message 99, which is not known"),
    "too short": (2, b"abc", "SET_FEATURES with 3 bytes"),
    "not offered": (31, bytes(20), "GET_INFLIGHT_FD, but the record of requests in flight was not offered"),
    "no power of two": (8, struct.pack("=II", 1, 100), "a ring of 100 slots"),
    "too many slots": (8, struct.pack("=II", 1, 1 << 16), "a ring of 65536 slots"),
    "ring before memory": (9, struct.pack("=IIQQQQ", 1, 0, 0, 0, 0, 0), "names a ring before any memory"),
    "queue 200": (8, struct.pack("=II", 200, 16), "queue 200"),
    "polled": (12, struct.pack("=Q", 1 | 1 << 8), "which the tap does not"),
    "no descriptor": (12, struct.pack("=Q", 1), "comes with 0 descriptors"),
    "nothing to remove": (38, bytes(40), "no memory at 0x0 to remove"),
}


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_message_ends_the_session_with_its_reason_and_never_reaches_the_daemon(bad: str) -> None:
    request, payload, reason = BAD[bad]
    with tapped() as s:
        s.vmm.say(request, payload)
        assert reason in s.ended()
        assert not s.failures
        assert [gap.count for gap in s.collected.gaps] == [0]
        assert reason in s.collected.gaps[0].reason
        with contextlib.suppress(ConnectionResetError):
            assert s.vmm.connection.recv(1) == b""
        assert request not in [request for request, _, _ in s.daemon.seen]


def test_a_kick_that_is_no_eventfd_is_refused() -> None:
    with tapped() as s, socket.socket(socket.AF_UNIX) as other:
        s.vmm.say(12, struct.pack("=Q", 1), [other.fileno()])
        assert "no eventfd" in s.ended()


def test_a_hostile_chain_ends_the_session_and_what_came_before_is_kept() -> None:
    with tapped() as s:
        s.vmm.negotiate()
        s.vmm.share()
        driver = Driver(s.guest, 16)
        s.vmm.start(driver)
        load(s, driver, 20)
        driver.descriptor(5, 1 << 50, 40, 0)
        driver.make_available(5)
        os.eventfd_write(s.vmm.kick, 1)
        assert "not in the guest's memory" in s.ended()
        assert len(s.collected.all) == 40
        assert len(s.collected.gaps) == 1


def test_a_daemon_that_dies_ends_the_session_and_the_vmm_is_told() -> None:
    with tapped() as s:
        s.vmm.negotiate()
        s.daemon.die()
        assert s.ended() == "the daemon closed the connection"
        with contextlib.suppress(ConnectionResetError):  # what it said last may not have been read any more
            assert s.vmm.connection.recv(1) == b""
        assert not s.failures


class Full(Collected):
    """A disk that is full."""

    def records(self, batch: Sequence[RawRecord]) -> None:
        raise TraceFileError("no space left")


def test_a_full_disk_ends_the_recording_and_not_the_guest() -> None:
    with tapped(sink=Full()) as s:
        s.vmm.negotiate()
        s.vmm.share()
        driver = Driver(s.guest, 16)
        s.vmm.start(driver)
        load(s, driver, 200)
        s.vmm.ask(11, struct.pack("=II", 1, 0))
        s.vmm.connection.shutdown(socket.SHUT_RDWR)
        s.ended()
        assert [str(failure) for failure in s.failures] == ["no space left"]


class Stuck(Collected):
    """A disk that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def records(self, batch: Sequence[RawRecord]) -> None:
        assert self.go.wait(TIMEOUT_S)
        super().records(batch)


def test_a_slow_disk_costs_messages_that_are_counted_and_never_the_guest() -> None:
    sink = Stuck()
    with tapped(sink=sink, most_waiting=20_000) as s:
        s.vmm.negotiate()
        s.vmm.share()
        driver = Driver(s.guest, 16)
        s.vmm.start(driver)
        load(s, driver, 300)
        sink.go.set()
        s.vmm.connection.shutdown(socket.SHUT_RDWR)
        s.ended()
        assert not s.failures
    assert sink.gaps
    assert len(sink.all) + sum(gap.count for gap in sink.gaps) == 600


def test_paths_that_cannot_be_used_are_refused_with_the_next_step(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        there = Path(name) / "there"
        there.touch()
        cases = [
            (there, there, "exists already"),
            (Path(name) / "new", Path(name) / "none", "no daemon at"),
            (Path(name) / "new", there, "no daemon at"),
            (Path(name) / "no" / "such", there, "cannot listen at"),
            (tmp_path / ("x" * 200), there, "too long for a socket"),
        ]
        for listen, daemon, reason in cases:
            with pytest.raises(CaptureError, match=reason):
                VhostUserBridge(listen, daemon).run(Collected(), threading.Event())
        assert there.exists()
        assert not (Path(name) / "new").exists()


def test_an_acknowledgement_reaches_the_vmm_and_that_of_the_taps_own_memory_does_not() -> None:
    with tapped() as s:
        s.vmm.negotiate()
        s.vmm.share()
        driver = Driver(s.guest, 16)
        s.vmm.start(driver)  # asserts that each answer is to what was asked last
        assert s.vmm.ask(18, struct.pack("=II", 1, 1), flags=NEED_REPLY) == bytes(8)
