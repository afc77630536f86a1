"""What it looks like. `make snapshots` writes the pictures anew; look at them before you commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from replays.results.replayed import Replayed
from tests.replays.test_outcome import LIVE
from tests.tracer.tui.conftest import DEADLINE_S
from tests.tracer.tui.sample import write_hung, write_trace
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace
from tracer.tui.app import FusewireApp, ScreenApp
from tracer.tui.replay_app import ReplayApp

Compare = Callable[..., bool]
SIZES = [pytest.param((80, 24), id="80x24"), pytest.param((140, 40), id="140x40")]


def pressing(*keys: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    """Return what presses keys once the trace is read, and waits until all is drawn."""

    async def press(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, ScreenApp)
        for key in ("", *keys):
            if key:
                await pilot.press(key)
            for _ in range(2):
                assert await asyncio.to_thread(app.main.thread.wait_idle, DEADLINE_S)
                await pilot.pause()
        if app.focused is not None and hasattr(app.focused, "cursor_blink"):
            app.focused.cursor_blink = False
            await pilot.pause()

    return press


@pytest.fixture
def app(sample: Trace) -> FusewireApp:
    return FusewireApp(sample)


@pytest.mark.parametrize("size", SIZES)
def test_first_screen(snap_compare: Compare, app: FusewireApp, size: tuple[int, int]) -> None:
    assert snap_compare(app, terminal_size=size, run_before=pressing())


@pytest.mark.parametrize("size", SIZES)
def test_on_a_syncfs(snap_compare: Compare, app: FusewireApp, size: tuple[int, int]) -> None:
    assert snap_compare(app, terminal_size=size, run_before=pressing("n", "n"))


@pytest.mark.parametrize("size", SIZES)
def test_fields_and_bytes_of_a_write(snap_compare: Compare, app: FusewireApp, size: tuple[int, int]) -> None:
    keys = ("n", "up", "up", "enter", "down", "down", "enter", "right")
    assert snap_compare(app, terminal_size=size, run_before=pressing(*keys))


@pytest.mark.parametrize("size", SIZES)
def test_a_fault_in_the_filter(snap_compare: Compare, app: FusewireApp, size: tuple[int, int]) -> None:
    assert snap_compare(app, terminal_size=size, run_before=pressing("/", *"fuse.size>2"))


@pytest.mark.parametrize("size", SIZES)
def test_a_filter_in_force(snap_compare: Compare, sample: Trace, size: tuple[int, int]) -> None:
    app = FusewireApp(sample, filter_text="fuse.opcode in {SYNCFS, FSYNC} || fuse.error")
    assert snap_compare(app, terminal_size=size, run_before=pressing("G"))


@pytest.mark.parametrize("size", SIZES)
def test_help(snap_compare: Compare, app: FusewireApp, size: tuple[int, int]) -> None:
    assert snap_compare(app, terminal_size=size, run_before=pressing("?"))


def test_timeline_zoomed_in_and_focused(snap_compare: Compare, app: FusewireApp) -> None:
    assert snap_compare(app, terminal_size=(140, 40), run_before=pressing("n", "shift+tab", "+", "+"))


def test_small_terminal(snap_compare: Compare, app: FusewireApp) -> None:
    assert snap_compare(app, terminal_size=(56, 13), run_before=pressing("n"))


def test_empty_trace(snap_compare: Compare, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "empty.pcapng"):
        pass
    app = FusewireApp(Trace.open(tmp_path / "empty.pcapng"))
    assert snap_compare(app, terminal_size=(80, 24), run_before=pressing())


def test_trace_without_loss(snap_compare: Compare, tmp_path: Path) -> None:
    app = FusewireApp(Trace.open(write_trace(tmp_path / "whole.pcapng", gap=False)))
    assert snap_compare(app, terminal_size=(80, 24), run_before=pressing("t", "n"))


@pytest.mark.parametrize("size", SIZES)
def test_a_lossy_capture_of_a_hung_server(snap_compare: Compare, tmp_path: Path, size: tuple[int, int]) -> None:
    trace = Trace.open(write_hung(tmp_path / "hung.pcapng"))
    assert snap_compare(FusewireApp(trace), terminal_size=size, run_before=pressing("G", "up"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(("n", "n"), id="first"),
        pytest.param(("n", "n", "n", "down", "down", "enter"), id="follower"),
        pytest.param((*"dG", "o"), id="only"),
        pytest.param(("?",), id="help"),
    ],
)
def test_both_sides_of_a_replay(snap_compare: Compare, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    replayed = Replayed.open(LIVE)
    assert replayed is not None
    assert snap_compare(ReplayApp(replayed), terminal_size=size, run_before=pressing(*keys))
