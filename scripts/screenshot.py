"""Draw README's picture: the real terminal UI on a real trace.

    .venv/bin/python -m scripts.screenshot traces/demo.pcapng docs/images/tui

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

from tracer.errors import TracerError
from tracer.trace.trace import Trace
from tracer.tui.app import FusewireApp

SETTLE_S = 30
CELL_WIDTH = 12.2  # of rich.console.Console.export_svg()
SPACE = "&#160;"
TEXT_WITH_MARGIN = re.compile(
    r'(?P<head><text [^>]*?)x="(?P<x>[\d.]+)"(?P<middle>[^>]*?)textLength="(?P<length>[\d.]+)"(?P<tail>[^>]*>)'
    rf"(?P<margin>(?:{SPACE})+)(?P<text>[^<&])"
)


async def draw(trace: Trace, keys: list[str], width: int, height: int) -> str:
    """Run the UI without a terminal, press keys, return the screen as SVG."""
    app = FusewireApp(trace)
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
        trace = Trace.open(arguments.trace)
    except TracerError as error:
        print(f"screenshot: {error}", file=sys.stderr)
        return 2
    svg = arguments.output.with_suffix(".svg")
    svg.parent.mkdir(parents=True, exist_ok=True)
    drawing = with_plain_margins(asyncio.run(draw(trace, keys, width, height)))
    svg.write_text(drawing, encoding="utf-8")
    png = rasterize(svg)
    print(f"drawn: {svg}" + (f", {png}" if png else " (no PNG: rsvg-convert is missing)"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
