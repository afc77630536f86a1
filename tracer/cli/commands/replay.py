"""fusewire replay: play a recorded kernel against a server, and say what differs."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from replays.reasons import Skip
from replays.recorded.plan import Plan
from replays.replay import plan_for, replay
from replays.report import ReplayReport
from replays.results import outcome
from replays.results.report_json import report_json
from replays.results.report_text import report_lines, rule_lines
from replays.results.terms import terms_of
from replays.stores.sandbox import Change
from replays.stores.tree import TreeComparison, compare_trees
from tracer.cli.caveats import say_caveats
from tracer.cli.command import Exit, add_minor, say
from tracer.cli.replaying import (
    add_comparing,
    add_playing,
    add_target,
    check_places,
    ended_in_order,
    live_writer,
    options_of,
    reached,
    target_of,
)
from tracer.errors import TracerError
from tracer.output.style import Painter, Style, byte_count, counted, escape_text
from tracer.trace.trace import Trace

MOST_CHANGES = 50  # of a sandbox that are printed; JSON holds all


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """Everything a run came to. `changes` and `trees` are None where nobody asked."""

    plan: Plan
    report: ReplayReport
    changes: list[Change] | None
    trees: TreeComparison | None


class Replay:
    """Play a trace against a server."""

    name = "replay"
    help = "play a trace against any server, and say what differs"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        parser.usage = "fusewire replay FILE [options] (-- SERVER ARGS... | --vhost-user SOCK)"
        parser.epilog = (
            "Exit codes: 0 no difference, 1 differences (in answers or trees), 2 usage, bad input, a server that "
            "failed, or nothing to compare. 3 is not used: what a lossy recording lacks is said."
        )
        parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help="the recording")
        add_target(parser)
        add_playing(parser)
        add_comparing(parser)
        add_minor(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Replay, and print the report."""
        if arguments.rules:
            for line in rule_lines(Painter.for_stream()):
                print(line)
            return Exit.FINE
        if arguments.file is None:
            raise TracerError("which trace?", "fusewire replay FILE -- SERVER ARGS")
        with ended_in_order():
            played = _play(arguments)
        if arguments.json:
            print(orjson.dumps(_json(played), option=orjson.OPT_INDENT_2).decode())
        else:
            for line in _lines(played, arguments):
                print(line)
        return _exit(played)


def _play(arguments: argparse.Namespace) -> Played:
    """Do everything that can be refused before a server is started; then play."""
    options, target = options_of(arguments), target_of(arguments)
    check_places(arguments)
    trace = Trace.open(arguments.file, minor=arguments.minor)
    plan = plan_for(trace, options)
    say_caveats(trace)
    with ExitStack() as stack:
        transport, sandbox = stack.enter_context(reached(target, options.timeout_s))
        with live_writer(arguments.output) as writer:
            report = replay(trace, transport, dataclasses.replace(options, live=writer), plan)
            if writer is not None:
                text = report_lines(report, terms_of(report, plan), Painter(False))
                outcome.write(report, arguments.file, writer, text)
        changes = None if sandbox is None else sandbox.changes()
    _say_ending(report, arguments)
    trees = None if arguments.compare_tree is None else compare_trees(*arguments.compare_tree)
    return Played(plan, report, changes, trees)


def _say_ending(report: ReplayReport, arguments: argparse.Namespace) -> None:
    """Say what failed, what the server said last, and what to do next."""
    if report.server_failed:
        hint = "" if arguments.output is not None else "\nto see what was said up to there: -o LIVE.pcapng"
        say(f"{report.stopped}{hint}")
        ending = report.ending
        if ending is not None and ending.output:
            say(f"the last of what the server printed:\n{ending.output}")
    elif not report.counts.compared:
        say("nothing was compared, so nothing is known of this server: the report says why nothing was played")
    if writes := report.counts.skipped.get(Skip.WRITES.name):
        how = "--allow-writes" + ("" if arguments.sandbox else ", or harmlessly with --sandbox DIR too")
        say(f"{counted(writes, 'request')} that would change files left out: play them with {how}")
    if arguments.output is not None:
        live = escape_text(os.fspath(arguments.output))
        say(f"the live dialogue is in {live}; to see it beside the recording: fusewire open {live}")


def _exit(played: Played) -> int:
    if played.report.server_failed or not played.report.counts.compared:
        return Exit.USAGE
    is_found = bool(played.report.firsts) or (played.trees is not None and played.trees.difference_count)
    return Exit.FINDING if is_found else Exit.FINE


# ---- text and JSON ---------------------------------------------------------------------------------------------------


def _lines(played: Played, arguments: argparse.Namespace) -> Iterator[str]:
    paint = Painter.for_stream()
    if played.changes is not None:
        yield from _change_lines(played.changes, paint)
        yield ""
    if played.trees is not None:
        yield from _tree_lines(played.trees, arguments.compare_tree, paint)
        yield ""
    yield from report_lines(played.report, terms_of(played.report, played.plan), paint)


def _change_lines(changes: list[Change], paint: Painter) -> Iterator[str]:
    yield paint("What the server would have changed", Style.HEADING)
    for change in changes[:MOST_CHANGES]:
        yield f"  {change.what:<8} {paint(change.path, Style.NAME)}" + (f", from {change.was}" if change.was else "")
    if len(changes) > MOST_CHANGES:
        yield f"  ... and {len(changes) - MOST_CHANGES} more"
    if not changes:
        yield "  nothing"


def _tree_lines(trees: TreeComparison, places: list[Path], paint: Painter) -> Iterator[str]:
    one, other = (escape_text(os.fspath(place)) for place in places)
    yield paint(f"{one} and {other}", Style.HEADING)
    for line in trees.lines():
        yield f"  {line}"
    same = f"{counted(trees.entry_count, 'name')} and {byte_count(trees.byte_count)} of content compared"
    found = counted(trees.difference_count, "difference") if trees.difference_count else "no difference"
    yield f"  {found} in {same}"


def _json(played: Played) -> dict[str, Any]:
    document = report_json(played.report, terms_of(played.report, played.plan))
    if played.changes is not None:
        document["sandbox"] = [
            {"what": change.what, "path": change.path, "was": change.was or None} for change in played.changes
        ]
    if played.trees is not None:
        trees = played.trees
        document["trees"] = {
            "entries": trees.entry_count,
            "bytes": trees.byte_count,
            "difference_count": trees.difference_count,
            "differences": [
                {"path": item.path, "what": item.what, "first": item.first, "second": item.second or None}
                for item in trees.differences
            ],
        }
    return document
