"""How single requests are played, against a server in this process: what it was asked is looked at, byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dissectors.layout import Context
from replays.init import InitEdit
from replays.options import Order, ReplayOptions
from replays.reasons import Skip
from replays.recorded.dependencies import waits
from replays.recorded.plan import make_plan
from replays.recorded.schedule import one_by_one
from replays.replay import replay
from replays.report import ReplayReport
from tests.replays.model import (
    BATCH_FORGET,
    ENOSYS,
    FLUSH,
    FORGET,
    GETATTR,
    INIT,
    INTERRUPT,
    LOOKUP,
    OPEN,
    READ,
    READDIR,
    RELEASE,
    WRITE,
    ModelServer,
    ModelTransport,
)
from tests.tracer.dialogue import REGULAR, Dialogue
from tracer.errors import TracerError
from tracer.records import ChannelInfo, ChannelKind, Direction

READDIRPLUS, RENAME2, NOTIFY_REPLY, SETLKW, TMPFILE = 44, 45, 41, 33, 51
OPEN_BODY = struct.pack("<II", 0, 0)
RESENT = 1 << 63


def talk_of_a_file(*, server_node: int = 50, fh: int = 7) -> Dialogue:
    """INIT, LOOKUP of a file and OPEN of it."""
    dialogue = Dialogue()
    dialogue.init()
    dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(server_node, REGULAR))
    dialogue.talk(OPEN, server_node, OPEN_BODY, struct.pack("<QII", fh, 0, 0))
    return dialogue


def read_body(size: int, offset: int = 0, fh: int = 7) -> bytes:
    return struct.pack("<QQIIQII", fh, offset, size, 0, 0, 0, 0)


def play(
    dialogue: Dialogue, directory: Path, transport: ModelTransport | None = None, **options: object
) -> tuple[ReplayReport, ModelServer]:
    transport = transport or ModelTransport(ModelServer())
    settings = ReplayOptions(**{"allow_writes": True, "timeout_s": 0.3, **options})  # type: ignore[arg-type]
    report = replay(dialogue.trace(directory), transport, settings)
    assert transport.is_closed
    return report, transport.server


def opcodes(server: ModelServer) -> list[int]:
    return [opcode for opcode, _, _ in server.asked]


# ---- ids -------------------------------------------------------------------------------------------------------------


def test_ids_are_those_the_live_server_gave(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.talk(READ, 50, read_body(10))
    dialogue.talk(GETATTR, 50, struct.pack("<IIQ", 1, 0, 7), struct.pack("<QII", 1, 0, 0) + dialogue.entry_out(50)[40:])
    dialogue.talk(RELEASE, 50, struct.pack("<QIIQ", 7, 0, 0, 0))
    dialogue.forget(50)
    report, server = play(dialogue, tmp_path)
    assert report.counts.sent == report.counts.planned == 7
    assert [(opcode, node) for opcode, node, _ in server.asked[2:]] == [
        (c, 101) for c in (OPEN, READ, GETATTR, RELEASE, FORGET)
    ]
    assert not server.handles
    assert set(server.nodes) == {1}


def test_lookups_are_given_back_as_often_as_the_live_server_counted_them(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    for _ in range(3):
        dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(50, REGULAR))
    dialogue.talk(LOOKUP, 1, b"other\0", dialogue.entry_out(60, REGULAR))
    dialogue.forget(50, 1)
    dialogue.batch_forget((50, 3), (60, 1))
    report, server = play(dialogue, tmp_path)
    assert report.counts.skipped == {Skip.STILL_HELD.name: 1}
    assert [body for opcode, _, body in server.asked if opcode == BATCH_FORGET] == [
        struct.pack("<IIQQQQ", 2, 0, 101, 4, 102, 1)
    ]
    assert set(server.nodes) == {1}


def test_a_node_that_only_the_live_server_gave_out_is_given_back_at_once(tmp_path: Path) -> None:
    dialogue = Dialogue()
    dialogue.init()
    dialogue.talk(LOOKUP, 1, b"surprise\0", error=-2)
    report, server = play(dialogue, tmp_path)
    assert [(d.rule, d.recorded, d.live) for d in report.differences] == [("error", -2, 0)]
    assert set(server.nodes) == {1}


def test_ids_that_were_never_introduced_are_not_sent(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.talk(GETATTR, 999, struct.pack("<IIQ", 0, 0, 0))
    dialogue.talk(READ, 50, read_body(10, fh=999))
    dialogue.forget(999, 10)
    report, server = play(dialogue, tmp_path, learn=False)
    assert report.counts.skipped == {"UNKNOWN_NODE": 1, "UNKNOWN_HANDLE": 1, "NOTHING_HELD": 1}
    assert opcodes(server) == [INIT, LOOKUP, OPEN]


def test_a_recording_that_began_late_is_learnt_by_path_and_flags(tmp_path: Path) -> None:
    dialogue = Dialogue()
    dialogue.talk(LOOKUP, 70, b"inner\0", dialogue.entry_out(71, REGULAR))
    dialogue.talk(READ, 71, read_body(10, fh=5))
    dialogue.talk(GETATTR, 70, struct.pack("<IIQ", 0, 0, 0))
    dialogue.talk(LOOKUP, 1, b"dir\0", dialogue.entry_out(70))
    report, server = play(dialogue, tmp_path)
    assert report.counts.sent == 4
    assert opcodes(server) == [INIT, LOOKUP, LOOKUP, OPEN, READ, GETATTR, LOOKUP]
    assert [name for opcode, _, name in server.asked if opcode == LOOKUP] == [b"dir\0", b"inner\0", b"dir\0"]
    assert {note.rule for note in report.notes} == {"learned"}


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"..", b".", b"", b"../x", b"a/b"])
def test_names_no_kernel_says_are_not_sent(name: bytes, tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.talk(LOOKUP, 1, name + b"\0", dialogue.entry_out(60))
    report, server = play(dialogue, tmp_path)
    assert report.counts.skipped == {Skip.HOSTILE_NAME.name: 1}
    assert opcodes(server) == [INIT, LOOKUP, OPEN]


def test_a_file_is_not_asked_for_names_though_the_recording_says_it_is_a_directory(tmp_path: Path) -> None:
    dialogue = Dialogue()
    dialogue.init()
    dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(50))
    dialogue.talk(LOOKUP, 50, b"passwd\0", dialogue.entry_out(51))
    report, _ = play(dialogue, tmp_path)
    assert report.counts.skipped == {Skip.NOT_A_DIRECTORY.name: 1}


def test_nothing_is_written_unless_allowed(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.write(50, 10)
    dialogue.unlink(1, b"file")
    dialogue.talk(OPEN, 50, struct.pack("<II", 0o1001, 0), struct.pack("<QII", 8, 0, 0))
    report, server = play(dialogue, tmp_path, allow_writes=False)
    assert report.counts.skipped == {Skip.WRITES.name: 3}
    assert opcodes(server) == [INIT, LOOKUP, OPEN]


def test_data_that_was_cut_is_not_made_up_unless_asked(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    body = dialogue.write_body(5)[:40]
    dialogue.ask(WRITE, 50, body, wire_len=40 + 45)
    trace_file = dialogue.entries[-1]
    dialogue.entries[-1] = trace_file._replace(data=struct.pack("<I", 85) + trace_file.data[4:])  # type: ignore[union-attr]
    dialogue.answer(dialogue.unique, struct.pack("<II", 5, 0))
    with pytest.raises(TracerError, match="1 requests of the recording lost data"):
        play(dialogue, tmp_path)
    report, server = play(dialogue, tmp_path, zero_fill=True)
    assert server.asked[-1][2][40:] == bytes(5)
    assert [note.rule for note in report.notes] == ["zero-fill"]
    assert not report.differences


def test_of_an_answer_that_was_cut_the_length_and_what_was_kept_are_compared(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    for length in (0, 100):  # the model's files are empty
        dialogue.ask(READ, 50, read_body(100))
        head = struct.pack("<IiQ", 16 + length, 0, dialogue.unique)
        dialogue.add(Direction.TO_KERNEL, head, wire_len=16 + length)
    report, _ = play(dialogue, tmp_path)
    assert [(d.rule, d.recorded, d.live) for d in report.differences] == [("length", 100, 0)]
    assert [note.rule for note in report.notes] == ["cut"]


def test_a_recording_without_a_request_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TracerError, match="no request that could be played"):
        play(Dialogue(), tmp_path)


def test_of_several_mounts_one_has_to_be_chosen(tmp_path: Path) -> None:
    dialogue = Dialogue(channels=[ChannelInfo("/mnt/a"), ChannelInfo("/mnt/b", kind=ChannelKind.CUSE)])
    for channel in (0, 1):
        dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(50, REGULAR), channel=channel)
    with pytest.raises(TracerError, match=r"holds 2 mounts: 0 \(/mnt/a\), 1 \(/mnt/b\)"):
        play(dialogue, tmp_path)
    with pytest.raises(TracerError, match="character device"):
        play(dialogue, tmp_path, channel=1)
    report, _ = play(dialogue, tmp_path, channel=0)
    assert report.counts.planned == 1


# ---- requests that take several, or none -----------------------------------------------------------------------------


def test_writes_and_reads_are_split_for_a_server_that_takes_less(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.write(50, 10_000)
    dialogue.talk(READ, 50, read_body(9000))
    report, server = play(dialogue, tmp_path, init=InitEdit.parse("flags+=MAX_PAGES"))  # the server wants one page
    sizes = [struct.unpack_from("<QI", body, 8) for opcode, _, body in server.asked if opcode == WRITE]
    assert sizes == [(0, 4096), (4096, 4096), (8192, 1808)]
    assert struct.unpack_from("<QI", server.asked[-1][2], 8) == (0, 4096)  # short: the end of the file
    assert not report.differences
    assert {note.rule for note in report.notes} == {"splitting"}


def test_enosys_is_compared_by_what_the_kernel_does_next_and_never_asked_for_again(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    for _ in range(3):
        dialogue.talk(FLUSH, 50, struct.pack("<QIIQ", 7, 0, 0, 0))
    report, server = play(dialogue, tmp_path, ModelTransport(ModelServer(enosys=frozenset({FLUSH}))))
    assert (report.differences, report.counts.skipped) == ((), {Skip.NEVER_AGAIN.name: 2})
    assert opcodes(server).count(FLUSH) == 1
    assert [(note.rule, note.text) for note in report.notes] == [("enosys", "recorded success, live ENOSYS")]
    strictly, _ = play(dialogue, tmp_path, ModelTransport(ModelServer(enosys=frozenset({FLUSH}))), strict=True)
    assert ("enosys", 0, ENOSYS) in [(d.rule, d.recorded, d.live) for d in strictly.differences]


def test_a_server_without_open_is_read_with_handle_0_and_released_never(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.talk(READ, 50, read_body(10))
    dialogue.talk(RELEASE, 50, struct.pack("<QIIQ", 7, 0, 0, 0))
    server = ModelServer(enosys=frozenset({OPEN}), handles={0: 101})
    report, _ = play(dialogue, tmp_path, ModelTransport(server))
    assert report.differences == ()
    assert opcodes(server) == [INIT, LOOKUP, OPEN, READ]


def test_names_whose_nodes_are_needed_are_looked_up_where_there_is_no_readdirplus(tmp_path: Path) -> None:
    dialogue = Dialogue()
    dialogue.init()
    dialogue.talk(27, 1, OPEN_BODY, struct.pack("<QII", 9, 0, 0))
    dialogue.readdirplus(1, [(b".", 0, False), (b"one", 61, False), (b"two", 62, False)])
    dialogue.talk(GETATTR, 62, struct.pack("<IIQ", 0, 0, 0))
    server = ModelServer(flags=1 << 22)
    report, _ = play(dialogue, tmp_path, ModelTransport(server))
    assert opcodes(server) == [INIT, 27, READDIR, LOOKUP, GETATTR]
    assert server.asked[3][2] == b"two\0"
    assert report.counts.added == {"LOOKUP": 1}


# ---- the session itself ----------------------------------------------------------------------------------------------


def test_an_interrupt_names_the_live_request_and_nothing_that_was_answered(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    blocked = dialogue.ask(SETLKW, 50, struct.pack("<QQQQIIII", 7, 1, 0, 10, 1, 0, 0, 0))
    dialogue.interrupt(blocked)
    dialogue.answer(blocked, error=-4)
    dialogue.interrupt(blocked)
    server = ModelServer()
    transport = ModelTransport(server, holds_back=lambda request: request[4] == SETLKW)
    report, _ = play(dialogue, tmp_path, transport)
    asked = next(request for request in transport.sent if request[4] == SETLKW)
    (unique,) = struct.unpack_from("<Q", asked, 8)
    (interrupt,) = [request for request in transport.sent if request[4] == INTERRUPT]
    assert struct.unpack_from("<Q", interrupt, 8) == (unique | 1,)
    assert struct.unpack_from("<Q", interrupt, 40) == (unique,)
    assert report.stopped.startswith("no answer for 0.3 s to SETLKW")
    assert [d.rule for d in report.differences] == ["no-answer"]


def test_a_request_that_was_never_answered_is_not_waited_for(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.ask(SETLKW, 50, struct.pack("<QQQQIIII", 7, 1, 0, 10, 1, 0, 0, 0))
    transport = ModelTransport(ModelServer(), holds_back=lambda request: request[4] == SETLKW)
    report, _ = play(dialogue, tmp_path, transport)
    assert (report.stopped, report.differences) == ("", ())


def test_one_by_one_nothing_waits_for_a_lock_before_the_recording_has_it(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    lock = dialogue.ask(SETLKW, 50, struct.pack("<QQQQIIII", 7, 1, 0, 10, 1, 0, 0, 0))
    dialogue.talk(READ, 50, read_body(10))
    dialogue.talk(RELEASE, 50, struct.pack("<QIIQ", 7, 0, 0, 0))
    dialogue.answer(lock)
    dialogue.talk(GETATTR, 1, struct.pack("<IIQ", 0, 0, 0))
    steps = make_plan(dialogue.trace(tmp_path)).steps
    turns = {opcode: (step.after, step.turn) for step in one_by_one(steps) for opcode in (step.opcode,)}
    assert [turns[code] for code in (OPEN, SETLKW, READ, RELEASE, GETATTR)] == [(2, 2), (3, 5), (3, 3), (4, 4), (6, 6)]


def test_requests_that_were_never_answered_take_no_place_from_others(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    for number in range(5):
        dialogue.ask(SETLKW, 50, struct.pack("<QQQQIIII", 7, number, 0, 10, 1, 0, 0, 0))
    dialogue.talk(READ, 50, read_body(10))
    transport = ModelTransport(ModelServer(), holds_back=lambda request: request[4] == SETLKW)
    report, _ = play(dialogue, tmp_path, transport, window=2)
    assert (report.stopped, report.counts.answered) == ("", 4)


def test_retrieve_is_answered_with_what_the_recorded_kernel_had(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.ask(NOTIFY_REPLY, 50, struct.pack("<QQIIQQ", 0, 0, 3, 0, 0, 0) + b"abc", unique=77)
    dialogue.talk(READ, 50, read_body(10))
    dialogue.talk(READ, 50, read_body(10))
    transport = ModelTransport(ModelServer())
    ask = struct.pack("<QQQII", 1234, 101, 0, 10, 0)
    answer = transport.server.answer

    def with_retrieve(request: bytes) -> bytes | None:
        if request[4] == READ and not any(sent[4] == NOTIFY_REPLY for sent in transport.sent):
            transport.says.append(struct.pack("<IiQ", 16 + len(ask), 5, 0) + ask)
        return None if request[4] == NOTIFY_REPLY else answer(request)

    transport.server.answer = with_retrieve  # type: ignore[method-assign]
    report, _ = play(dialogue, tmp_path, transport)
    replies = [request for request in transport.sent if request[4] == NOTIFY_REPLY]
    assert struct.unpack_from("<QQ", replies[0], 8) == (1234, 101)
    assert struct.unpack_from("<QQI", replies[0], 40)[1:] == (0, 3)
    assert replies[0][80:] == b"abc"
    assert report.counts.notifications == {"NOTIFY_RETRIEVE": len(replies)}
    assert report.counts.skipped == {Skip.RETRIEVED.name: 1}


def test_resend_asks_again_for_what_is_under_way(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    dialogue.talk(READ, 50, read_body(10))
    transport = ModelTransport(ModelServer())
    transport.holds_back = lambda request: request[4] == READ and not request[15] & 0x80
    transport.says = []
    answer = transport.complete

    def with_resend(timeout_s: float) -> list:  # type: ignore[type-arg]
        if transport.sent[-1][4] == READ and not transport.sent[-1][15] & 0x80:
            transport.says.append(struct.pack("<IiQ", 16, 7, 0))
        return answer(timeout_s)

    transport.complete = with_resend  # type: ignore[method-assign]
    report, _ = play(dialogue, tmp_path, transport)
    first, second = (struct.unpack_from("<Q", request, 8)[0] for request in transport.sent if request[4] == READ)
    assert second == first | RESENT
    assert (report.stopped, report.differences) == ("", ())


def test_a_server_that_answers_both_times_after_resend_is_taken_at_its_first_word(tmp_path: Path) -> None:
    """It said RESEND before it had read the request: no kernel would send that again, but here nobody knows."""
    dialogue = talk_of_a_file()
    dialogue.talk(READ, 50, read_body(10))
    dialogue.talk(FLUSH, 50, struct.pack("<QIIQ", 7, 0, 0, 0))
    transport = ModelTransport(ModelServer())
    submit = transport.submit

    def with_resend(message: bytearray, room: int, **urgent: bool) -> bool:
        if message[4] == READ and not message[15] & 0x80:
            transport.says.append(struct.pack("<IiQ", 16, 7, 0))
        return submit(message, room, **urgent)

    transport.submit = with_resend  # type: ignore[method-assign]
    report, server = play(dialogue, tmp_path, transport)
    assert opcodes(server).count(READ) == 2
    assert (report.stopped, report.differences) == ("", ())


def test_of_a_request_that_was_recorded_twice_after_resend_the_first_is_played_and_compared(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    read = dialogue.ask(READ, 50, read_body(10))
    dialogue.notify(7)
    dialogue.ask(READ, 50, read_body(10), unique=read | RESENT)
    dialogue.answer(read | RESENT, b"recorded")
    report, server = play(dialogue, tmp_path)
    assert opcodes(server).count(READ) == 1
    assert [one.rule for one in report.differences] == ["data"]


def test_a_file_without_a_name_is_made_by_the_name_that_the_kernel_gives_it(tmp_path: Path) -> None:
    dialogue = Dialogue()
    dialogue.init()
    for name in (b"/", b"a/b", b".."):
        dialogue.talk(TMPFILE, 1, struct.pack("<IIII", 2, REGULAR, 0, 0) + name + b"\0", error=ENOSYS)
    transport = ModelTransport(ModelServer(enosys=frozenset({TMPFILE})))
    report, server = play(dialogue, tmp_path, transport)
    assert [body[16:] for opcode, _, body in server.asked if opcode == TMPFILE] == [b"/\0"]
    assert report.counts.skipped == {Skip.HOSTILE_NAME.name: 2}


def test_an_older_and_poorer_kernel_can_be_played(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    edit = InitEdit.parse("minor=30,flags-=INIT_EXT,max_readahead=4096")
    dialogue.talk(READ, 50, read_body(10))
    report, server = play(dialogue, tmp_path, init=edit)
    assert struct.unpack_from("<III", server.asked[0][2]) == (7, 30, 4096)
    assert len(server.asked[0][2]) == 16  # no flags2 before 7.36
    assert report.agreed.context.minor == 30


def test_a_big_endian_recording_is_played_in_this_machines_order(tmp_path: Path) -> None:
    dialogue = Dialogue(order=">")
    attributes = dialogue.pack("QII", 1, 0, 0) + dialogue.entry_out(50, REGULAR)[40:]
    dialogue.init()
    dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(50, REGULAR))
    dialogue.talk(GETATTR, 50, dialogue.pack("IIQ", 0, 0, 0), attributes)
    dialogue.forget(50)
    dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(60, REGULAR), pid=7)
    dialogue.entries[-2:] = []  # lost: the node has to be looked up by the path that a later record tells
    dialogue.talk(GETATTR, 60, dialogue.pack("IIQ", 0, 0, 0), attributes)
    dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(60, REGULAR))
    transport = ModelTransport(ModelServer())
    report, server = play(dialogue, tmp_path, transport)
    asked = [(INIT, 0), (LOOKUP, 1), (GETATTR, 101), (FORGET, 101), (LOOKUP, 1), (GETATTR, 101), (LOOKUP, 1)]
    assert [(opcode, node) for opcode, node, _ in server.asked] == asked
    assert (report.counts.same, report.differences) == (4, ())
    callers = {struct.unpack_from("<III", sent, 24) for sent in transport.sent[1:] if sent[4] != FORGET}
    assert callers == {(1000, 1000, 100)}


def test_users_are_mapped_in_requests_and_in_what_is_compared(tmp_path: Path) -> None:
    transport = ModelTransport(ModelServer())
    play(talk_of_a_file(), tmp_path, transport, uids={1000: 7}, gids={1000: 8})
    assert {struct.unpack_from("<II", request, 24) for request in transport.sent[1:]} == {(7, 8)}


# ---- ends ------------------------------------------------------------------------------------------------------------


def test_it_ends_after_so_many_differences(tmp_path: Path) -> None:
    dialogue = Dialogue()
    dialogue.init()
    for number in range(10):
        dialogue.talk(LOOKUP, 1, b"a%d\0" % number, error=-2)
    report, _ = play(dialogue, tmp_path, max_differences=3)
    assert (report.stopped, len(report.firsts)) == ("ended after 3 differences", 3)
    assert report.counts.skipped == {Skip.NOT_REACHED.name: 7}


def test_what_follows_from_a_difference_says_so(tmp_path: Path) -> None:
    dialogue = Dialogue()
    dialogue.init()
    dialogue.talk(LOOKUP, 1, b"nothing\0", dialogue.entry_out(50, REGULAR))
    dialogue.talk(LOOKUP, 1, b"nothing\0", dialogue.entry_out(50, REGULAR))
    dialogue.talk(LOOKUP, 1, b"nowhere\0", dialogue.entry_out(51, REGULAR))
    report, _ = play(dialogue, tmp_path)
    assert [(d.exchange, d.follower_of) for d in report.differences] == [(1, None), (2, 1), (3, None)]
    assert [d.live_exchange for d in report.differences] == [1, 2, 3]


def test_a_message_can_be_changed_and_dropped_before_it_is_sent(tmp_path: Path) -> None:
    def edit(message: bytes, _: Context) -> bytes | None:
        if message[4] in (READ, FORGET):
            return None
        return message[:40] + b"FILE\0" if message[4] == LOOKUP else message

    dialogue = talk_of_a_file()
    dialogue.talk(READ, 50, read_body(10))
    dialogue.forget(50)
    report, server = play(dialogue, tmp_path, edit=edit)
    assert opcodes(server) == [INIT, LOOKUP, OPEN]
    assert server.asked[1][2] == b"FILE\0"
    assert report.counts.skipped == {Skip.EDITED_AWAY.name: 1}


@pytest.mark.parametrize("order", Order)
def test_each_order_plays_everything(order: Order, tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    for _ in range(20):
        dialogue.talk(READ, 50, read_body(10))
    report, _ = play(dialogue, tmp_path, order=order)
    assert report.counts.sent == report.counts.planned
    assert report.order == order.value


def test_the_recorded_pace_is_kept_and_its_error_told(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    for _ in range(5):
        dialogue.t_ns += 10_000_000
        dialogue.talk(READ, 50, read_body(10))
    report, _ = play(dialogue, tmp_path, speed=1.0)
    assert report.duration_ns >= 50_000_000
    assert report.pacing is not None
    assert report.pacing.median_ns < 10_000_000
    faster, _ = play(dialogue, tmp_path, speed=5.0)
    assert faster.duration_ns >= 10_000_000


def test_nothing_is_released_or_forgotten_before_what_uses_it_is_done(tmp_path: Path) -> None:
    """strace may tell the end of a writev(2) after the read(2) of what the kernel sent because of it."""
    dialogue = talk_of_a_file()
    flush = dialogue.ask(FLUSH, 50, struct.pack("<QIIQ", 7, 0, 0, 0))
    release = dialogue.ask(RELEASE, 50, struct.pack("<QIIQ", 7, 0, 0, 0))
    dialogue.answer(flush)
    dialogue.answer(release)
    getattr_unique = dialogue.ask(GETATTR, 50, struct.pack("<IIQ", 0, 0, 0))
    dialogue.forget(50)
    dialogue.answer(getattr_unique, struct.pack("<QII", 1, 0, 0) + dialogue.entry_out(50)[40:])
    plan = make_plan(dialogue.trace(tmp_path), allow_writes=True)
    numbers = {step.opcode: step.number for step in plan.steps}
    needed, _ = waits(plan)
    assert numbers[FLUSH] in needed[numbers[RELEASE]]
    assert numbers[GETATTR] in needed[numbers[FORGET]]


def test_what_waits_for_what_stays_small_however_many_read_and_write_one_file(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    for turn in range(600):
        dialogue.talk(READ, 50, read_body(10, turn))
        dialogue.talk(GETATTR, 50, struct.pack("<IIQ", 0, 0, 0))
        if turn % 3 == 0:
            dialogue.talk(WRITE, 50, dialogue.write_body(5, turn * 5), struct.pack("<II", 5, 0))
    needed, _ = waits(make_plan(dialogue.trace(tmp_path), allow_writes=True))
    assert sum(map(len, needed)) < 100 * len(needed)
