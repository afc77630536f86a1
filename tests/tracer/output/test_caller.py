"""One wording of who called, for lists and reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tracer.dialogue import SYNCFS, Dialogue
from tracer.analysis.sync import sync_report
from tracer.output.caller import caller_text
from tracer.output.lines import Lines
from tracer.output.style import Painter
from tracer.output.sync_text import sync_lines
from tracer.trace.trace import Trace


@pytest.mark.parametrize(
    ("pid", "comm", "text"),
    [(7, "cp", "cp[7]"), (7, "", "pid 7"), (0, "kworker", "kworker"), (None, "cp", "cp[?]"), (0, "", "kernel"),
     (None, "", "nobody")],
)  # fmt: skip
def test_who_called_is_said_as_far_as_it_is_known(pid: int | None, comm: str, text: str) -> None:
    assert caller_text(pid, comm, "nobody") == text


def test_a_caller_whose_pid_was_cut_is_named_alike_in_list_and_report(tmp_path: Path) -> None:
    """32 bytes were kept, fuse_in_header.pid lies behind them; the bridge knew the name."""
    talk = Dialogue()
    talk.ask(SYNCFS, 1, bytes(8), comm=b"sync")
    talk.entries[-1] = talk.entries[-1]._replace(data=talk.entries[-1].data[:32])
    trace = Trace.open(talk.write_to(tmp_path / "cut.pcapng"))
    assert Lines(trace).line(0).who == "sync[?]"
    assert any("by sync[?]:" in line for line in sync_lines(sync_report(trace), Painter(False)))
