"""A view shows the exchanges that pass a filter, and what it shows of a growing trace is what a new view would show."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracer.dialogue import GETATTR, LOOKUP, READ, SYNCFS, Dialogue
from tests.tracer.filters.made import session
from tracer.errors import TracerError
from tracer.filters import compile_filter
from tracer.records import ChannelInfo, RawRecord
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace
from tracer.view import View


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return session(tmp_path_factory.mktemp("session"))


def shown(view: View) -> list[int]:
    return view.numbers.tolist()


# ---- what is shown ----


def test_without_a_filter_everything_is_shown_in_the_order_of_time(trace: Trace) -> None:
    view = View(trace)
    assert shown(view) == list(range(trace.exchange_count))
    assert len(view) == view.seen == trace.exchange_count


def test_with_a_filter_what_passes_is_shown(trace: Trace) -> None:
    view = View(trace, compile_filter("fuse.opcode == SYNCFS"))
    assert shown(view) == [8, 9, 18]
    view.set_filter(compile_filter("fuse.write"))
    assert shown(view) == [5, 6]
    view.set_filter(None)
    assert len(view) == trace.exchange_count


def test_the_row_of_an_exchange_is_found_or_the_one_near_it(trace: Trace) -> None:
    view = View(trace, compile_filter("fuse.opcode == SYNCFS"))
    assert [view.row_of(number) for number in (8, 9, 18)] == [0, 1, 2]
    assert view.row_of(10) is None
    assert view.row_of(99) is None
    assert [view.row_near(number) for number in (0, 8, 10, 19)] == [0, 0, 2, 2]
    view.sort("nodeid", reverse=True)
    assert shown(view) == [9, 8, 18]
    assert view.row_of(8) == 1
    assert view.row_near(17) == 2
    view.set_filter(compile_filter("fuse.pid == 424242"))
    assert view.row_near(3) is None


# ---- sorting ----


@pytest.mark.parametrize(
    ("key", "reverse", "first"),
    [
        ("time", True, [19, 18, 17]),
        ("time", False, [0, 1, 2]),
        ("latency", True, [7, 0, 1]),
        ("fuse.latency", True, [7, 0, 1]),
        ("opcode", False, [4, 12, 0]),  # CREATE, FORGET, INIT
        ("opcode", True, [5, 6, 8]),  # WRITE, WRITE, SYNCFS
        ("path", False, [1, 8, 15]),  # "/"
        ("path", True, [19, 5, 7]),  # /other, /mnt1/tmp.txt
        ("comm", False, [1, 2, 3]),  # client
        ("comm", True, [8, 9, 18]),  # sync
        ("error", False, [9, 3, 16]),  # -38, -2, -2
        ("write.size", False, [6, 5, 0]),
        ("write.size", True, [5, 6, 0]),
        ("readdirplus.reply.entries.nodeid", True, [15, 0, 1]),
        ("name", False, [3, 1, 4]),
    ],
)
def test_sorting_puts_those_without_the_field_last_and_keeps_ties_in_time_order(
    trace: Trace, key: str, reverse: bool, first: list[int]
) -> None:
    view = View(trace)
    view.sort(key, reverse)
    assert shown(view)[:3] == first
    assert sorted(shown(view)) == list(range(trace.exchange_count))
    view.sort()
    assert shown(view) == list(range(trace.exchange_count))


def test_a_view_stays_sorted_when_the_filter_changes(trace: Trace) -> None:
    view = View(trace)
    view.sort("latency", reverse=True)
    view.set_filter(compile_filter("fuse.read"))
    assert shown(view) == [7, 14]


def test_sorting_by_nothing_that_is_there_is_refused_with_a_hint(trace: Trace) -> None:
    view = View(trace)
    with pytest.raises(TracerError, match=r"fuse\.latency"):
        view.sort("latancy")
    with pytest.raises(TracerError, match="file content"):
        view.sort("write.data")
    assert len(view) == trace.exchange_count


# ---- marks and search ----


def test_marks_are_of_exchanges_and_outlive_the_filter(trace: Trace) -> None:
    view = View(trace)
    assert view.toggle_mark(9)
    assert view.toggle_mark(5)
    assert view.toggle_mark(18)
    assert not view.toggle_mark(5)
    assert (view.next_mark(-1), view.next_mark(9), view.next_mark(18)) == (9, 18, None)
    assert (view.next_mark(18, -1), view.next_mark(9, -1)) == (9, None)
    view.set_filter(compile_filter("fuse.opcode == SYNCFS"))
    assert view.marks == {9, 18}
    assert view.next_mark(-1) == 1


def test_a_search_finds_the_nearest_row_in_either_direction(trace: Trace) -> None:
    view, syncfs = View(trace), compile_filter("fuse.opcode == SYNCFS")
    assert [view.next_match(syncfs, row) for row in (-1, 8, 9, 18)] == [8, 9, 18, None]
    assert [view.next_match(syncfs, row, -1) for row in (len(view), 18, 9, 8)] == [18, 9, 8, None]
    view.sort("nodeid", reverse=True)
    row = view.next_match(syncfs, -1)
    assert row is not None
    assert view.numbers[row] == 9  # nodeid 5


def test_a_search_looks_further_than_its_first_look(tmp_path: Path) -> None:
    said = Dialogue()
    for _ in range(9000):
        said.forget(5)
    said.syncfs()
    for _ in range(9000):
        said.forget(5)
    trace = said.trace(tmp_path)
    view, syncfs = View(trace), compile_filter("fuse.syncfs")
    assert view.next_match(syncfs, -1) == view.next_match(syncfs, len(view), -1) == 9000
    assert view.next_match(syncfs, 9000) is None


# ---- growing ----


def growing(said: Dialogue, directory: Path) -> tuple[TraceWriter, Trace]:
    writer = TraceWriter(directory / "growing.pcapng")
    for info in said.channels:
        writer.channel(info)
    return writer, Trace.open(writer.path)


def test_a_refresh_without_news_changes_nothing(trace: Trace) -> None:
    view = View(trace)
    assert not view.refresh()


def test_what_was_pending_is_asked_about_again_when_its_reply_came(tmp_path: Path) -> None:
    said = Dialogue()
    writer, trace = growing(said, tmp_path)
    views = {
        text: View(trace, compile_filter(text))
        for text in ("fuse.state == PENDING", "fuse.error == ENOENT", "fuse.latency >= 1us", "fuse.lookup")
    }
    first, second = said.ask(LOOKUP, 1, b"a\0"), said.ask(LOOKUP, 1, b"b\0")
    writer.records(said.records)
    trace.refresh()
    assert all(view.refresh() for text, view in views.items() if "PENDING" in text or "lookup" in text)
    assert not views["fuse.error == ENOENT"].refresh()
    assert {text: shown(view) for text, view in views.items()} == {
        "fuse.state == PENDING": [0, 1],
        "fuse.error == ENOENT": [],
        "fuse.latency >= 1us": [],
        "fuse.lookup": [0, 1],
    }
    before = len(said.records)
    said.answer(second, b"", -2)
    writer.records(said.records[before:])
    trace.refresh()
    assert all(view.refresh() for view in views.values())
    assert {text: shown(view) for text, view in views.items()} == {
        "fuse.state == PENDING": [0],
        "fuse.error == ENOENT": [1],
        "fuse.latency >= 1us": [1],
        "fuse.lookup": [0, 1],
    }
    said.answer(first, b"", -2)
    writer.records(said.records[before + 1 :])
    trace.refresh()
    assert all(view.refresh() for view in views.values())
    assert shown(views["fuse.state == PENDING"]) == []
    assert shown(views["fuse.error == ENOENT"]) == [0, 1]
    writer.close()


def test_an_init_that_comes_late_makes_bodies_be_read_again(tmp_path: Path) -> None:
    said = Dialogue(channels=[ChannelInfo("attached late")])
    writer, trace = growing(said, tmp_path)
    view = View(trace, compile_filter("fuse.getattr.fh"))
    said.talk(GETATTR, 1, said.pack("IIQ", 1, 0, 9), bytes(104))
    writer.records(said.records)
    trace.refresh()
    view.refresh()
    assert shown(view) == [0]
    before = len(said.records)
    said.init(minor=8)
    said.talk(GETATTR, 1, b"", bytes(96))
    writer.records(said.records[before:])
    trace.refresh()
    assert view.refresh()
    assert shown(view) == shown(View(trace, view.filter))
    writer.close()


FILTERS = (
    None,
    "fuse.error == ENOENT",
    "fuse.latency > 1ms || fuse.state == PENDING",
    "!(fuse.error == OK)",
    "fuse.state in {LOST, INTERRUPTED, DONE}",
    "fuse.lookup.reply.nodeid",
    'fuse.name contains "a"',
    "fuse.state == PENDING",
    "fuse.malformed",
    "fuse.nodeid == 1 && fuse.latency < 1s",
)
KEYS = (("time", False), ("time", True), ("latency", True), ("error", False), ("name", False), ("opcode", True))


@st.composite
def dialogues(draw: st.DrawFn) -> list[RawRecord]:
    """Draw what is said on two channels, answers in any order, some never, some uniques used again."""
    said = Dialogue(channels=[ChannelInfo("a", minor=45), ChannelInfo("b")])
    waiting: list[tuple[int, int, int]] = []
    for _ in range(draw(st.integers(0, 25))):
        match draw(st.sampled_from(("ask", "ask", "answer", "answer", "again", "forget", "interrupt", "init", "bad"))):
            case "ask":
                opcode, channel = draw(st.sampled_from((LOOKUP, READ, SYNCFS))), draw(st.integers(0, 1))
                body = {LOOKUP: b"name\0", READ: bytes(40), SYNCFS: bytes(8)}[opcode]
                waiting.append((said.ask(opcode, draw(st.integers(1, 3)), body, channel=channel), opcode, channel))
            case "answer" if waiting:
                unique, opcode, channel = waiting.pop(draw(st.integers(0, len(waiting) - 1)))
                error = draw(st.sampled_from((0, -2, -4)))
                given_ = {LOOKUP: said.entry_out(draw(st.integers(2, 4))), READ: b"data", SYNCFS: b""}[opcode]
                said.t_ns += draw(st.sampled_from((0, 5_000_000)))
                said.answer(unique, b"" if error else given_, error, channel=channel)
            case "again" if waiting:
                unique, _, channel = waiting[-1]
                said.ask(LOOKUP, 1, b"again\0", unique=unique, channel=channel)
            case "forget":
                said.forget(draw(st.integers(1, 3)))
            case "interrupt" if waiting:
                said.interrupt(waiting[-1][0])
            case "init":
                said.init(minor=draw(st.sampled_from((8, 45))), channel=draw(st.integers(0, 1)))
            case "bad":
                said.answer(draw(st.integers(0, 60)), b"?", draw(st.integers(-3, 3)))
    return said.records


@settings(max_examples=60)
@given(dialogues(), st.lists(st.integers(1, 6), max_size=40), st.sampled_from(KEYS))
def test_a_view_that_follows_shows_what_a_new_one_would(
    records: list[RawRecord], steps: list[int], key: tuple[str, bool]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        said = Dialogue(channels=[ChannelInfo("a", minor=45), ChannelInfo("b")])
        writer, trace = growing(said, Path(directory))
        filters = [compile_filter(text) if text else None for text in FILTERS]
        views = [View(trace, one) for one in filters]
        for view in views:
            view.sort(*key)
        at = 0
        for step in [*steps, len(records)]:
            writer.records(records[at : at + step])
            at += step
            trace.refresh()
            for view, one in zip(views, filters, strict=True):
                before = shown(view)
                changed = view.refresh()
                fresh = View(trace, one)
                fresh.sort(*key)
                assert shown(view) == shown(fresh), (one.text if one else None, key)
                assert changed or shown(view) == before
        writer.close()


@settings(max_examples=60)
@given(dialogues(), st.lists(st.integers(1, 6), max_size=40), st.integers(1, 5))
def test_a_view_judged_in_pieces_comes_to_the_same(records: list[RawRecord], steps: list[int], piece: int) -> None:
    """The trace grows between two pieces, answers what was judged already, and may explain it only then."""
    with tempfile.TemporaryDirectory() as directory:
        said = Dialogue(channels=[ChannelInfo("a", minor=45), ChannelInfo("b")])
        writer, trace = growing(said, Path(directory))
        filters = [compile_filter(text) if text else None for text in FILTERS]
        views = [View(trace, one, upto=0) for one in filters]
        assert [view.seen for view in views] == [0] * len(views)
        at = 0
        for step in [*steps, len(records)]:
            writer.records(records[at : at + step])
            at += step
            trace.refresh()
            for view, one in zip(views, filters, strict=True):
                view.judge_again()
                view.judge(min(trace.exchange_count, view.seen + piece))
                passing = View(trace, one).numbers
                assert shown(view) == passing[passing < view.seen].tolist(), one.text if one else None
        writer.close()


def test_a_view_decodes_nothing(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "message", None)
    view = View(trace, compile_filter("fuse.latency >= 0 && fuse.write.size > 1K"))
    view.sort("latency")
    assert shown(view) == [5]


def test_numbers_are_what_numpy_indexes_with(trace: Trace) -> None:
    view = View(trace, compile_filter("fuse.write"))
    assert view.numbers.dtype == np.int64
    assert trace.latencies_ns(view.numbers).tolist() == [1000, 1000]


def test_a_request_that_only_waits_longer_comes_in_by_itself_and_goes_when_it_is_answered(tmp_path: Path) -> None:
    talk = Dialogue()
    talk.talk(GETATTR)
    waiting = talk.ask(GETATTR)
    path = tmp_path / "waits.pcapng"
    with TraceWriter(path) as writer:
        talk.feed(writer)
        trace = Trace.open(path)
        view = View(trace, compile_filter("fuse.pending_for > 5s"))
        asked_ns = talk.t_ns
        trace.now_ns = asked_ns + 4 * 10**9
        assert (view.refresh(), view.numbers.tolist()) == (False, [])
        trace.now_ns = asked_ns + 6 * 10**9
        assert (view.refresh(), view.numbers.tolist()) == (True, [1])
        written = len(talk.records)
        talk.answer(waiting, error=-2)
        writer.records(talk.records[written:])
        trace.refresh()
        assert (view.refresh(), view.numbers.tolist()) == (True, [])
