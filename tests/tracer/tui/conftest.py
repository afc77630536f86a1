"""The app on recorded bytes, driven by keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from textual.message import Message
from textual.pilot import Pilot

from tests.tracer.tui.sample import write_trace
from tracer.trace.trace import Trace
from tracer.tui.app import FusewireApp

DEADLINE_S = 30


class Ui:
    """The running app as a test sees it."""

    def __init__(self, app: FusewireApp, pilot: Pilot[None], told: list[Message]) -> None:
        self.app, self.pilot, self.told = app, pilot, told
        self.main = app.main

    async def settle(self) -> None:
        """Wait until the trace's thread and the screen have nothing left to do."""
        for _ in range(2):
            assert await asyncio.to_thread(self.main.thread.wait_idle, DEADLINE_S)
            await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        """Press keys one by one, each with its effect."""
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def type(self, text: str) -> None:
        """Type a text into whatever has the focus."""
        await self.pilot.press(*text)
        await self.settle()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            assert time.monotonic() < deadline, "it never came"
            await self.pilot.pause(0.02)

    def of(self, kind: type[Message]) -> list[Message]:
        """Return the messages of one kind so far."""
        return [message for message in self.told if isinstance(message, kind)]

    @property
    def lines(self) -> list[str]:
        """The screen as text."""
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


OpenUi = Callable[..., AbstractAsyncContextManager[Ui]]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clock times on screen are local ones: make them the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def sample_path(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "sample.pcapng")


@pytest.fixture
def sample(sample_path: Path) -> Trace:
    return Trace.open(sample_path)


@asynccontextmanager
async def opened(
    trace: Trace, *, size: tuple[int, int] = (80, 24), follow: bool = False, filter_text: str = ""
) -> AsyncIterator[Ui]:
    """Run the UI on a trace, settled."""
    app = FusewireApp(trace, follow=follow, filter_text=filter_text)
    told: list[Message] = []
    async with app.run_test(size=size, notifications=True, message_hook=told.append) as pilot:
        ui = Ui(app, pilot, told)
        await ui.settle()
        yield ui


@pytest.fixture
def open_ui() -> OpenUi:
    """Return a context manager: a trace and what `run` takes -> the running, settled UI."""
    return opened
