"""sync(2) over submounts, in guests of two kernels with two daemons."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.lab.conftest import Ran, RunLab
from tracer.records import ChannelKind
from tracer.trace.pairing import State

pytestmark = pytest.mark.vm
VARIANTS = {
    "6.1-c": ("6.1", "c"),
    "6.1-rust": ("6.1", "rust"),
    "newest-c": ("newest", "c", "--no-event-idx"),
    "newest-rust": ("newest", "rust"),
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def ran(request: pytest.FixtureRequest, run_lab: RunLab) -> Ran:
    return run_lab("submount-sync", *request.param)


def test_every_promise_holds(ran: Ran) -> None:
    assert (ran.broken(), ran.status) == ([], 0)
    assert len(ran.verdict["findings"]) == 8


def test_each_superblock_gets_one_syncfs_of_one_sync_and_answers_it(ran: Ran) -> None:
    syncs = ran.syncs("sync")
    assert sorted(str(one.submount.path) for one in syncs) == ["b'/'", "b'/mnt1'", "b'/mnt2'"]
    assert len({one.submount.nodeid for one in syncs}) == 3
    assert {one.request.state for one in syncs} == {State.DONE}
    assert {one.request.error for one in syncs} == {0}
    assert len({one.request.pid for one in syncs}) == 1, "one process called sync"


def test_before_a_submount_is_entered_the_root_alone_is_asked(ran: Ran) -> None:
    (only,) = ran.syncs("early-sync")
    assert (only.submount.nodeid, only.submount.path) == (1, b"/")


def test_sync_of_one_file_system_asks_that_one_alone(ran: Ran) -> None:
    (only,) = ran.syncs("sync-one")
    assert only.submount.path == b"/mnt2"


def test_no_other_syncfs_was_sent_not_even_at_unmount(ran: Ran) -> None:
    named = [exchange.message.name for exchange in ran.trace.exchanges()]
    assert named.count("SYNCFS") == 5


def test_nothing_is_lost_and_the_trace_names_the_device(ran: Ran) -> None:
    assert (ran.trace.gaps, ran.trace.missing_uniques(), ran.trace.file.finished) == ([], [], True)
    (info,) = ran.trace.channels
    assert (info.name, info.kind) == ("virtiofs tag shared", ChannelKind.VIRTIOFS)


def test_the_verdict_lies_beside_the_trace(ran: Ran) -> None:
    assert json.loads((ran.directory / "verdict.json").read_text()) == ran.verdict
    assert (ran.directory / "console.log").read_text(errors="replace").count("THIS_IS_MNT") >= 2
    assert {path.name for path in ran.directory.iterdir()} == {
        "console.log", "daemon.log", "qemu.log", "record.log", "trace.pcapng", "verdict.json",
    }  # fmt: skip


def test_the_report_on_sync_names_every_submount_by_its_path(ran: Ran) -> None:
    words = [sys.executable, "-m", "tracer.cli.main", "sync", str(ran.directory / "trace.pcapng")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "5 SYNCFS, 5 answered with success" in ended.stdout
    for where in ("root node 1 /,", "/mnt1,", "/mnt2,"):
        assert where in ended.stdout
