"""The benchmark of the socket transports runs: what it measures cannot rot unseen. No figure is asserted here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.replay_socket import SERVERS
from tests.unprivileged import ROOT


def test_every_server_and_work_is_measured() -> None:
    for kind, _ in SERVERS:
        if (reason := kind.lacks()) is not None:
            pytest.skip(reason)
    words = ["--rounds", "1", "--count", "300", "--no-save", "--directory", "/tmp"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.replay_socket", *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ") and "in flight" not in line]
    assert len(rows) == 6 * len(SERVERS)
