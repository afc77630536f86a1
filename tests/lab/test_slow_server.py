"""A server that is slow to answer SYNCFS, and one that never does, in the report and on the screen."""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import replace

import pytest

from tests.lab.conftest import Ran, RunLab, skip_where_it_cannot_run
from tests.tracer.tui.conftest import Ui, opened
from tracer.analysis.sync import sync_report
from tracer.lab.run import run
from tracer.lab.scenario import Live, Variant
from tracer.lab.scenarios.slow_server import STALLED
from tracer.lab.verdict import Verdict
from tracer.trace.pairing import State
from tracer.trace.trace import Trace
from tracer.tui.timeline_model import Outcome

pytestmark = pytest.mark.vm
SECOND_NS = 1_000_000_000
STALLED_FOR = "fuse.opcode == SYNCFS && fuse.pending_for > 2s"


@pytest.fixture(scope="module", params=["c", "rust"])
def slow(request: pytest.FixtureRequest, run_lab: RunLab) -> Ran:
    return run_lab("slow-server", "6.1", request.param)


def test_every_promise_of_a_slow_server_holds(slow: Ran) -> None:
    assert (slow.broken(), slow.status) == ([], 0)
    assert len(slow.verdict["findings"]) == 7


def test_each_syncfs_is_answered_after_its_second_and_none_before_the_last_one_is(slow: Ran) -> None:
    requests = [sync.request for sync in slow.syncs("sync")]
    assert len(requests) == 3
    assert min(request.latency_ns or 0 for request in requests) >= SECOND_NS
    starts = [request.t_ns for request in requests]
    assert min(later - earlier for earlier, later in itertools.pairwise(starts)) >= SECOND_NS


def test_what_was_written_to_a_submount_is_at_risk_until_its_own_syncfs_is_answered(slow: Ran) -> None:
    risks = {
        sync.submount.path: (sync.request.risk_before_bytes, sync.request.risk_after_bytes)
        for sync in slow.syncs("sync")
    }
    assert risks == {b"/": (0, 0), b"/mnt1": (4 << 16, 0), b"/mnt2": (0, 0)}


class Screens:
    """What the terminal UI shows of a guest's sync while it hangs, on the file that is being recorded."""

    def __init__(self) -> None:
        self.rows = self.fields = self.report = ""
        self.waited_ns: list[int] = []
        self.outcomes: set[int] = set()

    def look(self, live: Live) -> None:
        """Look while the guest waits at a step."""
        asyncio.run(self._look(live.trace()))

    async def _look(self, trace: Trace) -> None:
        async with opened(trace, size=(140, 40), follow=True, filter_text=STALLED_FOR) as ui:
            # nothing is recorded meanwhile: it is the time alone that lets the SYNCFS through the filter
            await ui.until(lambda: len(ui.main.list.listing) == 1)
            await ui.press("G")
            await self._wait_a_second(ui, trace)
            self.rows = ui.text
            await ui.press("s")
            await ui.until(lambda: "not answered" in ui.text)
            self.report = ui.text

    async def _wait_a_second(self, ui: Ui, trace: Trace) -> None:
        first = self._waits(trace)
        await ui.until(lambda: self._waits(trace) >= first + SECOND_NS)
        self.waited_ns = [first, self._waits(trace)]
        picture = ui.main.thread.model.picture(None, 100, trace.now_ns or 0)
        self.outcomes = {int(mark) for lane in picture.lanes for mark in lane.marks if mark}

    def _waits(self, trace: Trace) -> int:
        return int(trace.pending_ns().max())


@pytest.fixture(scope="module")
def screens() -> Screens:
    return Screens()


@pytest.fixture(scope="module")
def stalled(screens: Screens, tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    skip_where_it_cannot_run(STALLED.name, "6.1", "c")

    def watch(live: Live) -> None:
        STALLED.host["watch"](live)
        screens.look(live)

    scenario = replace(STALLED, host={**STALLED.host, "watch": watch})
    return run(scenario, Variant("6.1", "c"), tmp_path_factory.mktemp("stalled"), print)


def test_every_promise_of_a_stalled_server_holds(stalled: Verdict) -> None:
    assert [finding for finding in stalled.findings if not finding.holds] == []
    assert len(stalled.findings) == 8


def test_with_the_daemon_in_rust_it_is_the_same(run_lab: RunLab) -> None:
    ran = run_lab("stalled-server", "6.1", "rust")
    assert (ran.broken(), ran.status) == ([], 0)


def test_the_screen_shows_since_when_the_syncfs_waits_and_who_waits_while_it_does(
    stalled: Verdict, screens: Screens
) -> None:
    (request,) = sync_report(stalled.evidence.trace).requests
    waits = re.search(r"#\d+ SYNCFS · pending (\d+\.\d+)s", screens.rows)
    assert waits, screens.rows
    assert float(waits[1]) >= 2
    assert screens.waited_ns[1] - screens.waited_ns[0] >= SECOND_NS
    assert f"by pid {request.pid}: not answered, for" in screens.report
    assert Outcome.PENDING in screens.outcomes


def test_the_trace_is_closed_with_the_syncfs_unanswered(stalled: Verdict) -> None:
    trace = stalled.evidence.trace
    assert trace.file.finished
    assert [one.state for one in trace.exchanges() if one.message.name == "SYNCFS"] == [State.PENDING]
