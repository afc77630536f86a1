"""Measure speed and memory on this machine: `python -m benchmarks`, which `make bench` runs.

Everything is bound to one processor and run several times; the table gives medians. Results are kept in
benchmarks/results: one file a day and machine, and latest.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.cases import CASES, Bench
from benchmarks.measure import pin
from benchmarks.report import Row, document, table
from tracer.trace.cache import OFF

RESULTS = Path(__file__).parent / "results"


def main(argv: list[str] | None = None) -> int:
    given = _arguments(argv)
    cpu = pin(given.cpu)
    os.environ[OFF] = "1"  # or the second run would open what the first kept
    about = machine.describe(cpu)
    for name, value in about:
        print(f"{name}: {value}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="fusewire-bench-", dir=given.directory) as directory:
        bench = Bench(Path(directory), given.runs, given.records, with_tshark=not given.no_tshark)
        rows: list[Row] = []
        for name in given.only or CASES:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            rows += CASES[name](bench)
    about.append(("load at the end", ", ".join(f"{value:.2f}" for value in os.getloadavg())))
    print("\n".join(table(rows)))
    if given.save:
        _save(given, rows, about)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000, help="messages in the trace (default: 1000000)")
    parser.add_argument("--runs", type=int, default=5, help="runs of which the median is taken (default: 5)")
    parser.add_argument("--only", action="append", choices=tuple(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--cpu", type=int, help="processor to be bound to (default: the last)")
    parser.add_argument("--directory", type=Path, help="where the traces are made, for a while; on a disk, not tmpfs")
    parser.add_argument("--no-tshark", action="store_true", help="do not run tshark beside it")
    parser.add_argument("--no-save", dest="save", action="store_false", help="print the table, keep no file")
    parser.add_argument("--quick", action="store_true", help="one run over few messages, to see that it works")
    given = parser.parse_args(argv)
    if given.quick:
        given.records, given.runs, given.save = 3000, 1, False
    return given


def _save(given: argparse.Namespace, rows: list[Row], about: list[tuple[str, str]]) -> None:
    """Write the day's file and latest.md; runs of single cases go to neither."""
    if given.only:
        print("only some cases were run: no file was written", file=sys.stderr)
        return
    date = datetime.now(UTC).date().isoformat()
    text = document(rows, about, given.runs, given.records, "python -m benchmarks", date)
    RESULTS.mkdir(exist_ok=True)
    for name in (f"{date}-{machine.short_name()}.md", "latest.md"):
        (RESULTS / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
