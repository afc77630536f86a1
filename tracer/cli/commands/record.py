"""fusewire record: overhear a server into a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from tracer.cli.command import command_line, say
from tracer.cli.recording import capture, check_output
from tracer.cli.sinks import add_sinks, plan_of
from tracer.cli.source import SOURCES, add_source, bridge_of, check_is_not_recorded


class Record:
    """Record a FUSE server at work."""

    name = "record"
    help = "record a FUSE server at work"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = f"fusewire record -o FILE [options] {SOURCES}"
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where the trace goes")
        add_source(parser)
        add_sinks(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Record until the server ends, somebody presses ^C, or enough is recorded."""
        bridge = bridge_of(arguments, say)
        plan = plan_of(arguments)
        path = check_output(arguments.output)
        check_is_not_recorded(path, arguments)
        return capture(bridge, path, command_line(), plan)
