"""A virtiofs daemon of our own: started, and connected to.

virtiofsd, in C and in Rust, takes a listening socket by `--fd` or makes one by `--socket-path`, serves the first who
connects, and exits when they go.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from replays.transports.base import ServerGone
from replays.transports.process import Overlay, ServerProcess, start
from tracer.bridges.host.words import printable
from tracer.errors import TracerError

_CONNECT_TIMEOUT_S: Final = 1.0  # to a socket that listens
_LOOK_AGAIN_S: Final = 0.02  # for a socket that a daemon has yet to make


def connected(path: Path) -> socket.socket:
    """Return a connection to a daemon that listens at `path`. Raises TracerError."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_CONNECT_TIMEOUT_S)
    try:
        connection.connect(os.fspath(path))
    except OSError as error:
        connection.close()
        if isinstance(error, BlockingIOError | TimeoutError):
            raise TracerError(
                f"the daemon at {_shown(path)} is busy with somebody else", "it serves one connection, then ends"
            ) from None
        raise TracerError(
            f"cannot connect to {_shown(path)}: {error.strerror or error}", "start virtiofsd with --socket-path first"
        ) from None
    return connection


def started(
    argv: Sequence[str],
    timeout_s: float,
    overlay: Overlay | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[ServerProcess, socket.socket]:
    """Start a daemon and connect to it, wherever its words tell it to listen.

    Raises TracerError when it cannot be started, ServerGone when it ends, or has no socket within `timeout_s`.
    """
    path = _socket_path(argv)
    if path is None:
        return _listening(argv, overlay, environment)
    return _listening_at(argv, path, timeout_s, overlay, environment)


def _listening(
    argv: Sequence[str], overlay: Overlay | None, environment: Mapping[str, str] | None
) -> tuple[ServerProcess, socket.socket]:
    """Hand a socket over that listens already: nobody waits until the daemon has made one."""
    with tempfile.TemporaryDirectory(prefix="fusewire-") as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory) / "virtiofs"  # a directory of its own: nobody else may connect
        listener.bind(os.fspath(path))
        listener.listen(1)
        connection = connected(path)
        try:
            number = listener.fileno()
            words = [*argv, f"--fd={number}"]
            process = start(words, descriptors=(number,), overlay=overlay, environment=environment)
        except BaseException:
            connection.close()
            raise
    return process, connection


def _listening_at(
    argv: Sequence[str],
    path: Path,
    timeout_s: float,
    overlay: Overlay | None,
    environment: Mapping[str, str] | None,
) -> tuple[ServerProcess, socket.socket]:
    """Connect to the socket that the daemon makes, as soon as it is there."""
    if path.exists():
        raise TracerError(f"{_shown(path)} is there already", "remove it, or leave --socket-path out")
    process = start(argv, overlay=overlay, environment=environment)
    try:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            with contextlib.suppress(TracerError):
                return process, connected(path)
            if process.has_ended(_LOOK_AGAIN_S):
                raise ServerGone(f"{process.name} {process.fate()}")
        raise ServerGone(f"{process.name} made no socket within {timeout_s:g} s, and {process.fate()}")
    except BaseException:
        process.end()
        raise


def _socket_path(argv: Sequence[str]) -> Path | None:
    """Return where a daemon's own words tell it to listen; None when they do not."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option == "--fd":
            raise TracerError("fusewire hands the daemon its socket", "leave --fd out of its command")
        if option == "--socket-path":
            return Path(value if equals else following)
    return None


def _shown(path: Path) -> str:
    return printable(os.fsencode(path), 200)
