"""fusewire lab: boot a small guest with virtiofs, run a scenario in it, and judge what the tap recorded."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import orjson

from tracer.cli.command import Exit, number_from, say
from tracer.errors import TracerError
from tracer.lab.archive import Unavailable
from tracer.lab.daemons import DAEMONS
from tracer.lab.kernels import SERIES
from tracer.lab.run import equipment, run
from tracer.lab.scenario import Scenario, Variant
from tracer.lab.scenarios import SCENARIOS, scenario
from tracer.lab.verdict import Verdict, verdict_json, verdict_lines
from tracer.output.style import Painter

ALL = "all"
DEFAULT = "submount-sync"
DIRECTORY = Path("fusewire-lab")


class Lab:
    """Reproduce sync over submounts in a virtual machine."""

    name = "lab"
    help = "boot a small guest with virtiofs, and see what sync does there"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = "fusewire lab [SCENARIO ...] [options]"
        names = f"what to run, or {ALL} (default: {DEFAULT}); --list names them"
        parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=names)
        parser.add_argument("--list", action="store_true", help="name every scenario, and run none")
        parser.add_argument(
            "--kernel", choices=tuple(SERIES), default="6.1", help="the guest's, fetched from Debian (default: 6.1)"
        )
        parser.add_argument(
            "--daemon", choices=tuple(DAEMONS), default="", help="the virtiofsd written in C or in Rust"
        )
        parser.add_argument(
            "--scale", type=number_from(1), default=1, metavar="N", help="do N times as much, where a scenario can"
        )
        parser.add_argument("--no-event-idx", action="store_true", help="withhold EVENT_IDX: a notification a message")
        parser.add_argument(
            "-o",
            "--output",
            type=Path,
            default=DIRECTORY,
            metavar="DIR",
            help=f"where trace and logs go, in a directory a scenario (default: {DIRECTORY})",
        )
        parser.add_argument("--json", action="store_true", help="for a script")

    def run(self, arguments: argparse.Namespace) -> int:
        """Run scenarios in turn; exit with 1 when a promise does not hold, else with 2 when a scenario cannot run."""
        if arguments.list:
            for one in SCENARIOS:
                print(f"{one.name:<20}{one.summary}")
            return Exit.FINE
        chosen, verdicts = _chosen(arguments.scenarios), list[Verdict]()
        variant = Variant(arguments.kernel, arguments.daemon, not arguments.no_event_idx, arguments.scale)
        with _unwinding_on_signals():
            for verdict in _verdicts(chosen, variant, arguments.output):
                verdicts.append(verdict)
                if not arguments.json:
                    for line in verdict_lines(verdict, Painter.for_stream()):
                        print(line, flush=True)
        if arguments.json:
            print(orjson.dumps([verdict_json(verdict) for verdict in verdicts], option=orjson.OPT_INDENT_2).decode())
        if not all(verdict.holds for verdict in verdicts):
            return Exit.FINDING
        return Exit.FINE if len(verdicts) == len(chosen) else Exit.USAGE


def _verdicts(chosen: list[Scenario], variant: Variant, output: Path) -> Iterator[Verdict]:
    """Yield the verdict on each scenario that can run here; Unavailable when none can, or the only one cannot."""
    equipment(variant)
    for one in chosen:
        try:
            yield _judged(one, variant, output / one.name)
        except Unavailable as reason:
            if len(chosen) == 1:
                raise
            say(f"{one.name} cannot run here: {reason}")  # the others may


def _chosen(names: list[str]) -> list[Scenario]:
    """Return the scenarios that were asked for; TracerError when there is no such."""
    return list(SCENARIOS) if ALL in names else [scenario(name) for name in names or [DEFAULT]]


def _judged(one: Scenario, variant: Variant, directory: Path) -> Verdict:
    """Run a scenario, and leave its verdict beside its trace."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TracerError(f"cannot make {directory}: {error.strerror}", "give another directory with -o") from None
    verdict = run(one, variant, directory, say)
    (directory / "verdict.json").write_bytes(orjson.dumps(verdict_json(verdict), option=orjson.OPT_INDENT_2))
    return verdict


@contextmanager
def _unwinding_on_signals() -> Iterator[None]:
    """End on a signal as on an exception, so that guest, daemon and tap are gone before we are."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def unwind(number: int, _: FrameType | None) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)  # clearing away takes a moment, and is not to be interrupted
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, unwind) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
