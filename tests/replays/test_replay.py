"""A recorded kernel, played again against a fresh server: nothing differs, and the stores are the same afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dissectors.opcodes import op_name
from replays.options import Order, ReplayOptions
from replays.playing.livetrace import live_pairs
from replays.reasons import Skip
from replays.replay import replay
from replays.report import ReplayReport
from replays.transports.launcher import launch
from tests.conftest import MakeServer
from tests.e2e.recorder import launched
from tests.replays.trees import described
from tests.servers import workload
from tests.servers.real import Bindfs, PassthroughLl
from tracer.store.writer import TraceWriter
from tracer.trace.columns import Kind
from tracer.trace.trace import Trace

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def record(server: PassthroughLl, out: Path, kind: str, bridge: str = "ebpf") -> Trace:
    with server.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
        workload.run(running.mount_point, kind)
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()
    return Trace.open(out)


def play(trace: Trace, server: PassthroughLl, options: ReplayOptions) -> ReplayReport:
    return replay(trace, launch(server.command(Path("/nowhere"))).transport, options)


def check_same(report: ReplayReport) -> None:
    assert (report.stopped, report.differences) == ("", ())
    # A FORGET that crossed a LOOKUP of the same node gives nothing back: the kernel holds it still.
    skipped = dict(report.counts.skipped)
    assert skipped.keys() <= {Skip.STILL_HELD.name, Skip.NOTHING_HELD.name}
    assert report.counts.sent + sum(skipped.values()) == report.counts.planned
    assert report.counts.same == report.counts.compared > 0


# By strace's clocks a FORGET may come after its number was given out again: one by one, the two cannot be told apart.
@pytest.mark.parametrize(
    ("kind", "bridge", "orders"),
    [("parallel", "strace", (Order.CAUSAL, Order.DEPENDENCIES)), ("tree", "ebpf", tuple(Order))],
)
def test_what_one_server_was_told_a_fresh_one_answers_alike(
    kind: str, bridge: str, orders: tuple[Order, ...], make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(PassthroughLl, "recorded")
    trace = record(server, tmp_path / "t.pcapng", kind, bridge)
    for turn, order in enumerate(orders):
        fresh = make_server(PassthroughLl, f"fresh{turn}")
        check_same(play(trace, fresh, ReplayOptions(order=order, allow_writes=True)))
        assert described(fresh.source) == described(server.source)


def test_everything_a_file_system_is_for_is_played_and_the_live_dialogue_is_a_trace_beside_it(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server, fresh = make_server(PassthroughLl, "recorded"), make_server(PassthroughLl, "fresh")
    trace = record(server, tmp_path / "t.pcapng", "mixed")
    with TraceWriter(tmp_path / "live.pcapng") as sink:
        report = play(trace, fresh, ReplayOptions(allow_writes=True, live=sink))
    check_same(report)
    assert described(fresh.source) == described(server.source)
    live = Trace.open(tmp_path / "live.pcapng")
    assert (live_pairs(live) == report.pairs).all()
    assert len(report.pairs) == trace.exchange_count
    for recorded, played in report.pairs.tolist():
        ours, theirs = trace.exchange(recorded), live.exchange(played)
        assert (ours.message.name, ours.path, ours.state) == (theirs.message.name, theirs.path, theirs.state)


def test_a_poorer_server_is_played_as_a_kernel_would_and_what_it_lacks_is_noted(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """bindfs (libfuse 2): no READDIRPLUS, FLUSH or RENAME2, and 128 KiB at a time."""
    server, poorer = make_server(PassthroughLl, "recorded"), make_server(Bindfs, "poorer")
    trace = record(server, tmp_path / "t.pcapng", "tree")
    report = replay(trace, launch(poorer.command(Path("/nowhere"))).transport, ReplayOptions(allow_writes=True))
    assert (report.stopped, report.differences) == ("", ())
    assert {(note.rule, op_name(note.opcode)) for note in report.notes} >= {
        ("no-readdirplus", "READDIRPLUS"),
        ("enosys", "FLUSH"),
        ("enosys", "RENAME2"),
        ("splitting", "READ"),
    }
    assert described(poorer.source) == described(server.source)


def test_a_recording_that_began_late_is_played_from_there(make_server: MakeServer, tmp_path: Path) -> None:
    server, fresh = make_server(PassthroughLl, "recorded"), make_server(PassthroughLl, "fresh")
    whole = record(server, tmp_path / "t.pcapng", "stats")
    below_root = (whole.records["kind"] == Kind.REQUEST) & (whole.records["nodeid"] > 1)
    begin = int(np.flatnonzero(below_root[100:])[0]) + 100
    with TraceWriter(tmp_path / "late.pcapng") as sink:
        sink.channel(whole.channels[0])
        sink.records([whole.record(row) for row in range(begin, whole.records.count)])
    report = play(Trace.open(tmp_path / "late.pcapng"), fresh, ReplayOptions())
    assert (report.stopped, report.differences) == ("", ())
    assert report.counts.same == report.counts.compared > 0
    # The kernel knew these names, and never said them again.
    assert report.counts.skipped.keys() <= {Skip.NOTHING_HELD.name, Skip.UNKNOWN_NODE.name, Skip.UNKNOWN_HANDLE.name}
