"""Servers that take a connected descriptor for a mount point: `SERVER ... /dev/fd/N`, as libfuse 3 and go-fuse do.

Nothing is opened and nothing mounted, so it needs no privilege, and no /dev/fuse.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from replays.transports.bpf import NO_MOUNTS, WHOLE_REPLIES, program
from replays.transports.command import Command
from replays.transports.process import Overlay, start
from replays.transports.seqpacket import SocketTransport, pair
from replays.transports.syscalls import abi_here

NAME: Final = "fd"


def connect(
    command: Command, overlay: Overlay | None = None, environment: Mapping[str, str] | None = None
) -> SocketTransport:
    """Start a server on a socket of ours. TracerError when it cannot be started."""
    code = program(abi_here(), WHOLE_REPLIES + NO_MOUNTS)
    ours, theirs, most_bytes = pair()
    try:
        with theirs:  # with our copy open, the end of the server would not be seen
            number = theirs.fileno()
            inode = os.fstat(number).st_ino
            served = command.serving(f"/dev/fd/{number}")
            process = start(served, descriptors=(number,), code=code, overlay=overlay, environment=environment)
    except BaseException:
        ours.close()
        raise
    return SocketTransport(NAME, ours, most_bytes, process, inode)
