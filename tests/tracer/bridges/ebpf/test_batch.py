"""From drained events to records: order, uniques, channels, servers, and what is missing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.made_ring import CannotMake, MadeRing
from tests.tracer.bridges.ebpf.laid_out import LaidOut
from tests.tracer.store.test_columns import file_of
from tracer.bridges.ebpf.batch import HELD_BYTES, HOLD_NS, Batches
from tracer.bridges.ebpf.event import EVENT, Flag, Kind
from tracer.bridges.ebpf.joining import ASK_NS, GIVE_UP_NS
from tracer.bridges.ebpf.ring import BUSY, LIMIT_BYTES, Ring
from tracer.records import BridgeKind, Direction, Gap, RawRecord, RecordFlag

OFFSET_NS = 1_700_000_000 * 10**9
LATE = 10**12  # a time by which everything is ripe
LOOKUP, WRITE, READ, FORGET, NOTIFY_REPLY, INIT = 1, 16, 15, 2, 41, 26
A, B = 0xFFFF888000001000, 0xFFFF888000002000  # addresses of requests
CONNECTION = 40
SERVER, CALLER = 2200, 4100


def request(unique: int, opcode: int = LOOKUP, nodeid: int = 1, body: bytes = b"name\0") -> bytes:
    return struct.pack("<IIQQIIIHH", 40 + len(body), opcode, unique, nodeid, 1000, 1000, CALLER, 0, 0) + body


def reply(unique: int, error: int = 0, body: bytes = b"") -> bytes:
    return struct.pack("<IiQ", 16 + len(body), error, unique) + body


class Kernel:
    """Puts events into a ring as the programs do."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.laid = LaidOut(size)
        self.seq: dict[int, int] = {}
        self.asked: list[tuple[int, int]] = []
        self.channels = {(CONNECTION, 0): 0, (CONNECTION, CONNECTION): 0, (41, 0): 3, (42, 0): -1}

    def batches(self, **given: object) -> Batches:
        return Batches(self.laid.ring, self._channel_of, clock_offset_ns=OFFSET_NS, **given)  # type: ignore[arg-type]

    def _channel_of(self, connection: int, s_dev: int) -> int:
        self.asked.append((connection, s_dev))
        return self.channels[connection, s_dev]

    def event(
        self, kind: int, t_ns: int, message: bytes = b"", *, flag: int = 0, busy: bool = False, **more: object
    ) -> int:
        event = np.zeros(1, EVENT)
        cpu = int(more.get("cpu", 0))  # type: ignore[call-overload]
        event["kind"], event["t_ns"], event["flags"], event["kept"] = kind, t_ns, flag, len(message)
        event["connection"], event["wire_len"] = CONNECTION, len(message)
        event["tgid"], event["tid"] = (CALLER, CALLER + 1) if kind == Kind.SEND else (SERVER, SERVER + 1)
        event["comm"] = b"ls" if kind == Kind.SEND else b"server"
        event["seq"] = self.seq.get(cpu, 0)
        self.seq[cpu] = self.seq.get(cpu, 0) + 1
        if len(message) >= 16:
            event["unique"] = int.from_bytes(message[8:16], "little")
        for name, value in more.items():
            event[name] = value
        return self.laid.add(event.tobytes() + message, BUSY if busy else 0)

    def send(self, t_ns: int, unique: int, req: int = A, **more: object) -> bytes:
        message = request(unique, int(more.pop("opcode", LOOKUP)))  # type: ignore[call-overload]
        self.event(Kind.SEND, t_ns, message, req=req, **more)  # type: ignore[arg-type]
        return message

    def end(self, t_ns: int, unique: int, req: int = A, error: int = 0, **more: object) -> bytes:
        message = reply(unique, error)
        self.event(Kind.END, t_ns, message, req=req, error=error, **more)  # type: ignore[arg-type]
        return message

    def lose(self, count: int, cpu: int = 0) -> None:
        self.seq[cpu] = self.seq.get(cpu, 0) + count


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.laid.close()


def times(records: list[RawRecord]) -> list[int]:
    return [record.t_ns - OFFSET_NS for record in records]


def test_a_request_and_its_reply_become_the_records_any_bridge_gives(kernel: Kernel) -> None:
    asked = kernel.send(1000, 2, s_dev=CONNECTION)
    answered = kernel.end(2000, 2, s_dev=CONNECTION, queue=3)
    records, gaps = kernel.batches().take(LATE)
    dev = CONNECTION
    assert list(records) == [
        RawRecord(
            OFFSET_NS + 1000, 0, Direction.TO_SERVER, asked, len(asked), BridgeKind.EBPF, 0, SERVER, 0, b"ls", 0, dev
        ),
        RawRecord(
            OFFSET_NS + 2000, 0, Direction.TO_KERNEL, answered, 16, BridgeKind.EBPF, 0, SERVER, SERVER + 1, b"", 3, dev
        ),
    ]  # fmt: skip
    assert gaps == []


def test_the_server_is_unknown_until_it_answered_and_then_remembered(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.send(1, 2)
    assert [record.server_pid for record in batches.take(LATE).records] == [0]
    kernel.end(2, 2)
    kernel.send(3, 4)
    assert [record.server_pid for record in batches.take(LATE).records] == [SERVER, SERVER]
    kernel.send(4, 6)
    assert [record.server_pid for record in batches.take(LATE).records] == [SERVER]


def test_of_a_channel_without_a_server_process_none_is_named(kernel: Kernel) -> None:
    batches = kernel.batches()
    batches.has_no_server(0)
    kernel.send(1, 2)
    kernel.end(2, 2)
    assert [(record.server_pid, record.server_tid) for record in batches.take(LATE).records] == [(0, 0)] * 2


def test_a_request_that_another_thread_passed_on_names_no_caller(kernel: Kernel) -> None:
    kernel.send(1, 2, flag=Flag.BACKGROUND)
    assert [record.comm for record in kernel.batches().take(LATE).records] == [b""]


def test_what_a_system_call_showed_is_the_servers(kernel: Kernel) -> None:
    forget, notification = request(0, FORGET), reply(0, 2, bytes(16))
    kernel.event(Kind.READ, 1, forget, flag=Flag.SPLICED)
    kernel.event(Kind.WRITE, 2, notification)
    read, written = kernel.batches().take(LATE).records
    assert (read.direction, read.data, read.flags) == (Direction.TO_SERVER, forget, RecordFlag.SPLICED)
    assert (written.direction, written.data, written.flags) == (Direction.TO_KERNEL, notification, 0)
    assert {(one.server_pid, one.server_tid, one.comm, one.result) for one in (read, written)} == {
        (SERVER, SERVER + 1, b"", 0)
    }


def test_a_write_the_kernel_refused_has_its_errno(kernel: Kernel) -> None:
    kernel.event(Kind.WRITE, 2, reply(0, 2, bytes(16)), error=-2)
    (written,) = kernel.batches().take(LATE).records
    assert (written.flags, written.result) == (RecordFlag.REJECTED, -2)


def test_a_cut_message_says_how_long_it_was(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.event(Kind.SEND, 1, request(2, WRITE), flag=Flag.RING_FULL, wire_len=1 << 20)
    kernel.event(Kind.SEND, 2, request(4, WRITE), flag=Flag.CUT_BY_SNAP, wire_len=5000)
    assert [(record.wire_len, len(record.data)) for record in batches.take(LATE).records] == [(1 << 20, 45), (5000, 45)]
    assert batches.cut == 1


def test_a_batch_is_written_as_its_records_would_be_one_by_one(kernel: Kernel) -> None:
    for number in range(60):
        message = request(2 + number, WRITE, body=bytes([number]) * (number * number * 3))
        kernel.event(Kind.SEND, 10 * number, message, req=A, cpu=number % 3, flag=Flag.CUT_BY_SNAP, wire_len=1 << 17)
        kernel.end(100 + 10 * number - 15 * (number % 2), 2 + number)
    records, _ = kernel.batches().take(LATE)
    assert len(records) == 120
    assert file_of(records) == file_of(list(records))


# -- order ------------------------------------------------------------------------------------------------------------


def test_events_of_two_processors_come_in_the_order_of_their_times(kernel: Kernel) -> None:
    for t_ns, cpu in ((10, 0), (5, 1), (20, 0), (19, 1), (30, 1), (25, 0)):
        kernel.send(t_ns, t_ns, cpu=cpu)
    records, gaps = kernel.batches().take(LATE)
    assert times(list(records)) == [5, 10, 19, 20, 25, 30]
    assert [int.from_bytes(record.data[8:16], "little") for record in records] == [5, 10, 19, 20, 25, 30]
    assert gaps == []


def test_an_event_too_new_to_be_in_order_waits_for_the_one_before_it(kernel: Kernel) -> None:
    batches = kernel.batches()
    now_ns = 10**9
    kernel.send(now_ns - HOLD_NS - 1, 2)
    kernel.send(now_ns - 10, 6)
    assert len(batches.take(now_ns).records) == 1
    kernel.send(now_ns - 20, 4)
    assert times(list(batches.take(now_ns + HOLD_NS).records)) == [now_ns - 20, now_ns - 10]
    assert batches.held_bytes == 0


def test_while_a_record_is_not_committed_what_came_just_before_it_waits(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.send(1000, 2)
    open_at = kernel.event(Kind.SEND, 900, request(4), busy=True)
    assert len(batches.take(LATE).records) == 0
    kernel.laid.set_length(open_at, EVENT.itemsize + 45)
    assert times(list(batches.take(LATE).records)) == [900, 1000]


def test_all_that_waits_comes_at_the_end(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.send(1000, 0)
    kernel.send(2000, 4, req=B)
    assert len(batches.take(2001).records) == 0
    assert times(list(batches.finish().records)) == [1000, 2000]
    assert len(batches.finish().records) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, HOLD_NS), st.integers(0, 300), st.integers(0, 3)), max_size=60), st.data())
def test_however_it_is_drained_all_come_once_and_in_order(
    planned: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    made = Kernel()
    batches = made.batches()
    clock_ns, expected, got = HOLD_NS, [], []
    for number, (skew_ns, size, cpu) in enumerate(planned):
        clock_ns += data.draw(st.integers(0, HOLD_NS))
        message = request(2 + number, READ, body=bytes([number]) * size)
        t_ns = clock_ns - min(skew_ns, HOLD_NS - 1)
        made.event(Kind.SEND, t_ns, message, cpu=cpu)
        expected.append((t_ns, message))
        if data.draw(st.booleans()):
            got += list(batches.take(clock_ns, data.draw(st.integers(1, 2000))).records)
    while made.laid.ring.pending():
        got += list(batches.take(clock_ns).records)
    got += list(batches.finish().records)
    made.laid.close()
    assert sorted((record.t_ns - OFFSET_NS, record.data) for record in got) == sorted(expected)
    assert all(one.t_ns <= two.t_ns for one, two in pairwise(got))


# -- notifications ----------------------------------------------------------------------------------------------------


def test_a_notification_comes_before_the_request_it_caused_though_it_was_seen_after(kernel: Kernel) -> None:
    kernel.end(1000, 2, tid=7)
    kernel.event(Kind.SEND, 2000, request(1, NOTIFY_REPLY), tid=7, req=B)
    kernel.event(Kind.WRITE, 2500, reply(0, 5, bytes(40)), tid=7)
    kernel.send(2600, 4)
    records = list(kernel.batches().take(LATE).records)
    assert times(records) == [1000, 2000, 2000, 2600]
    assert [record.direction.name for record in records] == ["TO_KERNEL", "TO_KERNEL", "TO_SERVER", "TO_SERVER"]


@pytest.mark.parametrize(
    "other",
    [{"tid": 8}, {"connection": 41}, {"message": request(1, READ)}, {"flag": Flag.BACKGROUND}, {"t_ns": 900}],
)
def test_a_notification_stays_where_it_is_when_nothing_shows_that_it_was_earlier(
    other: dict[str, object], kernel: Kernel
) -> None:
    kernel.end(1000, 2, tid=7)
    sent = {"t_ns": 2000, "message": request(1, NOTIFY_REPLY), "tid": 7, **other}
    kernel.event(Kind.SEND, **sent)  # type: ignore[arg-type]
    kernel.event(Kind.WRITE, 2500, reply(0, 5, bytes(40)), tid=7)
    assert times(list(kernel.batches().take(LATE).records))[-1] == 2500


def test_the_end_of_a_notifications_answer_is_no_message(kernel: Kernel) -> None:
    kernel.event(Kind.SEND, 1, request(1, NOTIFY_REPLY), req=B)
    kernel.end(2, 1, req=B, flag=Flag.NO_REPLY)
    batches = kernel.batches()
    assert times(list(batches.take(LATE).records)) == [1]
    assert batches.never_sent == 0


# -- what nobody answered ---------------------------------------------------------------------------------------------


def test_an_aborted_request_gets_the_kernels_own_end_with_its_error(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.send(1, 2)
    kernel.end(2, 2)
    kernel.send(3, 4)
    kernel.end(4, 4, error=-103, flag=Flag.NO_REPLY, tgid=1, tid=1)
    *_, end = batches.take(LATE).records
    assert (end.flags, end.direction, end.data) == (RecordFlag.ABORTED, Direction.TO_KERNEL, reply(4, -103))
    assert (end.server_pid, end.server_tid, end.wire_len) == (SERVER, 0, 16)


def test_a_request_refused_before_it_had_a_number_is_counted_and_no_record(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.end(1, 0, error=-107, flag=Flag.NO_REPLY)
    kernel.send(2, 0, req=B)
    kernel.end(3, 0, req=B, error=-107, flag=Flag.NO_REPLY)
    kernel.send(4, 8)
    assert times(list(batches.take(LATE).records)) == [4]
    assert (batches.never_sent, batches.unnumbered) == (2, 0)


# -- uniques that come late -------------------------------------------------------------------------------------------


def test_a_request_without_its_unique_gets_it_from_its_end(kernel: Kernel) -> None:
    kernel.send(1, 0, A)
    kernel.send(2, 0, B)
    kernel.end(3, 6, B)
    kernel.send(4, 0, B)  # the address is used again
    kernel.end(5, 4, A)
    kernel.end(6, 8, B)
    records = list(kernel.batches().take(LATE).records)
    assert [int.from_bytes(record.data[8:16], "little") for record in records] == [4, 6, 6, 8, 4, 8]
    assert records[0].data == request(4)


def test_a_request_waits_for_the_end_that_comes_with_a_later_drain(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.send(1000, 0)
    kernel.send(1001, 7, B)
    assert len(batches.take(1000 + ASK_NS - 1).records) == 0
    kernel.end(2000, 2)
    records = list(batches.take(LATE).records)
    assert [(record.t_ns - OFFSET_NS, record.data[8]) for record in records] == [(1000, 2), (1001, 7), (2000, 2)]


def test_of_a_request_that_stays_open_the_kernel_is_asked(kernel: Kernel) -> None:
    asked = []

    def unique_of(*what: int) -> int | None:
        asked.append(what)
        return 2

    batches = kernel.batches(unique_of=unique_of)
    kernel.event(Kind.SEND, 1000, request(0, READ, nodeid=99), req=A)
    assert len(batches.take(1000 + ASK_NS - 1).records) == 0
    assert asked == []
    assert len(batches.take(1000 + ASK_NS).records) == 0  # perhaps it ended while we asked, and another has its address
    (record,) = batches.take(1000 + ASK_NS).records
    assert record.data == request(2, READ, nodeid=99)
    assert asked == [(A, READ, 99)]
    kernel.end(10**8, 2)
    assert [one.data for one in batches.take(LATE).records] == [reply(2)]


def test_the_unique_of_another_request_at_the_same_address_is_not_taken(kernel: Kernel) -> None:
    def unique_of(*_: int) -> int:
        if not asked:
            kernel.end(1000 + ASK_NS, 2)
            kernel.send(1001 + ASK_NS, 0)
        asked.append(4)
        return 4

    asked: list[int] = []
    batches = kernel.batches(unique_of=unique_of)
    kernel.send(1000, 0)
    assert len(batches.take(1000 + ASK_NS).records) == 0
    records = list(batches.take(LATE).records) + list(batches.take(LATE).records)
    assert [record.data[8] for record in records] == [2, 2, 4]


def test_a_request_whose_unique_nobody_knows_is_not_waited_for_for_ever(kernel: Kernel) -> None:
    batches = kernel.batches(unique_of=lambda *_: None)
    kernel.send(1000, 0)
    assert len(batches.take(1000 + GIVE_UP_NS).records) == 0
    assert [record.data for record in batches.take(1001 + GIVE_UP_NS).records] == [request(0)]
    assert batches.unnumbered == 1


def test_a_request_whose_end_was_lost_does_not_take_the_number_of_the_next(kernel: Kernel) -> None:
    batches = kernel.batches(unique_of=lambda *_: 6)
    kernel.send(1, 0)
    kernel.lose(1)
    kernel.send(3, 0)
    batch = batches.take(4 + ASK_NS)
    assert [record.data[8] for record in batch.records] == [0]
    assert [record.data[8] for record in batches.take(4 + ASK_NS).records] == [6]
    assert batch.gaps == [Gap(OFFSET_NS + 3, -1, 1, "the ring buffer was full (CPU 0)")]


STEPS = st.lists(st.tuples(st.sampled_from(["send", "end", "drain"]), st.integers(0, 3)), max_size=80)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.booleans())
def test_however_addresses_are_used_again_every_request_gets_its_own_unique(
    steps: list[tuple[str, int]], asks: bool
) -> None:
    made = Kernel()
    still_open: dict[int, int] = {}  # unique by address
    batches = made.batches(unique_of=(lambda req, *_: still_open.get(req)) if asks else None)
    clock_ns, expected, got, answered = 10**9, [], [], set()
    for number, (what, slot) in enumerate(steps, start=2):
        clock_ns += ASK_NS // 4
        req = A + slot * 192
        if what == "send" and req not in still_open:
            still_open[req] = number
            made.send(clock_ns, 0, req)
            expected.append(number)
        elif what == "end" and req in still_open:
            answered.add(still_open[req])
            made.end(clock_ns, still_open.pop(req), req)
        elif what == "drain":
            got += list(batches.take(clock_ns).records)
    got += list(batches.take(clock_ns).records) + list(batches.finish().records)
    made.laid.close()
    assert all(one.t_ns <= two.t_ns for one, two in pairwise(got))
    uniques = [int.from_bytes(one.data[8:16], "little") for one in got if one.direction == Direction.TO_SERVER]
    ends = [int.from_bytes(one.data[8:16], "little") for one in got if one.direction == Direction.TO_KERNEL]
    assert sorted(ends) == sorted(answered)
    assert all(found in (unique, 0) for found, unique in zip(uniques, expected, strict=True))
    if asks or len(steps) * ASK_NS // 4 < GIVE_UP_NS:  # else it may have been given up before its end came
        assert answered <= set(uniques)


def test_no_more_is_kept_waiting_than_a_bound() -> None:
    made = Kernel(1 << 25)
    batches = made.batches(unique_of=lambda *_: None)
    made.event(Kind.SEND, 1000, request(0))
    body, count = bytes(1 << 20), 0
    while not (records := batches.take(2000).records):
        assert batches.held_bytes <= HELD_BYTES + LIMIT_BYTES
        made.event(Kind.SEND, 1001, request(2 + count, WRITE, body=body), req=B)
        count += 1
    assert len(records) + (batches.held_bytes >> 20) == count + 1
    made.laid.close()


# -- deliveries -------------------------------------------------------------------------------------------------------


def test_when_a_request_was_taken_is_told_to_those_who_ask(kernel: Kernel) -> None:
    for batches in (kernel.batches(), kernel.batches(delivered=True)):
        sent = kernel.send(1, 2)
        kernel.event(Kind.DELIVER, 2, unique=2, wire_len=len(sent))
        kernel.event(Kind.READ, 3, request(0, FORGET))
        records = list(batches.take(LATE).records)
    sent_record, delivered, _ = records
    assert sent_record.data == sent
    assert (delivered.flags, delivered.direction) == (RecordFlag.DELIVERED, Direction.TO_SERVER)
    assert (delivered.data, delivered.wire_len) == (struct.pack("<IIQ", len(sent), 0, 2), 16)
    assert (delivered.server_pid, delivered.server_tid) == (SERVER, SERVER + 1)


def test_deliveries_are_left_out_when_nobody_asked(kernel: Kernel) -> None:
    kernel.event(Kind.DELIVER, 2, unique=2, wire_len=45)
    batch = kernel.batches().take(LATE)
    assert (len(batch.records), batch.gaps) == (0, [])


# -- channels ---------------------------------------------------------------------------------------------------------


def test_each_connection_is_asked_for_once(kernel: Kernel) -> None:
    batches = kernel.batches()
    for t_ns in range(0, 80, 8):
        kernel.send(t_ns, 2, connection=41)
        kernel.send(t_ns + 1, 2, s_dev=CONNECTION)
        kernel.send(t_ns + 2, 2)
    assert [record.channel for record in batches.take(LATE).records] == [3, 0, 0] * 10
    kernel.send(100, 2, connection=41)
    assert [record.channel for record in batches.take(LATE).records] == [3]
    assert sorted(kernel.asked) == [(CONNECTION, 0), (CONNECTION, CONNECTION), (41, 0)]


def test_connections_that_are_not_wanted_are_left_out(kernel: Kernel) -> None:
    kernel.send(1, 2, connection=42)
    kernel.send(2, 4)
    kernel.end(3, 2, connection=42)
    assert times(list(kernel.batches().take(LATE).records)) == [2]


def test_an_event_of_a_kind_not_known_is_counted(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.event(9, 1, request(2))
    assert len(batches.take(LATE).records) == 0
    assert batches.unknown == 1


# -- losses -----------------------------------------------------------------------------------------------------------


def test_what_is_missing_of_each_processor_is_a_gap_at_the_first_event_after_it(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.lose(2, cpu=1)
    for t_ns in (1, 3, 5):
        kernel.send(t_ns, t_ns, cpu=0)
        kernel.send(t_ns + 1, t_ns, cpu=1)
        kernel.lose(3 if t_ns == 3 else 0, cpu=0)
    batch = batches.take(LATE)
    assert batch.gaps == [
        Gap(OFFSET_NS + 5, -1, 3, "the ring buffer was full (CPU 0)"),
        Gap(OFFSET_NS + 2, -1, 2, "the ring buffer was full (CPU 1)"),
    ]
    assert batches.lost == 5
    assert batches.take(LATE).gaps == []


def test_what_is_missing_between_two_drains_and_at_the_end_is_found(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.send(1, 2)
    assert batches.take(LATE).gaps == []
    kernel.lose(7)
    kernel.send(2, 2)
    assert [gap.count for gap in batches.take(LATE).gaps] == [7]
    kernel.lose(4)
    made = np.array([kernel.seq[0], 11], np.uint64)
    assert [(gap.count, gap.reason[-7:]) for gap in batches.finish(made).gaps] == [(4, "(CPU 0)"), (11, "(CPU 1)")]
    assert batches.lost == 22


def test_numbers_that_begin_anew_after_32_bits_are_no_loss(kernel: Kernel) -> None:
    batches = kernel.batches()
    batches._losses.found(np.zeros(1, EVENT))
    cpu = batches._losses._cpus[0]
    cpu.next_seq = cpu.seen = 2**32 - 2
    kernel.seq[0] = 2**32 - 2
    kernel.send(1, 2)
    kernel.send(2, 4)
    kernel.seq[0] = 0
    kernel.send(3, 6)
    assert batches.take(LATE).gaps == []
    assert cpu.next_seq == 2**32 + 1


def test_an_event_that_came_late_is_taken_off_what_is_missing(kernel: Kernel) -> None:
    batches = kernel.batches()
    kernel.event(Kind.SEND, 1, request(2), seq=1)
    assert [gap.count for gap in batches.take(LATE).gaps] == [1]
    kernel.event(Kind.SEND, 2, request(4), seq=0)
    kernel.event(Kind.SEND, 3, request(4), seq=3)
    assert batches.take(LATE).gaps == []
    kernel.event(Kind.SEND, 4, request(4), seq=6)
    assert [gap.count for gap in batches.take(LATE).gaps] == [2]
    assert batches.lost == 3


@pytest.mark.root
def test_of_a_real_ring_that_overflowed_the_gap_is_exactly_what_is_missing() -> None:
    size = 1 << 18
    try:
        made = MadeRing(size)
    except CannotMake as error:
        pytest.skip(str(error))
    with made:
        ring = Ring(made.fd, size)
        batches = Batches(ring, lambda *_: 0, clock_offset_ns=0)
        got, gaps = 0, []
        for count in (100, 5000, 10, 3000):
            made.fill(count, [144, 200])
            while ring.pending():
                batch = batches.take(2**62)
                got, gaps = got + len(batch.records), gaps + batch.gaps
        end = batches.finish(np.array([made.made], np.uint64))
        assert len(end.records) == 0
        counts = [gap.count for gap in gaps + end.gaps]
        assert len(counts) == 2
        assert sum(counts) == made.dropped == made.made - got > 0
        ring.close()


def test_an_init_in_the_middle_of_a_batch_begins_another_channel_of_the_same_number(kernel: Kernel) -> None:
    kernel.send(1000, 2, opcode=INIT)
    kernel.end(1100, 2)
    kernel.send(2000, 2, opcode=INIT)  # the first connection is gone: its number and its uniques begin anew
    kernel.end(2100, 2)
    kernel.send(3000, 4, opcode=INIT, connection=41)
    kernel.send(4000, 6)
    told: list[tuple[int, int, int]] = []

    def begins(connection: int, since_ns: int, until_ns: int) -> None:
        told.append((connection, since_ns, until_ns))
        kernel.channels[connection, 0] = 10 + len(told)

    records, _ = kernel.batches(begins=begins).take(LATE)
    assert told == [(CONNECTION, 1000, 2000), (CONNECTION, 2000, 0), (41, 3000, 0)]
    assert [record.channel for record in records] == [11, 11, 12, 12, 13, 12]
    assert kernel.asked == [(CONNECTION, 0), (CONNECTION, 0), (41, 0)]
