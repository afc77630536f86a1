"""Who answers whom: lists of messages, and how each exchange must stand afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tracer.dialogue import (
    BATCH_FORGET,
    FORGET,
    GETATTR,
    INTERRUPT,
    LOOKUP,
    NOTIFY_REPLY,
    READ,
    RESENT,
    Dialogue,
)
from tracer.records import ChannelInfo, Direction, RecordFlag
from tracer.trace.columns import Kind
from tracer.trace.trace import Trace

EINTR, EAGAIN, EINVAL, ENOENT, ENOSYS = -4, -11, -22, -2, -38


@pytest.fixture
def talk() -> Dialogue:
    return Dialogue()


def states(trace: Trace) -> list[str]:
    return [exchange.state.name for exchange in trace.exchanges()]


def test_a_request_and_its_reply_are_one_exchange_with_its_latency(talk: Dialogue, tmp_path: Path) -> None:
    talk.talk(GETATTR, 1, bytes(16), bytes(104))
    trace = talk.trace(tmp_path)
    (exchange,) = trace.exchanges()
    assert (exchange.state.name, exchange.latency_ns) == ("DONE", 1_000)
    assert exchange.reply is not None
    assert (exchange.reply.opcode, exchange.reply.nodeid) == (GETATTR, 1)
    assert trace.exchange_of(0) == trace.exchange_of(1) == 0


def test_replies_out_of_order_find_their_requests(talk: Dialogue, tmp_path: Path) -> None:
    first, second = talk.ask(GETATTR, 5), talk.ask(GETATTR, 6)
    talk.answer(second, error=ENOENT)
    talk.answer(first)
    trace = talk.trace(tmp_path)
    assert [(e.message.nodeid, e.reply.error if e.reply else None) for e in trace.exchanges()] == [(5, 0), (6, ENOENT)]


def test_a_request_without_an_answer_is_pending(talk: Dialogue, tmp_path: Path) -> None:
    talk.ask(READ)
    (exchange,) = talk.trace(tmp_path).exchanges()
    assert (exchange.state.name, exchange.latency_ns, exchange.reply) == ("PENDING", None, None)


def test_late_attach_replies_without_request_are_orphans_and_the_minor_is_unknown(tmp_path: Path) -> None:
    talk = Dialogue(channels=[ChannelInfo("/mnt")])
    talk.answer(900, bytes(104))
    talk.talk(GETATTR, 1, bytes(16), bytes(104), unique=902)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["ORPHAN_REPLY", "DONE"]
    orphan = trace.exchange(0)
    assert (orphan.request, orphan.message.opcode, orphan.latency_ns) == (None, -1, None)
    assert not trace.sessions[0].minor_is_known
    assert Trace.open(tmp_path / "made.pcapng", minor=31).sessions[0].minor_is_known


def test_what_is_never_answered_needs_no_reply(talk: Dialogue, tmp_path: Path) -> None:
    talk.forget(5)
    talk.batch_forget((5, 1), (6, 2))
    trace = talk.trace(tmp_path)
    assert states(trace) == ["NO_REPLY", "NO_REPLY"]
    assert [e.message.opcode for e in trace.exchanges()] == [FORGET, BATCH_FORGET]


@pytest.mark.parametrize("error", [0, -ENOSYS * -1])
def test_a_reply_to_a_forget_is_an_orphan(error: int, talk: Dialogue, tmp_path: Path) -> None:
    talk.answer(talk.ask(FORGET, 5, bytes(8)), error=error)
    assert states(talk.trace(tmp_path)) == ["NO_REPLY", "ORPHAN_REPLY"]


# ---- INTERRUPT ----


def test_an_interrupted_request_answered_eintr_is_interrupted(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.interrupt(read)
    talk.answer(read, error=EINTR)
    assert states(talk.trace(tmp_path)) == ["INTERRUPTED", "NO_REPLY"]


def test_an_interrupted_request_answered_all_the_same_is_done(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.interrupt(read)
    talk.answer(read, b"data")
    assert states(talk.trace(tmp_path)) == ["DONE", "NO_REPLY"]


def test_an_interrupted_request_without_an_answer_is_pending(talk: Dialogue, tmp_path: Path) -> None:
    talk.interrupt(talk.ask(READ))
    assert states(talk.trace(tmp_path)) == ["PENDING", "NO_REPLY"]


def test_eintr_that_nobody_asked_for_is_an_answer_like_any(talk: Dialogue, tmp_path: Path) -> None:
    talk.talk(READ, error=EINTR)
    assert states(talk.trace(tmp_path)) == ["DONE"]


def test_an_interrupt_that_comes_too_late_changes_nothing(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.answer(read, error=EINTR)
    talk.interrupt(read)
    again = talk.ask(READ, unique=read)
    talk.answer(again, error=EINTR)
    assert states(talk.trace(tmp_path)) == ["DONE", "NO_REPLY", "DONE"]


@pytest.mark.parametrize("error", [ENOSYS, EAGAIN, 0])
def test_an_interrupt_may_be_answered(error: int, talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.interrupt(read)
    talk.answer(read | 1, error=error)
    talk.answer(read, error=EINTR)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["INTERRUPTED", "DONE"]
    interrupt = trace.exchange(1)
    assert interrupt.reply is not None
    assert (interrupt.message.opcode, interrupt.reply.error) == (INTERRUPT, error)


def test_an_interrupt_queued_again_after_eagain_is_no_lost_message(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.interrupt(read)
    talk.interrupt(read)
    talk.answer(read, error=EINTR)
    assert states(talk.trace(tmp_path)) == ["INTERRUPTED", "NO_REPLY", "NO_REPLY"]


def test_below_4_20_an_interrupt_has_a_unique_of_its_own_and_names_its_target_in_the_body(
    talk: Dialogue, tmp_path: Path
) -> None:
    first = talk.ask(READ, unique=11)
    bystander = talk.ask(READ, unique=12)
    talk.interrupt(first, unique=13)
    talk.answer(bystander, error=EINTR)
    talk.answer(first, error=EINTR)
    assert states(talk.trace(tmp_path)) == ["INTERRUPTED", "DONE", "NO_REPLY"]


def test_of_an_interrupt_cut_before_its_body_the_unique_tells_the_target(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.interrupt(read)
    cut = talk.entries.pop()
    talk.entries.append(cut._replace(data=cut.data[:40], wire_len=48))
    talk.answer(read, error=EINTR)
    assert states(talk.trace(tmp_path)) == ["INTERRUPTED", "NO_REPLY"]


def test_an_interrupt_of_a_request_far_before_it_is_found(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    for _ in range(40_000):
        talk.talk(GETATTR)
    talk.interrupt(read)
    talk.answer(read, error=EINTR)
    trace = talk.trace(tmp_path)
    assert trace.exchange(0).state.name == "INTERRUPTED"


def test_an_interrupt_marks_the_request_open_then_not_a_later_one_of_the_same_unique(
    talk: Dialogue, tmp_path: Path
) -> None:
    read = talk.ask(READ)
    talk.interrupt(read)
    talk.answer(read, error=EINTR)
    talk.ask(READ, unique=read)
    assert states(talk.trace(tmp_path)) == ["INTERRUPTED", "NO_REPLY", "PENDING"]


# ---- notifications ----


def test_a_notification_stands_alone(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.notify(3, talk.pack("QII", 1, 4, 0) + b"name\0")
    talk.answer(read)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["DONE", "NOTIFY"]
    assert trace.exchange(1).message.name == "NOTIFY_INVAL_ENTRY"


def test_notify_reply_takes_nobodys_place_though_its_unique_is_the_servers_own(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ, unique=100)
    talk.ask(NOTIFY_REPLY, 5, bytes(40), unique=100)
    talk.answer(read)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["DONE", "NO_REPLY"]
    assert trace.missing_uniques() == []


# ---- RESEND ----


def test_after_resend_only_the_copy_can_be_answered(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.notify(7)
    talk.ask(READ, unique=read | RESENT)
    talk.answer(read | RESENT)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["LOST", "NOTIFY", "DONE"]


def test_an_answer_to_the_first_after_resend_is_an_orphan_also_when_nobody_says_the_kernel_refused_it(
    talk: Dialogue, tmp_path: Path
) -> None:
    read = talk.ask(READ)
    talk.notify(7)
    talk.ask(READ, unique=read | RESENT)
    talk.answer(read)
    talk.answer(read | RESENT)
    assert states(talk.trace(tmp_path)) == ["LOST", "NOTIFY", "DONE", "ORPHAN_REPLY"]


def test_a_request_sent_again_twice_is_answered_once(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    for _ in range(2):
        talk.notify(7)
        talk.ask(READ, unique=read | RESENT)
    talk.answer(read | RESENT)
    assert states(talk.trace(tmp_path)) == ["LOST", "NOTIFY", "LOST", "NOTIFY", "DONE"]


def test_where_the_copy_was_not_captured_its_answer_is_that_of_the_first(talk: Dialogue, tmp_path: Path) -> None:
    """eBPF sees a request when the kernel sends it, and it is not sent but only queued again."""
    read = talk.ask(READ)
    other = talk.ask(READ)
    talk.notify(7)
    talk.answer(read | RESENT)
    talk.answer(other)
    assert states(talk.trace(tmp_path)) == ["DONE", "DONE", "NOTIFY"]


def test_a_request_answered_before_resend_is_done(talk: Dialogue, tmp_path: Path) -> None:
    read = talk.ask(READ)
    talk.answer(read)
    talk.ask(READ, unique=read | RESENT)
    assert states(talk.trace(tmp_path)) == ["DONE", "PENDING"]


# ---- uniques ----


def test_a_unique_used_again_before_an_answer_means_the_first_is_lost(talk: Dialogue, tmp_path: Path) -> None:
    talk.ask(READ, 5, unique=8)
    talk.ask(READ, 6, unique=8)
    talk.answer(8)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["LOST", "DONE"]


def test_a_unique_used_again_after_an_answer_is_another_exchange(talk: Dialogue, tmp_path: Path) -> None:
    for nodeid in (5, 6, 7):
        talk.talk(READ, nodeid, unique=8)
    assert states(talk.trace(tmp_path)) == ["DONE"] * 3


def test_a_second_answer_is_an_orphan(talk: Dialogue, tmp_path: Path) -> None:
    talk.talk(READ)
    talk.answer(talk.unique)
    assert states(talk.trace(tmp_path)) == ["DONE", "ORPHAN_REPLY"]


def test_two_channels_count_their_own_uniques(tmp_path: Path) -> None:
    talk = Dialogue(channels=[ChannelInfo("/a"), ChannelInfo("/b")])
    talk.ask(GETATTR, 5, unique=2, channel=0)
    talk.ask(LOOKUP, 6, b"x\0", unique=2, channel=1)
    talk.answer(2, error=ENOENT, channel=1)
    talk.answer(2, channel=0)
    trace = talk.trace(tmp_path)
    assert [(e.message.opcode, e.reply.error if e.reply else None) for e in trace.exchanges()] == [
        (GETATTR, 0),
        (LOOKUP, ENOENT),
    ]


# ---- writes the kernel refused (fuse_dev_do_write(), fs/fuse/dev.c) ----


@pytest.mark.parametrize(
    ("error", "body", "result", "ends"),
    [
        (0, b"x" * 200, EINVAL, True),  # longer than asked for: the caller gets EIO
        (ENOENT, b"body", EINVAL, True),  # an error with a body: the caller gets EIO
        (-512, b"", EINVAL, False),  # no errno of user space: the request goes on waiting
        (7, b"", EINVAL, False),
        (0, b"", ENOENT, False),  # nobody waits for this unique
    ],
    ids=["too-long", "error-with-body", "errno-512", "positive", "unknown"],
)
def test_a_refused_write_ends_its_request_only_when_the_kernel_looked_it_up(
    error: int, body: bytes, result: int, ends: bool, talk: Dialogue, tmp_path: Path
) -> None:
    unique = talk.ask(GETATTR)
    talk.refused(unique, result, error, body)
    trace = talk.trace(tmp_path)
    assert states(trace) == (["DONE"] if ends else ["PENDING", "ORPHAN_REPLY"])


def test_a_request_goes_on_after_a_refused_write_and_is_answered_by_the_next(talk: Dialogue, tmp_path: Path) -> None:
    unique = talk.ask(GETATTR)
    talk.refused(unique, EINVAL, 7)
    talk.answer(unique, error=ENOENT)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["DONE", "ORPHAN_REPLY"]


def test_a_refused_write_whose_length_is_a_lie_ends_nothing(talk: Dialogue, tmp_path: Path) -> None:
    unique = talk.ask(GETATTR)
    lie = talk.pack("IiQ", 99, 0, unique)
    talk.add(Direction.TO_KERNEL, lie, flags=RecordFlag.REJECTED, result=EINVAL)
    assert states(talk.trace(tmp_path)) == ["PENDING", "ORPHAN_REPLY"]


# ---- odd bytes ----


@pytest.mark.parametrize("size", [0, 1, 4, 7, 8, 12, 15])
@pytest.mark.parametrize("direction", Direction)
def test_a_record_shorter_than_a_unique_stands_alone(
    size: int, direction: Direction, talk: Dialogue, tmp_path: Path
) -> None:
    talk.talk(GETATTR)
    talk.add(direction, bytes(size))
    talk.talk(GETATTR)
    trace = talk.trace(tmp_path)
    expected = "PENDING" if direction is Direction.TO_SERVER else "ORPHAN_REPLY"
    assert states(trace) == ["DONE", expected, "DONE"]
    assert (int(trace.records["unique"][2]), int(trace.records["nodeid"][2])) == (0, 0)


@pytest.mark.parametrize("size", range(16, 40))
def test_a_request_cut_within_its_header_keeps_what_is_there_and_is_answered(
    size: int, talk: Dialogue, tmp_path: Path
) -> None:
    unique = talk.ask(GETATTR, 5, pid=7)
    whole = talk.entries.pop()
    talk.entries.append(whole._replace(data=whole.data[:size]))
    talk.answer(unique)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["DONE"]
    table = trace.records
    assert int(table["nodeid"][0]) == (5 if size >= 24 else 0)
    assert int(table["pid"][0]) == (7 if size >= 36 else 0)


def test_a_big_endian_channel_pairs_beside_a_little_endian_one(tmp_path: Path) -> None:
    big = Dialogue(order=">")
    big.channels = [ChannelInfo("/little"), ChannelInfo("/big")]
    read = big.ask(READ, 5, channel=1, pid=9)
    big.order = "<"
    big.talk(GETATTR, 6, channel=0, unique=3)
    big.order = ">"
    big.interrupt(read)
    big.entries[-1] = big.entries[-1]._replace(channel=1)
    big.answer(read, error=EINTR, channel=1)
    trace = big.trace(tmp_path)
    assert states(trace) == ["INTERRUPTED", "DONE", "NO_REPLY"]
    exchange = trace.exchange(0)
    assert exchange.reply is not None
    assert (exchange.message.nodeid, exchange.message.header_value("pid"), exchange.reply.error) == (5, 9, EINTR)
    assert [session.big_endian for session in trace.sessions] == [False, True]


def test_a_big_endian_channel_that_begins_with_a_reply_or_a_cut_record_is_recognised(tmp_path: Path) -> None:
    talk = Dialogue(order=">")
    talk.add(Direction.TO_KERNEL, b"\0\0")
    talk.answer(44, bytes(104))
    talk.talk(GETATTR, 5)
    trace = talk.trace(tmp_path)
    assert states(trace) == ["ORPHAN_REPLY", "ORPHAN_REPLY", "DONE"]
    assert trace.exchange(2).message.nodeid == 5


def test_times_that_are_unknown_give_no_latency(talk: Dialogue, tmp_path: Path) -> None:
    unique = talk.ask(GETATTR, flags=RecordFlag.TIME_UNKNOWN)
    talk.answer(unique, flags=RecordFlag.TIME_UNKNOWN)
    assert talk.trace(tmp_path).exchange(0).latency_ns is None


# ---- loss ----


def missing(trace: Trace) -> list[tuple[int, int, tuple[tuple[int, int], ...]]]:
    return [(found.channel, found.count, found.ranges) for found in trace.missing_uniques()]


def test_holes_in_the_uniques_of_a_kernel_since_4_20_are_counted_by_two(talk: Dialogue, tmp_path: Path) -> None:
    for unique in (2, 4, 6, 12, 14, 18):
        talk.talk(GETATTR, unique=unique)
    assert missing(talk.trace(tmp_path)) == [(0, 3, ((8, 10), (16, 16)))]


def test_holes_in_the_uniques_of_an_older_kernel_are_counted_by_one(talk: Dialogue, tmp_path: Path) -> None:
    for unique in (1, 2, 3, 6, 7):
        talk.talk(GETATTR, unique=unique)
    assert missing(talk.trace(tmp_path)) == [(0, 2, ((4, 5),))]


def test_interrupts_resent_requests_forgets_and_two_channels_leave_no_hole(tmp_path: Path) -> None:
    talk = Dialogue(channels=[ChannelInfo("/a"), ChannelInfo("/b")])
    read = talk.ask(READ)
    talk.interrupt(read)
    talk.forget(5)
    talk.ask(READ, unique=read | RESENT)
    talk.answer(read | RESENT)
    talk.talk(GETATTR)
    for unique in (2, 4, 6):
        talk.talk(GETATTR, unique=unique, channel=1)
    assert missing(talk.trace(tmp_path)) == []


def test_replies_in_another_order_and_a_late_attach_are_no_loss(talk: Dialogue, tmp_path: Path) -> None:
    for unique in (1006, 1002, 1004, 1000):
        talk.talk(GETATTR, unique=unique)
    assert missing(talk.trace(tmp_path)) == []


def test_uniques_of_any_size_are_no_trouble(talk: Dialogue, tmp_path: Path) -> None:
    for unique in (2**64 - 2, 2**63, 2, 0, 2**62):
        talk.talk(GETATTR, unique=unique)
    trace = talk.trace(tmp_path)
    assert sum(found.count for found in trace.missing_uniques()) > 0
    assert trace.exchange_count >= 4


def test_gaps_of_the_capture_are_kept_with_their_channel(talk: Dialogue, tmp_path: Path) -> None:
    talk.gap(0, "nobody knows")
    talk.talk(GETATTR)
    talk.gap(5, "the ring was full", channel=-1)
    assert [(gap.channel, gap.count, gap.reason) for gap in talk.trace(tmp_path).gaps] == [
        (0, 0, "nobody knows"),
        (-1, 5, "the ring was full"),
    ]


def test_kinds_are_told_from_direction_and_unique(talk: Dialogue, tmp_path: Path) -> None:
    talk.ask(GETATTR, unique=0)
    talk.notify(8)
    talk.answer(6)
    kinds = talk.trace(tmp_path).records["kind"].tolist()
    assert kinds == [Kind.REQUEST, Kind.NOTIFICATION, Kind.REPLY]
