"""fusewire open: a trace in the terminal UI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from replays.results.replayed import Replayed
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
        parser.add_argument(
            "--with", type=Path, metavar="LIVE", dest="live", help="FILE beside the live trace of a replay of it"
        )
        parser.add_argument(
            "--alone", action="store_true", help="of a replay's live trace show that alone, not both sides"
        )
        parser.add_argument("-Y", "--filter", default="", metavar="FILTER", help="show only what matches")
        parser.add_argument("-f", "--follow", action="store_true", help="go on as the file grows")
        add_minor(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Open the trace and hand it to the UI; both sides of a replay, when it tells of one."""
        require_terminal()
        replayed = _replayed(arguments)
        if replayed is not None:
            from tracer.tui.replay_app import run as run_replay

            return run_replay(replayed, filter_text=arguments.filter)
        trace = Trace.open(arguments.file, minor=arguments.minor, on_progress=_progress(arguments.file))
        from tracer.tui.app import run  # textual takes 150 ms to import: only what draws may pay for it

        return run(trace, follow=arguments.follow, filter_text=arguments.filter)


def _replayed(arguments: argparse.Namespace) -> Replayed | None:
    """Return the replay that is meant; None of a trace to be shown alone."""
    if arguments.live is None and (arguments.alone or arguments.follow):
        return None
    live, recorded = (arguments.file, None) if arguments.live is None else (arguments.live, arguments.file)
    return Replayed.open(live, recorded, minor=arguments.minor, on_progress=_progress(recorded or live))


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
