"""A server as a process of ours: started so that it ends with us, told about when it ends, ended in any case."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from replays.transports import confined
from replays.transports.base import Ending
from replays.transports.output import Output
from replays.transports.syscalls import abi_here
from tracer.bridges.host.server import check_server
from tracer.bridges.host.words import printable
from tracer.errors import TracerError

START_TIMEOUT_S: Final = 20.0
_HINTS: Final = {
    "seccomp": "the server's calls cannot be filtered: in a container, allow seccomp, or take off its own listener",
    "unshare": "a sandbox needs root, or user namespaces: sysctl user.max_user_namespaces must not be 0",
    "mount": "a sandbox needs an overlay: its place must be on a disk or tmpfs, not on an overlay as in a container",
}
_PATIENCE_S: Final = 1.0  # for a server whose device went away, and again after SIGTERM
_KILLED_TIMEOUT_S: Final = 5.0


class Overlay(NamedTuple):
    """Places of an overlay that a server finds over `source`: what it changes there goes to `upper` instead."""

    source: Path
    upper: Path
    work: Path


class ServerProcess:
    """A server that was started by `start`. Its exit code is told, and nothing is concluded from it.

    It is killed when the thread that started it ends (PR_SET_PDEATHSIG): start it from one that stays.
    """

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes], output: Output, listener: int) -> None:
        self.name = printable(os.fsencode(Path(argv[0]).name))
        self.pid = process.pid
        self.pidfd = os.pidfd_open(process.pid)  # readable once it has ended
        self.listener = listener  # of its seccomp filter, -1 when it has none; the caller's to close
        self._process = process
        self._output = output
        self._ending: Ending | None = None

    def has_ended(self, wait_s: float = 0.0) -> bool:
        """Tell whether the process we started has ended; others that it started may go on."""
        if self._ending is not None:
            return True
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        return bool(ended.poll(wait_s * 1000))

    def ended_well(self) -> bool:
        """Tell whether it has ended with 0, as the first process of a daemon does."""
        return self.has_ended() and self._peek() == 0

    def fate(self) -> str:
        """Return how it ended and its last line, for a message: 'ended with exit code 1, saying: "..."'."""
        code = self._peek()
        if code is None:
            return f"runs on{self._last_line(0.0)}"
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return f"{how}{self._last_line(_PATIENCE_S)}"

    def end(self) -> Ending:
        """End it and all of its process group; the caller has closed what it served, so it may go by itself."""
        if self._ending is None:
            how = self._end_in_steps()
            # Its process group's number cannot come to mean another one before it is waited for.
            self._signal_group(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # in the kernel, on a dead mount below it
                self._process.wait(_KILLED_TIMEOUT_S)
            os.close(self.pidfd)
            self._ending = Ending(self._process.returncode, how, "\n".join(self._output.lines(_PATIENCE_S)))
        return self._ending

    def _end_in_steps(self) -> str:
        if self.has_ended(_PATIENCE_S):
            return "by itself"
        self._signal_group(signal.SIGTERM)
        if self.has_ended(_PATIENCE_S):
            return "SIGTERM"
        return "SIGKILL"

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # a setuid helper of another user is in it
            os.killpg(self.pid, number)

    def _peek(self) -> int | None:
        """Return its exit code, negative for a signal, without waiting for it; None while it runs."""
        if self._ending is not None:
            return self._ending.status
        state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if state is None:
            return None
        return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status

    def _last_line(self, wait_s: float) -> str:
        lines = self._output.lines(wait_s)
        return f', saying: "{lines[-1]}"' if lines else ""


def start(
    argv: Sequence[str],
    *,
    descriptors: Sequence[int] = (),
    code: bytes = b"",
    listen: bool = False,
    overlay: Overlay | None = None,
    environment: Mapping[str, str] | None = None,
) -> ServerProcess:
    """Start a server that inherits `descriptors`, under the BPF program `code` and over `overlay` if there is one.

    It leads a process group of its own and is killed when we die. `environment` is its whole one; None: ours. Raises
    TracerError when it cannot be started.
    """
    check_server(argv)
    if code:
        _check_not_setuid(argv[0])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output = Output()
    with ours, theirs:
        helper = [sys.executable, "-I", "-S", confined.__file__, str(theirs.fileno()), *argv]
        process = subprocess.Popen(
            helper,
            stdin=subprocess.DEVNULL,
            stdout=output.to,
            stderr=output.to,
            pass_fds=(theirs.fileno(), *descriptors),
            env=environment,
            start_new_session=True,  # Ctrl-C in our terminal is for us: we end it in order
        )
        output.start()
        theirs.close()
        number = abi_here().calls["seccomp"] if code else 0
        places = b"\0".join(os.fsencode(place.absolute()) for place in overlay or ())
        ours.send(confined.ORDER.pack(os.getpid(), listen, number, len(places)) + places + code)
        ours.settimeout(START_TIMEOUT_S)
        try:
            listener = _outcome(ours, argv)
        except BaseException:
            ServerProcess(argv, process, output, -1).end()
            raise
    return ServerProcess(argv, process, output, listener)


def _outcome(control: socket.socket, argv: Sequence[str]) -> int:
    """Wait until it has become the server; return the listener, -1 when there is none."""
    listener = -1
    try:
        while True:
            content, descriptors, _, _ = socket.recv_fds(control, confined.MOST_BYTES, 1)
            if descriptors:
                listener = descriptors[0]
            elif content:
                raise _start_error(content, argv)
            else:
                return listener
    except TimeoutError:
        raise TracerError(f"{_shown(argv)} was not started within {START_TIMEOUT_S:g} s", "") from None


def _start_error(refusal: bytes, argv: Sequence[str]) -> TracerError:
    (code,) = confined.FAILURE.unpack_from(refusal)
    step = refusal[confined.FAILURE.size :].decode()
    if step == confined.EXEC:
        return TracerError(f"cannot start {_shown(argv)}: {os.strerror(code)}", "")
    hint = next((hint for words, hint in _HINTS.items() if step.startswith(words)), "")
    return TracerError(f"{step} is refused here: {os.strerror(code)}", hint)


def _check_not_setuid(program: str) -> None:
    status = program_path(program).stat()
    if status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid():
        raise TracerError(
            f"{_shown([program])} is setuid, and gains no rights under a filter of its system calls (NO_NEW_PRIVS)",
            "run the whole replay as the user that it would become",
        )


def program_path(program: str) -> Path:
    """Return where `program` is, as exec would find it; `program` itself when it is nowhere."""
    return Path(shutil.which(program) or program)


def _shown(argv: Sequence[str]) -> str:
    return printable(os.fsencode(argv[0]), 200)


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
