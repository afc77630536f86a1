"""Draw the pictures of the documentation: the real terminal UI on a real trace, or on both sides of a replay.

    .venv/bin/python -m scripts.screenshot traces/demo.pcapng docs/images/tui
    .venv/bin/python -m scripts.screenshot docs/samples/replay-live.pcapng docs/images/replay --keys n,n

writes docs/images/tui.svg, and docs/images/tui.png where rsvg-convert is installed (Debian: librsvg2-bin).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

from replays.results.replayed import Replayed
from tracer.errors import TracerError
from tracer.trace.trace import Trace
from tracer.tui.app import FusewireApp, ScreenApp
from tracer.tui.replay_app import ReplayApp

SETTLE_S = 30
CELL_WIDTH = 12.2  # of rich.console.Console.export_svg()
SPACE = "&#160;"
TEXT_WITH_MARGIN = re.compile(
    r'(?P<head><text [^>]*?)x="(?P<x>[\d.]+)"(?P<middle>[^>]*?)textLength="(?P<length>[\d.]+)"(?P<tail>[^>]*>)'
    rf"(?P<margin>(?:{SPACE})+)(?P<text>[^<&])"
)


def app_for(path: Path) -> ScreenApp:
    """Return the UI that `fusewire open` would show."""
    replayed = Replayed.open(path)
    return FusewireApp(Trace.open(path)) if replayed is None else ReplayApp(replayed)


async def draw(app: ScreenApp, keys: list[str], width: int, height: int) -> str:
    """Run the UI without a terminal, press keys, return the screen as SVG."""
    async with app.run_test(size=(width, height)) as pilot:
        for key in ["", *keys]:
            if key:
                await pilot.press(key)
            if not await asyncio.to_thread(app.main.thread.wait_idle, SETTLE_S):
                raise TimeoutError("the UI is still busy with the trace")
            await pilot.pause()
        return app.export_screenshot(title="fusewire")


def with_plain_margins(svg: str) -> str:
    """Begin each text at its first letter: librsvg drops the spaces before it, and with them the columns."""

    def moved(found: re.Match[str]) -> str:
        shift = CELL_WIDTH * (len(found["margin"]) // len(SPACE))
        x, length = float(found["x"]) + shift, float(found["length"]) - shift
        return f'{found["head"]}x="{x:g}"{found["middle"]}textLength="{length:g}"{found["tail"]}{found["text"]}'

    return TEXT_WITH_MARGIN.sub(moved, svg)


def rasterize(svg: Path) -> Path | None:
    """Make a PNG of the SVG; None without rsvg-convert."""
    if shutil.which("rsvg-convert") is None:
        return None
    png = svg.with_suffix(".png")
    subprocess.run(["rsvg-convert", "--zoom", "1.3", "-o", png, svg], check=True)
    return png


def main() -> int:
    """Draw the picture; exit status 2 when the trace cannot be opened."""
    parser = argparse.ArgumentParser(description="draw the terminal UI on a trace")
    parser.add_argument("trace", type=Path)
    parser.add_argument("output", type=Path, help="without a suffix: .svg and .png are added")
    parser.add_argument("--keys", default="n", help="keys to press, separated by commas (default: %(default)s)")
    parser.add_argument("--size", default="140x40", help="columns x lines (default: %(default)s)")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    keys = [key for key in arguments.keys.split(",") if key]
    try:
        app = app_for(arguments.trace)
    except TracerError as error:
        print(f"screenshot: {error}", file=sys.stderr)
        return 2
    svg = arguments.output.with_suffix(".svg")
    svg.parent.mkdir(parents=True, exist_ok=True)
    drawing = with_plain_margins(asyncio.run(draw(app, keys, width, height)))
    svg.write_text(drawing, encoding="utf-8")
    png = rasterize(svg)
    print(f"drawn: {svg}" + (f", {png}" if png else " (no PNG: rsvg-convert is missing)"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
