"""fusewire import: a strace log, also one that somebody else made, becomes a trace."""

from __future__ import annotations

import argparse
from pathlib import Path

from tracer.bridges.strace import StraceLog
from tracer.cli.command import command_line, say
from tracer.cli.recording import capture, check_output
from tracer.errors import TraceFileError


class Import:
    """Turn a strace log into a trace."""

    name = "import"
    help = "turn a strace log into a trace"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("log", type=Path, metavar="LOG", help="a strace log; the name before the pid of strace -ff")
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the trace goes (LOG.pcapng)")

    def run(self, arguments: argparse.Namespace) -> int:
        """Read the log to its end."""
        path = arguments.output or arguments.log.with_name(arguments.log.name + ".pcapng")
        if path.exists() and arguments.log.exists() and path.samefile(arguments.log):
            raise TraceFileError(f"{path} is the log itself", "give another file with -o")
        source = StraceLog(arguments.log, on_note=say)
        code = capture(source, check_output(path), command_line())
        stats = source.stats
        if stats.bytes_lost:
            say(f"{stats.bytes_lost} bytes of messages are not in the log")
        if stats.unparsed_lines:
            say(f"{stats.unparsed_lines} lines could not be read")
        return code
