"""Which way a server can be reached, told from its program, and the server started that way."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replays.transports import command, fd, seccomp, vhost_user
from replays.transports.base import Transport
from replays.transports.process import START_TIMEOUT_S, Overlay, program_path
from replays.transports.programs import is_go_fuse, needed_libraries
from tracer.bridges.host.server import check_server
from tracer.bridges.host.words import printable
from tracer.errors import TracerError

AUTO: Final = "auto"
VHOST_USER: Final = "vhost-user"
TRANSPORTS: Final = (fd.NAME, seccomp.NAME, VHOST_USER)
_LIBFUSE3: Final = "libfuse3.so."
_VIRTIOFSD: Final = "virtiofsd"


@dataclass(frozen=True, slots=True)
class Choice:
    """A transport for a server, and in a few words why this one."""

    transport: str
    reason: str


@dataclass(frozen=True, slots=True)
class Launched:
    """A server that was started, and one line on how it is reached, safe to show."""

    transport: Transport
    how: str


def choose(argv: Sequence[str], transport: str = AUTO) -> Choice:
    """Return how to reach the server; `transport` is AUTO or one of TRANSPORTS. TracerError when it is not there."""
    if transport != AUTO and transport not in TRANSPORTS:
        raise TracerError(f"there is no transport {transport!a}", f"one of: {', '.join((AUTO, *TRANSPORTS))}")
    check_server(argv)
    if transport != AUTO:
        return Choice(transport, "as you said")
    for word in argv:  # it may be started by another program: a dynamic loader, a wrapper
        if _VIRTIOFSD in (program := program_path(word)).name and os.access(program, os.X_OK) and program.is_file():
            return Choice(VHOST_USER, f"{printable(os.fsencode(program.name))} is a daemon of virtiofs")
    return _by_program(program_path(argv[0]))


def _by_program(program: Path) -> Choice:
    name = printable(os.fsencode(program.name))
    try:
        libfuse = next((library for library in needed_libraries(program) if library.startswith(_LIBFUSE3)), None)
        if libfuse is not None:
            return Choice(fd.NAME, f"{name} needs {libfuse}, which takes a connected descriptor for a mount point")
        if is_go_fuse(program):
            return Choice(fd.NAME, f"{name} has go-fuse in it, which takes a connected descriptor for a mount point")
    except PermissionError:
        return Choice(seccomp.NAME, f"{name} may be run and not read; this suits whatever mounts by itself")
    return Choice(seccomp.NAME, f"{name} is no program of libfuse 3 or go-fuse; this suits whatever mounts by itself")


def launch(
    argv: Sequence[str],
    transport: str = AUTO,
    timeout_s: float = START_TIMEOUT_S,
    overlay: Overlay | None = None,
    environment: Mapping[str, str] | None = None,
) -> Launched:
    """Start a server from its command, written as one would start it, and connect to it.

    A mount point in it, or {} in its place, is replaced by what the server is to serve. With `overlay`, which
    `replays.stores.sandbox` makes, the server finds that over its source. `environment` is its whole one; None: ours.
    Raises TracerError when this machine, the command or the server does not allow it, ServerGone when it ends meanwhile
    """
    choice = choose(argv, transport)
    how = f"transport {choice.transport}: {choice.reason}"
    if choice.transport == VHOST_USER:
        return Launched(vhost_user.launch(argv, timeout_s=timeout_s, overlay=overlay, environment=environment), how)
    parsed = command.parse(argv)
    how += f"; its mount point {parsed.mount_point} stays untouched"
    if choice.transport == fd.NAME:
        return Launched(fd.connect(parsed, overlay, environment), how)
    return Launched(seccomp.connect(parsed, timeout_s, overlay, environment), how)
