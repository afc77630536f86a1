from __future__ import annotations

import struct
from pathlib import Path

import pytest
from rich.text import Text

from tests.tracer.tui.conftest import OpenUi, Ui
from tests.tracer.tui.sample import EVIL_NAME, HOME, INIT, LOOKUP, ROOT, START_NS, entry, init_request, reply, request
from tracer.records import ChannelInfo, ChannelKind, Direction, RawRecord
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace
from tracer.tui.rows import fit

EVIL_NUMBER = 4
MARKUP = b"[bold red on white]x[/] [@click=app.bell]y[/] [link=http://a.b]z[/link] [/]"


def record(t_ns: int, data: bytes, to_kernel: bool = False, comm: bytes = b"") -> RawRecord:
    direction = Direction.TO_KERNEL if to_kernel else Direction.TO_SERVER
    return RawRecord(t_ns, 0, direction, data, len(data), comm=comm)


def assert_printable(ui: Ui) -> None:
    for line in ui.lines:
        assert line.isprintable(), line


async def test_a_name_with_control_characters_never_reaches_the_screen_raw(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(160, 48)) as ui:
        ui.main.list.go_to_number(EVIL_NUMBER)
        await ui.settle()
        assert_printable(ui)
        assert r"31m [red]x[/red]\n\xff.txt" in ui.text
        await ui.press("enter", "down", "enter", "s")
        assert_printable(ui)
        assert EVIL_NAME not in ui.text.encode()


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_markup_from_outside_is_shown_as_text_everywhere(
    tmp_path: Path, open_ui: OpenUi, size: tuple[int, int]
) -> None:
    text = MARKUP.decode()
    info = ChannelInfo(text + "\x1b[2J", ChannelKind.VIRTIOFS, fstype=text, server_command=text + "\x07", kernel=text)
    with TraceWriter(tmp_path / "[red]name[.pcapng") as writer:
        writer.channel(info)
        writer.channel(HOME)
        writer.records(
            [
                record(START_NS, request(LOOKUP, 2, ROOT, MARKUP + b"\0"), comm=MARKUP[:15]),
                record(START_NS + 1, reply(2, entry(5, flags=1)), True),
                record(START_NS + 2, request(50, 4, 5, bytes(8)), comm=b"\x1b]0;x\x07"),
            ]
        )
    async with open_ui(Trace.open(tmp_path / "[red]name[.pcapng"), size=size) as ui:
        assert "[red]name[.pcapng" in ui.text
        assert_printable(ui)
        for keys in (("enter", "down"), ("enter", "end"), ("escape", "n"), ("s",)):
            await ui.press(*keys)
            assert_printable(ui)
        assert "[bold" in ui.text


async def test_a_fault_in_a_filter_shows_what_was_typed_as_text(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample) as ui:
        ui.main.filter_bar.set("[red]oops[/red] \x1b[31m")
        await ui.settle()
        assert ui.main.filter_bar.fault is not None
        assert_printable(ui)


@pytest.mark.parametrize("times", [(0, 2**63 - 1), (-5, 5), (2**62, 2**63 - 1), (7, 7), (5, 0)])
async def test_any_times_are_drawn_and_zoomed(tmp_path: Path, open_ui: OpenUi, times: tuple[int, int]) -> None:
    with TraceWriter(tmp_path / "times.pcapng") as writer:
        writer.channel(HOME)
        writer.records(
            [
                record(times[0] % 2**64, request(INIT, 2, 0, init_request(45))),
                record(times[1], request(50, 4, 1, bytes(8))),
            ]
        )
    async with open_ui(Trace.open(tmp_path / "times.pcapng")) as ui:
        await ui.press("n", "+", "+", "-", "G", "t", "t", "-", "-", "0")
        await ui.press("tab", "tab", "tab", "right", "left")
        assert_printable(ui)


async def test_bytes_that_are_no_message_are_shown_with_what_is_wrong(tmp_path: Path, open_ui: OpenUi) -> None:
    with TraceWriter(tmp_path / "odd.pcapng") as writer:
        writer.channel(HOME)
        broken = struct.pack("<IIQQ", 4000, LOOKUP, 2, 1)
        writer.records([record(START_NS, b""), record(START_NS, b"\xff" * 7), record(START_NS, broken)])
    async with open_ui(Trace.open(tmp_path / "odd.pcapng"), size=(160, 48)) as ui:
        for _ in range(3):
            await ui.press("enter", "end", "enter", "end", "escape", "down")
        assert "error" in ui.text
        assert_printable(ui)


def test_fit_never_returns_more_cells_than_asked_for() -> None:
    for text in ("e\u0301" * 20, "日本" * 10, "👩‍👩‍👧" * 5, "a\u200bb" * 9):
        for width in range(1, 30):
            assert Text(fit(text, width)).cell_len == width
