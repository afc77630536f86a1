"""Draining a ring: a real one that the kernel fills, and one laid out in memory for what no program can do."""

from __future__ import annotations

import mmap
import os
import platform
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.made_ring import EVENT_SIZE, CannotMake, MadeRing
from tests.tracer.bridges.ebpf.laid_out import LaidOut
from tracer.bridges.ebpf.event import EVENT, EVENT_BYTES
from tracer.bridges.ebpf.ring import BUSY, DISCARD, Drained, Ring
from tracer.errors import CaptureError

SIZE = 1 << 20


@pytest.fixture
def made() -> Iterator[MadeRing]:
    if os.geteuid() != 0:
        pytest.skip("not root: bpf(2) needs CAP_BPF")
    try:
        ring = MadeRing(SIZE)
    except CannotMake as error:
        pytest.skip(str(error))
    with ring:
        yield ring


@pytest.fixture
def ring(made: MadeRing) -> Iterator[Ring]:
    ring = Ring(made.fd, SIZE)
    yield ring
    ring.close()


def contents(drained: Drained) -> list[bytes]:
    data = drained.content.tobytes()
    return [data[at : at + size] for at, size in zip(drained.at.tolist(), drained.size.tolist(), strict=True)]


def events(drained: Drained) -> np.ndarray:
    return np.frombuffer(b"".join(record[:EVENT_BYTES] for record in contents(drained)), EVENT)


SIZES = [[96], [144], [97, 98, 99, 100, 101, 102, 103, 104], [144, 96, 4200, 131152], [1 << 17], [96] * 15 + [1 << 18]]


@pytest.mark.root
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("limit", [1, 5000, SIZE, 8 << 20])
def test_every_record_comes_whole_and_in_order_though_the_ring_wraps(
    sizes: list[int], limit: int, made: MadeRing, ring: Ring
) -> None:
    noise = os.urandom(max(sizes))
    made.lay_out(noise)
    turn = max(1, int(0.7 * SIZE / (sum(sizes) / len(sizes) + 16)))
    turn = max(1, turn // len(sizes)) * len(sizes)
    if limit == 1:
        turn = min(turn, 320 // len(sizes) * len(sizes))
    number = 0
    for _ in range(4):
        made.fill(turn, sizes)
        while ring.pending():
            for record in contents(ring.drain(limit)):
                size = sizes[number % turn % len(sizes)]
                event = np.frombuffer(record[:EVENT_SIZE], EVENT)[0]
                assert (len(record), event["seq"], event["kept"]) == (size, number, size - EVENT_SIZE)
                assert record[96:] == noise[96:size]
                number += 1
    assert (number, made.dropped) == (4 * turn, 0)


@pytest.mark.root
def test_bytes_that_look_like_headers_are_not_taken_for_records(made: MadeRing, ring: Ring) -> None:
    sizes = [200, 1000, 150]
    made.fill(1, [96])
    ring.drain()
    first = ring._words[1]
    for page in range(0, SIZE // mmap.PAGESIZE, 8):
        # Every eight bytes are a header of this page, as far as its second half can tell.
        made.lay_out(np.array([[96, first + page]] * 256, "<u4").tobytes())
        made.fill(33, sizes)
        assert [len(record) for record in contents(ring.drain())] == sizes * 11


@pytest.mark.root
def test_discarded_records_are_passed_over(made: MadeRing, ring: Ring) -> None:
    made.fill(2000, [120, 160], discard_every=3)
    assert events(ring.drain())["seq"].tolist() == list(range(2000))
    assert ring.pending() == 0


@pytest.mark.root
def test_of_a_ring_that_overflowed_exactly_the_missing_records_are_counted(made: MadeRing, ring: Ring) -> None:
    made.fill(20_000, [144])
    fitted = SIZE // 152
    assert made.dropped == 20_000 - fitted
    assert events(ring.drain())["seq"].tolist() == list(range(fitted))
    made.fill(10, [144])
    assert events(ring.drain())["seq"].tolist() == list(range(20_000, 20_010))
    assert made.dropped == 20_000 - fitted


@pytest.mark.root
def test_a_position_is_never_seen_torn_by_the_kernel(made: MadeRing, ring: Ring) -> None:
    # Positions beyond 2**32 would take long; a torn store shows as a drop in a ring that has room.
    for _ in range(300):
        made.fill(3000, [144])
        while ring.pending():
            ring.drain(1 << 16)
    assert (made.made, made.dropped) == (900_000, 0)


@pytest.mark.root
@pytest.mark.parametrize("sizes", [[144], [4200, 96], [131152, 96, 104]])
def test_records_taken_while_others_are_being_written_are_whole(sizes: list[int], made: MadeRing, ring: Ring) -> None:
    noise = os.urandom(max(sizes))
    made.lay_out(noise)
    count = (2_000_000 if sizes == [144] else 60_000) // len(sizes) * len(sizes)
    producer = threading.Thread(target=made.fill, args=(count, sizes))
    producer.start()
    drained = []
    while producer.is_alive() or ring.pending():
        drained.append(ring.drain(1 << 16))
    producer.join()
    seen, last = 0, -1
    for record in (record for part in drained for record in contents(part)):
        event = np.frombuffer(record[:EVENT_SIZE], EVENT)[0]
        # What stood there before was another event, and another length.
        assert event["seq"] > last
        last = int(event["seq"])
        assert event["kept"] == len(record) - EVENT_SIZE == sizes[last % len(sizes)] - EVENT_SIZE
        assert int.from_bytes(record[88:96], "little") == event["unique"] == 2 + last // 2 * 2
        assert record[96:] == noise[96 : len(record)]
        seen += 1
    assert seen + made.dropped == made.made == count


@pytest.mark.root
def test_what_was_drained_stays_when_the_ring_is_closed(made: MadeRing) -> None:
    ring = Ring(made.fd, SIZE)
    made.fill(2, [144])
    drained = ring.drain(room=64)
    ring.close()
    assert drained.at.tolist() == [72, 72 + 152]
    assert events(drained)["seq"].tolist() == [0, 1]


@pytest.mark.root
def test_an_empty_ring_gives_nothing(ring: Ring) -> None:
    assert ring.pending() == 0
    drained = ring.drain()
    assert (len(drained.content), len(drained.at), len(drained.size)) == (0, 0, 0)


@pytest.fixture
def laid_out() -> Iterator[LaidOut]:
    made = LaidOut()
    yield made
    made.close()


@pytest.mark.parametrize("before", [0, 1, 5, 300])
def test_a_record_that_is_not_committed_stops_the_drain_until_it_is(before: int, laid_out: LaidOut) -> None:
    for _ in range(before):
        laid_out.add(b"early")
    open_at = laid_out.add(b"late", BUSY)
    laid_out.add(b"behind")
    assert contents(laid_out.ring.drain()) == [b"early"] * before
    assert laid_out.consumed() == 16 * before
    assert contents(laid_out.ring.drain()) == []
    laid_out.set_length(open_at, 4)
    assert contents(laid_out.ring.drain()) == [b"late", b"behind"]
    assert laid_out.ring.pending() == 0


def test_a_record_that_was_open_and_then_discarded_lets_those_behind_it_through(laid_out: LaidOut) -> None:
    open_at = laid_out.add(b"late", BUSY)
    laid_out.add(b"behind")
    assert contents(laid_out.ring.drain()) == []
    laid_out.set_length(open_at, 4 | DISCARD)
    assert contents(laid_out.ring.drain()) == [b"behind"]


def test_headers_without_a_page_are_followed_by_their_lengths(laid_out: LaidOut) -> None:
    records = [bytes([number]) * (number % 40) for number in range(250)]
    for record in records:
        laid_out.add(record, page=0xFFFF_FFFF)
    assert contents(laid_out.ring.drain()) == records


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.sampled_from([0, 0, 0, 0, DISCARD, BUSY]), st.sampled_from([None, None, 9])),
        min_size=1,
        max_size=120,
    ),
    st.integers(1, 1 << 15),
    st.integers(0, (1 << 40) // 8).map(lambda word: word * 8),
)
def test_the_records_before_the_first_open_one_come_and_no_others(
    planned: list[tuple[int, int, int | None]], limit: int, position: int
) -> None:
    made = LaidOut(position=position)
    used, expected, open_yet = 0, [], False
    for number, (size, flag, page) in enumerate(planned):
        used += (size + 15) & ~7
        if used > made.size:
            break
        # A length and a page, again and again: each may pass for a header.
        content = (np.array([8, 3 + number % 4], "<u4").tobytes() * (size // 8 + 1))[:size]
        made.add(content, flag, page)
        open_yet |= flag == BUSY
        if not open_yet and flag != DISCARD:
            expected.append(content)
    got = []
    while True:
        before = made.consumed()
        got += contents(made.ring.drain(limit))
        if made.consumed() == before:
            break
    made.close()
    assert got == expected


@pytest.mark.parametrize("machine", ["aarch64", "ppc64le"])
def test_a_processor_that_orders_loads_weakly_is_refused_by_name(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(CaptureError, match=f"the ring cannot be read: {machine}") as refusal:
        Ring(-1, SIZE)
    assert "strace" in refusal.value.hint
