"""fusewire doctor: what can be captured here, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse
from dataclasses import asdict

import orjson

from tracer.cli.checks import Check, Verdict, run_checks
from tracer.cli.command import Exit
from tracer.output.style import Painter, Style

STYLES = {Verdict.GOOD: Style.PLAIN, Verdict.LIMITED: Style.WARNING, Verdict.MISSING: Style.ERROR}


class Doctor:
    """Say what can be captured here."""

    name = "doctor"
    help = "what can be captured here, and what is missing"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.add_argument("--json", action="store_true", help="for a script")

    def run(self, arguments: argparse.Namespace) -> int:
        """Print every check; exit with 1 when something is missing."""
        checks = run_checks()
        if arguments.json:
            facts = [{**asdict(check), "verdict": check.verdict.value} for check in checks]
            print(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode())
        else:
            for line in _lines(checks, Painter.for_stream()):
                print(line)
        return Exit.FINDING if any(check.verdict is Verdict.MISSING for check in checks) else Exit.FINE


def _lines(checks: list[Check], paint: Painter) -> list[str]:
    found = []
    for check in checks:
        found.append(f"{paint(f'{check.verdict.value:<8}', STYLES[check.verdict])}{check.name:<20}{check.fact}")
        if check.mend:
            found.append(f"{'':8}{'':20}{paint('mend: ' + check.mend, Style.WARNING)}")
    return found
