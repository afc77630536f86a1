"""The server in C: it does the work over /dev/fuse and over io_uring, notifies, and holds back what it is told to."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo import mounts, possible
from tests.conftest import MakeServer
from tests.servers import disturb, uring_switch, workload
from tests.servers.base import Running
from tests.servers.memory import INC_EPOCH, INVAL_ENTRY, PRUNE, RESEND, Memory, RingMemory

pytestmark = [pytest.mark.e2e, pytest.mark.root]

ROOT = Path(__file__).parent.parent.parent
FORGET, READ, WRITE, INIT, INTERRUPT, NOTIFY_REPLY, BATCH_FORGET = 2, 15, 16, 26, 36, 41, 42
WITHOUT_REPLY = {FORGET, INTERRUPT, NOTIFY_REPLY, BATCH_FORGET}


@pytest.fixture(params=[Memory, RingMemory], ids=lambda kind: kind.name)
def memory(request: pytest.FixtureRequest, make_server: MakeServer) -> Memory:
    return make_server(request.param)


@pytest.fixture
def mounted(memory: Memory) -> Iterator[Running]:
    with memory.started() as running:
        yield running


def nodeid(running: Running, name: str) -> int:
    return (running.mount_point / name).stat().st_ino


@pytest.mark.parametrize("kind", ["mixed", "parallel", "stats"])
def test_it_does_the_work_and_ends_when_it_is_unmounted(memory: Memory, kind: str) -> None:
    with memory.started() as running:
        tally = workload.run(running.mount_point, kind)
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()
    assert tally.refused == {}
    assert mounts.fuse_mount_at(memory.mount_point) is None


def test_a_large_file_comes_back_as_it_was_written(memory: Memory, mounted: Running) -> None:
    content = bytes(i * 7 % 251 for i in range(500_000))
    path = mounted.mount_point / "large"
    path.write_bytes(content)
    assert path.read_bytes() == content
    path.unlink()
    assert not path.exists()


def test_a_signal_that_ends_it_leaves_no_mount(memory: Memory) -> None:
    with memory.started() as running:
        running.process.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    assert mounts.fuse_mount_at(memory.mount_point) is None


def test_over_io_uring_reads_and_writes_of_the_device_carry_nothing_but_init(make_server: MakeServer) -> None:
    if (reason := possible.why_no_program("strace", "strace")) is not None:
        pytest.skip(reason)
    ring = make_server(RingMemory)
    log = ring.directory / "strace"
    traced = ["strace", "-f", "-y", "-x", "-s", "8", "-o", str(log), "-e", "trace=read,writev"]
    with ring.started(launch=lambda argv: [*traced, *argv]) as running:
        workload.run(running.mount_point, "reading")
    text = log.read_text()
    received = r"""(?:read\(\d+</dev/fuse>, |read resumed>)"(?:\\x..){4}\\x(..)(?:\\x..){3}"\.*, \d+\) += \d"""
    opcodes = [int(byte, 16) for byte in re.findall(received, text)]
    assert opcodes[0] == INIT
    assert set(opcodes[1:]) <= {FORGET, BATCH_FORGET}
    assert len(re.findall(r"writev\(\d+</dev/fuse>", text)) == 1


# The journal.


def test_every_request_is_witnessed_with_its_reply_and_every_length_is_true(memory: Memory) -> None:
    memory.with_journal = True
    with memory.started() as running:
        tally = workload.run(running.mount_point, "mixed")
        workload.run(running.mount_point, "parallel")
    messages = memory.witnessed()
    assert all(struct.unpack_from("=I", m.data)[0] == len(m.data) for m in messages)
    assert all(m.errno == 0 for m in messages)
    asked = Counter(m.unique for m in messages if m.to_server and m.opcode not in WITHOUT_REPLY)
    assert asked == Counter(m.unique for m in messages if not m.to_server)
    assert set(asked.values()) == {1}
    written = sum(len(m.data) - 80 for m in messages if m.to_server and m.opcode == WRITE)
    assert written == tally.written_bytes + 400_000  # of the parallel clients


def test_a_name_that_is_invalidated_is_forgotten(memory: Memory) -> None:
    memory.with_journal = True
    with memory.started() as running:
        node = nodeid(running, "hello.txt")
        memory.inval_entry("hello.txt")
        (forget,) = memory.await_request(FORGET)
    assert (forget.nodeid, struct.unpack_from("=Q", forget.data, 40)) == (node, (1,))


def test_held_and_interrupted_reads_and_notifications_are_witnessed(memory: Memory) -> None:
    memory.with_journal = True
    with memory.started() as running, disturb.waiting_reader(running.mount_point / "held") as reader:
        memory.await_held(1)
        memory.inval_entry("held")
        reader.interrupt()
        assert reader.outcome() == "EINTR"
    messages = memory.witnessed()
    (read,) = (m for m in messages if m.to_server and m.opcode == READ)
    (interrupt,) = (m for m in messages if m.to_server and m.opcode == INTERRUPT)
    (answer,) = (m for m in messages if not m.to_server and m.unique == read.unique)
    (notification,) = (m for m in messages if not m.to_server and m.unique == 0)
    assert (read.pid, interrupt.data[40:], interrupt.unique) == (
        reader.pid,
        struct.pack("=Q", read.unique),
        read.unique | 1,
    )
    assert (answer.error, len(answer.data), notification.error) == (-errno.EINTR, 16, INVAL_ENTRY)


# Notifications.


def test_stored_data_is_read_from_the_cache_until_the_pages_are_invalidated(memory: Memory, mounted: Running) -> None:
    fd = os.open(mounted.mount_point / "hello.txt", os.O_RDONLY)
    try:
        node = os.fstat(fd).st_ino
        os.pread(fd, 1, 0)  # data that does not fill a page nor the file is kept only in a page that was read before
        assert memory.store(node, 0, b"HELLO") == 0
        assert os.pread(fd, 100, 0) == b"HELLO from memfs\n"
        assert memory.retrieve(node, 0, 10) == b"HELLO from"
        assert memory.inval_inode(node) == 0
        assert os.pread(fd, 100, 0) == b"hello from memfs\n"
    finally:
        os.close(fd)


def test_a_name_can_be_invalidated_only_while_it_is_cached(memory: Memory, mounted: Running) -> None:
    nodeid(mounted, "hello.txt")
    assert memory.inval_entry("hello.txt") == 0
    assert memory.inval_entry("hello.txt") == errno.ENOENT
    assert (mounted.mount_point / "hello.txt").read_bytes() == b"hello from memfs\n"


def test_a_deleted_name_must_name_its_node(memory: Memory, mounted: Running) -> None:
    assert memory.delete("numbers.bin", nodeid(mounted, "numbers.bin") + 1) == errno.ENOENT
    # it looks the name up anew: Linux 6.18 forgets the name before it compares the node
    assert memory.delete("numbers.bin", nodeid(mounted, "numbers.bin")) == 0


def test_who_polls_is_woken_by_the_notification(memory: Memory, mounted: Running) -> None:
    fd = os.open(mounted.mount_point / "pollable", os.O_RDONLY)
    events: list[tuple[int, int]] = []
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poller = threading.Thread(target=lambda: events.extend(poll.poll(20_000)))
    try:
        poller.start()
        assert memory.poll_wakeup() == 0
        poller.join(20)
    finally:
        os.close(fd)
    assert events == [(fd, select.POLLIN)]


def test_what_has_no_method_of_its_own_is_sent_as_bytes(memory: Memory, mounted: Running) -> None:
    node = nodeid(mounted, "hello.txt")
    assert memory.notify(RESEND) == 0
    assert memory.notify(INC_EPOCH) in (0, errno.EINVAL)  # EINVAL: the kernel is older than 7.44
    assert memory.notify(PRUNE, struct.pack("=IIQQ", 1, 0, 0, node)) in (0, errno.EINVAL)
    assert memory.notify(99) == errno.EINVAL
    assert memory.inval_inode(10**9) == errno.ENOENT


# The switch.


def parameter() -> str:
    return uring_switch.PARAMETER.read_text().strip()


@pytest.fixture
def _uring() -> None:
    if (reason := uring_switch.why_no_uring()) is not None:
        pytest.skip(reason)


@pytest.mark.usefixtures("_uring")
def test_the_switch_is_on_inside_and_put_back_at_the_end_of_the_outermost() -> None:
    with uring_switch.uring_enabled():
        with uring_switch.uring_enabled():
            assert parameter() == "Y"
        assert parameter() == "Y"
        before = uring_switch._switch.guard
    assert before is not None
    assert before.returncode == 0


DIES = """
import os, signal
from tests.servers.uring_switch import PARAMETER, uring_enabled
with uring_enabled():
    print(PARAMETER.read_text().strip(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("_uring")
def test_the_switch_is_put_back_even_if_the_test_is_killed() -> None:
    before = parameter()
    died = subprocess.run([sys.executable, "-c", DIES], cwd=ROOT, stdout=subprocess.PIPE, timeout=150)
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, b"Y\n")
    # whoever gets the lock comes after the guard
    held = mounts.run_child(["flock", "-w", "60", uring_switch.PARAMETER, "cat", uring_switch.PARAMETER], 70)
    assert held.output.decode().strip() == before


def test_a_kernel_without_the_parameter_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uring_switch, "PARAMETER", tmp_path / "enable_uring")
    assert str(uring_switch.why_no_uring()).startswith("this kernel has no FUSE over io_uring (there is no ")


def test_a_parameter_that_cannot_be_set_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uring_switch, "PARAMETER", tmp_path)
    with pytest.raises(uring_switch.SwitchError, match="cannot be set"), uring_switch.uring_enabled():
        pass
