"""A server that answers SYNCFS with ENOSYS."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lab.conftest import Ran, RunLab

pytestmark = pytest.mark.vm
ENOSYS = 38


@pytest.fixture(scope="module", params=["c", "rust"])
def ran(request: pytest.FixtureRequest, run_lab: RunLab) -> Ran:
    return run_lab("old-server", "6.1", request.param)


def test_every_promise_holds(ran: Ran) -> None:
    assert (ran.broken(), ran.status) == ([], 0)
    assert len(ran.verdict["findings"]) == 9


def test_the_second_sync_sends_nothing(ran: Ran) -> None:
    (asked,) = ran.syncs("first-sync")
    assert asked.request.error == -ENOSYS
    assert ran.syncs("second-sync") == []
    assert "SYNCFS" not in {one.message.name for one in ran.trace.exchanges() if one.number > asked.request.exchange}


def test_the_report_says_why_and_what_is_at_risk(ran: Ran) -> None:
    words = [sys.executable, "-m", "tracer.cli.main", "sync", str(ran.directory / "trace.pcapng")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, "an ENOSYS is a finding"
    assert "sync(2) is a no-op on this connection since" in ended.stdout
    assert "left out: the ENOSYS that another superblock got is one for the whole connection" in ended.stdout
    assert ended.stdout.count("written 256.0 KiB, not yet synced at the end 256.0 KiB") == 2
