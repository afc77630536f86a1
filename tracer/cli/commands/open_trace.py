"""fusewire open: a trace in the terminal UI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tracer.cli.command import add_minor
from tracer.errors import TracerError
from tracer.trace.trace import Trace


class Open:
    """Open a trace in the terminal UI."""

    name = "open"
    help = "open a trace in the terminal UI"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("-Y", "--filter", default="", metavar="FILTER", help="show only what matches")
        parser.add_argument("-f", "--follow", action="store_true", help="go on as the file grows")
        add_minor(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Open the trace and hand it to the UI."""
        require_terminal()
        trace = Trace.open(arguments.file, minor=arguments.minor, on_progress=_progress(arguments.file))
        from tracer.tui.app import run  # textual takes 150 ms to import: only what draws may pay for it

        return run(trace, follow=arguments.follow, filter_text=arguments.filter)


def require_terminal() -> None:
    """Refuse to draw into a pipe or a file; textual draws on stderr."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise TracerError("the terminal UI needs a terminal", "for text, use: fusewire show FILE")


def _progress(path: Path) -> Callable[[int, int], None]:
    """Return a callback that shows how far indexing is, for files large enough to wait for."""
    large = 512 << 20

    def show(done: int, total: int) -> None:
        if total >= large:
            print(f"\rindexing {path.name}: {100 * done // total} %", end="", file=sys.stderr, flush=True)

    return show
