"""The arguments that say what to record, and the bridge they mean. Shared by record and live."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from tracer.bridges.strace import Snap, StraceBridge
from tracer.cli.command import number_from
from tracer.errors import TracerError

SNAPS = {"headers": Snap.HEADERS, "listings": Snap.LISTINGS, "all": Snap.ALL}


def add_source(parser: argparse.ArgumentParser) -> None:
    """Declare what to record and how much of it."""
    source = parser.add_argument_group("what to record (one of)")
    source.add_argument("server", nargs="*", metavar="-- SERVER ARGS", help="start this server; INIT is seen")
    source.add_argument("--pid", type=number_from(1), help="attach to a running server")
    source.add_argument("--mount", type=Path, metavar="DIR", help="attach to the server of this mount")
    parser.add_argument(
        "--bridge", choices=("auto", "strace"), default="auto", help="how to overhear it (default: auto)"
    )
    parser.add_argument(
        "--snap",
        type=snap_bytes,
        default=SNAPS["headers"],
        metavar="N|headers|listings|all",
        help="bytes to keep of each message; headers (the default) keeps names and arguments, all keeps everything",
    )
    parser.add_argument(
        "--strace-option",
        action="append",
        default=[],
        metavar="OPT",
        help="give strace another option (may be repeated)",
    )


def snap_bytes(text: str) -> int:
    """Read a snap length: a word or a number of bytes, 0 for everything."""
    if text in SNAPS:
        return int(SNAPS[text])
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!a} is neither a number of bytes nor headers, listings or all")
    return int(text)


def bridge_of(arguments: argparse.Namespace, on_note: Callable[[str], None]) -> StraceBridge:
    """Return the bridge the arguments ask for. TracerError when they ask for none or for several."""
    server = [word for word in arguments.server if word != "--"] if arguments.server[:1] == ["--"] else arguments.server
    given = [bool(server), arguments.pid is not None, arguments.mount is not None]
    if sum(given) != 1:
        raise TracerError(
            "say what to record: a server, --pid or --mount" if not any(given) else "record one thing at a time",
            "for example: fusewire record -o trace.pcapng -- bindfs -f /srv /mnt",
        )
    return StraceBridge(
        server_argv=server or None,
        pid=arguments.pid,
        mount=arguments.mount,
        snap_bytes=arguments.snap,
        strace_options=tuple(arguments.strace_option),
        on_note=on_note,
    )
