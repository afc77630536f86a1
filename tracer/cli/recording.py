"""From a bridge into a file: signals, narration and the closing words of a capture."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tracer.cli.command import Exit, say
from tracer.errors import TraceFileError
from tracer.output.style import counted, escape_text
from tracer.records import Bridge, ChannelInfo, Gap, RawRecord
from tracer.store.writer import TraceWriter


class Narrator:
    """A Sink that passes everything on and tells a person about it."""

    def __init__(self, writer: TraceWriter) -> None:
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


def capture(bridge: Bridge, path: Path, command: str) -> int:
    """Run `bridge` into `path` until it ends or a signal comes; return an Exit."""
    stop = threading.Event()
    writer = TraceWriter(path, command=command)
    with writer, stop_on_signals(stop):
        bridge.run(Narrator(writer), stop)
    return closing_words(writer)


def closing_words(writer: TraceWriter) -> int:
    """Say what a capture brought; return an Exit."""
    if writer.kept_older:
        say(f"nothing was recorded; {writer.path} is still the older trace")
        return Exit.FINE
    say(f"{counted(writer.record_count, 'record')} in {writer.path}")
    if writer.gap_count:
        lost = counted(writer.lost_count, "record") if writer.lost_count else "an unknown number of records"
        say(f"known to be lost: {lost}, in {counted(writer.gap_count, 'place')}")
        return Exit.LOST
    return Exit.FINE


def check_output(path: Path) -> Path:
    """Refuse a place that cannot take a trace before a server is started for it."""
    if str(path) == "-":
        raise TraceFileError("a trace goes into a file, not to stdout", "give a file with -o")
    if path.is_dir():
        raise TraceFileError(f"{path} is a directory", "give a file with -o")
    if not path.parent.is_dir():
        raise TraceFileError(f"{path.parent} is no directory", "make it first, or give another file with -o")
    return path
