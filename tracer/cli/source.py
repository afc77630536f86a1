"""The arguments that say what to record, and the bridge they mean. Shared by record and live."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from dissectors.opcodes import OPS_BY_NAME
from tracer.bridges.choice import EitherBridge
from tracer.bridges.ebpf import EbpfBridge, Source
from tracer.bridges.host.processes import servers_of
from tracer.bridges.host.targets import find_mount
from tracer.bridges.host.words import printable
from tracer.bridges.strace import Snap, StraceBridge
from tracer.bridges.vhost_user import VhostUserBridge
from tracer.cli.command import number_from
from tracer.errors import CaptureError, TracerError
from tracer.records import Bridge

SNAPS = {"headers": Snap.HEADERS, "listings": Snap.LISTINGS, "all": Snap.ALL}
MIB = 1 << 20
RING_MIB, LARGEST_RING_MIB = 64, 1024
SOURCES = "(-- SERVER ARGS... | --pid PID | --mount DIR | --all | --vhost-user LISTEN --daemon SOCKET)"
Note = Callable[[str], None]


def add_source(parser: argparse.ArgumentParser) -> None:
    """Declare what to record and how much of it."""
    source = parser.add_argument_group("what to record (one of)")
    source.add_argument("server", nargs="*", metavar="-- SERVER ARGS", help="start this server; INIT is seen")
    source.add_argument("--pid", type=number_from(1), help="attach to a running server")
    source.add_argument("--mount", type=Path, metavar="DIR", help="attach to the connection of this mount")
    source.add_argument("--all", action="store_true", help="every FUSE connection of the host, also new ones (eBPF)")
    source.add_argument(
        "--vhost-user",
        type=listen_at,
        metavar="LISTEN",
        help="stand between a VMM, which connects here (a path, or fd:N that listens already), and virtiofsd",
    )
    source.add_argument("--daemon", type=Path, metavar="SOCKET", help="with --vhost-user: where virtiofsd listens")
    source.add_argument("--tag", metavar="TAG", help="with --vhost-user: the device's tag, which names the channel")
    parser.add_argument(
        "--bridge",
        choices=("auto", "ebpf", "strace"),
        default="auto",
        help="how to overhear it; auto (the default) is eBPF where it can be used, else strace",
    )
    parser.add_argument(
        "--snap",
        type=snap_bytes,
        default=SNAPS["headers"],
        metavar="N|headers|listings|all",
        help="bytes to keep of each message; headers (the default) keeps names and arguments, all keeps everything",
    )
    _add_ebpf(parser)
    parser.add_argument(
        "--strace-option",
        action="append",
        default=[],
        metavar="OPT",
        help="give strace another option (may be repeated)",
    )


def _add_ebpf(parser: argparse.ArgumentParser) -> None:
    ebpf = parser.add_argument_group("with eBPF")
    ebpf.add_argument(
        "--deliveries", action="store_true", help="record when servers read requests: queue wait, service"
    )
    ebpf.add_argument(
        "--no-syscalls", action="store_true", help="a little faster, without FORGET, INTERRUPT and notifications"
    )
    ebpf.add_argument("--opcodes", type=opcode_set, metavar="NAMES", help="only these requests: LOOKUP,SYNCFS")
    ebpf.add_argument("--caller", type=number_from(1), default=0, metavar="TID", help="only what this thread asks")
    ebpf.add_argument(
        "--ring",
        type=ring_mib,
        default=RING_MIB,
        metavar="MIB",
        help=f"size of the buffer in the kernel, a power of two (default: {RING_MIB}); 256 for whole payloads",
    )


def snap_bytes(text: str) -> int:
    """Read a snap length: a word or a number of bytes, 0 for everything."""
    if text in SNAPS:
        return int(SNAPS[text])
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!a} is neither a number of bytes nor headers, listings or all")
    return int(text)


def listen_at(text: str) -> Path | int:
    """Read where a VMM connects: a path, or fd: and the number of a descriptor."""
    before, _, number = text.partition(":")
    return int(number) if before == "fd" and number.isascii() and number.isdigit() else Path(text)


def ring_mib(text: str) -> int:
    """Read the size of the ring, in MiB."""
    size = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= size <= LARGEST_RING_MIB or size & (size - 1):
        raise argparse.ArgumentTypeError(f"{text!a} is no power of two from 1 to {LARGEST_RING_MIB}")
    return size


def opcode_set(text: str) -> frozenset[int]:
    """Read names of opcodes, parted by commas."""
    names = [word.strip().upper() for word in text.split(",") if word.strip()]
    unknown = [name for name in names if name not in OPS_BY_NAME]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{unknown[0] if unknown else text!a} is no opcode: write LOOKUP,SYNCFS")
    return frozenset(OPS_BY_NAME[name].code for name in names)


def bridge_of(arguments: argparse.Namespace, on_note: Note) -> Bridge:
    """Return the bridge the arguments ask for. TracerError when they ask for none or for several."""
    server = [word for word in arguments.server if word != "--"] if arguments.server[:1] == ["--"] else arguments.server
    given = [bool(server), *(getattr(arguments, name) is not None for name in ("pid", "mount", "vhost_user"))]
    if sum(given) + arguments.all != 1:
        raise TracerError(
            "record one thing at a time"
            if any(given)
            else "say what to record: a server, --pid, --mount, --all or --vhost-user",
            "for example: fusewire record -o trace.pcapng -- bindfs -f /srv /mnt",
        )
    if any(getattr(arguments, name) is not None for name in ("vhost_user", "daemon", "tag")):
        return _vhost_user(arguments, on_note)
    for_ebpf, for_strace = _only_ebpf(arguments), bool(arguments.strace_option)
    if for_ebpf and (for_strace or arguments.bridge == "strace"):
        raise TracerError(f"strace cannot do {for_ebpf}", "leave it out, or record with --bridge ebpf")
    if for_strace and arguments.bridge == "ebpf":
        raise TracerError("--strace-option is for --bridge strace", "leave it out, or record with --bridge strace")
    if arguments.bridge == "ebpf" or for_ebpf:
        return _ebpf(arguments, server, on_note)
    strace = _strace(arguments, server, on_note)
    if arguments.bridge == "strace" or for_strace:
        return strace
    return EitherBridge(_ebpf(arguments, server, on_note), strace, on_note)


def check_is_not_recorded(path: Path, arguments: argparse.Namespace) -> None:
    """Refuse a place for the trace that is recorded itself: each piece written would be one more to write, for ever."""
    try:
        mount = find_mount(str(path.parent), virtiofs=True)
    except CaptureError:  # on no FUSE mount
        return
    is_recorded = arguments.all
    if arguments.mount is not None:
        is_recorded = find_mount(str(arguments.mount), virtiofs=True).connection == mount.connection
    elif arguments.pid is not None:
        is_recorded = arguments.pid in servers_of(mount.connection)
    if is_recorded:
        raise TracerError(
            f"{path} lies on {printable(mount.mount_point.encode(errors='surrogateescape'), 200)}, which is to be "
            "recorded: writing the trace would be recorded too, for ever",
            "give a file on another file system with -o",
        )


def _only_ebpf(arguments: argparse.Namespace) -> str:
    """Return the first option that takes eBPF, empty when there is none."""
    options = {
        "--all": arguments.all,
        "--deliveries": arguments.deliveries,
        "--no-syscalls": arguments.no_syscalls,
        "--opcodes": arguments.opcodes,
        "--caller": arguments.caller,
    }
    return next((option for option, is_given in options.items() if is_given), "")


def _ebpf(arguments: argparse.Namespace, server: list[str], on_note: Note) -> EbpfBridge:
    return EbpfBridge(
        Source(tuple(server), arguments.pid, str(arguments.mount) if arguments.mount else ""),
        snap_bytes=arguments.snap,
        syscalls=not arguments.no_syscalls,
        deliveries=arguments.deliveries,
        ring_bytes=arguments.ring * MIB,
        opcodes=arguments.opcodes,
        caller=arguments.caller,
        on_note=on_note,
    )


def _strace(arguments: argparse.Namespace, server: list[str], on_note: Note) -> StraceBridge:
    return StraceBridge(
        server_argv=server or None,
        pid=arguments.pid,
        mount=arguments.mount,
        snap_bytes=arguments.snap,
        strace_options=tuple(arguments.strace_option),
        on_note=on_note,
    )


def _vhost_user(arguments: argparse.Namespace, on_note: Note) -> VhostUserBridge:
    if arguments.vhost_user is None or arguments.daemon is None:
        raise TracerError(
            "--vhost-user and --daemon go together",
            "for example: fusewire record -o trace.pcapng --vhost-user tap.sock --daemon virtiofsd.sock",
        )
    other = _only_ebpf(arguments) or ("--strace-option" if arguments.strace_option else "")
    if other or arguments.bridge != "auto":
        raise TracerError(f"--vhost-user goes without {other or '--bridge'}", "leave that out")
    return VhostUserBridge(
        arguments.vhost_user,
        arguments.daemon,
        snap_bytes=int(arguments.snap),
        tag=arguments.tag or "",
        on_note=on_note,
    )


def source_words(arguments: argparse.Namespace) -> list[str]:
    """Return what was given as the words of another command line, the server last."""
    words = ["--bridge", arguments.bridge, "--snap", str(arguments.snap), "--ring", str(arguments.ring)]
    words += [f"--strace-option={option}" for option in arguments.strace_option]
    for option in ("all", "deliveries", "no_syscalls"):
        words += [f"--{option.replace('_', '-')}"] if getattr(arguments, option) else []
    if arguments.opcodes:
        names = {op.code: name for name, op in OPS_BY_NAME.items()}
        words += ["--opcodes", ",".join(names[code] for code in sorted(arguments.opcodes))]
    listen = arguments.vhost_user
    if isinstance(listen, int):
        raise TracerError("a descriptor cannot be handed on", "give --vhost-user a path, or record and open the file")
    for option in ("caller", "pid", "mount", "vhost_user", "daemon", "tag"):
        value = getattr(arguments, option)
        words += [f"--{option.replace('_', '-')}", str(value)] if value else []
    return [*words, "--", *arguments.server] if arguments.server else words
