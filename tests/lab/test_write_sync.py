"""dd, then sync, with and without a writeback cache."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Ran, RunLab
from tracer.lab.judging import channel_report

pytestmark = pytest.mark.vm
MIB = 1 << 20


@pytest.fixture(scope="module", params=["c", "rust"])
def through(request: pytest.FixtureRequest, run_lab: RunLab) -> Ran:
    return run_lab("write-sync", "6.1", request.param)


def test_every_promise_holds_of_a_guest_that_writes_through(through: Ran) -> None:
    assert (through.broken(), through.status) == ([], 0)
    assert len(through.verdict["findings"]) == 6


def test_each_submount_has_its_own_bytes_at_risk_until_its_syncfs(through: Ran) -> None:
    risks = {
        sync.submount.path: (sync.request.risk_before_bytes, sync.request.risk_after_bytes)
        for sync in through.syncs("sync")
    }
    assert risks == {b"/": (MIB, 0), b"/mnt1": (4 * MIB, 0), b"/mnt2": (2 * MIB, 0)}
    left = {submount.path: submount.unsynced_bytes for submount in channel_report(through.trace).submounts}
    assert left == {b"/": 0, b"/mnt1": 0, b"/mnt2": MIB}


@pytest.mark.parametrize(("kernel", "daemon", "promises"), [("6.1", "c", 8), ("6.1", "rust", 8), ("newest", "c", 5)])
def test_every_promise_holds_of_a_guest_that_writes_back(
    run_lab: RunLab, kernel: str, daemon: str, promises: int
) -> None:
    ran = run_lab("writeback-sync", kernel, daemon)
    assert (ran.broken(), ran.status) == ([], 0)
    assert len(ran.verdict["findings"]) == promises


def test_linux_6_1_sends_what_the_page_cache_has_before_syncfs(run_lab: RunLab) -> None:
    requests = {sync.submount.path: sync.request for sync in run_lab("writeback-sync", "6.1", "c").syncs("sync")}
    flushed = {path: (request.flushed_bytes, request.late_bytes) for path, request in requests.items()}
    assert flushed == {b"/": (MIB, 0), b"/mnt1": (4 * MIB, 0), b"/mnt2": (2 * MIB, MIB)}
    assert [request.open_writes for request in requests.values()] == [0, 0, 0]


def test_a_newer_linux_may_send_syncfs_first_and_what_came_later_stays_at_risk(run_lab: RunLab) -> None:
    channel = channel_report(run_lab("writeback-sync", "newest", "c").trace)
    for submount in channel.submounts:
        (request,) = submount.requests
        assert request.risk_before_bytes == request.flushed_bytes - request.open_write_bytes
        assert submount.unsynced_bytes == request.late_bytes + request.open_write_bytes
