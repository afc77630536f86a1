"""A run: what is needed is found, a guest is booted, and what it left is judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tracer.lab import daemons, image, kernels, qemu
from tracer.lab.boot import Ended, Parts, boot
from tracer.lab.daemons import Daemon
from tracer.lab.kernels import Kernel
from tracer.lab.scenario import TAG, TRACE, Evidence, Finding, Scenario, Variant
from tracer.lab.verdict import Verdict
from tracer.output.style import counted
from tracer.trace.trace import Trace


def equipment(variant: Variant) -> tuple[Daemon, Kernel]:
    """Return what every scenario needs, fetched if need be; Unavailable with the first thing that is missing here."""
    qemu.program()
    daemon = daemons.daemon(variant.daemon)
    kernels.busybox()
    return daemon, kernels.kernel(variant.kernel)


class Own(NamedTuple):
    """What one scenario needs of its own."""

    instead: Mapping[str, Path]  # modules in place of the kernel's
    programs: Mapping[str, bytes]  # for the guest
    around: Sequence[str]  # words in front of the daemon's command


def own(scenario: Scenario, kernel: Kernel, directory: Path) -> Own:
    """Return it for a run into `directory`, built if need be; Unavailable with the first thing that is missing."""
    return Own(
        scenario.instead(kernel) if scenario.instead else {},
        scenario.files() if scenario.files else {},
        scenario.around_daemon(directory) if scenario.around_daemon else (),
    )


def run(scenario: Scenario, variant: Variant, directory: Path, on_note: Callable[[str], None]) -> Verdict:
    """Run a scenario into a directory that exists, and judge it.

    Raises Unavailable when something is missing here, CaptureError when daemon, tap or QEMU do not start.
    """
    daemon, kernel = equipment(variant)
    started = time.monotonic()
    needs = own(scenario, kernel, directory)
    on_note(f"{scenario.name}: booting Linux {kernel.release}")
    script = f"SCALE={variant.scale}\n{scenario.script}"
    initrd = image.image(kernel, kernels.busybox(), script, TAG, needs.instead, needs.programs)
    (directory / TRACE).unlink(missing_ok=True)  # a recorder to whom nothing is said keeps an older one
    patient = replace(scenario, timeout_s=scenario.timeout_s * variant.scale)
    ended = boot(patient, Parts(daemon, needs.around, kernel, initrd, variant.event_idx), directory)
    trace = Trace.open(directory / TRACE)
    evidence = Evidence(directory, trace, ended.steps, variant, kernel.release, daemon.name, daemon.origin)
    findings = tuple(_of_every_run(ended, trace))
    if not ended.why:
        findings += tuple(scenario.check(evidence))
    return Verdict(scenario, evidence, findings, time.monotonic() - started)


def _of_every_run(ended: Ended, trace: Trace) -> Iterator[Finding]:
    words = ended.why or f"{counted(len(ended.steps) - 2, 'step')}, every command succeeded"
    yield Finding("the guest runs the whole script", not ended.why, words)
    missing = sum(one.count for one in trace.missing_uniques())
    words = f"{counted(trace.records.count, 'record')}, {counted(len(trace.gaps), 'gap')}, {missing} uniques missing"
    yield Finding("the tap loses nothing", ended.recorder_status == 0 and not trace.gaps and not missing, words)
