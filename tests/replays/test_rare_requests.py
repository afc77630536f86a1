"""What few programs ask, and what servers say unasked: recorded from a real mount, and played into a fresh server."""

from __future__ import annotations

import errno
import fcntl
import select
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from dissectors.opcodes import op_name
from examples.demo import mounts, possible
from replays.options import Order, ReplayOptions
from replays.reasons import Skip
from replays.replay import replay
from replays.report import ReplayReport
from replays.transports.launcher import launch
from tests.conftest import MakeServer
from tests.e2e.recorder import launched
from tests.servers import rare, syncing
from tests.servers.base import Running, Server
from tests.servers.memfs import Memfs, MemfsBlk
from tests.servers.memory import Memory, RingMemory
from tests.tracer.bridges.ebpf.possible import why_no_ebpf
from tracer.trace.trace import Trace

pytestmark = [pytest.mark.e2e, pytest.mark.root]

GIVEN_BACK = {"FORGET", "BATCH_FORGET"}  # when a kernel has room, and in other portions
# What the kernel said because the server asked, which the live server is told when it asks; and lookups that crossed.
HARMLESS = (Skip.RETRIEVED, Skip.STILL_HELD, Skip.NOTHING_HELD)
NOTIFIED = {"POLL": 1, "STORE": 1, "RETRIEVE": 2, "INVAL_INODE": 1, "INVAL_ENTRY": 1, "DELETE": 1}

SURPRISED = select.POLLIN | select.POLLOUT | select.POLLHUP


@pytest.fixture(params=["ebpf", "strace"])
def bridge(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    reason = why_no_ebpf() if name == "ebpf" else possible.why_no_program("strace", "strace")
    if reason:
        pytest.skip(reason)
    return name


def record(server: Memory, out: Path, bridge: str, kind: str = "everything") -> Trace:
    with server.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
        ended = mounts.run_child([sys.executable, rare.__file__, kind, running.mount_point], 60)
        assert ended.status == 0, ended.output.decode()
        if kind == "everything":
            wait_for_locks(server, running)
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()
    return Trace.open(out)


def wait_for_locks(server: Memory, running: Running) -> None:
    """Of three owners one has the lock, one gets it after that, and one is interrupted while it waits."""
    path = running.mount_point / "dir" / "inner.txt"
    with rare.locker(path) as first:
        assert rare.said(first) == "locked"
        with rare.locker(path) as second:
            server.await_held(1)
            with rare.locker(path) as third:
                server.await_held(2)
                third.send_signal(signal.SIGUSR1)
                assert rare.said(third) == "EINTR"
            first.communicate(timeout=20)
            assert rare.said(second) == "locked"


def play(trace: Trace, server: Server, order: Order = Order.CAUSAL) -> ReplayReport:
    reached = launch(server.command(Path("/nowhere")))
    return replay(trace, reached.transport, ReplayOptions(order=order, allow_writes=True))


def asked(server: Memory | Memfs) -> Counter[str]:
    """Return how often the server was asked what, by its own journal."""
    names = (op_name(message.opcode) for message in server.witnessed() if message.to_server and message.data)
    return Counter(name for name in names if name not in GIVEN_BACK)


def given_to(server: Memory, name: str) -> list[bytes]:
    """Return the bodies of the requests of a name, by the server's own journal."""
    return [m.data[40:] for m in server.witnessed() if m.to_server and op_name(m.opcode) == name]


@pytest.mark.parametrize(
    ("kind", "bridge"), [(Memory, "ebpf"), (RingMemory, "ebpf"), (Memory, "strace")], indirect=["bridge"]
)
def test_polls_ioctls_locks_holes_copies_and_notifications_are_played_and_nothing_differs(
    kind: type[Memory], bridge: str, make_server: MakeServer, tmp_path: Path
) -> None:
    """Recorded over io_uring too: what carries it is not in a recording."""
    server = make_server(kind, "recorded", with_journal=True)
    trace = record(server, tmp_path / "t.pcapng", bridge)
    for order in Order:
        fresh = make_server(Memory, f"fresh-{order.name}", with_journal=True)
        report = play(trace, fresh, order)
        assert (report.stopped, report.differences, report.notes) == ("", (), ())
        assert report.counts.skipped.keys() <= {skip.name for skip in HARMLESS}
        assert report.counts.notifications == {f"NOTIFY_{name}": count for name, count in NOTIFIED.items()}
        assert report.counts.same == report.counts.compared == report.counts.answered - 1  # INIT
        assert given_to(fresh, "NOTIFY_REPLY") == given_to(server, "NOTIFY_REPLY")
        assert asked(fresh) == asked(server)


def test_a_request_that_the_server_wants_again_is_played_once_and_asked_for_again_when_the_live_server_wants_it(
    bridge: str, make_server: MakeServer, tmp_path: Path
) -> None:
    server, fresh = (make_server(Memory, name, with_journal=True) for name in ("recorded", "fresh"))
    report = play(record(server, tmp_path / "t.pcapng", bridge, "resending"), fresh)
    assert (report.stopped, report.differences, report.notes) == ("", (), ())
    assert report.counts.skipped == ({} if bridge == "ebpf" else {Skip.RESENT.name: 1})
    assert report.counts.notifications == {"NOTIFY_RESEND": 1}
    assert report.counts.same == report.counts.compared == report.counts.answered - 1  # INIT
    assert asked(fresh) == asked(server)


def test_syncfs_of_a_block_device_is_played_to_a_server_without_one(
    bridge: str, memfs_fuseblk: MemfsBlk, make_server: MakeServer, tmp_path: Path
) -> None:
    out, fresh = tmp_path / "t.pcapng", make_server(Memfs, "fresh")
    with memfs_fuseblk.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
        (running.mount_point / "new").write_bytes(bytes(10_000))
        assert syncing.sync_file_system(running.mount_point).status == 0
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()
    report = play(Trace.open(out), fresh)
    assert (report.stopped, report.differences, report.counts.skipped) == ("", (), {})
    assert asked(fresh)["SYNCFS"] == asked(memfs_fuseblk)["SYNCFS"] > 0


def test_another_servers_answers_to_poll_ioctl_lseek_and_getlk_are_named(
    make_server: MakeServer, tmp_path: Path
) -> None:
    trace = record(make_server(Memory, "recorded"), tmp_path / "t.pcapng", "ebpf")
    report = play(trace, make_server(Memory, "other", is_different=True))
    assert report.stopped == ""
    first = [one for one in report.differences if one.follower_of is None]
    found = [(op_name(one.opcode), one.path, one.rule, one.field, one.recorded, one.live) for one in first]
    assert found == [
        ("POLL", b"/pollable", "poll", "revents", select.POLLIN | select.POLLOUT, SURPRISED),
        ("IOCTL", b"/numbers.bin", "error", "error", 0, -errno.ENOTTY),
        ("LSEEK", b"/shaped", "offset", "offset", rare.BLOCK, 0),
        ("GETLK", b"/hello.txt", "lock", "lk.start", 5, 0),
        ("GETLK", b"/hello.txt", "lock", "lk.end", 14, 0),
        ("GETLK", b"/hello.txt", "lock", "lk.type", fcntl.F_WRLCK, fcntl.F_UNLCK),
    ]
    followed = {(op_name(one.opcode), one.path) for one in report.differences if one.follower_of is not None}
    assert followed == {("IOCTL", b"/numbers.bin"), ("LSEEK", b"/shaped")}
