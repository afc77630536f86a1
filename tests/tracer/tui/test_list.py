from __future__ import annotations

from pathlib import Path

import pytest

from tests.tracer.tui.conftest import OpenUi
from tests.tracer.tui.sample import HOME, LOOKUP, ROOT, START_NS, reply, request
from tracer.records import Direction, RawRecord
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace
from tracer.tui.messages import Selected
from tracer.tui.rows import TimeFormat, fit, fit_answer, fit_path, fit_right

MANY = 1_000_000


@pytest.fixture(scope="session")
def huge_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million exchanges: FORGETs, which have no reply."""
    path = tmp_path_factory.mktemp("huge") / "huge.pcapng"
    data = request(2, 2, ROOT, bytes(8))
    batch = [RawRecord(START_NS, 0, Direction.TO_SERVER, data, len(data))] * (MANY // 10)
    with TraceWriter(path) as writer:
        writer.channel(HOME)
        for _ in range(10):
            writer.records(batch)
    return path


async def test_keys_move_the_cursor_and_tell_which_exchange_is_selected(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.press("down", "j", "k")
        assert ui.main.list.number == 1
        await ui.press("end")
        assert ui.main.list.number == 49
        await ui.press("g")
        assert ui.main.list.number == 0
        await ui.press("G")
        chosen = [message.number for message in ui.of(Selected) if isinstance(message, Selected)]
        assert chosen[-1] == 49


async def test_n_goes_from_syncfs_to_syncfs_and_says_when_there_is_none_left(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        seen = []
        for _ in range(5):
            await ui.press("n")
            seen.append(ui.main.list.number)
        assert seen == [35, 36, 39, 41, 41]
        await ui.press("N")
        assert ui.main.list.number == 39


async def test_a_key_press_in_a_million_rows_reads_only_what_is_on_screen(huge_trace: Path, open_ui: OpenUi) -> None:
    trace = Trace.open(huge_trace)
    async with open_ui(trace, size=(140, 40)) as ui:
        assert len(ui.main.list.listing) == MANY
        page = ui.main.list.size.height
        for key in ("G", "g", "pagedown", "down", "end", "t"):
            before = ui.main._rows.decoded
            await ui.press(key)
            assert ui.main._rows.decoded - before <= page
        assert ui.main.list.number == MANY - 1


async def test_a_number_typed_after_a_colon_is_where_the_cursor_goes(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.press(":")
        await ui.type("37")
        await ui.press("enter")
        assert ui.main.list.number == 37
        await ui.press("ctrl+g")
        await ui.press("escape")
        assert ui.main.list.number == 37


async def test_times_are_shown_as_clock_since_the_start_and_since_the_row_before(
    sample: Trace, open_ui: OpenUi
) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        assert " 22:13:20.005000 " in ui.text
        await ui.press("t")
        assert ui.main.list.time_format is TimeFormat.START
        assert " 0.005000 " in ui.text
        await ui.press("t")
        assert " 0.003000 " in ui.text  # LOOKUP of mnt2, 3 ms after that of mnt1


async def test_a_click_selects_the_row_that_was_clicked(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.pilot.click("#list", offset=(20, 4))
        await ui.settle()
        assert ui.main.list.number == 3


async def test_an_empty_trace_has_a_screen_and_takes_every_key(tmp_path: Path, open_ui: OpenUi) -> None:
    with TraceWriter(tmp_path / "empty.pcapng"):
        pass
    async with open_ui(Trace.open(tmp_path / "empty.pcapng")) as ui:
        assert "no FUSE message yet" in ui.text
        await ui.press(*"nNgGt+-0fz", "tab", "tab", "down", "right", "tab", "left", "end", "escape", "s", "escape")
        assert ui.main.list.number == -1


async def test_a_notification_and_an_orphan_reply_have_rows(tmp_path: Path, open_ui: OpenUi) -> None:
    with TraceWriter(tmp_path / "late.pcapng") as writer:
        writer.channel(HOME)
        orphan = reply(8, bytes(8))
        asked = request(LOOKUP, 10, ROOT, b"a\0")
        writer.records(
            [
                RawRecord(START_NS, 0, Direction.TO_KERNEL, orphan, len(orphan)),
                RawRecord(START_NS + 1, 0, Direction.TO_SERVER, asked, len(asked)),
            ]
        )
    async with open_ui(Trace.open(tmp_path / "late.pcapng"), size=(140, 40)) as ui:
        assert "24 bytes for unique 8" in ui.text
        assert "no INIT: 7." in ui.text
        await ui.press("tab", "down", "tab", "down")


def test_cells_are_cut_to_their_width_also_where_letters_are_two_cells_wide() -> None:
    assert fit("abc", 5) == "abc  "
    assert fit("abcdef", 4) == "abc…"
    assert fit("日本語", 4) == "日… "
    assert fit_right("5µs", 5) == "  5µs"
    assert fit_path("/a/long/path/file.txt", 10) == "…/file.txt"
    assert fit_answer("512B @4096 fh=0x1001 → ENOSPC", 20) == "512B @4096… → ENOSPC"
