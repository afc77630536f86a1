"""fusewire sync: did sync reach the server, and each of its submounts?"""

from __future__ import annotations

import argparse
from pathlib import Path

import orjson

from tracer.analysis.sync import sync_report
from tracer.cli.caveats import say_caveats
from tracer.cli.command import Exit, add_minor
from tracer.output.style import Painter
from tracer.output.sync_text import sync_json, sync_lines
from tracer.trace.times import live_now_ns
from tracer.trace.trace import Trace


class Sync:
    """Report every FUSE_SYNCFS, per submount."""

    name = "sync"
    help = "report every FUSE_SYNCFS, per submount"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--json", action="store_true", help="for a script")
        add_minor(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Print the report; exit with 1 when a SYNCFS failed, was not answered or a superblock was left out."""
        trace = Trace.open(arguments.file, minor=arguments.minor)
        if trace.records.count:
            trace.now_ns = live_now_ns(trace.file.finished, int(trace.records["t_ns"][-1]))
        report = sync_report(trace)
        if arguments.json:
            print(orjson.dumps(sync_json(report), option=orjson.OPT_INDENT_2).decode())
        else:
            for line in sync_lines(report, Painter.for_stream()):
                print(line)
        say_caveats(trace)
        return Exit.FINDING if report.has_finding else Exit.FINE
