from __future__ import annotations

from collections import Counter

import pytest

from tests.tracer.tui.conftest import OpenUi
from tracer.trace.trace import Trace
from tracer.tui.commands import COMMANDS, Command, Place, commands_for
from tracer.tui.main_screen import MainScreen
from tracer.tui.replay_screen import ReplayScreen

SCREENS = {Place.TRACE: MainScreen, Place.REPLAY: ReplayScreen}


@pytest.mark.parametrize("place", SCREENS)
def test_every_key_belongs_to_one_command_of_a_screen(place: Place) -> None:
    keys = Counter(key for command in commands_for(place) for key in command.keys.split(","))
    assert [key for key, count in keys.items() if count > 1] == []


def test_every_id_belongs_to_one_command() -> None:
    assert len({command.id for command in COMMANDS}) == len(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.id)
def test_every_command_has_its_action_on_each_screen_it_is_for(command: Command) -> None:
    for place, screen in SCREENS.items():
        if place in command.place:
            assert callable(getattr(screen, "action_" + command.action.partition("(")[0]))


async def test_the_help_screen_names_every_command(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(120, 60)) as ui:
        await ui.press("?")
        for command in commands_for(Place.TRACE):
            assert command.help in ui.text
        await ui.press("escape")
        assert ui.app.screen is ui.main


async def test_the_palette_offers_every_command(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        offered = {command.title for command in ui.app.get_system_commands(ui.main)}
        assert offered == {command.title for command in commands_for(Place.TRACE)}


async def test_tab_goes_through_the_panes_and_enter_from_the_list_to_the_bytes(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        seen = []
        for _ in range(4):
            await ui.press("tab")
            seen.append(ui.app.focused.id if ui.app.focused else None)
        assert seen == ["fields", "bytes", "timeline", "list"]
        await ui.press("enter", "enter")
        assert ui.main.detail.hex_view.has_focus
        await ui.press("escape")
        assert ui.main.list.has_focus


async def test_z_gives_a_pane_the_screen_and_takes_it_back(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.press("enter", "z")
        assert ui.main.detail.field_tree.size.height > 20
        assert ui.main.detail.field_tree.size.width > 70
        await ui.press("escape")
        assert ui.main.detail.field_tree.size.height < 10


async def test_the_sync_report_says_what_each_submount_got(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        await ui.press("s")
        assert "submount node 16 /mnt1" in ui.text
        assert "this server will never be asked again" in ui.text
        await ui.press("q")
        assert ui.app.screen is ui.main


async def test_q_leaves(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        await ui.pilot.press("q")
        await ui.until(lambda: not ui.app.is_running or ui.app._exit)


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (64, 16), (80, 24), (119, 33), (120, 34), (300, 100)])
async def test_panes_never_overlap_and_the_list_is_always_there(
    sample: Trace, open_ui: OpenUi, size: tuple[int, int]
) -> None:
    async with open_ui(sample, size=size) as ui:
        await ui.press("n")
        shown = [widget for widget in ui.main.query("#status, #timeline, #list, #detail, #keys") if widget.display]
        regions = [widget.region for widget in shown if widget.region.area]
        assert ui.main.list.region.height >= 2
        for at, region in enumerate(regions):
            assert all(not region.overlaps(other) for other in regions[at + 1 :])
