"""What the UI tells in passing leaves the list in view, on the smallest screens too."""

from __future__ import annotations

import pytest
from textual.widgets._toast import Toast

from tests.tracer.tui.conftest import OpenUi, Ui
from tracer.errors import TraceFileError
from tracer.trace.trace import Trace
from tracer.tui.messages import SourceFailed

NO_SYNCFS = "There is no SYNCFS here"


def toasts(ui: Ui) -> list[Toast]:
    return list(ui.app.screen.query(Toast))


async def until_told(ui: Ui, words: str) -> None:
    await ui.until(lambda: words in ui.text and len(toasts(ui)) == 1)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (160, 48)])
async def test_a_toast_leaves_the_rows_of_the_list_in_view(
    sample: Trace, open_ui: OpenUi, size: tuple[int, int]
) -> None:
    async with open_ui(sample, size=size, filter_text="fuse.opcode == WRITE") as ui:
        await ui.press("n", "n", "n")
        await until_told(ui, NO_SYNCFS)  # once, however often it was said
        top = next(at for at, line in enumerate(ui.lines) if "opcode" in line)
        assert all("22:13:20" in line for line in ui.lines[top + 1 : top + 4])
        assert all(NO_SYNCFS not in line for line in ui.lines[: top + 4])


async def test_a_long_error_takes_a_third_of_the_smallest_screen_and_replaces_what_was_told(
    sample: Trace, open_ui: OpenUi
) -> None:
    async with open_ui(sample, size=(40, 12), filter_text="fuse.opcode == WRITE") as ui:
        await ui.press("n")
        await until_told(ui, NO_SYNCFS)
        ui.main.post_message(SourceFailed(TraceFileError("the disk [bold]broke " * 40)))
        await until_told(ui, "the disk [bold]broke")
        assert toasts(ui)[0].region.height <= 4
        assert NO_SYNCFS not in ui.text
        assert sum("22:13:20." in line for line in ui.lines) >= 2
