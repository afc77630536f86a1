"""One boot: daemon, tap and QEMU one after another, the guest followed to its end, all of it cleared away."""

from __future__ import annotations

import os
import select
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import CaptureError
from tracer.lab import children, qemu
from tracer.lab.console import DONE, FAILED, Console
from tracer.lab.daemons import Daemon, Served, serving
from tracer.lab.kernels import Kernel
from tracer.lab.recorder import Recorder, recording
from tracer.lab.scenario import TAG, TRACE, Live, Scenario, Step

START_S = 30.0
END_S = 10.0  # for the recorder to write the rest and the daemon to end, once the guest is gone
DEATH_S = 3.0  # for the guest to be gone when its daemon is
LAST_LINES = 3


@dataclass(frozen=True, slots=True)
class Parts:
    """What a guest is booted from."""

    daemon: Daemon
    around_daemon: Sequence[str]  # words in front of its command, of a program that runs it
    kernel: Kernel
    initrd: bytes
    event_idx: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went; `why` tells what kept the guest from its end, and is empty when nothing did."""

    steps: tuple[Step, ...]
    why: str
    recorder_status: int | None  # an Exit of the command line; None: it did not end in time


def boot(scenario: Scenario, parts: Parts, directory: Path) -> Ended:
    """Boot a guest, let it run the script, and leave trace and logs in `directory`.

    Raises CaptureError when daemon, tap or QEMU do not start. Whatever happens, nothing that was started is left.
    """
    lifetime_s = scenario.timeout_s + 2 * START_S
    with ExitStack() as stack:
        # a directory of its own: a socket's path must be short
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusewire-lab-")))
        (place / "initrd").write_bytes(parts.initrd)
        served = _start_daemon(stack, scenario, parts.daemon, place / "source", directory, lifetime_s)
        trace, log = directory / TRACE, directory / "record.log"
        recorder = stack.enter_context(recording(trace, TAG, place / "tap", served.socket, log, lifetime_s))
        recorder.wait_until_ready()
        guest, connection = _start_guest(stack, scenario, parts, place, directory, lifetime_s)
        live = Live(directory, served)
        with closing(
            Console(connection, directory / "console.log", lambda name: _act(scenario, name, live))
        ) as console:
            why = _follow(console, recorder, served, scenario.timeout_s)
        children.stop(guest, 0 if why else END_S)
        status = recorder.finish(END_S)
        children.stop(served.process, 0 if status is None else END_S)
    return Ended(tuple(console.steps), _told(console, why) if why else "", status)


def _start_daemon(
    stack: ExitStack, scenario: Scenario, daemon: Daemon, source: Path, directory: Path, lifetime_s: float
) -> Served:
    source.mkdir()
    around = scenario.around_daemon(directory) if scenario.around_daemon else ()
    return stack.enter_context(
        serving(
            daemon,
            source,
            scenario.service,
            directory / "daemon.log",
            submounts=scenario.submounts,
            around=around,
            lifetime_s=lifetime_s,
        )
    )


def _act(scenario: Scenario, step: str, live: Live) -> None:
    if step in scenario.host:
        scenario.host[step](live)


def _start_guest(
    stack: ExitStack, scenario: Scenario, parts: Parts, place: Path, directory: Path, lifetime_s: float
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start QEMU; return it and the guest's console."""
    listener = stack.enter_context(children.listener(place / "console"))
    features = () if parts.event_idx else ("event_idx=off",)
    devices = [*qemu.serial("console", place / "console"), *qemu.virtiofs(0, TAG, place / "tap", *features)]
    argv = qemu.command(scenario.machine, parts.kernel.image, place / "initrd", devices)
    log = directory / "qemu.log"
    with open(log, "wb") as said:
        guest = stack.enter_context(children.child(argv, said, lifetime_s=lifetime_s))
    return guest, _accepted(listener, guest, log)


def _accepted(listener: socket.socket, guest: subprocess.Popen[bytes], log: Path) -> socket.socket:
    """Return QEMU's end of the serial port, which it connects to before it starts the guest."""
    ended = os.pidfd_open(guest.pid)
    try:
        ready, _, _ = select.select([listener.fileno(), ended], [], [], START_S)
    finally:
        os.close(ended)
    if listener.fileno() not in ready:
        said = log.read_text(errors="backslashreplace").strip().splitlines()
        raise CaptureError("QEMU did not start" + (f": {said[-1]}" if said else ""), f"its words are in {log}")
    return listener.accept()[0]


def _follow(console: Console, recorder: Recorder, served: Served, timeout_s: float) -> str:
    """Serve the console until the guest is gone; return what kept it from its end, nothing when it came there."""
    deadline, daemon = time.monotonic() + timeout_s, os.pidfd_open(served.process.pid)
    late = f"it did not end within {timeout_s:.0f} s"
    try:
        with selectors.DefaultSelector() as selector:
            for file in (console, recorder, daemon):
                selector.register(file, selectors.EVENT_READ, file)
            while ready := selector.select(max(0.0, deadline - time.monotonic())):
                sources = [key.data for key, _ in ready]
                if recorder in sources and not recorder.take_in():
                    selector.unregister(recorder)
                if daemon in sources:
                    selector.unregister(daemon)
                    deadline, late = min(deadline, time.monotonic() + DEATH_S), "its daemon ended before it did"
                if console in sources and not console.take_in():
                    return "" if console.last_word == DONE else "it was gone"
    finally:
        os.close(daemon)
    return late


def _told(console: Console, why: str) -> str:
    """Return how a guest failed, in which step, and what it printed last."""
    if console.last_word.startswith(FAILED):
        why = f"a command ended with {console.last_word.removeprefix(FAILED).strip()}"
    step = next(one for one in reversed(console.steps) if not one.name.startswith(FAILED))
    said = f"; printed last: {' / '.join(step.lines[-LAST_LINES:])}" if step.lines else ""
    return f"{why}, in step {step.name}{said}"
