"""Runs of `fusewire lab`, each once for all tests that look at it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tracer.lab.archive import Unavailable
from tracer.lab.judging import Synced, channel_report, syncs_in
from tracer.lab.run import equipment, own
from tracer.lab.scenario import Step, Variant
from tracer.lab.scenarios import scenario
from tracer.trace.trace import Trace

TIMEOUT_S = 180


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run left: how the command ended, what it printed with --json, and its trace."""

    status: int
    verdict: dict[str, Any]
    directory: Path
    trace: Trace

    def step(self, name: str) -> Step:
        (found,) = [step for step in self.verdict["steps"] if step["name"] == name]
        return Step(name, found["t_ns"], found["end_ns"], tuple(found["lines"]))

    def syncs(self, step: str) -> list[Synced]:
        return syncs_in(channel_report(self.trace), self.step(step))

    def broken(self) -> list[dict[str, Any]]:
        """Return the findings that do not hold."""
        return [finding for finding in self.verdict["findings"] if not finding["holds"]]


RunLab = Callable[..., Ran]


def skip_where_it_cannot_run(name: str, kernel: str, daemon: str) -> None:
    """Skip with the true reason where a program or a package is missing."""
    try:
        _, booted = equipment(Variant(kernel, daemon))
        own(scenario(name), booted, Path())
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def run_lab(tmp_path_factory: pytest.TempPathFactory) -> RunLab:
    """Return a function: a scenario, a kernel, a daemon and more options -> what its one run left."""
    runs: dict[tuple[str, ...], Ran] = {}

    def run(name: str, kernel: str = "6.1", daemon: str = "c", *options: str) -> Ran:
        key = (name, kernel, daemon, *options)
        if key not in runs:
            skip_where_it_cannot_run(name, kernel, daemon)
            out = tmp_path_factory.mktemp(name)
            words = ["lab", name, "--json", "-o", str(out), "--kernel", kernel, "--daemon", daemon, *options]
            ended = subprocess.run(
                [sys.executable, "-m", "tracer.cli.main", *words],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            assert ended.stdout, ended.stderr
            (verdict,) = json.loads(ended.stdout)
            directory = out / name
            runs[key] = Ran(ended.returncode, verdict, directory, Trace.open(directory / "trace.pcapng"))
        return runs[key]

    return run
