"""The arguments of a long recording, and the sinks they mean: files in turn, an end by itself, a flight recorder."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.cli.command import Exit, number_from, say
from tracer.errors import TracerError
from tracer.output.style import counted

if TYPE_CHECKING:  # most recordings need none of it, and it takes longer to load than all the rest
    from tracer.filters import Filter
    from tracer.recording.flight import FlightRecorder
    from tracer.recording.limits import Limit
    from tracer.recording.rotation import RotatingWriter
    from tracer.recording.stopping import StopAfter

LEAST_FILE_BYTES, LEAST_FILE_NS = 4096, 100_000_000
BEFORE_S, AFTER_S, MEMORY = "30s", "10s", "256MiB"
LEAST_MEMORY = 1 << 20


def add_sinks(parser: argparse.ArgumentParser) -> None:
    """Declare what makes a recording a long one."""
    group = parser.add_argument_group(
        "long recordings",
        "files are named NAME_00001_20261122195300.pcapng: a number that goes up, the local time they begin",
    )
    group.add_argument(
        "--rotate",
        type=_limit("BYTES", "NS"),
        metavar="SIZE|TIME",
        help="begin another file after so much (100MiB, 512k, 10s, 5min, 1h); each opens alone",
    )
    group.add_argument(
        "--keep", type=number_from(1), metavar="N", help="of the files of this recording keep the newest N only"
    )
    group.add_argument(
        "--stop-after",
        type=_limit("RECORDS", "BYTES", "NS"),
        metavar="N|SIZE|TIME",
        help="end after so many records (1000), so much of them (100MiB) or so long (10min)",
    )
    group.add_argument(
        "--trigger",
        metavar="FILTER",
        help="keep the last seconds in memory, and write a file when something matches: 'fuse.pending_for > 5s'",
    )
    _add_window(group)


def _add_window(group: Any) -> None:
    for name, example, default in (
        ("--before", "how long before a match a file begins", BEFORE_S),
        ("--after", "how long after the last match it ends", AFTER_S),
    ):
        help_text = f"with --trigger: {example} (default: {default})"
        group.add_argument(name, type=_seconds, metavar="TIME", help=help_text)
    group.add_argument(
        "--memory",
        type=_limit("BYTES"),
        metavar="SIZE",
        help=f"with --trigger: most memory for what came before (default: {MEMORY})",
    )


def _limit(*units: str) -> Callable[[str], Limit]:
    """Return an argparse type: an amount in one of these units of `recording.limits`."""

    def read(text: str) -> Limit:
        from tracer.recording.limits import Unit, read_limit

        try:
            return read_limit(text, *(Unit[unit] for unit in units))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _seconds(text: str) -> int:
    """Read a time in seconds, with or without a unit; 0 is one. Return nanoseconds."""
    if text.isascii() and text.isdigit():
        text = f"{int(text)}s"
    return 0 if text == "0s" else _limit("NS")(text).amount


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """What the arguments ask for, checked before anything is started."""

    rotate: Limit | None = None
    keep: int = 0
    stop_after: Limit | None = None
    trigger: Filter | None = None
    before_ns: int = 0
    after_ns: int = 0
    memory_bytes: int = 0

    @contextmanager
    def sink(self, path: Path, command: str, stop: threading.Event) -> Iterator[RotatingWriter | FlightRecorder | None]:
        """Yield the sink that takes the records in place of a single file, and complete its files; None: no such."""
        if self.rotate is not None:
            from tracer.recording.rotation import RotatingWriter

            with RotatingWriter(path, self.rotate, keep=self.keep, command=command) as writer:
                yield writer
        elif self.trigger is not None:
            from tracer.recording.flight import FlightRecorder, Window
            from tracer.recording.series import Series

            series = Series(path, keep=self.keep, command=command)
            window = Window(self.before_ns, self.after_ns, self.memory_bytes)
            with FlightRecorder(series, self.trigger, window, say=say, on_failure=stop.set) as recorder:
                yield recorder
        else:
            yield None

    def stopper(self, sink: Any, stop: threading.Event) -> StopAfter | None:
        """Return what ends the recording by itself, in front of `sink`; None when nothing is to."""
        if self.stop_after is None:
            return None
        from tracer.recording.stopping import StopAfter

        return StopAfter(sink, self.stop_after, stop)


def plan_of(arguments: argparse.Namespace) -> SinkPlan | None:
    """Return what the arguments ask for, None for a plain file. TracerError where they contradict each other."""
    if arguments.rotate is not None and arguments.trigger is not None:
        raise TracerError("--rotate and --trigger do not go together", "--trigger writes a file a match by itself")
    if arguments.keep and arguments.rotate is None and arguments.trigger is None:
        raise TracerError("--keep is for the files of --rotate or --trigger", "for example: --rotate 100MiB --keep 10")
    for name in ("before", "after", "memory"):
        if getattr(arguments, name) is not None and arguments.trigger is None:
            raise TracerError(f"--{name} is for --trigger", "for example: --trigger 'fuse.pending_for > 5s'")
    if arguments.rotate is None and arguments.trigger is None and arguments.stop_after is None:
        return None
    _check_sizes(arguments)
    return SinkPlan(
        arguments.rotate,
        arguments.keep or 0,
        arguments.stop_after,
        _compiled(arguments.trigger),
        _seconds(BEFORE_S) if arguments.before is None else arguments.before,
        _seconds(AFTER_S) if arguments.after is None else arguments.after,
        (arguments.memory or _limit("BYTES")(MEMORY)).amount,
    )


def _check_sizes(arguments: argparse.Namespace) -> None:
    from tracer.recording.limits import Unit

    rotate, memory = arguments.rotate, arguments.memory
    if rotate is not None and rotate.amount < (LEAST_FILE_NS if rotate.unit is Unit.NS else LEAST_FILE_BYTES):
        raise TracerError(f"--rotate {rotate.text} makes too many files", "rotate after 4KiB or 100ms at least")
    if memory is not None and memory.amount < LEAST_MEMORY:
        raise TracerError(f"--memory {memory.text} holds nothing", "give it 1MiB at least")


def _compiled(text: str | None) -> Filter | None:
    if text is None:
        return None
    from tracer.filters import compile_filter

    return compile_filter(text)


def closing_words_of(sink: RotatingWriter | FlightRecorder) -> int:
    """Say what a long recording brought; return an Exit."""
    files = counted(sink.series.count, "file")
    kept = list(sink.series.kept)
    if hasattr(sink, "match_count"):
        from tracer.recording.flight import matches

        say(f"{counted(sink.record_count, 'record')} seen, {matches(sink.match_count)}, {files} written")
    else:
        say(f"{counted(sink.record_count, 'record')} in {files}")
    if kept:
        span = str(kept[0]) if len(kept) == 1 else f"{kept[0]} to {kept[-1].name}"
        say((f"the newest {len(kept)} are kept: " if len(kept) < sink.series.count else "") + span)
    missed = getattr(sink, "missed_count", 0)
    if missed:
        say(f"{counted(missed, 'record')} went by without a look: give it more --memory, or a simpler filter")
    return Exit.LOST if missed else Exit.FINE
