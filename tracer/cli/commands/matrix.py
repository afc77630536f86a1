"""fusewire matrix: one trace against many servers, and a table of what differs."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson

from replays.matrix import result
from replays.matrix.document import matrix_json
from replays.matrix.page import page
from replays.matrix.reading import chosen, read_spec
from replays.matrix.running import Run, run_matrix
from replays.matrix.text import matrix_lines, row_line
from replays.reasons import Skip
from tracer.cli.caveats import say_caveats
from tracer.cli.command import Exit, add_minor, number_from, say
from tracer.cli.replaying import ended_in_order
from tracer.errors import TracerError
from tracer.output.style import Painter, counted
from tracer.trace.trace import Trace

MOST_JOBS = 64


class Matrix:
    """Play a trace to many servers."""

    name = "matrix"
    help = "play a trace to many servers, and compare them in a table"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("file", type=Path, metavar="FILE", help="the trace")
        parser.add_argument("servers", type=Path, metavar="SERVERS.toml", help="what to play it to: docs/matrix.md")
        parser.add_argument("--source", type=Path, metavar="DIR", help="the files that each server gets a copy of")
        parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this server (may be repeated)")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            type=setting,
            metavar="NAME=VALUE",
            dest="variables",
            help="another value for one of the file's [variables] (may be repeated)",
        )
        parser.add_argument("--jobs", type=number_from(1), default=1, metavar="N", help="servers at once (default: 1)")
        parser.add_argument(
            "--channel", type=number_from(0), metavar="N", help="which mount, if the trace holds several"
        )
        add_minor(parser)
        out = parser.add_argument_group("what comes out")
        out.add_argument("--json", action="store_true", help="for a script")
        out.add_argument("--html", type=Path, metavar="FILE", help="write a page, with every exchange that differs")
        out.add_argument("--live", type=Path, metavar="DIR", help="keep what each server said, as traces")

    def run(self, arguments: argparse.Namespace) -> int:
        """Print the table; exit with 1 when a server differs or failed, with 2 when none was played."""
        spec = read_spec(arguments.servers, dict(arguments.variables))
        if arguments.source is not None:
            spec = replace(spec, source=arguments.source, make_source=())
        spec = replace(spec, servers=chosen(spec.servers, arguments.only))
        jobs = min(arguments.jobs, MOST_JOBS)
        run = Run(arguments.file, arguments.channel, arguments.minor, jobs, arguments.live)
        if arguments.html is not None:
            check_page(arguments.html, (arguments.file, arguments.servers))
        say_caveats(Trace.open(arguments.file, minor=arguments.minor))
        with ended_in_order():
            matrix = run_matrix(spec, run, on_row=lambda row: say(row_line(row)))
        if arguments.html is not None:
            write_page(arguments.html, matrix)
        if arguments.json:
            print(orjson.dumps(matrix_json(matrix), option=orjson.OPT_INDENT_2).decode())
        else:
            for line in matrix_lines(matrix, Painter.for_stream(), shutil.get_terminal_size((120, 40)).columns):
                print(line)
        return _ended(matrix)


def setting(text: str) -> tuple[str, str]:
    """Read NAME=VALUE; an argparse type."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!a} is not NAME=VALUE")
    return name, value


def _ended(matrix: result.Matrix) -> int:
    """Say what kept the matrix from telling more; return the exit code."""
    left_out = [row.report.counts.skipped.get(Skip.WRITES.name, 0) for row in matrix.rows if row.report is not None]
    if any(left_out):
        say(f"{counted(max(left_out), 'request')} that would change files left out: allow_writes = true plays them")
    if not left_out and not matrix.has_finding:
        say("no server was played, so nothing is known: the table says why")
        return Exit.USAGE
    return Exit.FINDING if matrix.has_finding else Exit.FINE


def check_page(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse a place that cannot take a page, before servers are run for it. TracerError."""
    if path.is_dir() or not path.parent.is_dir():
        raise TracerError(f"{path} cannot be written", "give a file in a directory that is there with --html")
    if any(path.exists() and one.exists() and path.samefile(one) for one in inputs):
        raise TracerError(f"the page would replace {path.name}", "give another file with --html")


def write_page(path: Path, matrix: result.Matrix) -> None:
    """Write the page; TracerError when that cannot be done."""
    try:
        path.write_text(page(matrix), encoding="utf-8")
    except OSError as error:
        raise TracerError(f"cannot write {path}: {error.strerror}", "give another file with --html") from error
