"""The arguments of a replay, and what they mean: options, a server that is reached, a sandbox around it."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from replays.init import InitEdit
from replays.judging.rules import RuleSet
from replays.options import Order, ReplayOptions
from replays.playing.edits import load_edit
from replays.stores.sandbox import Sandbox
from replays.transports.base import ServerGone, Transport
from replays.transports.launcher import AUTO, TRANSPORTS, Launched, launch
from replays.transports.vhost_daemon import connected
from replays.transports.vhost_user import VhostUserTransport
from tracer.cli.command import number_from, say
from tracer.cli.recording import check_output
from tracer.errors import TracerError
from tracer.output.style import escape_text
from tracer.store.writer import TraceWriter

RUN_BY_HAND = "run it by hand with the same words to see what it says"
LARGEST_ID = 0xFFFF_FFFE  # of a user or group; the one above it means none
PACES = ("fast", "original")
ENDING = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Target:
    """What to play against: a server to start, or a daemon that listens at a socket already."""

    server: tuple[str, ...]
    socket: Path | None
    transport: str
    sandbox: Path | None


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare what to play against."""
    target = parser.add_argument_group(
        "what to play against",
        "-- SERVER ARGS starts this server, written as you would start it in the foreground; nothing is mounted.",
    )
    target.add_argument("--vhost-user", type=Path, metavar="SOCK", help="instead: the virtiofsd that listens there")
    target.add_argument(
        "--transport",
        choices=(AUTO, *TRANSPORTS),
        default=AUTO,
        help="how to reach the server; auto (the default) tells it from the program, and says which",
    )
    target.add_argument(
        "--sandbox",
        type=Path,
        metavar="DIR",
        help="let the server find an overlay over DIR, where it has its files: DIR stays as it is, "
        "and what would have changed is told",
    )


def add_playing(parser: argparse.ArgumentParser) -> None:
    """Declare what is played, and how."""
    playing = parser.add_argument_group("what is played, and how")
    playing.add_argument("--allow-writes", action="store_true", help="play requests that change what is stored")
    playing.add_argument(
        "--channel", type=number_from(0), metavar="N", help="which mount of a trace that holds several"
    )
    playing.add_argument(
        "--order",
        choices=[order.value for order in Order],
        default=Order.CAUSAL.value,
        help="a request waits for all answers it came after in the recording (causal, the default), "
        "for every earlier one (serial), or only for what it needs (dependencies)",
    )
    playing.add_argument("--pace", choices=PACES, help="as fast as it goes (the default), or at the recorded times")
    playing.add_argument("--speed", type=float, metavar="N", help="at the recorded times, N times as fast")
    playing.add_argument(
        "--window", type=number_from(1), default=256, metavar="N", help="most requests under way (default: 256)"
    )
    playing.add_argument(
        "--init",
        metavar="CHANGES",
        default="",
        help="offer another kernel's INIT: minor=31,flags-=READDIRPLUS,flags+=SUBMOUNTS,max_readahead=65536",
    )
    playing.add_argument(
        "--zero-fill", action="store_true", help="play requests whose data the capture cut, with zeros for it"
    )
    playing.add_argument(
        "--no-learn",
        action="store_true",
        help="skip what is about nodes the recording does not introduce, instead of looking them up",
    )
    playing.add_argument(
        "--uid-map", type=id_pair, action="append", default=[], metavar="A=B", help="send user B where A was recorded"
    )
    playing.add_argument(
        "--gid-map", type=id_pair, action="append", default=[], metavar="A=B", help="send group B where A was recorded"
    )
    playing.add_argument(
        "--edit",
        metavar="EDIT",
        help="change or drop requests before they are sent: 'READ.size /= 2; LOOKUP: drop 1/10; WRITE: fuzz seed=7', "
        "or FILE.py:FUNCTION, bytes in, bytes or None out",
    )
    playing.add_argument(
        "--timeout", type=seconds, default=30.0, metavar="S", help="longest wait for any answer (default: 30)"
    )


def add_comparing(parser: argparse.ArgumentParser) -> None:
    """Declare how answers are compared, and where the outcome goes."""
    comparing = parser.add_argument_group("how answers are compared, and where the outcome goes")
    comparing.add_argument("--rules", action="store_true", help="list what is compared and what is not, and end")
    comparing.add_argument(
        "--ignore", action="append", default=[], metavar="RULE", help="let this rule not count (may be repeated)"
    )
    comparing.add_argument("--strict", action="store_true", help="let rules count that usually do not: times, inodes")
    comparing.add_argument(
        "--max-diffs", type=number_from(1), metavar="N", help="end after N differences that follow from no other"
    )
    comparing.add_argument(
        "--compare-tree", nargs=2, type=Path, metavar=("A", "B"), help="afterwards compare two directories"
    )
    comparing.add_argument("-o", "--output", type=Path, metavar="LIVE", help="write the live dialogue as a trace")
    comparing.add_argument("--json", action="store_true", help="for a script")


def id_pair(text: str) -> tuple[int, int]:
    """Read "1000=0", two users or groups."""
    words = text.split("=")
    if len(words) != 2 or not all(word.isascii() and word.isdigit() and int(word) <= LARGEST_ID for word in words):
        raise argparse.ArgumentTypeError(f"{text!a} is no pair of numbers: write 1000=0")
    return int(words[0]), int(words[1])


def seconds(text: str) -> float:
    """Read a time to wait, more than none and no more than a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!a} is no number of seconds above 0, up to a day")
    return value


def options_of(arguments: argparse.Namespace) -> ReplayOptions:
    """Return what the arguments ask for; TracerError for what cannot be."""
    RuleSet(arguments.ignore)
    return ReplayOptions(
        channel=arguments.channel,
        order=Order(arguments.order),
        speed=_speed(arguments),
        window=arguments.window,
        init=InitEdit.parse(arguments.init),
        allow_writes=arguments.allow_writes,
        zero_fill=arguments.zero_fill,
        learn=not arguments.no_learn,
        ignore=frozenset(arguments.ignore),
        strict=arguments.strict,
        max_differences=arguments.max_diffs,
        timeout_s=arguments.timeout,
        uids=dict(arguments.uid_map),
        gids=dict(arguments.gid_map),
        edit=load_edit(arguments.edit, allow_writes=arguments.allow_writes) if arguments.edit else None,
    )


def _speed(arguments: argparse.Namespace) -> float | None:
    if arguments.speed is None:
        return 1.0 if arguments.pace == "original" else None
    if arguments.pace is not None:
        raise TracerError("--pace and --speed say two things", "leave --pace out: --speed 1 is as recorded")
    if not 0 < arguments.speed <= 1e6:
        raise TracerError(f"--speed {arguments.speed:g} is no speed", "1 is as recorded, 2 twice as fast")
    return float(arguments.speed)


def target_of(arguments: argparse.Namespace) -> Target:
    """Return what to play against; TracerError when that is nothing, or two things."""
    server = tuple(arguments.server)
    if bool(server) == (arguments.vhost_user is not None):
        raise TracerError(
            "play against one server: a command or --vhost-user" if server else "say what to play against",
            "for example: fusewire replay FILE -- bindfs -f /srv /mnt",
        )
    if arguments.vhost_user is not None and (arguments.sandbox is not None or arguments.transport not in _DAEMON):
        other = "--sandbox" if arguments.sandbox is not None else f"--transport {arguments.transport}"
        raise TracerError(f"--vhost-user goes without {other}: that daemon runs already", "leave that out")
    return Target(server, arguments.vhost_user, arguments.transport, arguments.sandbox)


_DAEMON = (AUTO, "vhost-user")


def check_places(arguments: argparse.Namespace) -> None:
    """Refuse places that cannot be meant, before a server is started. TracerError."""
    if arguments.compare_tree is not None:
        if arguments.sandbox is not None:
            raise TracerError(
                "--compare-tree cannot see into a sandbox, which is gone when the replay has ended",
                "leave one of them out: a sandbox tells what changed by itself",
            )
        for path in arguments.compare_tree:
            if not path.is_dir():
                raise TracerError(f"{_shown(path)} is no directory", "--compare-tree A B needs two")
    if arguments.output is not None:
        check_output(arguments.output)
        if arguments.output.exists() and arguments.output.samefile(arguments.file):
            raise TracerError("the live dialogue cannot replace the recording it plays", "give another file with -o")


@contextmanager
def reached(target: Target, timeout_s: float) -> Iterator[tuple[Transport, Sandbox | None]]:
    """Start the server, or connect to it, and say how. The transport is for replay() to end; the sandbox ends here."""
    with ExitStack() as stack:
        sandbox = None
        if target.sandbox is not None:
            sandbox = stack.enter_context(Sandbox(target.sandbox))
        try:
            launched = _connected(target, sandbox, timeout_s)
        except ServerGone as gone:
            raise TracerError(str(gone), RUN_BY_HAND) from gone
        stack.callback(launched.transport.close)
        say(launched.how)
        yield launched.transport, sandbox


def _connected(target: Target, sandbox: Sandbox | None, timeout_s: float) -> Launched:
    if target.socket is not None:
        transport = VhostUserTransport(connected(target.socket), timeout_s=timeout_s)
        return Launched(transport, f"transport {transport.name}: the daemon at {_shown(target.socket)}")
    return launch(target.server, target.transport, overlay=None if sandbox is None else sandbox.overlay)


@contextmanager
def live_writer(path: Path | None) -> Iterator[TraceWriter | None]:
    """Open what the live dialogue is written to, where it is wanted."""
    if path is None:
        yield None
        return
    with TraceWriter(path, command=shlex.join(sys.argv)) as writer:
        yield writer


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us as ^C does: with the server ended and the sandbox removed."""

    def end(number: int, _: FrameType | None) -> None:
        for other in ENDING:  # timeout(1) sends its signal twice: the second would break the ending off
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)


def _shown(path: Path) -> str:
    return escape_text(os.fspath(path))
