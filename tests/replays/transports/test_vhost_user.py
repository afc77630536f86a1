"""The real virtiofs daemons, played at without a virtual machine."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dissectors.message import Message, Value
from replays.transports.base import Ending, ServerGone, Transport
from replays.transports.vhost_user import VhostUserTransport, connect, launch
from tests.replays.transports import virtiofs
from tests.replays.transports.kernel import HEADER, MEBIBYTE, ROOM, ROOT, TIMEOUT_S, Kernel
from tests.replays.transports.virtiofs import GETATTR, KINDS, begin, getattr_error, node

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SUBMOUNT = 1  # FUSE_ATTR_SUBMOUNT
SOAK = 20_000
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if (reason := virtiofs.why_not(request.param)) is not None:
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    with virtiofs.share(tmp_path) as source:
        yield source


@pytest.fixture
def transport(kind: str, source: Path) -> Iterator[VhostUserTransport]:
    with closing(launch(virtiofs.argv(kind, source))) as transport:
        yield transport


@pytest.fixture
def kernel(transport: VhostUserTransport) -> Kernel:
    return begin(transport)


@contextlib.contextmanager
def closing(transport: VhostUserTransport) -> Iterator[VhostUserTransport]:
    try:
        yield transport
    finally:
        transport.close()


def entries(answer: Message) -> dict[Value, Value]:
    """Return the names of a READDIRPLUS with their attributes' flags."""
    found = answer.values["entries"]
    assert isinstance(found, list)
    return {entry["dirent.name"]: entry["attr.flags"] for entry in found if isinstance(entry, dict)}


def test_it_is_a_transport(transport: VhostUserTransport) -> None:
    as_one: Transport = transport
    assert (as_one.name, as_one.most_bytes >= MEBIBYTE + 80) == ("vhost-user", True)


def test_submounts_are_announced_where_the_kernel_offers_it(kernel: Kernel) -> None:
    for name in (b"mnt1", b"mnt2"):
        assert kernel.number("LOOKUP", "attr.flags", name=name) == SUBMOUNT
    handle = kernel.number("OPENDIR", "fh", flags=os.O_DIRECTORY, open_flags=0)
    listed = entries(kernel.read(ROOT, handle, 0, 4096, "READDIRPLUS"))
    assert listed[b"mnt1"] == listed[b"mnt2"] == SUBMOUNT
    assert listed[b"hello.txt"] == 0


def test_submounts_are_ordinary_directories_where_the_kernel_does_not_offer_it(transport: VhostUserTransport) -> None:
    kernel = begin(transport, "MAX_PAGES", "DO_READDIRPLUS")
    assert kernel.number("LOOKUP", "attr.flags", name=b"mnt1") == 0


def test_syncfs_reaches_the_file_system_of_each_submount(kind: str, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "strace.log"
    command = ["strace", "-f", "-yy", "-e", "trace=syncfs", "-o", str(log), *virtiofs.argv(kind, source)]
    with closing(launch(command)) as transport:
        kernel = begin(transport)
        nodes = [ROOT, node(kernel, b"mnt1"), node(kernel, b"mnt2")]
        assert [kernel.ask("SYNCFS", nodeid, padding=0).error for nodeid in nodes] == [0, 0, 0]
        assert transport.close().how == "by itself"
    synced = [line.partition("syncfs(")[2] for line in log.read_text().splitlines() if "syncfs(" in line]
    assert [line.partition("<")[2].partition(">")[0].rpartition("/")[2] for line in synced] in (
        ["share", "mnt1", "mnt2"],
        ["", "mnt1", "mnt2"],  # seen from within its sandbox
    )
    assert all(line.endswith("= 0") for line in synced)


def test_a_mebibyte_is_written_and_read_back(kernel: Kernel, source: Path) -> None:
    content = random.Random(5).randbytes(MEBIBYTE)
    made = kernel.ask("CREATE", node(kernel, b"mnt2"), name=b"big", flags=os.O_RDWR, mode=0o600, umask=0, open_flags=0)
    nodeid, handle = made.values["nodeid"], made.values["fh"]
    assert isinstance(nodeid, int)
    assert isinstance(handle, int)
    write = {"fh": handle, "offset": 0, "size": MEBIBYTE, "write_flags": 0, "lock_owner": 0, "flags": 0}
    assert kernel.number("WRITE", "size", nodeid, **write, data=content) == MEBIBYTE
    assert kernel.read(nodeid, handle, 0, MEBIBYTE).values["data"] == content
    assert (source / "mnt2" / "big").read_bytes() == content


def test_room_for_a_reply_is_exactly_what_was_asked_for(kernel: Kernel, source: Path) -> None:
    (source / "numbers").write_bytes(bytes(range(256)) * 64)
    nodeid = node(kernel, b"numbers")
    handle = kernel.number("OPEN", "fh", nodeid, flags=os.O_RDONLY, open_flags=0)
    for size in (0, 1, 4095, 4096):
        assert len(kernel.read(nodeid, handle, 4096, size).data) == HEADER + size


def test_what_is_forgotten_on_the_urgent_queue_is_gone(kernel: Kernel) -> None:
    nodeid = node(kernel, b"hello.txt")
    assert getattr_error(kernel, nodeid) == 0
    kernel.tell("FORGET", nodeid, nlookup=1)
    deadline_s = time.monotonic() + TIMEOUT_S  # another queue, another thread: it is done when it is seen to be
    while not getattr_error(kernel, nodeid):
        assert time.monotonic() < deadline_s, "the node was not forgotten"


def test_more_forgets_than_the_queue_holds_go_through(kernel: Kernel) -> None:
    for _ in range(300):
        nodeid = node(kernel, b"hello.txt")
    for _ in range(299):
        message = kernel.message("FORGET", nodeid, nlookup=1)
        while not kernel.transport.submit(message, 0, urgent=True):
            assert kernel.transport.complete(TIMEOUT_S) == []
    assert getattr_error(kernel, nodeid) == 0


def test_destroy_is_answered_or_completed_without_a_reply(kind: str, kernel: Kernel) -> None:
    data = kernel.answer_to(kernel.message("DESTROY", 0), HEADER)
    assert data == (b"" if kind == "rust" else struct.pack("<IiQ", HEADER, 0, kernel.unique))


def test_the_daemon_ends_with_the_conversation(kernel: Kernel) -> None:
    ending = kernel.transport.close()
    assert (ending.status, ending.how) == (0, "by itself")
    assert kernel.transport.close() is ending


def test_a_daemon_that_is_killed_is_told_with_how(kind: str, source: Path) -> None:
    with closing(launch(virtiofs.argv(kind, source))) as transport:
        begin(transport)
        assert transport.process is not None
        os.killpg(transport.process.pid, signal.SIGKILL)
        with pytest.raises(ServerGone, match=r"^the server closed the connection; .* was killed by SIGKILL"):
            transport.complete(TIMEOUT_S)


def test_a_running_daemon_is_connected_to(kind: str, source: Path) -> None:
    with running(kind, source) as path:
        transport = connect(path)
        begin(transport)
        assert transport.close() == Ending(None, "not ours to end", "")


@contextlib.contextmanager
def running(kind: str, source: Path) -> Iterator[Path]:
    """A daemon that somebody else started."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory) / "virtiofs"
        listener.bind(os.fspath(path))
        listener.listen(1)
        command = [*virtiofs.argv(kind, source), f"--fd={listener.fileno()}"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, pass_fds=[listener.fileno()]) as process:
            listener.close()
            yield path
            assert process.wait(TIMEOUT_S) == 0


def test_a_daemon_that_makes_its_own_socket_is_waited_for(kind: str, source: Path, tmp_path: Path) -> None:
    with closing(launch([*virtiofs.argv(kind, source), f"--socket-path={tmp_path / 'own'}"])) as transport:
        begin(transport)


def test_a_pool_of_threads_answers_everything(source: Path) -> None:
    if (reason := virtiofs.why_not("rust")) is not None:  # the one in C is killed by its own seccomp, if it has a pool
        pytest.skip(reason)
    with closing(launch([*virtiofs.argv("rust", source), "--thread-pool-size=4"])) as transport:
        all_are_answered(begin(transport))


def test_many_requests_in_flight_are_all_answered_and_none_is_stuck(kernel: Kernel) -> None:
    all_are_answered(kernel)


def all_are_answered(kernel: Kernel) -> None:
    nodes = [node(kernel, name) for name in (b"hello.txt", b"mnt1", b"mnt2")]
    transport, chance = kernel.transport, random.Random(7)
    messages = [bytearray(kernel.message("GETATTR", nodeid, **GETATTR)) for nodeid in nodes]
    waiting: set[int] = set()
    unique, asked = kernel.unique, 0
    while asked < SOAK or waiting:
        depth = chance.choice((1, 2, 32, 128, 200))  # the last is more than there are places
        while asked < SOAK and len(waiting) < depth:
            unique += 2
            message = messages[unique // 2 % len(messages)]
            message[8:16] = unique.to_bytes(8, "little")
            if not transport.submit(message, HEADER + ROOM["GETATTR"]):
                break
            waiting.add(unique)
            asked += 1
        transport.flush()
        answers = transport.complete(TIMEOUT_S)
        assert answers, f"{len(waiting)} requests are stuck after {asked}"
        for answer in answers:
            waiting.remove(answer.unique)
            assert len(answer.data) == HEADER + ROOM["GETATTR"]


def test_the_benchmark_runs_against_this_daemon(kind: str) -> None:
    command = [sys.executable, "-m", "benchmarks.replay_virtqueue", "--no-save", f"--only={kind}"]
    for words, found in ((["--count=100", "--rounds=1"], "| GETATTR |"), (["--soak=3000"], "none stuck")):
        run = subprocess.run(
            [*command, *words], capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY
        )
        assert (run.returncode, found in run.stdout) == (0, True), run.stderr
