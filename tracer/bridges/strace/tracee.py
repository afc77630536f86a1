"""Starting strace on a server, and letting go of it again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tracer.bridges.host import processes
from tracer.bridges.host.server import Log, ended_early, start_program
from tracer.errors import CaptureError

_YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
_ATTACH_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.005
_SETTLE_S: Final = 0.1
_STRACE_WORDS: Final = re.compile(r"(?:\S*/)?strace: (?:attach: )?(.*)").match


class Tracee:
    """A server under strace. `server_pids` are those known so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Log, server_pids: Sequence[int]) -> None:
        self.process = process  # the server itself when it was launched, strace when it was attached
        self.log = log
        self.server_pids = list(server_pids)
        self._strace_fd = -1

    @property
    def has_strace(self) -> bool:
        """Whether strace was found, so that it can be told to let go."""
        return self._strace_fd >= 0

    def signal_strace(self, number: signal.Signals) -> None:
        """Send a signal to strace; nothing happens when it has ended."""
        if self._strace_fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._strace_fd, number)

    def hold(self, strace_pid: int) -> None:
        """Keep a handle on strace that cannot come to mean another process."""
        try:
            self._strace_fd = os.pidfd_open(strace_pid)
        except OSError:
            self._strace_fd = -1

    def outlived_strace(self) -> bool:
        """Tell whether the server runs on, untraced."""
        self.process.poll()  # a zombie would look alive
        return any(processes.is_alive(pid) for pid in self.server_pids)

    def exit_code(self) -> int:
        """Return how the process we started ended, negative for a signal; 0 when it did not."""
        try:
            return self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return 0

    def close(self) -> None:
        """Release what is held; the processes go on."""
        if self.process.poll() is None:
            threading.Thread(target=self.process.wait, name="server-reaper", daemon=True).start()
        if self._strace_fd >= 0:
            os.close(self._strace_fd)
            self._strace_fd = -1
        self.log.close()


def check_pid(pid: int) -> None:
    """Raise CaptureError when `pid` cannot be traced, as far as that can be told before trying."""
    status = processes.status(pid)
    if not status:
        raise CaptureError(f"there is no process {pid}", "find the server with: ps -e | grep -i fuse")
    if status.get("State", "").startswith(("Z", "X")):
        raise CaptureError(f"process {pid} has ended", "")
    if int(status.get("Tgid", pid)) == os.getpid():
        raise CaptureError("a process cannot trace itself", "give the pid of the FUSE server")
    tracer = processes.tracer_of(pid)
    if tracer:
        raise CaptureError(
            f"process {pid} is already traced by {tracer} ({processes.name(tracer)})",
            f"end that first: kill -INT {tracer}",
        )


def launch(command: Sequence[str]) -> Tracee:
    """Start a server under `strace -D`: our child is the server, strace detaches itself from us."""
    log = Log()
    process = start_program(command, log)
    tracee = Tracee(process, log, [process.pid])
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    while time.monotonic() < deadline:
        if tracer := processes.tracer_of(process.pid):
            tracee.hold(tracer)
            break
        if process.poll() is not None:  # already a daemon, or failed: strace is found by its command line, if it runs
            tracer = processes.find_by_argument(os.fsencode(command[list(command).index("-o") + 1]))
            if tracer:
                tracee.hold(tracer)
            break
        time.sleep(_POLL_S)
    return tracee


def start_untraced(argv: Sequence[str]) -> tuple[list[int], Log]:
    """Start a server that an ordinary user may not start under strace; return its processes once it serves a mount.

    A traced process gains no privilege from a setuid program, so fusermount3 could not mount (execve(2), ptrace(2)).
    Raises CaptureError when the server ends, or opens no device in time.
    """
    before = set(processes.holders())
    log = Log()
    process = start_program(argv, log)
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    last: list[int] = []
    while time.monotonic() < deadline:
        pids = [pid for pid in processes.holders() if pid not in before and processes.is_connected(pid)]
        if pids and pids == last:  # one that becomes a daemon goes on as another process, moments after it mounted
            return pids, log
        if process.poll():
            break
        last = pids
        time.sleep(_SETTLE_S if pids else _POLL_S)
    error = start_error(argv, process.poll() or 0, log)
    log.close()
    raise error


def attach(command: Sequence[str], pids: Sequence[int], log: Log | None = None) -> Tracee:
    """Attach strace to servers. Raises CaptureError when it may not."""
    log = log or Log()
    process = start_program(command, log)
    tracee = Tracee(process, log, pids)
    tracee.hold(process.pid)
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    while process.poll() is None:
        if all(processes.tracer_of(pid) == process.pid for pid in pids):
            return tracee
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(_POLL_S)
    log.finish()
    error = _attach_error(pids[0], log.last_line)
    tracee.close()
    raise error


def start_error(argv: Sequence[str], code: int, log: Log) -> CaptureError:
    """Return what to tell a user whose server ended, with `code` (negative for a signal), before it served anything."""
    log.finish()
    if found := _STRACE_WORDS(log.last_line):
        return CaptureError(f"strace cannot trace here: {found[1]}", "in a container, add the capability SYS_PTRACE")
    if "strace -h" in log.last_line:  # its last word on an option that it does not know
        return CaptureError("strace does not know one of its options", "see what --strace-option gives it; strace -h")
    return ended_early(argv, code, log)


def _attach_error(pid: int, words: str) -> CaptureError:
    if not processes.status(pid):
        return CaptureError(f"process {pid} has ended", "")
    what = f"process {pid} ({processes.name(pid)}) may not be traced"
    try:
        scope = int(_YAMA.read_text())
    except (OSError, ValueError):
        scope = 0
    if scope >= 3:
        return CaptureError(what, "kernel.yama.ptrace_scope is 3: attaching is switched off until the next boot")
    if os.geteuid() != 0:
        return CaptureError(what, "run as root, or as the user of that process with sysctl kernel.yama.ptrace_scope=0")
    found = _STRACE_WORDS(words)
    reason = found[1] if found else words or "strace gives no reason"
    return CaptureError(f"{what}: {reason}", "in a container, add the capability SYS_PTRACE")
