"""The shadow virtqueue, between a driver and a device that know nothing of it."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracer.bridges.vhost_user.rings import (
    AVAIL_AT,
    BUFFERS_AT,
    DESC_AT,
    GUEST,
    HALF,
    INDIRECT,
    NEXT,
    SIZE,
    USED_AT,
    WRITE,
    Device,
    Driver,
    GuestMemory,
    Overheard,
    reply_bytes,
    request_bytes,
)
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.queues import Queue
from tracer.bridges.vhost_user.shadow import Shadow, ShadowMemory
from tracer.bridges.vhost_user.vring import Ring, part_sizes
from tracer.records import Direction

RING_SIZE = 16


@dataclass
class Bench:
    """A guest's ring, the shadow, and a device that serves the shadow."""

    memory: GuestMemory
    driver: Driver
    device: Device
    shadow: Shadow
    overheard: Overheard


@contextlib.contextmanager
def bench(event_idx: bool = True, snap_bytes: int = 1 << 32, base: int = 0) -> Iterator[Bench]:
    memory, rings = GuestMemory(), ShadowMemory()
    try:
        mapped, slot = memory.mapped(), rings.slot(1)
        driver = Driver(memory, RING_SIZE, event_idx, available=base, seen=base)
        memory.put(GUEST + AVAIL_AT + 2, struct.pack("<H", base))
        memory.put(GUEST + USED_AT + 2, struct.pack("<H", base))
        places = zip((DESC_AT, AVAIL_AT, USED_AT), part_sizes(RING_SIZE), strict=True)
        guest = Ring(RING_SIZE, *(mapped.find(GUEST + at, length) for at, length in places))
        overheard = Overheard(snap_bytes)
        shadow = Shadow(1, guest, slot, mapped, overheard, base=base, event_idx=event_idx)

        def read(address: int, length: int) -> bytes:
            if address >= slot.address:
                return bytes(slot.view[address - slot.address :][:length])
            return memory.at(address, length)

        def write(address: int, data: bytes) -> None:
            if address >= slot.address:
                slot.view[address - slot.address : address - slot.address + len(data)] = data
            else:
                memory.put(address, data)

        descriptors, used, available = slot.addresses
        device = Device(RING_SIZE, (descriptors, available, used), read, write, event_idx)
        yield Bench(memory, driver, device, shadow, overheard)
    finally:
        rings.close()
        memory.close()


def answer(request: bytes) -> bytes:
    """What the device says to a request, whichever way it came."""
    (unique,) = struct.unpack_from("<Q", request, 8)
    return reply_bytes(unique, request[40:][::-1] * (unique % 3))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3000), st.booleans(), st.integers(0, 60)),
        st.tuples(st.just("submit")),
        st.tuples(st.just("take")),
        st.tuples(st.just("answer"), st.integers(0, 99)),
        st.tuples(st.just("complete")),
        st.tuples(st.just("collect")),
    ),
    max_size=120,
)


class Run:
    """A sequence of steps on one device, with or without the shadow before it."""

    def __init__(self, driver: Driver, device: Device, shadow: Shadow | None) -> None:
        self.driver, self.device, self.shadow = driver, device, shadow
        self.unique = 0
        self.asked: dict[int, int] = {}
        self.sent: dict[int, bytes] = {}
        self.held: list[tuple[int, bytes, list[tuple[int, int]]]] = []
        self.got: dict[int, tuple[int, bytes]] = {}

    def step(self, name: str, *words: int) -> None:
        getattr(self, name)(*words)

    def ask(self, size: int, indirect: bool, cut: int) -> None:
        unique = self.unique + 2
        body = bytes(unique * 7 + i & 0xFF for i in range(size))
        request = request_bytes(unique, body)
        head = self.driver.submit(request, 16 + 3 * size, indirect=indirect, cut=cut)
        if head is not None:
            self.unique, self.asked[head], self.sent[unique] = unique, unique, request

    def submit(self) -> None:
        if self.shadow is not None:
            self.shadow.submit()
            self.shadow.want_events()

    def take(self) -> None:
        if (taken := self.device.take()) is not None:
            self.held.append(taken)

    def answer(self, which: int) -> None:
        if self.held:
            head, request, room = self.held.pop(which % len(self.held))
            self.device.complete(head, room, answer(request))

    def complete(self) -> None:
        if self.shadow is not None:
            self.shadow.complete()
            self.shadow.want_events()

    def collect(self) -> None:
        for head, length, data in self.driver.collect():
            self.got[self.asked.pop(head)] = (length, data)

    def drain(self) -> None:
        for _ in range(2 * RING_SIZE + 2):
            for name in ("submit", "take", "complete", "collect"):
                self.step(name)
            self.answer(0)
        self.complete()
        self.collect()


@settings(max_examples=150, deadline=None)
@given(STEPS, st.booleans(), st.sampled_from([0, 5, 65530]))
def test_any_interleaving_gives_the_guest_the_bytes_it_would_get_without(
    steps: list[tuple[str, int, bool, int]], event_idx: bool, base: int
) -> None:
    with bench(event_idx, base=base) as tapped:
        run = Run(tapped.driver, tapped.device, tapped.shadow)
        for step in steps:
            run.step(*step)
        run.drain()
        assert not tapped.shadow.in_flight
        assert not run.asked
    assert run.got == _answers(run)
    assert [data for *_, data, _ in tapped.overheard.requests] == list(run.sent.values())
    assert sorted(data for *_, data, _ in tapped.overheard.replies) == sorted(data for _, data in run.got.values())

    direct = GuestMemory()
    try:
        parts = (GUEST + DESC_AT, GUEST + AVAIL_AT, GUEST + USED_AT)
        device = Device(RING_SIZE, parts, direct.at, direct.put, event_idx)
        plain = Run(Driver(direct, RING_SIZE, event_idx), device, None)
        for step in steps:
            plain.step(*step)
        plain.drain()
    finally:
        direct.close()
    assert plain.got == _answers(plain)
    if plain.sent == run.sent:  # else the ring was full at another time
        assert plain.got == run.got


def _answers(run: Run) -> dict[int, tuple[int, bytes]]:
    replies = {unique: answer(request) for unique, request in run.sent.items()}
    return {unique: (len(reply), reply) for unique, reply in replies.items()}


def test_a_request_is_copied_before_the_device_can_see_it_and_a_reply_before_the_guest_can() -> None:
    with bench() as b:
        b.driver.submit(request_bytes(2), 64, indirect=True, cut=40)
        assert b.device.take() is None
        assert b.shadow.submit()
        assert [data for *_, data, _ in b.overheard.requests] == [request_bytes(2)]
        taken = b.device.take()
        assert taken is not None
        b.device.complete(taken[0], taken[2], reply_bytes(2))
        assert not list(b.driver.collect())
        assert b.shadow.complete()
        assert [data for *_, data, _ in b.overheard.replies] == [reply_bytes(2)]
        assert [length for _, length, _ in b.driver.collect()] == [16]


def test_an_indirect_table_that_the_guest_changes_in_flight_stays_as_it_was_for_the_device() -> None:
    with bench() as b:
        head = b.driver.submit(request_bytes(2), 64, indirect=True, cut=20)
        assert head is not None
        b.shadow.submit()
        address, length, _, _ = struct.unpack("<QIHH", b.memory.at(GUEST + DESC_AT + 16 * head, 16))
        b.memory.put(address, b"\xff" * length)
        taken = b.device.take()
        assert taken is not None
        assert taken[1] == request_bytes(2)


def test_a_snapped_copy_keeps_the_true_length_and_the_guest_gets_everything() -> None:
    with bench(snap_bytes=48) as b:
        b.driver.submit(request_bytes(2, bytes(500)), 600, indirect=False, cut=40)
        b.shadow.submit()
        taken = b.device.take()
        assert taken is not None
        assert len(taken[1]) == 540
        b.device.complete(taken[0], taken[2], reply_bytes(2, bytes(300)))
        b.shadow.complete()
        assert [(len(data), wire_len) for *_, data, wire_len in b.overheard.requests] == [(48, 540)]
        assert [(len(data), wire_len) for *_, data, wire_len in b.overheard.replies] == [(48, 316)]
        assert [data for *_, data in b.driver.collect()] == [reply_bytes(2, bytes(300))]


def test_a_used_length_of_zero_is_forwarded_and_the_reply_found_by_its_header() -> None:
    with bench() as b:
        for unique in (2, 4):
            b.driver.submit(request_bytes(unique), 64, indirect=True, cut=40)
        b.shadow.submit()
        for reply in (reply_bytes(2, b"body"), b""):  # the second, as for DESTROY, has none
            taken = b.device.take()
            assert taken is not None
            b.device.complete(taken[0], taken[2], reply, length=0)
        b.shadow.complete()
        assert [data for *_, data, _ in b.overheard.replies] == [reply_bytes(2, b"body")]
        assert b.overheard.guessed == 1
        assert [length for _, length, _ in b.driver.collect()] == [0, 0]


def test_a_stopped_queue_tells_the_guest_where_the_device_was() -> None:
    with bench(base=65535) as b:
        for unique in (2, 4, 6):
            b.driver.submit(request_bytes(unique), 64, indirect=True, cut=40)
        b.shadow.submit()
        taken = b.device.take()
        assert taken is not None
        assert b.shadow.unanswered(b.device.taken) == 1
        b.device.complete(taken[0], taken[2], reply_bytes(2))
        b.shadow.complete()
        assert b.shadow.unanswered(b.device.taken) == 0
        assert b.shadow.base_for_guest(b.device.taken) == 0  # 65535 and one
        with pytest.raises(Refused, match="where it never was"):
            b.shadow.base_for_guest(9)


def test_a_queue_that_never_falls_silent_lets_others_have_their_turn() -> None:
    with bench() as b:
        overhear, unique = b.overheard.take, iter(range(2, 1 << 20, 2))

        def take(direction: int, *words: Any) -> None:
            overhear(direction, *words)
            if direction == Direction.TO_SERVER:
                if (taken := b.device.take()) is not None:  # the one before
                    b.device.complete(taken[0], taken[2], reply_bytes(2))
            else:
                list(b.driver.collect())
                b.driver.submit(request_bytes(next(unique)), 64, indirect=True, cut=40)

        b.shadow._take = take
        queue = Queue(1, shadow=b.shadow)
        try:
            for _ in range(2):
                queue.carry()
                b.driver.submit(request_bytes(next(unique)), 64, indirect=True, cut=40)
            queue.carry()
            passed_on = len(b.overheard.requests)
            assert 10 < passed_on < 1000
            assert os.eventfd_read(queue.call_of_daemon) == 1
            queue.carry()
            assert len(b.overheard.requests) > passed_on
        finally:
            queue.close()


BUFFER = GUEST + BUFFERS_AT
OUTSIDE = GUEST + SIZE

HOSTILE = {
    "a loop": ([(BUFFER, 40, NEXT, 1), (BUFFER, 40, NEXT, 0)], "is a loop"),
    "out of the ring": ([(BUFFER, 40, NEXT, 999)], "descriptor 999 in a ring of 16"),
    "outside memory": ([(OUTSIDE, 40, 0, 0)], "are not in the guest's memory"),
    "over the end": ([(OUTSIDE - 8, 40, 0, 0)], "are not in the guest's memory"),
    "before memory": ([(0, 40, 0, 0)], "are not in the guest's memory"),
    "the end of all addresses": ([((1 << 64) - 8, 0xFFFFFFFF, 0, 0)], "are not in the guest's memory"),
    "huge": ([(BUFFER, 0xFFFFFFFF, WRITE, 0)], "are not in the guest's memory"),
    "readable behind writable": ([(BUFFER, 40, WRITE | NEXT, 1), (BUFFER, 40, 0, 0)], "behind bytes for the driver"),
    "table and next": ([(BUFFER, 16, INDIRECT | NEXT, 1)], "points to a table and to another"),
    "a table of odd length": ([(BUFFER, 17, INDIRECT, 0)], "indirect table of 17 bytes"),
    "an empty table": ([(BUFFER, 0, INDIRECT, 0)], "indirect table of 0 bytes"),
    "a huge table": ([(BUFFER, 0xFFFFFFF0, INDIRECT, 0)], "indirect table of"),
    "a table outside": ([(OUTSIDE, 32, INDIRECT, 0)], "are not in the guest's memory"),
}


@pytest.mark.parametrize("chain", HOSTILE, ids=str)
def test_a_hostile_chain_is_refused_and_the_device_never_sees_it(chain: str) -> None:
    descriptors, reason = HOSTILE[chain]
    with bench() as b:
        for index, words in enumerate(descriptors):
            b.driver.descriptor(index, *words)
        b.driver.make_available(0)
        before = bytes(b.memory.bytes)
        with pytest.raises(Refused, match=reason):
            b.shadow.submit()
        assert b.device.take() is None
        assert bytes(b.memory.bytes) == before


TABLES = {
    "within itself": ([(BUFFER, 16, INDIRECT, 0)], "within an indirect table"),
    "a loop": ([(BUFFER, 4, NEXT, 1), (BUFFER, 4, NEXT, 0)], "is a loop"),
    "out of the table": ([(BUFFER, 4, NEXT, 2), (BUFFER, 4, 0, 0)], "descriptor 2 in an indirect table of 2"),
}


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_a_hostile_indirect_table_is_refused(table: str) -> None:
    entries, reason = TABLES[table]
    with bench() as b:
        b.memory.put(BUFFER, b"".join(struct.pack("<QIHH", *entry) for entry in entries))
        b.driver.descriptor(0, BUFFER, 16 * len(entries), INDIRECT)
        b.driver.make_available(0)
        with pytest.raises(Refused, match=reason):
            b.shadow.submit()
        assert b.device.take() is None


def test_the_same_descriptor_twice_in_flight_is_refused() -> None:
    with bench() as b:
        b.driver.descriptor(3, BUFFER, 40, 0)
        b.driver.make_available(3)
        b.driver.make_available(3)
        with pytest.raises(Refused, match="submitted while it is in flight"):
            b.shadow.submit()


def test_an_index_that_runs_ahead_of_its_ring_is_refused() -> None:
    with bench() as b:
        b.memory.put(GUEST + AVAIL_AT + 2, struct.pack("<H", RING_SIZE + 1))
        with pytest.raises(Refused, match="holds 17 entries"):
            b.shadow.submit()


@pytest.mark.parametrize("head", [1, 4000])
def test_a_completion_of_what_is_not_in_flight_is_refused_and_the_guest_never_sees_it(head: int) -> None:
    with bench() as b:
        b.driver.descriptor(0, BUFFER, 40, 0)
        b.driver.make_available(0)
        b.shadow.submit()
        b.device.complete(head, [], b"")
        with pytest.raises(Refused, match="is not in flight"):
            b.shadow.complete()
        b.device.complete(0, [], b"")
        with pytest.raises(Refused, match="completed 2 requests of"):
            b.shadow.complete()
        assert not list(b.driver.collect())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, BUFFER, BUFFER + 7, GUEST + HALF - 20, OUTSIDE - 4, (1 << 64) - 1])
            | st.integers(0, 2**64 - 1),
            st.sampled_from([0, 16, 32, 40]) | st.integers(0, 2**32 - 1),
            st.integers(0, 7),
            st.integers(0, 20),
        ),
        min_size=1,
        max_size=RING_SIZE,
    ),
    st.lists(st.integers(0, 40), max_size=RING_SIZE),
)
def test_no_garbage_in_a_ring_does_more_than_end_the_session(
    descriptors: list[tuple[int, int, int, int]], heads: list[int]
) -> None:
    with bench(snap_bytes=4096) as b:
        for index, words in enumerate(descriptors):
            b.driver.descriptor(index, *words)
            b.memory.put(BUFFER + 16 * index, struct.pack("<QIHH", *words))
        for head in heads:
            b.driver.make_available(head)
        before = bytes(b.memory.bytes)
        with contextlib.suppress(Refused):
            b.shadow.submit()
        after = bytearray(b.memory.bytes)
        event = USED_AT + 4 + 8 * RING_SIZE
        after[event : event + 2] = before[event : event + 2]  # the only place it may write
        assert bytes(after) == before
