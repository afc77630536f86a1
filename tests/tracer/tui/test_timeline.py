from __future__ import annotations

import numpy as np
import pytest

from tests.tracer.tui.conftest import OpenUi
from tests.tracer.tui.sample import MS, START_NS
from tracer.trace.columns import COLUMNS, Kind, Table
from tracer.trace.trace import Trace
from tracer.tui.axis import axis_text
from tracer.tui.density import WRITE_OVERHEAD, Density, Window
from tracer.tui.messages import PictureReady
from tracer.tui.timeline_model import Bar, Outcome, Picture, TimelineModel

COLUMNS_SHOWN = 91  # one for each 10 ms of the sample


@pytest.fixture
def model(sample: Trace) -> TimelineModel:
    sample.advance_state()
    model = TimelineModel(sample)
    model.feed(1 << 20)
    return model


@pytest.fixture
def picture(model: TimelineModel) -> Picture:
    return model.picture(Window(START_NS, START_NS + 910 * MS), COLUMNS_SHOWN)


def test_there_is_a_lane_for_each_submount_of_each_channel(picture: Picture) -> None:
    assert [one.lane.label for one in picture.lanes] == ["virtiofs tag home", "/mnt1", "/mnt2", "/mnt/old"]


def test_each_syncfs_is_marked_where_it_was_sent_with_how_it_ended(picture: Picture) -> None:
    marks = [{at: Outcome(int(one.marks[at])) for at in np.flatnonzero(one.marks)} for one in picture.lanes]
    assert marks == [{50: Outcome.DONE}, {50: Outcome.DONE}, {70: Outcome.PENDING}, {64: Outcome.ENOSYS}]
    assert [int(one.mark_numbers.max()) for one in picture.lanes] == [35, 36, 41, 39]
    assert picture.sync_numbers.tolist() == [35, 36, 39, 41]


def test_an_answered_syncfs_has_a_bar_until_its_answer_and_a_pending_one_to_the_end(picture: Picture) -> None:
    home, mnt1, mnt2, _ = picture.lanes
    assert np.flatnonzero(home.bars).tolist() == [50]
    assert np.flatnonzero(mnt1.bars == Bar.ANSWERED).tolist() == list(range(50, 63))
    assert np.flatnonzero(mnt2.bars == Bar.OPEN).tolist() == list(range(70, 91))


def test_a_pending_syncfs_reaches_to_now_while_the_trace_is_recorded(model: TimelineModel) -> None:
    picture = model.picture(None, 100, START_NS + 1_400 * MS)
    assert picture.window == Window(START_NS, START_NS + 1_400 * MS)
    assert np.flatnonzero(picture.lanes[2].bars == Bar.OPEN).tolist() == list(range(50, 100))


def test_written_bytes_are_counted_in_the_lane_and_at_the_time_of_their_write(picture: Picture) -> None:
    assert [int(one.written_bytes.sum()) for one in picture.lanes] == [0, 8 * 3000 + 22 * 512, 0, 800]
    assert picture.lanes[3].written_bytes[61] == 800


def test_a_name_that_is_not_there_is_no_error_and_a_refused_open_is_one(picture: Picture) -> None:
    assert np.flatnonzero(picture.lanes[0].errors).tolist() == [56]


def test_a_window_beside_the_trace_is_empty(model: TimelineModel) -> None:
    picture = model.picture(Window(0, 1000), 10)
    assert not any(one.requests.any() or one.marks.any() or one.bars.any() for one in picture.lanes)


def table_of(t_ns: list[int]) -> Table:
    """WRITEs of 100 bytes of submount 0."""
    table = Table(COLUMNS)
    table.extend(len(t_ns))
    for name in COLUMNS:
        table[name][:] = 0
    table["t_ns"][:] = t_ns
    table["kind"][:] = Kind.REQUEST
    table["opcode"][:] = 16
    table["wire_len"][:] = WRITE_OVERHEAD + 100
    return table


def test_counts_kept_while_feeding_stay_right_when_time_outgrows_the_bins() -> None:
    times = [0, 5, 100, 9_999, 1_000_000, 123_456_789]
    table = table_of(times)
    density = Density(bins=64)
    for row in range(len(times)):
        density.feed(table, slice(row, row + 1))
    written, requests, _ = density.rows_of(0)
    assert (written.sum(), requests.sum()) == (600, 6)
    assert [int(written[time // density.bin_ns]) for time in (0, 123_456_789)] == [500, 100]


def test_resampled_counts_lose_nothing_inside_the_window() -> None:
    table = table_of(list(range(0, 1_000_000, 1000)))
    density = Density()
    density.feed(table, slice(0, 1000))
    assert density.resampled(Window(0, 1_000_000), 100).rows_of(0)[0].sum() == 100_000
    half = density.resampled(Window(0, 500_000), 100).rows_of(0)[0]
    assert half.sum() == pytest.approx(50_000, rel=0.01)
    assert (half > 0).all()


def test_submounts_beyond_the_limit_are_counted_together() -> None:
    table = table_of([0, 1, 2])
    table["submount"][:] = [0, 10_000_000, -1]
    density = Density()
    density.feed(table, slice(0, 3))
    assert density.has_unknown
    assert density.rows_of(-1)[1].sum() == 2


def test_zooming_keeps_the_moment_where_it_was() -> None:
    window = Window(1000, 101_000)
    closer = window.zoomed(26_000, 0.5)
    assert (closer.length_ns, closer.column(26_000, 100)) == (50_000, window.column(26_000, 100))


def test_the_axis_has_round_times_since_the_start() -> None:
    text = axis_text(Window(START_NS, START_NS + 900 * MS), 90, START_NS, True)
    assert len(text) == 90
    assert text.split() == ["╵0", "╵200ms", "╵400ms", "╵600ms", "╵800ms"]
    assert text.index("╵200ms") == 20
    late = axis_text(Window(START_NS + 120_000 * MS, START_NS + 180_000 * MS), 90, START_NS, True)
    assert late.split() == ["╵2m00", "╵2m10", "╵2m20", "╵2m30", "╵2m40"] or late.startswith("╵2m00")


async def test_the_list_and_the_timeline_point_at_the_same_exchange(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.press("n")
        assert ui.main.timeline.number == 35
        await ui.press("shift+tab", "right")
        assert ui.main.timeline.has_focus
        assert ui.main.list.number == ui.main.timeline.number > 35
        await ui.press("left", "left")
        assert ui.main.list.number < 35


async def test_a_click_on_a_mark_selects_that_syncfs(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        timeline = ui.main.timeline
        assert timeline.picture is not None
        lane = timeline.picture.lanes[3]
        column = int(np.flatnonzero(lane.marks)[0])
        await ui.pilot.click("#timeline", offset=(timeline.label_width + 1 + column, 1 + 3))
        await ui.settle()
        assert ui.main.list.number == 39


async def test_zoom_counts_anew_around_the_cursor_and_0_shows_all_again(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.press("n", "+", "+")
        picture = ui.main.timeline.picture
        assert picture is not None
        assert not picture.is_whole
        assert picture.window.length_ns < 300 * MS
        assert picture.column_of(START_NS + 500 * MS) >= 0
        await ui.press("G")  # the window goes where the cursor goes
        assert ui.main.timeline.picture is not None
        assert ui.main.timeline.picture.column_of(START_NS + 900 * MS) >= 0
        await ui.press("-", "-", "-", "-")
        assert ui.main.timeline.picture is not None
        assert ui.main.timeline.picture.is_whole
        await ui.press("+", "0")
        assert ui.main.timeline.picture.is_whole
        assert len(ui.of(PictureReady)) > 4


async def test_syncfs_is_told_apart_without_any_colour(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        lines = ui.lines
        mnt2 = next(line for line in lines if line.startswith("/mnt2"))
        assert "◆…1" in mnt2
        assert "◆━pending━" in mnt2
        assert mnt2.rstrip().endswith("▶")
        old = next(line for line in lines if line.startswith("/mnt/old"))
        assert "◇1" in old
        assert "◇ ENOSYS" in old
        assert "◆ 3.25ms" in lines[2]


async def test_no_lane_is_hidden_while_there_is_room_for_all(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, follow=True) as ui:
        assert ui.main.list.number == 49  # of the last lane
        assert [line.split()[0] for line in ui.lines[2:6]] == ["…tiofs", "/mnt1", "/mnt2", "/mnt/old"]


async def test_the_lane_of_the_cursor_is_in_sight_where_there_is_no_room_for_all(
    sample: Trace, open_ui: OpenUi
) -> None:
    async with open_ui(sample, size=(80, 12)) as ui:
        assert ui.main.timeline.lanes_in_sight < 4
        await ui.press("G")
        assert "/mnt/old" in ui.text
        await ui.press("g")
        assert "tiofs tag home" in ui.text
        await ui.press("shift+tab", "down")
        assert "tiofs tag home" not in ui.text
