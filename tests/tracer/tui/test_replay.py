"""Both sides of a replay, driven by keys: the samples of docs/samples, which real servers made."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from textual.message import Message

from replays.results.outcome import Fingerprint, KeptDifference, Outcome
from replays.results.replayed import Replayed
from replays.results.sides import Mark
from tests.replays.test_outcome import LIVE
from tests.tracer.tui.conftest import Ui
from tests.tracer.tui.sample import EVIL_NAME, HOME, LOOKUP, NOTES, READ, ROOT, START_NS, Story, entry, request
from tests.tracer.tui.test_hostile import MARKUP, assert_printable
from tracer.records import BridgeKind, Direction, RawRecord
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace
from tracer.tui.commands import Place, commands_for
from tracer.tui.replay_app import ReplayApp
from tracer.tui.replay_list import ReplayList
from tracer.tui.replay_screen import ReplayScreen

MANY = 1_000_000
OpenReplay = Callable[..., AbstractAsyncContextManager["ReplayUi"]]
WIDE, NARROW = (140, 40), (80, 24)


class ReplayUi(Ui):
    """The running app, with what is on the screen by name."""

    main: ReplayScreen

    @property
    def recorded(self) -> int:
        """The recorded exchange under the cursor."""
        return int(self.main.sides.recorded[self.main.list.number])

    @property
    def verdict(self) -> str:
        return str(self.main.verdict.visual)

    def row(self, exchange: int) -> str:
        """Return how a recorded exchange is drawn."""
        return next(line for line in self.lines if line.lstrip().startswith(f"{exchange} "))


@pytest.fixture
def replayed() -> Replayed:
    found = Replayed.open(LIVE)
    assert found is not None
    return found


@pytest.fixture
def open_replay() -> OpenReplay:
    """Return a context manager: a replay and what `run` takes -> the running, settled UI."""

    @asynccontextmanager
    async def opened(
        replayed: Replayed, *, size: tuple[int, int] = NARROW, filter_text: str = ""
    ) -> AsyncIterator[ReplayUi]:
        app = ReplayApp(replayed, filter_text=filter_text)
        told: list[Message] = []
        async with app.run_test(size=size, notifications=True, message_hook=told.append) as pilot:
            ui = ReplayUi(app, pilot, told)
            await ui.settle()
            yield ui

    return opened


def firsts(replayed: Replayed) -> list[int]:
    return [one.exchange for one in replayed.outcome.differences if one.follower_of is None]


def follower(replayed: Replayed) -> tuple[int, int]:
    """Return an exchange that differs in consequence, and the one it follows from."""
    return next((one.exchange, one.follower_of) for one in replayed.outcome.differences if one.follower_of is not None)


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_n_goes_from_first_difference_to_first_difference_and_back(
    replayed: Replayed, open_replay: OpenReplay, size: tuple[int, int]
) -> None:
    async with open_replay(replayed, size=size) as ui:
        seen = []
        for _ in firsts(replayed):
            await ui.press("n")
            seen.append(ui.recorded)
            assert ui.row(ui.recorded)
            assert ui.row(ui.recorded + 1) or ui.recorded == ui.main.upto - 1  # what follows is in sight
        assert seen == firsts(replayed)
        await ui.press("n")
        assert ui.recorded == seen[-1]
        assert "No difference further on" in ui.text
        await ui.press("N")
        assert ui.recorded == seen[-2]


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_the_rule_its_reason_and_both_values_stand_below_the_list(
    replayed: Replayed, open_replay: OpenReplay, size: tuple[int, int]
) -> None:
    async with open_replay(replayed, size=size) as ui:
        for number, one in enumerate(one for one in replayed.outcome.differences if one.follower_of is None):
            await ui.press("n")
            for words in (one.rule, one.reason, f"recorded {one.recorded}", f"live {one.live}"):
                assert words in ui.text
            assert f"difference {number + 1} of {len(firsts(replayed))}" in ui.text


async def test_a_difference_that_follows_says_from_which_and_c_goes_there(
    replayed: Replayed, open_replay: OpenReplay
) -> None:
    exchange, cause = follower(replayed)
    async with open_replay(replayed, size=WIDE) as ui:
        ui.main.go_to_exchange(exchange)
        await ui.settle()
        assert f"follows from #{cause}" in ui.text
        await ui.press("c")
        assert ui.recorded == cause
        await ui.press("c")
        assert ui.recorded == cause
        assert "follows from no other" in ui.text


async def test_f_leaves_followers_out_and_brings_them_back(replayed: Replayed, open_replay: OpenReplay) -> None:
    followers = len(replayed.outcome.differences) - len(firsts(replayed))
    async with open_replay(replayed, size=WIDE) as ui:
        whole = len(ui.main.list.listing)
        await ui.press("f")
        assert len(ui.main.list.listing) == whole - followers
        assert "without ≈" in ui.text
        await ui.press("f")
        assert len(ui.main.list.listing) == whole
        assert "without ≈" not in ui.text


async def test_d_shows_differences_only_and_the_cursor_stays_near(replayed: Replayed, open_replay: OpenReplay) -> None:
    async with open_replay(replayed, size=WIDE) as ui:
        await ui.press("n", "n", "d")
        assert ui.recorded == firsts(replayed)[1]
        assert len(ui.main.list.listing) == len({one.exchange for one in replayed.outcome.differences})
        await ui.press("f")
        assert len(ui.main.list.listing) == len(firsts(replayed))
        await ui.press("d", "f")
        assert ui.recorded == firsts(replayed)[1]
        assert ui.main.list.listing.numbers is None


async def test_a_filter_is_asked_about_the_recorded_side(replayed: Replayed, open_replay: OpenReplay) -> None:
    async with open_replay(replayed, size=WIDE, filter_text="fuse.opcode == LOOKUP") as ui:
        numbers = ui.main.list.listing.numbers
        assert numbers is not None
        opcodes = replayed.recorded.records["opcode"][replayed.recorded.first_rows[ui.main.sides.recorded[numbers]]]
        assert set(opcodes.tolist()) == {1}
        assert not set(ui.main.sides.marks[numbers].tolist()) & {Mark.ADDED}
        await ui.press("n")
        assert ui.recorded in firsts(replayed)
        await ui.press("/")
        ui.main.filter_bar.line.value = "fuse.nodeid == 4096 && fuse.error == EIO"
        await ui.press("enter")
        assert "no row is like that" in ui.text
        await ui.press("n", "N", "c", "d", "f", "o", "g", "G", "enter", "tab", "s", "escape")
        assert "No difference is shown" in ui.text or ui.main.list.number == -1


async def test_the_value_that_differs_is_marked_on_both_sides_and_selected(
    replayed: Replayed, open_replay: OpenReplay
) -> None:
    one = next(one for one in replayed.outcome.differences if one.field == "attr.size" and one.follower_of is None)
    async with open_replay(replayed, size=WIDE) as ui:
        ui.main.go_to_exchange(one.exchange)
        await ui.settle()
        for tree, style, value in (
            (ui.main.detail.recorded, "was", one.recorded),
            (ui.main.detail.live, "differs", one.live),
        ):
            assert tree.field is not None
            assert (tree.field.row.name, tree.field.row.text) == ("attr.size", value)
            assert [tree.fields.rows[row].row.name for row, mark in tree.marks.items() if mark == style] == [
                "attr.size"
            ]
            assert {tree.fields.rows[row].row.name for row, mark in tree.marks.items() if mark == "other"} >= {
                "attr.ino",
                "nodeid",
            }


async def test_moving_in_the_fields_of_one_side_moves_the_other(replayed: Replayed, open_replay: OpenReplay) -> None:
    async with open_replay(replayed, size=WIDE) as ui:
        await ui.press("n", "n", "enter")
        assert ui.main.detail.live.has_focus
        await ui.press("home", "down", "down")
        ours, theirs = ui.main.detail.recorded.field, ui.main.detail.live.field
        assert ours is not None
        assert theirs is not None
        assert ours.row.name == theirs.row.name == "opcode"
        await ui.press("enter")
        assert ui.main.list.has_focus


async def test_a_narrow_terminal_shows_one_side_and_o_the_other(replayed: Replayed, open_replay: OpenReplay) -> None:
    async with open_replay(replayed, size=NARROW) as ui:
        await ui.press("n")
        number = ui.recorded
        assert f"live #{int(ui.main.sides.live[ui.main.list.number])} " in ui.text
        assert f"recorded #{number} " not in ui.text
        await ui.press("o")
        assert f"recorded #{number} " in ui.text
        assert "live #" not in ui.text
        await ui.press("tab")
        assert ui.main.detail.recorded.has_focus
        await ui.press("o")
        assert ui.main.detail.live.has_focus


async def test_a_wide_terminal_shows_both_sides(replayed: Replayed, open_replay: OpenReplay) -> None:
    async with open_replay(replayed, size=WIDE) as ui:
        await ui.press("n", "n")
        live = int(ui.main.sides.live[ui.main.list.number])
        assert f"recorded #{ui.recorded} LOOKUP" in ui.text
        assert f"live #{live} LOOKUP" in ui.text


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_rows_of_one_side_only_say_why(
    replayed: Replayed, open_replay: OpenReplay, size: tuple[int, int]
) -> None:
    async with open_replay(replayed, size=size) as ui:
        for mark, words in ((Mark.NOT_SENT, "answered ENOSYS before"), (Mark.ADDED, "the recording has no such")):
            ui.main.list.go_to_number(int(ui.main.sides.rows_marked(mark)[0]))
            await ui.settle()
            assert words in ui.text


async def test_a_difference_too_long_for_its_column_shows_the_field_that_differs(
    replayed: Replayed, open_replay: OpenReplay
) -> None:
    async with open_replay(replayed, size=NARROW) as ui:
        await ui.press("n", "n")
        assert "size 31 B" in ui.row(ui.recorded)
        assert "size 26 B" in ui.row(ui.recorded)


async def test_a_number_typed_is_that_of_the_recorded_exchange(replayed: Replayed, open_replay: OpenReplay) -> None:
    async with open_replay(replayed) as ui:
        await ui.press(":")
        await ui.type("42")
        await ui.press("enter")
        assert ui.recorded == 42


async def test_the_report_is_the_one_that_the_replay_gave(replayed: Replayed, open_replay: OpenReplay) -> None:
    async with open_replay(replayed, size=WIDE) as ui:
        await ui.press("s")
        for line in replayed.outcome.report[:5]:
            assert line in ui.text
        await ui.press("escape")
        assert ui.app.screen is ui.main


async def test_help_and_palette_name_every_command_of_this_screen(replayed: Replayed, open_replay: OpenReplay) -> None:
    async with open_replay(replayed, size=(120, 60)) as ui:
        offered = {command.title for command in ui.app.get_system_commands(ui.main)}
        assert offered == {command.title for command in commands_for(Place.REPLAY)}
        await ui.press("?")
        for command in commands_for(Place.REPLAY):
            assert command.help in ui.text


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (64, 16), (80, 24), (109, 33), (110, 34), (300, 100)])
async def test_panes_never_overlap_and_the_list_is_always_there(
    replayed: Replayed, open_replay: OpenReplay, size: tuple[int, int]
) -> None:
    async with open_replay(replayed, size=size) as ui:
        await ui.press("n")
        shown = [widget for widget in ui.main.query("#status, #list, #verdict, #detail, #keys") if widget.display]
        regions = [widget.region for widget in shown if widget.region.area]
        assert ui.main.list.region.height >= 2
        for at, region in enumerate(regions):
            assert all(not region.overlaps(other) for other in regions[at + 1 :])


# ---- large, empty, hostile -------------------------------------------------------------------------------------------


def many(path: Path, bridge: BridgeKind, evil: bytes = b"") -> Path:
    """Write a million FORGETs; as a replay each plays the one of its number."""
    data = request(2, 2, ROOT, bytes(8))
    with TraceWriter(path) as writer:
        writer.channel(HOME)
        for start in range(0, MANY, MANY // 10):
            heads = range(start + 1, start + MANY // 10 + 1) if bridge is BridgeKind.REPLAY else [0] * (MANY // 10)
            writer.records(
                [RawRecord(START_NS, 0, Direction.TO_SERVER, data, len(data), bridge, desc_head=head) for head in heads]
            )
    return path


async def test_a_key_press_in_a_million_rows_reads_only_what_is_on_screen(
    tmp_path: Path, open_replay: OpenReplay
) -> None:
    recorded = Trace.open(many(tmp_path / "recorded.pcapng", BridgeKind.EBPF))
    live = Trace.open(many(tmp_path / "live.pcapng", BridgeKind.REPLAY))
    outcome = Outcome((), Fingerprint(0, ""), "fd", "", (), {})
    async with open_replay(Replayed(recorded, live, outcome), size=WIDE) as ui:
        assert isinstance(ui.main.list, ReplayList)
        assert len(ui.main.list.listing) == MANY
        page = ui.main.list.size.height
        for key in ("G", "g", "pagedown", "down", "end", "n"):
            before = ui.main._ours.decoded, ui.main._theirs.decoded
            await ui.press(key)
            assert ui.main._ours.decoded - before[0] <= page + 1
            assert ui.main._theirs.decoded - before[1] <= page + 1
        assert ui.recorded == MANY - 1
        assert "Nothing differs" in ui.text


def dialogue(path: Path, name: bytes, data: bytes, *, replays: bool) -> Trace:
    """Write a LOOKUP of a name and a READ, as they were recorded or as they were replayed."""
    told = Story()
    told.ask(0, LOOKUP, ROOT, name + b"\0", entry(NOTES, size=len(data)), comm=name[:15])
    told.ask(5, READ, NOTES, struct.pack("<QQIIQII", 1, 0, len(data), 0, 0, 0, 0), data)
    records = told.sorted()
    if replays:
        asked = iter(range(1, 9))
        records = [
            record._replace(
                bridge=BridgeKind.REPLAY, desc_head=next(asked) if record.direction is Direction.TO_SERVER else 0
            )
            for record in records
        ]
    with TraceWriter(path) as writer:
        writer.channel(HOME)
        writer.records(records)
    return Trace.open(path)


def differing(tmp_path: Path, name: bytes, ours: bytes, theirs: bytes, *differences: KeptDifference) -> Replayed:
    recorded = dialogue(tmp_path / "[red]recorded[.pcapng", name, ours, replays=False)
    live = dialogue(tmp_path / "[red]live[.pcapng", name, theirs, replays=True)
    return Replayed(recorded, live, Outcome((), Fingerprint(0, ""), "fd", "", differences, {}, ("[bold]report[/",)))


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_what_comes_from_outside_is_shown_as_text_everywhere(
    tmp_path: Path, open_replay: OpenReplay, size: tuple[int, int]
) -> None:
    text = "[bold red]x[/] [@click=app.bell]y[/]"
    one = KeptDifference(0, 0, text, text, text, text, text, None)
    replayed = differing(tmp_path, EVIL_NAME, EVIL_NAME * 9, MARKUP * 9, one)
    async with open_replay(replayed, size=size) as ui:
        for keys in (("n",), ("enter", "end"), ("o",), ("s",), ("escape", "d", "f")):
            await ui.press(*keys)
            assert_printable(ui)
        assert "[bold red]x[/]" in ui.text
        assert r"\n\xff.txt" in ui.text


async def test_contents_that_differ_behind_what_is_shown_of_them_are_marked(
    tmp_path: Path, open_replay: OpenReplay
) -> None:
    ours, theirs = b"a" * 5000 + b"x", b"a" * 5000 + b"y"
    one = KeptDifference(1, 1, "/n", "data", "data", '5001 bytes, at 5000: "x"', '5001 bytes, at 5000: "y"', None)
    async with open_replay(differing(tmp_path, b"n", ours, theirs, one), size=WIDE) as ui:
        await ui.press("n")
        field = ui.main.detail.live.field
        assert field is not None
        assert (field.row.name, ui.main.detail.live.marks[ui.main.detail.live.cursor]) == ("data", "differs")


async def test_of_a_listing_it_is_said_which_entry_differs(tmp_path: Path, open_replay: OpenReplay) -> None:
    about = KeptDifference(1, 1, "/n/entry", "size", "attr.size", "1 B", "2 B", None)
    itself = KeptDifference(0, 0, "/n", "size", "attr.size", "3 B", "4 B", None)
    async with open_replay(differing(tmp_path, b"n", b"a", b"b", itself, about)) as ui:
        assert "size  the kernel cuts reads off at this size" in ui.text
        assert "this size  /n" not in ui.text
        await ui.press("n")
        assert "size  the kernel cuts reads off at this size  /n/entry" in ui.text


async def test_an_empty_replay_has_a_screen_and_takes_every_key(tmp_path: Path, open_replay: OpenReplay) -> None:
    for name in ("recorded", "live"):
        with TraceWriter(tmp_path / f"{name}.pcapng"):
            pass
    both = Trace.open(tmp_path / "recorded.pcapng"), Trace.open(tmp_path / "live.pcapng")
    outcome = Outcome((), Fingerprint(0, ""), "fd", "the server went", (), {})
    async with open_replay(Replayed(*both, outcome)) as ui:
        assert "ENDED EARLY" in ui.text
        await ui.press(*"nNcdfogGz", "tab", "tab", "down", "enter", "escape", "s", "escape", ":", "7", "enter")
        assert ui.main.list.number == -1
