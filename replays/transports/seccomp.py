"""Servers that open /dev/fuse and mount by themselves: their system calls come to us (seccomp user notification).

Works for whatever asks the kernel: libfuse 2 and 3, Go, Rust, fuse-lite; with mount(2) or fsopen(2), by themselves or
through fusermount3; as an ordinary user. The server is not modified, and nothing is mounted.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from replays.transports.bpf import OUR_MOUNTS, WHOLE_REPLIES, program
from replays.transports.command import Command
from replays.transports.device import Device
from replays.transports.kernel_role import DEVICE, KernelRole
from replays.transports.notifier import Notifier
from replays.transports.process import START_TIMEOUT_S, Overlay, ServerProcess, program_path, start
from replays.transports.programs import is_go_fuse
from replays.transports.seqpacket import SocketTransport, pair
from replays.transports.syscalls import abi_here, check_notification
from tracer.errors import TracerError

NAME: Final = "seccomp"
# go-fuse opens this file of its mount and polls it, so that the Go runtime's own poll meets ENOSYS before it matters
_GO_FUSE_FILE: Final = ".go-fuse-epoll-hack"
_LOOK_S: Final = 0.1  # how often a server that starts is looked after


class _Supervisor:
    """Answers the server's calls in a thread, and holds what that needs, until it is closed."""

    def __init__(self, listener: int, theirs: socket.socket, place: Path) -> None:
        self.happened: SimpleQueue[str] = SimpleQueue()
        self.notifier = Notifier(listener)
        self.device = Device(theirs)
        self._role = KernelRole(self.notifier, abi_here(), self.device, place, self.happened)
        self._place = place
        self._end = os.eventfd(0)
        self._thread = threading.Thread(target=self._run, name="server-calls", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        ready = select.poll()
        ready.register(self.notifier.fd, select.POLLIN)
        ready.register(self._end, select.POLLIN)
        while True:
            events = dict(ready.poll())
            if self._end in events:
                return
            if not events[self.notifier.fd] & select.POLLIN:  # POLLHUP: nobody is left under the filter
                ready.unregister(self.notifier.fd)
            elif (call := self.notifier.receive()) is not None:
                self._role.answer(call)

    def close(self) -> None:
        """Stop answering; every further call of the server fails."""
        os.eventfd_write(self._end, 1)
        self._thread.join()
        os.close(self._end)
        self.notifier.close()
        self._role.close()
        shutil.rmtree(self._place, ignore_errors=True)


def connect(
    command: Command,
    timeout_s: float = START_TIMEOUT_S,
    overlay: Overlay | None = None,
    environment: Mapping[str, str] | None = None,
) -> SocketTransport:
    """Start a server on a directory of ours, and return once it has opened the device.

    TracerError when this machine cannot do it, or the server ends, goes to the background or opens nothing in time.
    """
    check_notification()
    code = program(abi_here(), WHOLE_REPLIES + OUR_MOUNTS)
    ours, theirs, most_bytes = pair()
    inode = os.fstat(theirs.fileno()).st_ino
    place = Path(tempfile.mkdtemp(prefix="fusewire-mount-"))
    if is_go_fuse(program_path(command.argv[0])):  # others may refuse a directory that is not empty
        (place / _GO_FUSE_FILE).touch()
    try:
        served = command.serving(str(place))
        process = start(served, code=code, listen=True, overlay=overlay, environment=environment)
    except BaseException:
        ours.close()
        theirs.close()
        shutil.rmtree(place, ignore_errors=True)
        raise
    supervisor = _Supervisor(process.listener, theirs, place)
    transport = SocketTransport(
        NAME,
        ours,
        most_bytes,
        process,
        inode,
        is_served=supervisor.notifier.in_use,
        release=supervisor.device.let_go,
        released=supervisor.close,
    )
    try:
        _wait_opened(supervisor, process, time.monotonic() + timeout_s, timeout_s)
    except BaseException:
        transport.close()
        raise
    return transport


def _wait_opened(supervisor: _Supervisor, process: ServerProcess, deadline: float, timeout_s: float) -> None:
    while time.monotonic() < deadline:
        with contextlib.suppress(Empty):
            if supervisor.happened.get(timeout=_LOOK_S) == "open":
                return
        if process.has_ended() and not (process.ended_well() and supervisor.notifier.in_use(_LOOK_S)):
            raise TracerError(
                f"{process.name} {process.fate()}, before it opened {DEVICE}",
                "start it once without fusewire, to see whether it can serve",
            )
    raise TracerError(
        f"{process.name} did not open {DEVICE} within {timeout_s:g} s, and {process.fate()}",
        "is it a FUSE server, and does it wait for something, a password say?",
    )
