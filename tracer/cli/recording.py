"""From a bridge into a file: signals, narration and the closing words of a capture."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.cli.command import Exit, say
from tracer.cli.sinks import SinkPlan, closing_words_of
from tracer.errors import TraceFileError
from tracer.output.style import counted, escape_text
from tracer.records import Bridge, ChannelInfo, Gap, RawRecord
from tracer.store.writer import TraceWriter

if TYPE_CHECKING:
    from tracer.recording.flight import FlightRecorder
    from tracer.recording.rotation import RotatingWriter

    AnyWriter = TraceWriter | RotatingWriter | FlightRecorder


class Narrator:
    """A Sink that passes everything on and tells a person about it."""

    def __init__(self, writer: AnyWriter) -> None:
        self._writer = writer

    def channel(self, info: ChannelInfo) -> int:
        """Pass a channel on, and say what it is."""
        number = self._writer.channel(info)
        say(f"channel {number}: {escape_text(info.name)}" + (f" ({escape_text(info.fstype)})" if info.fstype else ""))
        for note in info.notes:
            say(f"  note: {escape_text(note)}")
        return number

    def records(self, batch: Sequence[RawRecord]) -> None:
        """Pass records on."""
        self._writer.records(batch)

    def gap(self, gap: Gap) -> None:
        """Pass a loss on, and say so."""
        self._writer.gap(gap)
        if self._writer.gap_count <= 10:
            lost = counted(gap.count, "record") if gap.count else "some records"
            say(f"lost {lost}: {escape_text(gap.reason)}")


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on SIGINT, SIGTERM and SIGHUP, so that a capture ends in good order."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def capture(bridge: Bridge, path: Path, command: str, plan: SinkPlan | None = None) -> int:
    """Run `bridge` into `path`, or into what `plan` makes of it, until it ends or a signal comes; return an Exit."""
    stop = threading.Event()
    if plan is not None:
        return _capture_as_planned(bridge, path, command, plan, stop)
    writer = TraceWriter(path, command=command)
    with writer, stop_on_signals(stop):
        bridge.run(Narrator(writer), stop)
    return closing_words(writer)


def _capture_as_planned(bridge: Bridge, path: Path, command: str, plan: SinkPlan, stop: threading.Event) -> int:
    with ExitStack() as stack:
        sink: AnyWriter | None = stack.enter_context(plan.sink(path, command, stop))
        if sink is None:
            sink = stack.enter_context(TraceWriter(path, command=command))
        stopper = plan.stopper(Narrator(sink), stop)
        if stopper is not None:
            stack.enter_context(stopper)
        stack.enter_context(stop_on_signals(stop))
        bridge.run(stopper or Narrator(sink), stop)
    if stopper is not None and stopper.was_reached and plan.stop_after is not None:
        say(f"ended after {plan.stop_after.described}, as --stop-after asks")
    if isinstance(sink, TraceWriter):
        return closing_words(sink)
    code = closing_words_of(sink)
    return Exit.LOST if say_losses(sink) else code


def closing_words(writer: TraceWriter) -> int:
    """Say what a capture brought; return an Exit."""
    if writer.kept_older:
        say(f"nothing was recorded; {writer.path} is still the older trace")
        return Exit.FINE
    say(f"{counted(writer.record_count, 'record')} in {writer.path}")
    return Exit.LOST if say_losses(writer) else Exit.FINE


def say_losses(writer: AnyWriter) -> bool:
    """Say what is known to be lost; tell whether anything is."""
    if not writer.gap_count:
        return False
    lost = counted(writer.lost_count, "record") if writer.lost_count else "an unknown number of records"
    say(f"known to be lost: {lost}, in {counted(writer.gap_count, 'place')}")
    return True


def check_output(path: Path) -> Path:
    """Refuse a place that cannot take a trace before a server is started for it."""
    if str(path) == "-":
        raise TraceFileError("a trace goes into a file, not to stdout", "give a file with -o")
    if path.is_dir():
        raise TraceFileError(f"{path} is a directory", "give a file with -o")
    if not path.parent.is_dir():
        raise TraceFileError(f"{path.parent} is no directory", "make it first, or give another file with -o")
    return path
