"""What a trace does not hold: said on stderr by every command that reads one."""

from __future__ import annotations

from collections.abc import Iterator

from tracer.cli.command import say
from tracer.output.style import counted, escape_text
from tracer.trace.trace import Trace

MAX_GAPS = 20  # a lossy capture has thousands; the rest is counted


def say_caveats(trace: Trace) -> None:
    """Say what is missing, damaged or assumed."""
    for words in (*_of_the_file(trace), *_of_the_capture(trace), *_of_the_sessions(trace)):
        say(words)


def _of_the_file(trace: Trace) -> Iterator[str]:
    file = trace.file
    if file.skipped_bytes:
        yield f"{counted(file.skipped_bytes, 'byte')} of the file skipped, which are damaged: records are missing there"
    if file.unreadable_bytes:
        why = "they are damaged" if file.damaged else "the recorder ended there"
        yield f"the last {counted(file.unreadable_bytes, 'byte')} of the file are no whole block: {why}"
    if file.foreign_packets:
        yield f"{counted(file.foreign_packets, 'packet')} left out, which are no FUSE messages"


def _of_the_capture(trace: Trace) -> Iterator[str]:
    for gap in trace.gaps[:MAX_GAPS]:
        lost = counted(gap.count, "record") if gap.count else "some records"
        yield f"{lost} lost: {escape_text(gap.reason)}"
    if len(trace.gaps) > MAX_GAPS:
        yield f"records were lost in {len(trace.gaps) - MAX_GAPS} more places"
    for missing in trace.missing_uniques():
        name = escape_text(trace.channels[missing.channel].name)
        first = missing.ranges[0][0]
        yield f"{counted(missing.count, 'request')} of {name} may be missing: uniques that never came, first {first}"
    if cut := trace.cut_listings():
        listings = counted(cut, "directory listing")
        yield f"{listings} cut: names in them are unknown; record with --snap listings to keep them"


def _of_the_sessions(trace: Trace) -> Iterator[str]:
    for session in trace.sessions:
        if not session.minor_is_known:
            name = escape_text(session.info.name)
            yield f"{name}: no answer to INIT was captured, its protocol minor is assumed; --minor N says otherwise"
