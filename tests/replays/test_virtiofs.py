"""Virtqueues and /dev/fuse in one: what was recorded of either is played on the other."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replays.init import InitEdit
from replays.options import ReplayOptions
from replays.replay import replay
from replays.report import ReplayReport
from replays.transports import vhost_user
from replays.transports.launcher import launch
from tests.conftest import MakeServer
from tests.e2e.recorder import PROGRAM
from tests.replays.test_replay import record
from tests.replays.transports import virtiofs
from tests.replays.trees import described
from tests.servers.base import seed
from tests.servers.real import PassthroughLl
from tests.tracer.dialogue import Dialogue
from tracer.records import BridgeKind, ChannelKind
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

pytestmark = [pytest.mark.e2e, pytest.mark.root]

DEADLINE_S = 20.0
EVERYTHING = ReplayOptions(allow_writes=True)


@pytest.fixture(params=virtiofs.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if (reason := virtiofs.why_not(request.param)) is not None:
        pytest.skip(reason)
    return str(request.param)


def check_expected(report: ReplayReport) -> None:
    """passthrough_ll has extended attributes here, and no RENAME2; virtiofsd it is the other way."""
    assert report.stopped == ""
    assert [(d.opcode, d.recorded, d.live) for d in report.firsts if d.rule == "error"] in ([], [(22, -61, -38)])
    assert {d.rule for d in report.firsts} <= {"error"}


@contextlib.contextmanager
def tapped(argv: list[str], listen: Path, out: Path) -> Iterator[None]:
    """Run a daemon with a recorder before its socket; the recorder listens at `listen`."""
    daemon = listen.with_name("daemon.sock")
    processes = [subprocess.Popen([*argv, f"--socket-path={daemon}"], stderr=subprocess.DEVNULL)]
    try:
        wait_for(daemon)
        command = [
            *PROGRAM,
            "record",
            "-o",
            str(out),
            "--snap",
            "all",
            "--vhost-user",
            str(listen),
            "--daemon",
            str(daemon),
        ]
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        wait_for(listen)
        yield
        assert processes[1].wait(DEADLINE_S) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait(DEADLINE_S)


def wait_for(path: Path) -> None:
    end = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_dev_fuse_recording_is_played_on_a_virtqueue_and_what_the_tap_overhears_is_played_back(
    kind: str, make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(PassthroughLl, "recorded")
    trace = record(server, tmp_path / "t.pcapng", "tree")
    store = tmp_path / "store"
    seed(store)
    with tapped(virtiofs.argv(kind, store), tmp_path / "vm.sock", tmp_path / "tap.pcapng"):
        check_expected(replay(trace, vhost_user.connect(tmp_path / "vm.sock"), EVERYTHING))
    assert described(store) == described(server.source)
    tap = Trace.open(tmp_path / "tap.pcapng")
    assert tap.channels[0].kind is ChannelKind.VIRTIOFS
    assert tap.record(0).bridge is BridgeKind.VHOST_USER
    fresh = make_server(PassthroughLl, "fresh")
    back = replay(tap, launch(fresh.command(Path("/nowhere"))).transport, EVERYTHING)
    assert (back.stopped, {d.rule for d in back.firsts}) in [("", set()), ("", {"error"})]
    assert described(fresh.source) == described(server.source)


def test_syncfs_of_each_submount_is_asked_and_answered_alike_by_both_daemons(tmp_path: Path) -> None:
    for each in virtiofs.KINDS:
        if (reason := virtiofs.why_not(each)) is not None:
            pytest.skip(reason)
    dialogue = Dialogue()
    dialogue.init()
    for name, node in ((b"mnt1", 50), (b"mnt2", 60)):
        dialogue.lookup(1, name, node, submount=True)
        dialogue.syncfs(node)
    dialogue.syncfs(1)
    dialogue.talk(44, 1, b"")  # cut short: never to be sent
    made = dialogue.trace(tmp_path)
    announced = InitEdit.parse("minor=36,flags+=SUBMOUNTS")
    with virtiofs.share(tmp_path) as source:
        with TraceWriter(tmp_path / "c.pcapng") as sink:
            first = replay(
                made, vhost_user.launch(virtiofs.argv("c", source)), ReplayOptions(live=sink, init=announced)
            )
        assert first.counts.skipped == {"MALFORMED": 1}
        assert "attribute-flags" not in {d.rule for d in first.differences}
        recorded = Trace.open(tmp_path / "c.pcapng")
        assert [child for _, child in recorded.submounts][1:] != []
        second = replay(recorded, vhost_user.launch(virtiofs.argv("rust", source)), ReplayOptions(init=announced))
    assert (second.stopped, second.differences) == ("", ())
    assert second.counts.same == second.counts.compared == 5
