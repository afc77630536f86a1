"""fusewire show: a trace as lines, trees, JSON or columns."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import orjson

from dissectors.catalog import CATALOG
from tracer.cli.caveats import say_caveats
from tracer.cli.command import Exit, add_minor, number_from
from tracer.errors import TracerError
from tracer.output.documents import exchange_document, json_lines
from tracer.output.fields import fields_named, rows
from tracer.output.lines import Lines, heading, text_line, verbose_lines
from tracer.output.style import Painter
from tracer.trace.columns import Rows
from tracer.trace.trace import Trace

FORMATS = ("text", "json", "ndjson", "fields", "csv")
DEFAULT_FIELDS = (
    "fuse.time",
    "fuse.latency",
    "fuse.submount",
    "fuse.opcode",
    "fuse.path",
    "fuse.name",
    "fuse.error",
    "proc.comm",
)


class Show:
    """Print a trace."""

    name = "show"
    help = "print a trace, a line an exchange, or as JSON"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("file", type=Path, metavar="FILE", nargs="?")
        parser.add_argument("-Y", "--filter", default="", metavar="FILTER", help="show only what matches")
        parser.add_argument("-T", "--format", choices=FORMATS, default="text", help="output format (default: text)")
        parser.add_argument(
            "-e", "--field", action="append", default=[], metavar="FIELD", help="column of fields and csv"
        )
        verbose = "the whole tree of each message, with offsets; to JSON it adds names and offsets of every field"
        parser.add_argument("-V", "--verbose", action="store_true", help=verbose)
        parser.add_argument("-c", "--count", type=number_from(0), metavar="N", help="stop after N exchanges")
        parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="(default: auto)")
        parser.add_argument("--fields", action="store_true", help="list every field name and end")
        add_minor(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Open the trace and print what is asked for."""
        if arguments.fields:
            return _list_fields()
        if arguments.file is None:
            raise TracerError("which trace?", "fusewire show FILE")
        if arguments.field and arguments.format not in ("fields", "csv"):
            raise TracerError("-e chooses columns of -T fields and -T csv", "add -T fields")
        if arguments.verbose and arguments.format in ("fields", "csv"):
            raise TracerError("-V has no meaning for columns", "leave it out, or use -T text or -T json")
        chosen = None
        if arguments.filter:
            from tracer.filters import compile_filter  # its parser takes a tenth of the start: for those who filter

            chosen = compile_filter(arguments.filter)
        trace = Trace.open(arguments.file, minor=arguments.minor)
        numbers: Rows = np.arange(trace.exchange_count, dtype=np.int64)
        if chosen is not None:
            numbers = numbers[chosen.mask(trace, numbers)]
        if arguments.count is not None:
            numbers = numbers[: arguments.count]
        _PRINTERS[arguments.format](trace, numbers, arguments)
        say_caveats(trace)
        return Exit.FINE


def _list_fields() -> int:
    for field in CATALOG.values():
        print(f"{field.name:<44} {field.kind.value:<9} {field.doc}")
    return Exit.FINE


def _painter(arguments: argparse.Namespace) -> Painter:
    return Painter.for_stream() if arguments.color == "auto" else Painter(arguments.color == "always")


def _print_text(trace: Trace, numbers: Rows, arguments: argparse.Namespace) -> None:
    paint = _painter(arguments)
    write = sys.stdout.write
    write(heading(paint) + "\n")
    for line in Lines(trace).lines(numbers):
        write(text_line(line, paint) + "\n")
        if arguments.verbose:
            for detail in verbose_lines(trace.exchange(line.number), paint):
                write(detail + "\n")


def _print_json(trace: Trace, numbers: Rows, arguments: argparse.Namespace) -> None:
    out = sys.stdout.buffer
    sys.stdout.flush()
    separator = b"[\n"
    for lines in _json_lines(trace, numbers, arguments.verbose):
        out.write(separator + b",\n".join(lines))
        separator = b",\n"
    out.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _print_ndjson(trace: Trace, numbers: Rows, arguments: argparse.Namespace) -> None:
    out = sys.stdout.buffer
    sys.stdout.flush()
    for lines in _json_lines(trace, numbers, arguments.verbose):
        out.write(b"\n".join(lines) + b"\n")


def _json_lines(trace: Trace, numbers: Rows, verbose: bool) -> Iterable[list[bytes]]:
    if not verbose:
        return json_lines(trace, numbers)
    return ([orjson.dumps(exchange_document(trace, number))] for number in numbers.tolist())


def _print_fields(trace: Trace, numbers: Rows, arguments: argparse.Namespace) -> None:
    fields = fields_named(arguments.field or DEFAULT_FIELDS)
    for row in rows(trace, numbers.tolist(), fields):
        sys.stdout.write("\t".join(row) + "\n")


def _print_csv(trace: Trace, numbers: Rows, arguments: argparse.Namespace) -> None:
    fields = fields_named(arguments.field or DEFAULT_FIELDS)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([field.name for field in fields])
    writer.writerows(rows(trace, numbers.tolist(), fields))


_PRINTERS = {
    "text": _print_text,
    "json": _print_json,
    "ndjson": _print_ndjson,
    "fields": _print_fields,
    "csv": _print_csv,
}
