from __future__ import annotations

from tests.tracer.tui.conftest import OpenUi, Ui
from tracer.trace.trace import Trace

WRITE_NUMBER = 11  # a WRITE of 512 bytes at offset 4096
IN_HEADER, WRITE_IN = 40, 40
PADDING = 1  # cells to the left of the bytes


async def go_to(ui: Ui, number: int) -> None:
    ui.main.list.go_to_number(number)
    await ui.settle()


def field_name(ui: Ui) -> str:
    field = ui.main.detail.field_tree.field
    assert field is not None
    return field.row.name


async def test_moving_in_the_fields_highlights_their_bytes(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        await go_to(ui, WRITE_NUMBER)
        await ui.press("enter", "down", "down")
        assert field_name(ui) == "offset"
        span = ui.main.detail.span
        assert (span.start, span.end) == (IN_HEADER + 8, IN_HEADER + 16)
        assert ui.main.detail.hex_view.content[span.start : span.end] == (4096).to_bytes(8, "little")


async def test_moving_in_the_bytes_selects_the_field_they_belong_to(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        await go_to(ui, WRITE_NUMBER)
        await ui.press("enter", "enter", "home")
        assert field_name(ui) == "len"
        await ui.press("right", "right", "right", "right")
        assert field_name(ui) == "opcode"
        assert (ui.main.detail.span.start, ui.main.detail.span.end) == (4, 8)
        await ui.press("end")
        assert field_name(ui) == "data"
        assert ui.main.detail.hex_view.cursor == IN_HEADER + WRITE_IN + 511


async def test_a_click_on_a_byte_or_on_its_letter_selects_the_field(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        await go_to(ui, WRITE_NUMBER)
        hexes = ui.main.detail.hex_view
        hexes.scroll_to(y=0, animate=False)
        await ui.pilot.pause()
        await ui.pilot.click("#bytes", offset=(PADDING + 6 + 16 * 3 // 2 + 1, 2))  # the second line, byte 8
        await ui.settle()
        assert (hexes.cursor, field_name(ui)) == (24, "uid")
        await ui.pilot.click("#bytes", offset=(PADDING + 6 + 16 * 3 + 2 + 1, 3))  # letter 1 of the third line
        await ui.settle()
        assert (hexes.cursor, field_name(ui)) == (33, "pid")


async def test_the_reply_has_its_own_bytes(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        await go_to(ui, WRITE_NUMBER)
        assert "request 592 bytes" in ui.text
        await ui.press("enter", "end")
        assert ui.main.detail.span.part == 1
        assert "reply 24 bytes" in ui.text


async def test_the_field_stays_chosen_from_one_write_to_the_next(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        await go_to(ui, WRITE_NUMBER)
        await ui.press("enter", "down", "down", "escape", "down")
        assert ui.main.list.number == WRITE_NUMBER + 1
        assert field_name(ui) == "offset"


async def test_bytes_that_were_not_captured_are_counted_below_the_others(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        await go_to(ui, 10)
        await ui.press("enter", "enter", "end")
        assert "400 bytes more were not captured" in ui.text


async def test_a_notification_is_shown_with_its_fields(sample: Trace, open_ui: OpenUi) -> None:
    async with open_ui(sample, size=(140, 40)) as ui:
        await go_to(ui, 40)
        assert "notification 40 bytes" in ui.text
        assert "NOTIFY_INVAL_INODE" in ui.text
