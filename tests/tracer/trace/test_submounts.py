"""In which submount each record lies: announced in entries, or told by SYNCFS alone; whenever that was learnt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracer.dialogue import GETATTR, INIT, SYNCFS, Dialogue
from tracer.records import ChannelInfo
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace


@pytest.fixture
def talk() -> Dialogue:
    return Dialogue()


def submounts(trace: Trace) -> list[int | None]:
    """Return the submount of each request, in order."""
    return [trace.submount(int(row)) for row in trace.first_rows]


def test_without_submounts_every_record_lies_in_the_root(talk: Dialogue, tmp_path: Path) -> None:
    talk.init()
    talk.talk(GETATTR, 99)
    talk.answer(4711)
    talk.notify(8)
    talk.forget(99)
    trace = talk.trace(tmp_path)
    assert submounts(trace) == [1] * 5
    assert trace.submounts == [(0, 1)]
    assert (trace.records["submount"] == 0).all()


@pytest.mark.parametrize("way", ["lookup", "readdirplus"])
def test_an_announced_submount_holds_what_is_found_in_it(way: str, talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"plain", 2)
    if way == "lookup":
        talk.lookup(1, b"mnt1", 5, submount=True)
    else:
        talk.readdirplus(1, [(b".", 1, False), (b"..", 1, False), (b"plain", 2, False), (b"mnt1", 5, True)])
    talk.talk(GETATTR, 5)
    talk.lookup(5, b"inside", 6)
    talk.write(6, 10)
    talk.lookup(6, b"deep", 7)
    talk.talk(GETATTR, 7)
    talk.talk(GETATTR, 2)
    trace = talk.trace(tmp_path)
    assert submounts(trace) == [1, 1, 5, 5, 5, 5, 5, 1]
    assert trace.path(int(trace.first_rows[6])) == b"/mnt1/inside/deep"


def test_nested_submounts_are_kept_apart(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"outer", 5, submount=True)
    talk.lookup(5, b"inner", 6, submount=True)
    talk.lookup(6, b"file", 7)
    for nodeid in (5, 6, 7):
        talk.talk(GETATTR, nodeid)
    talk.syncfs(1)
    talk.syncfs(5)
    talk.syncfs(6)
    trace = talk.trace(tmp_path)
    assert submounts(trace) == [1, 5, 6, 5, 6, 6, 1, 5, 6]
    assert trace.submounts == [(0, 1), (0, 5), (0, 6)]


def test_syncfs_tells_of_a_submount_that_nobody_announced_also_for_what_came_before(
    talk: Dialogue, tmp_path: Path
) -> None:
    """A capture that began late: the LOOKUP that announced it was not seen."""
    talk.write(7, 100)
    talk.lookup(7, b"dir", 8)
    talk.lookup(8, b"file", 9)
    talk.write(9, 100)
    talk.lookup(1, b"other", 10)
    talk.syncfs(7)
    talk.talk(GETATTR, 9)
    talk.talk(GETATTR, 10)
    talk.talk(GETATTR, 1)
    assert submounts(talk.trace(tmp_path)) == [7, 7, 7, 7, 1, 7, 7, 1, 1]


def test_where_there_are_submounts_a_node_nobody_named_lies_nobody_knows_where(talk: Dialogue, tmp_path: Path) -> None:
    talk.talk(GETATTR, 99)
    talk.lookup(98, b"child", 97)
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.talk(GETATTR, 99)
    talk.talk(GETATTR, 97)
    talk.answer(4711)
    talk.init()
    talk.forget(99)
    assert submounts(talk.trace(tmp_path)) == [None, None, 1, None, None, None, 1, None]


def test_looking_a_submount_up_again_changes_nothing(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.lookup(5, b"file", 6)
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.talk(GETATTR, 6)
    assert submounts(talk.trace(tmp_path)) == [1, 5, 1, 5]


def test_a_node_that_becomes_a_submount_is_one_from_then_on(talk: Dialogue, tmp_path: Path) -> None:
    """The server mounted something there; the kernel drops the dentry and looks everything in it up anew."""
    talk.lookup(1, b"mnt", 5)
    talk.talk(GETATTR, 5)
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.talk(GETATTR, 5)
    talk.lookup(1, b"mnt", 5)
    talk.talk(GETATTR, 5)
    assert submounts(talk.trace(tmp_path)) == [1, 1, 1, 5, 1, 1]


def test_the_number_of_a_submount_that_was_given_back_may_come_again_for_a_file(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.forget(5)
    talk.create(1, b"file", 5)
    talk.write(5, 10)
    assert submounts(talk.trace(tmp_path)) == [1, 5, 1, 1]


def test_what_is_renamed_within_a_submount_stays_in_it(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.lookup(5, b"a", 6)
    talk.lookup(5, b"dir", 7)
    talk.rename((5, b"a"), (7, b"b"))
    talk.talk(GETATTR, 6)
    talk.unlink(7, b"b")
    talk.talk(GETATTR, 6)
    assert submounts(talk.trace(tmp_path))[-3:] == [5, 5, 5]


def test_a_rename_between_directories_nobody_named_keeps_the_submount_that_is_known(
    talk: Dialogue, tmp_path: Path
) -> None:
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.lookup(5, b"a", 6)
    talk.rename((5, b"a"), (99, b"b"))
    talk.talk(GETATTR, 6)
    assert submounts(talk.trace(tmp_path))[-1] == 5


def test_two_channels_have_their_own_submounts(tmp_path: Path) -> None:
    talk = Dialogue(channels=[ChannelInfo("/a"), ChannelInfo("/b")])
    talk.lookup(1, b"mnt", 5, submount=True, channel=0)
    talk.talk(GETATTR, 5, channel=0)
    talk.talk(GETATTR, 5, channel=1)
    trace = talk.trace(tmp_path)
    assert submounts(trace) == [1, 5, 1]
    assert sorted(trace.submounts) == [(0, 1), (0, 5), (1, 1)]


def test_syncfs_of_the_root_or_of_no_node_makes_no_submount(talk: Dialogue, tmp_path: Path) -> None:
    talk.syncfs(1)
    talk.syncfs(0)
    trace = talk.trace(tmp_path)
    assert trace.submounts == [(0, 1)]
    assert submounts(trace) == [1, 1]


def test_a_notification_lies_where_its_node_does(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.lookup(5, b"file", 6)
    talk.notify(2, talk.pack("Qqq", 6, 0, 0))
    talk.notify(3, talk.pack("QII", 5, 4, 0) + b"file\0")
    trace = talk.trace(tmp_path)
    assert submounts(trace)[-2:] == [5, 5]
    assert trace.exchange(2).path == b"/mnt/file"


def test_what_an_exchange_says_is_what_its_columns_say(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"mnt", 5, submount=True)
    talk.syncfs(5)
    trace = talk.trace(tmp_path)
    syncfs = trace.exchange(1)
    assert (syncfs.submount, syncfs.path, syncfs.message.opcode) == (5, b"/mnt", SYNCFS)
    request, reply = trace.records["submount"][2:4].tolist()
    assert request == reply == trace.submounts.index((0, 5))


def test_hostile_announcements_by_the_thousand_are_followed_in_time(talk: Dialogue, tmp_path: Path) -> None:
    for number in range(10_000):
        talk.syncfs(1000 + number)
        talk.lookup(1000 + number, b"x", 1001 + number, submount=bool(number % 2))
    trace = talk.trace(tmp_path)
    assert len(trace.submounts) > 10_000


EVENTS = st.one_of(
    st.tuples(
        st.just("lookup"), st.integers(1, 6), st.sampled_from([b"a", b"b", b"c"]), st.integers(2, 7), st.booleans()
    ),
    st.tuples(st.just("forget"), st.integers(2, 7)),
    st.tuples(st.just("syncfs"), st.integers(1, 7)),
    st.tuples(
        st.just("rename"),
        st.tuples(st.integers(1, 6), st.sampled_from([b"a", b"b"])),
        st.tuples(st.integers(1, 6), st.sampled_from([b"a", b"c"])),
    ),
    st.tuples(st.just("unlink"), st.integers(1, 6), st.sampled_from([b"a", b"b", b"c"])),
    st.tuples(st.just("talk"), st.just(GETATTR), st.integers(0, 8)),
    st.tuples(st.just("answer"), st.just(1 << 40)),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=25), portion=st.integers(1, 7))
def test_names_and_submounts_are_the_same_in_one_piece_and_in_portions(
    events: list[tuple], portion: int, tmp_path: Path
) -> None:
    talk = Dialogue()
    for name, *words in events:
        if name == "lookup":
            talk.lookup(*words[:3], submount=words[3])
        else:
            getattr(talk, name)(*words)
    with TraceWriter(tmp_path / "portions.pcapng") as writer:
        writer.channel(talk.channels[0])
        trace = Trace.open(tmp_path / "portions.pcapng")
        records = talk.records
        for start in range(0, len(records), portion):
            writer.records(records[start : start + portion])
            trace.refresh()
            trace.advance_state()
    trace.refresh()
    whole = talk.trace(tmp_path, "whole.pcapng")
    rows = range(whole.records.count)
    assert [trace.submount(row) for row in rows] == [whole.submount(row) for row in rows]
    assert [trace.path(row) for row in rows] == [whole.path(row) for row in rows]
    assert trace.submounts == whole.submounts
    for row in rows:
        nodeid = int(whole.records["nodeid"][row])
        is_orphan = nodeid == 0 and whole.records["kind"][row] == 1
        if nodeid == 1 or len(whole.submounts) == 1 or (nodeid == 0 and not is_orphan):
            assert whole.submount(row) == 1
    assert INIT == 26
