from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tracer.tui.conftest import DEADLINE_S, OpenUi
from tests.tracer.tui.sample import (
    DATA,
    HOME,
    OLD,
    START_NS,
    WRITE,
    request,
    story,
    write_request,
    write_trace,
)
from tracer.records import BridgeKind, ChannelKind, Direction, Gap, RawRecord, RecordFlag
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace
from tracer.tui.messages import Grown
from tracer.tui.trace_thread import TraceThread
from tracer.tui.turns import Turns

HALF = 72  # records: SYNCFS of /mnt1 is sent, and not answered yet


@pytest.fixture
def records() -> list[RawRecord]:
    return story().sorted()


@pytest.fixture
def writer(tmp_path: Path, records: list[RawRecord]) -> Iterator[TraceWriter]:
    """A recorder that has written the first half."""
    with TraceWriter(tmp_path / "live.pcapng") as writer:
        writer.channel(HOME)
        writer.channel(OLD)
        writer.records(records[:HALF])
        yield writer


async def test_what_is_appended_appears_and_the_newest_stays_in_sight(
    writer: TraceWriter, records: list[RawRecord], open_ui: OpenUi
) -> None:
    trace = Trace.open(writer.path)
    async with open_ui(trace, follow=True) as ui:
        assert "FOLLOW" in ui.lines[0]
        before = ui.main.upto
        assert ui.main.list.number == before - 1
        writer.records(records[HALF:])
        await ui.until(lambda: ui.main.upto == 50)
        await ui.settle()
        assert ui.main.list.number == 49
        assert len(ui.of(Grown)) >= 2


async def test_who_moves_away_is_left_alone_and_f_brings_them_back(
    writer: TraceWriter, records: list[RawRecord], open_ui: OpenUi
) -> None:
    async with open_ui(Trace.open(writer.path), follow=True) as ui:
        await ui.press("g")
        assert "FOLLOW" not in ui.lines[0]
        writer.records(records[HALF:])
        await ui.until(lambda: ui.main.upto == 50)
        assert ui.main.list.number == 0
        await ui.press("f")
        assert ui.main.list.number == 49


async def test_an_answer_that_comes_later_changes_the_row_the_fields_and_the_mark(
    writer: TraceWriter, records: list[RawRecord], open_ui: OpenUi
) -> None:
    async with open_ui(Trace.open(writer.path), follow=True) as ui:
        await ui.press("k", "j")
        assert "#36 SYNCFS · pending" in ui.text
        assert "no answer" in ui.text
        writer.records(records[HALF:])
        await ui.until(lambda: ui.main.upto == 50)
        await ui.settle()
        assert "#36 SYNCFS · 120ms · unique 70" in ui.text
        assert ui.main.list.number == 36


async def test_a_filter_hears_of_answers_that_come_later(
    writer: TraceWriter, records: list[RawRecord], open_ui: OpenUi
) -> None:
    async with open_ui(Trace.open(writer.path), follow=True, filter_text="fuse.latency > 50ms") as ui:
        assert len(ui.main.list.listing) == 0
        writer.records(records[HALF:])
        await ui.until(lambda: len(ui.main.list.listing) == 1)
        assert ui.main.list.listing.number(0) == 36


async def test_a_file_that_is_not_followed_is_read_once(
    writer: TraceWriter, records: list[RawRecord], open_ui: OpenUi
) -> None:
    async with open_ui(Trace.open(writer.path)) as ui:
        before = ui.main.upto
        writer.records(records[HALF:])
        await ui.press("G")
        assert ui.main.upto == before
        await ui.press("f")
        await ui.until(lambda: ui.main.upto == 50)


async def test_losses_and_unreadable_bytes_are_in_the_status_line(tmp_path: Path, open_ui: OpenUi) -> None:
    path = write_trace(tmp_path / "cut.pcapng")
    path.write_bytes(path.read_bytes()[:-6])
    async with open_ui(Trace.open(path), size=(140, 40)) as ui:
        assert " 3 LOST " in ui.lines[0]
        assert "bytes unreadable" in ui.lines[0]


def test_a_thread_that_waits_for_its_turn_gets_it_next() -> None:
    turns, order, inside = Turns(), list[str](), threading.Event()

    def screen() -> None:
        inside.wait(DEADLINE_S)
        with turns.mine():
            order.append("screen")

    waiting = threading.Thread(target=screen)
    waiting.start()
    for piece in range(200):
        with turns.mine():
            order.append("worker")
            inside.set()
            if piece == 0:
                while not turns._next.locked() and waiting.is_alive():
                    time.sleep(0.001)
    waiting.join(DEADLINE_S)
    assert order.index("screen") == 1


async def test_a_file_that_cannot_be_read_any_more_is_told_and_what_was_read_stays(
    writer: TraceWriter, open_ui: OpenUi
) -> None:
    async with open_ui(Trace.open(writer.path), follow=True) as ui:
        before = ui.main.upto
        writer.path.unlink()
        await ui.until(lambda: "cannot follow" in ui.lines[0])
        await ui.press("g", "G")
        assert ui.main.list.number == before - 1


def test_nobody_waits_for_a_thread_that_ended(sample: Trace) -> None:
    thread = TraceThread(sample, Turns(), lambda message: None)
    thread.compute("bug", lambda trace: 1 // 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        thread.run()
    thread.paint(None, 10)
    assert thread.wait_idle(DEADLINE_S)


async def test_a_loss_is_shown_as_it_comes_also_when_no_record_comes_with_it(
    writer: TraceWriter, open_ui: OpenUi
) -> None:
    async with open_ui(Trace.open(writer.path), follow=True, size=(140, 40)) as ui:
        assert "LOST" not in ui.lines[0]
        writer.gap(Gap(START_NS, -1, 7, "the ring buffer was full (CPU 1)"))
        await ui.until(lambda: " 7 LOST " in ui.lines[0])
        writer.gap(Gap(START_NS, 0, 0, "the connection was aborted"))
        await ui.until(lambda: " 7+ LOST " in ui.lines[0])


async def test_messages_cut_because_the_ring_was_full_are_counted_as_they_come(tmp_path: Path, open_ui: OpenUi) -> None:
    body = request(WRITE, 2, DATA, write_request(1, 0, bytes(400)))
    with TraceWriter(tmp_path / "cut.pcapng") as writer:
        writer.channel(replace(HOME, snap_bytes=300, minor=45))
        asked = RawRecord(START_NS, 0, Direction.TO_SERVER, body[:300], len(body), BridgeKind.EBPF)
        writer.records([asked])  # cut where it was asked to be
        async with open_ui(Trace.open(writer.path), follow=True, size=(140, 40)) as ui:
            assert "CUT" not in ui.lines[0]
            writer.records([asked._replace(data=body[:256]), asked._replace(data=body[:16], flags=RecordFlag.SPLICED)])
            await ui.until(lambda: " 1 CUT SHORT " in ui.lines[0])


async def test_a_request_that_waits_is_said_to_wait_longer_while_nothing_else_happens(
    tmp_path: Path, open_ui: OpenUi
) -> None:
    with TraceWriter(tmp_path / "hung.pcapng") as writer:
        writer.channel(replace(HOME, kind=ChannelKind.DEV_FUSE, minor=45, deliveries=True))
        body = request(WRITE, 2, DATA, write_request(1, 0, b"x"))
        writer.records([RawRecord(time.time_ns(), 0, Direction.TO_SERVER, body, len(body), BridgeKind.EBPF)])
        async with open_ui(Trace.open(writer.path), follow=True, size=(140, 40)) as ui:
            await ui.until(lambda: re.search(r"pending [123]\.\d\ds, not read", ui.text) is not None)
            assert "the server has not read it" in ui.text
            assert "unread" in ui.text
