"""What a scenario is, what it is given to judge, and what it says.

A scenario is a module in `tracer/lab/scenarios/` with a `SCENARIO`, and a line in the table there. Its script runs in
the guest under `sh -e`, with these words of its own:

    step NAME      from here on things belong to the step NAME: they can be asked for by it afterwards
    mount_at DIR   mount the virtiofs device there

Nothing the guest asks of the daemon in a step is older than the step's beginning: the guest waits at `step` until the
host has noted the time, and done what the scenario has for it to do there (`Scenario.host`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracer.errors import CaptureError
from tracer.lab.daemons import Served, Service
from tracer.lab.kernels import Kernel
from tracer.lab.qemu import Machine
from tracer.trace.trace import Trace

TAG, TRACE = "shared", "trace.pcapng"
WAIT_S, LOOK_ROUND_S = 30.0, 0.05  # how long to wait for the trace to show something, how often to look
TIMEOUT_S = 120.0  # an emulated guest on a busy machine takes 20 s to boot


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise, whether it holds, and what was expected and found, in words for a person."""

    promise: str
    holds: bool
    words: str


@dataclass(frozen=True, slots=True)
class Variant:
    """What the user chooses: kernel series, daemon ("c", "rust", "" for any that is here), EVENT_IDX offered or not.

    `scale` is how many times as much a scenario does that can do more, the word $SCALE of its script.
    """

    kernel: str = "6.1"
    daemon: str = ""
    event_idx: bool = True
    scale: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of the script: when it began, on the clock of the trace, and what it printed."""

    name: str
    t_ns: int
    end_ns: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run left behind. `steps` are in the order of the script; the first one, "boot", is not its own."""

    directory: Path  # trace.pcapng, console.log, daemon.log, record.log, qemu.log
    trace: Trace
    steps: tuple[Step, ...]
    variant: Variant
    kernel: str  # as uname -r says
    daemon: str  # "c" or "rust"
    daemon_origin: str = ""  # in a few words

    def step(self, name: str) -> Step:
        """Return a step; KeyError when the guest did not come that far."""
        for one in self.steps:
            if one.name == name:
                return one
        raise KeyError(name)

    @property
    def daemon_log(self) -> str:
        """What the daemon said, every request among it unless the scenario asked for less."""
        return (self.directory / "daemon.log").read_text(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Live:
    """What the host may touch while the guest waits at a step."""

    directory: Path
    served: Served

    def trace(self) -> Trace:
        """Return the trace as it is now; `refresh` takes in what comes after."""
        return Trace.open(self.directory / TRACE)

    def trace_when(self, holds: Callable[[Trace], bool], timeout_s: float = WAIT_S) -> Trace:
        """Return the growing trace as soon as `holds` says yes to it; requests that are open have waited until now.

        Raises CaptureError when it does not in time.
        """
        trace, deadline, pause = self.trace(), time.monotonic() + timeout_s, threading.Event()
        while not holds(trace):
            if time.monotonic() > deadline:
                raise CaptureError("the trace does not show in time what the scenario waits for")
            pause.wait(LOOK_ROUND_S)
            trace.refresh()
            trace.now_ns = time.time_ns()
        return trace


Check = Callable[[Evidence], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done in a guest, with what, and how it is judged."""

    name: str
    summary: str  # one sentence
    script: str
    check: Check
    service: Service = field(default_factory=Service)
    submounts: tuple[str, ...] = ("mnt1", "mnt2")  # paths in the source; each holds THIS_IS_NAME
    machine: Machine = field(default_factory=Machine)
    host: Mapping[str, Callable[[Live], None]] = field(default_factory=dict)  # what to do when a step begins
    around_daemon: Callable[[Path], Sequence[str]] | None = None  # directory -> words in front of the daemon's command
    instead: Callable[[Kernel], Mapping[str, Path]] | None = None  # modules to insert in place of the kernel's own
    files: Callable[[], Mapping[str, bytes]] | None = None  # programs to put into the guest, by path
    timeout_s: float = TIMEOUT_S
