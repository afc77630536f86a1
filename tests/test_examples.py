"""The trace that comes with the source is what README says it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tracer.analysis.sync import sync_report
from tracer.records import BridgeKind, ChannelKind
from tracer.trace.trace import Trace

ROOT = Path(__file__).parent.parent
EXAMPLE = Path("examples/submount-sync.pcapng")
MOST_BYTES = 100 << 10


def test_the_example_is_small_and_a_whole_recording_of_a_virtqueue() -> None:
    assert (ROOT / EXAMPLE).stat().st_size < MOST_BYTES
    trace = Trace.open(ROOT / EXAMPLE)
    assert (trace.file.finished, trace.gaps, trace.missing_uniques()) == (True, [], [])
    assert [info.kind for info in trace.channels] == [ChannelKind.VIRTIOFS]
    assert trace.record(0).bridge is BridgeKind.VHOST_USER


def test_its_sync_reached_the_root_and_both_submounts() -> None:
    (channel,) = sync_report(Trace.open(ROOT / EXAMPLE)).channels
    reached = {one.path: [request.succeeded for request in one.requests] for one in channel.submounts}
    assert reached == {b"/": [True, True], b"/mnt1": [True], b"/mnt2": [True, True]}


def test_readme_shows_what_the_command_prints() -> None:
    shown = re.search(rf"\$ fusewire sync {EXAMPLE}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    printed = subprocess.run(
        [sys.executable, "-m", "tracer.cli.main", "sync", str(EXAMPLE)],
        cwd=ROOT,
        env={**os.environ, "TZ": "UTC"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shown is not None
    assert shown[1] == printed.stdout
