"""fusewire live: record in one process, watch in another."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tracer.cli.command import Exit, say
from tracer.cli.commands.open_trace import require_terminal
from tracer.cli.recording import check_output
from tracer.cli.source import SOURCES, add_source, bridge_of, source_words
from tracer.errors import CaptureError, TraceFileError, TracerError
from tracer.trace.trace import Trace

START_SECONDS, CHANNEL_SECONDS, END_SECONDS = 30, 2, 10
POLL_SECONDS = 0.02


class Live:
    """Record and watch in the terminal UI at once.

    The recorder is a process of its own: however busy the screen is, what drains the traced server never waits for it.
    """

    name = "live"
    help = "record and watch in the terminal UI at once"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = f"fusewire live [-o FILE] [options] {SOURCES}"
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="keep the trace here (default: not kept)")
        parser.add_argument("-Y", "--filter", default="", metavar="FILTER", help="show only what matches")
        add_source(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Start the recorder, follow its file, stop it when the UI ends."""
        bridge_of(arguments, say)  # says what is wrong with the arguments before the screen is taken
        require_terminal()
        with tempfile.TemporaryDirectory(prefix="fusewire-") as folder:
            path = check_output(arguments.output or Path(folder) / "live.pcapng")
            older = _identity(path)
            log = Path(folder) / "recorder.log"
            with log.open("wb") as output:
                recorder = subprocess.Popen(
                    _recorder_command(arguments, path), stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            try:
                trace = _when_it_exists(path, older, recorder, log)
                from tracer.tui.app import run  # textual takes 150 ms to import: only what draws may pay for it

                broke = run(trace, follow=True, filter_text=arguments.filter)
            finally:
                code = _stop(recorder)
            sys.stderr.write(log.read_text(errors="replace"))
        return code if code in (Exit.LOST, Exit.USAGE) else broke


def _recorder_command(arguments: argparse.Namespace, path: Path) -> list[str]:
    command = [sys.executable, "-m", "tracer.cli.main", "record", "-o", str(path.resolve())]
    return command + source_words(arguments)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file this is now, None where there is none, or an empty one."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return (facts.st_dev, facts.st_ino) if facts.st_size else None


def _when_it_exists(path: Path, older: tuple[int, int] | None, recorder: subprocess.Popen[bytes], log: Path) -> Trace:
    """Wait until the recorder has written the head of its file, not the `older` one; its own words when it gives up."""
    deadline = time.monotonic() + START_SECONDS
    while _identity(path) in (None, older):
        _check_alive(recorder, log)
        if time.monotonic() > deadline:
            raise TracerError(f"nothing was recorded within {START_SECONDS} s", "try fusewire doctor")
        time.sleep(POLL_SECONDS)
    deadline = time.monotonic() + CHANNEL_SECONDS
    try:
        trace = Trace.open(path)
        while not trace.channels and time.monotonic() < deadline:
            _check_alive(recorder, log)  # most of what can go wrong goes wrong before the first message
            time.sleep(POLL_SECONDS)
            trace.refresh()
    except TraceFileError:  # a recorder that gives up takes its empty file away
        recorder.wait(END_SECONDS)
        _check_alive(recorder, log)
        raise
    return trace


def _check_alive(recorder: subprocess.Popen[bytes], log: Path) -> None:
    """Raise the recorder's own last words when it gave up."""
    if recorder.poll() in (None, Exit.FINE, Exit.LOST):
        return
    words = log.read_text(errors="replace").rpartition("fusewire: ")[2]
    message, _, hint = words.partition("\n")
    raise CaptureError(message or f"the recorder ended with code {recorder.returncode}", hint.strip())


def _stop(recorder: subprocess.Popen[bytes]) -> int:
    """End the recorder in good order: the traced server goes on."""
    if recorder.poll() is None:
        os.kill(recorder.pid, signal.SIGINT)
    try:
        return recorder.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        recorder.kill()
        return recorder.wait()
