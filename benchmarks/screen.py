"""What a key press costs in the terminal UI: the real app, without a terminal, on a trace of any size."""

from __future__ import annotations

import asyncio
import time

from textual.pilot import Pilot

from benchmarks.measure import Times, pace
from tracer.trace.trace import Trace
from tracer.tui.app import FusewireApp

KEYS = ("down", "pagedown", "end", "pageup", "home")
SIZE = (140, 45)
DEADLINE_S = 120


async def _settle(app: FusewireApp, pilot: Pilot[None]) -> None:
    """Wait until the trace's thread and the screen have nothing left to do."""
    for _ in range(2):
        await asyncio.to_thread(app.main.thread.wait_idle, DEADLINE_S)
        await pilot.pause()


async def _press(trace: Trace, runs: int) -> dict[str, Times]:
    app = FusewireApp(trace)
    found: dict[str, list[tuple[float, float, float]]] = {key: [] for key in KEYS}
    async with app.run_test(size=SIZE) as pilot:
        await _settle(app, pilot)
        for _ in range(runs):
            for key in KEYS:
                steady = pace()
                wall, cpu = time.perf_counter(), time.process_time()
                await pilot.press(key)
                await _settle(app, pilot)
                found[key].append((time.process_time() - cpu, time.perf_counter() - wall, steady))
        await pilot.press("q")
    return {key: _times(samples) for key, samples in found.items()}


def _times(samples: list[tuple[float, float, float]]) -> Times:
    cpu, wall, steady = zip(*samples, strict=True)
    return Times(cpu, wall, steady)


def key_presses(trace: Trace, runs: int) -> dict[str, Times]:
    """Press each of KEYS `runs` times; return what it took until the screen was still again."""
    return asyncio.run(_press(trace, runs))
