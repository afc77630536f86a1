from __future__ import annotations

import numpy as np
import pytest

from tests.tracer.tui.conftest import OpenUi
from tracer.filters import FilterError
from tracer.trace.trace import Trace
from tracer.tui.app import run
from tracer.tui.filter_bar import pointing
from tracer.tui.filtering import completion
from tracer.tui.listing import Listing


async def test_a_filter_leaves_what_matches_and_the_status_counts_it(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.press("/")
        await ui.type("fuse.opcode == SYNCFS")
        await ui.press("enter")
        listing = ui.main.list.listing
        assert [listing.number(row) for row in range(len(listing))] == [35, 36, 39, 41]
        assert "4 of 50 shown" in ui.lines[0]
        assert ui.main.list.has_focus


async def test_a_fault_is_shown_under_the_column_while_typing_and_nothing_is_applied(
    sample: Trace, open_ui: OpenUi
) -> None:
    async with open_ui(sample) as ui:
        await ui.press("/")
        await ui.type("fuse.opcode == NOSUCH")
        await ui.press("enter")
        typed = next(at for at, line in enumerate(ui.lines) if "NOSUCH" in line)
        assert ui.lines[typed + 1].index("^") == ui.lines[typed].index("NOSUCH")
        assert ui.main.filter_bar.line.has_focus
        assert len(ui.main.list.listing) == 50


async def test_escape_goes_back_to_the_filter_that_is_in_force(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, filter_text="fuse.opcode == WRITE") as ui:
        assert len(ui.main.list.listing) == 31
        await ui.press("/")
        await ui.type(" && q q")
        await ui.press("escape")
        assert ui.main.filter_bar.line.value == "fuse.opcode == WRITE"
        assert len(ui.main.list.listing) == 31
        await ui.press("/", "ctrl+u", "enter")
        assert len(ui.main.list.listing) == 50
        assert not ui.main.filter_bar.display


async def test_the_cursor_stays_with_its_exchange_or_the_nearest(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.press("n", "n", "n")
        assert ui.main.list.number == 39
        ui.main.filter_bar.set("fuse.opcode == SYNCFS")
        await ui.settle()
        assert ui.main.list.number == 39
        ui.main.filter_bar.set("fuse.opcode == OPEN")
        await ui.settle()
        assert ui.main.list.number == 37


async def test_n_skips_syncfs_that_the_filter_hides(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(
        sample, filter_text="fuse.opcode == SYNCFS && fuse.error == ENOSYS || fuse.opcode == INIT"
    ) as ui:
        await ui.press("n")
        assert ui.main.list.number == 39


async def test_tab_completes_a_field_name(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.press("/")
        await ui.type("fuse.lat")
        await ui.until(lambda: bool(ui.main.filter_bar.line._suggestion))
        await ui.press("tab")
        assert ui.main.filter_bar.line.value == "fuse.latency"


def test_completion_takes_the_shortest_name_and_leaves_whole_words_alone() -> None:
    assert completion("fuse.opcode == SYN") == "fuse.opcode == SYNCFS"
    assert completion("fuse.opcode") is None
    assert completion("") is None
    assert completion("nothing begins so") is None


def test_the_reason_goes_to_the_left_of_the_caret_where_the_right_has_no_room() -> None:
    assert pointing(3, 4, "no such field", 40) == "   ^~~~ no such field"
    assert pointing(30, 4, "no such field", 40) == "                no such field ^~~~"
    assert pointing(10, 4, "x" * 35, 40) == "          ^~~~\n" + "x" * 35


def test_a_filter_from_the_command_line_that_is_wrong_is_refused_before_the_screen_is_taken(sample: Trace) -> None:
    ended = []
    with pytest.raises(FilterError):
        run(sample, filter_text="fuse.opcode ==", on_quit=lambda: ended.append(True))
    assert ended == []


def test_a_listing_knows_the_nearest_row_of_any_exchange() -> None:
    listing = Listing(100, np.array([10, 20, 40], dtype=np.int64), "x")
    assert [listing.row_of(number) for number in (0, 10, 14, 16, 29, 31, 99)] == [0, 0, 0, 1, 1, 2, 2]
    assert listing.holds(20)
    assert not listing.holds(21)
    assert Listing(0).row_of(5) == -1
    assert Listing(3).row_of(5) == 2
