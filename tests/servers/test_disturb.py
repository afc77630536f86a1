"""Mounts under stress: interrupted, aborted, killed, hidden in namespaces, under load. The helpers do what they say."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from examples.demo import mounts, possible
from tests.conftest import MakeServer
from tests.servers import disturb, load, workload
from tests.servers.memfs import Memfs, MemfsBlk
from tests.servers.memory import Memory, RingMemory
from tests.servers.namespaced import Namespaced
from tests.servers.splicing import Splicing

pytestmark = [pytest.mark.e2e, pytest.mark.root]


@pytest.fixture(params=[Memory, RingMemory], ids=lambda kind: kind.name)
def memory(request: pytest.FixtureRequest, make_server: MakeServer) -> Memory:
    return make_server(request.param)


# A READ that waits.


def test_a_held_read_is_answered_when_it_is_released(memory: Memory) -> None:
    with memory.started() as running, disturb.waiting_reader(running.mount_point / "held") as reader:
        assert memory.await_held(1) == 1
        assert memory.release() == 1
        assert reader.outcome() == "released"


def test_a_signal_sends_an_interrupt_and_read_fails_with_eintr(memory: Memory) -> None:
    with memory.started() as running, disturb.waiting_reader(running.mount_point / "held") as reader:
        memory.await_held(1)
        reader.interrupt()
        assert memory.await_interrupts(1) == 1
        assert reader.outcome() == "EINTR"


def test_a_server_that_ignores_the_interrupt_is_waited_for(memory: Memory) -> None:
    with memory.started() as running, disturb.waiting_reader(running.mount_point / "stubborn") as reader:
        memory.await_held(1)
        reader.interrupt()
        memory.await_interrupts(1)
        with pytest.raises(subprocess.TimeoutExpired):
            reader.outcome(timeout_s=0.2)
        assert memory.release() == 1
        assert reader.outcome() == "released"


def test_many_held_reads_are_told_apart(memory: Memory) -> None:
    with memory.started() as running:
        path = running.mount_point / "held"
        with disturb.waiting_reader(path) as first, disturb.waiting_reader(path) as second:
            memory.await_held(2)
            second.interrupt()
            assert second.outcome() == "EINTR"
            assert memory.await_held(1) == 1
            memory.release()
            assert first.outcome() == "released"


def test_a_killed_reader_is_gone_when_the_server_answers_its_interrupt(memory: Memory) -> None:
    with memory.started() as running, disturb.waiting_reader(running.mount_point / "stubborn") as reader:
        memory.await_held(1)
        reader.kill()
        assert memory.await_interrupts(1) == 1
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait_killed(timeout_s=0.2)
        memory.release()
        reader.wait_killed()


def test_a_request_that_was_never_sent_is_taken_back_when_its_caller_is_killed(make_server: MakeServer) -> None:
    memory = make_server(Memory)
    with (
        memory.started() as running,
        disturb.connection(running.mount) as connection,
        disturb.waiting_reader(running.mount_point / "held", at_once=False) as reader,
    ):
        with disturb.stopped(running.pid):
            reader.begin()
            connection.wait_waiting(1)
            reader.kill()
            reader.wait_killed()
        assert memory.await_held(0) == 0
        assert memory.await_interrupts(0) == 0


# Ends that are not polite.


def test_an_abort_through_fusectl_frees_the_reader(memory: Memory) -> None:
    with memory.started() as running, disturb.waiting_reader(running.mount_point / "held") as reader:
        memory.await_held(1)
        with disturb.connection(running.mount) as connection:
            assert connection.waiting() >= 1
            connection.abort()
        assert reader.outcome() == "ECONNABORTED"
        assert running.wait() == 0, running.output()


def test_a_killed_server_frees_the_reader(memory: Memory) -> None:
    with memory.started() as running, disturb.waiting_reader(running.mount_point / "held") as reader:
        memory.await_held(1)
        running.process.kill()
        assert reader.outcome() == "ECONNABORTED"


@pytest.fixture
def _root() -> None:
    if (reason := possible.why_not_root()) is not None:
        pytest.skip(reason)


@pytest.mark.usefixtures("_root")
def test_fusectl_is_unmounted_again() -> None:
    with disturb.fusectl() as directory:
        assert directory.is_mount()
    assert not directory.exists()


def test_the_connection_of_fuseblk_is_found_by_its_device(make_server: MakeServer) -> None:
    with make_server(MemfsBlk).started() as running, disturb.connection(running.mount) as connection:
        major, minor = map(int, running.mount.st_dev.split(":"))
        assert major > 0
        assert connection.number == major << 20 | minor


@pytest.mark.usefixtures("_root")
def test_a_mount_that_is_gone_has_no_connection() -> None:
    gone = mounts.Mount("/nowhere", "0:1048575", "fuse", "nothing", False)
    with pytest.raises(FileNotFoundError), disturb.connection(gone):
        pass


# Several mounts, namespaces, load.


def test_two_mounts_do_their_work_at_once(make_server: MakeServer) -> None:
    one, other = make_server(Memory), make_server(RingMemory)
    with one.started() as first, other.started() as second:
        assert first.mount.st_dev != second.mount.st_dev
        tallies = workload.run_at_once([first.mount_point, second.mount_point])
    assert [tally.refused for tally in tallies] == [{}, {}]


def test_two_mounts_of_one_process_do_their_work_at_once(make_server: MakeServer) -> None:
    memfs = make_server(Memfs, two=True)
    with memfs.started() as running:
        tallies = workload.run_at_once([running.mount_point, memfs.second_mount_point], "parallel")
    assert [tally.refused for tally in tallies] == [{}, {}]


@pytest.mark.parametrize("kind", [Memory, Splicing], ids=lambda kind: kind.name)
def test_a_server_in_namespaces_of_its_own_is_worked_with_from_outside(make_server: MakeServer, kind: type) -> None:
    server = make_server(Namespaced, of=kind)
    with server.started() as running:
        assert mounts.fuse_mount_at(server.mount_point) is None
        assert workload.run(running.mount_point).refused == {}
        status = Path(f"/proc/{running.server_pid}/status").read_text()
        assert f"\nNSpid:\t{running.server_pid}\t1\n" in status
        with disturb.connection(running.mount) as connection:
            assert connection.number == running.mount_point.stat().st_dev
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()


def test_a_killed_namespace_takes_its_mount_away(make_server: MakeServer) -> None:
    server = make_server(Namespaced)
    with server.started() as running:
        running.process.kill()
        assert disturb.wait_no_connection(running.mount)


@pytest.mark.parametrize("kind", [Memory, RingMemory, Splicing], ids=lambda kind: kind.name)
def test_a_load_goes_on_and_tells_exactly_what_it_did(make_server: MakeServer, kind: type) -> None:
    with make_server(kind).started() as running:
        with load.on(running.mount_point) as busy:
            for _ in range(10):
                assert busy.wait_rounds(1) >= 1
        assert not list(running.mount_point.glob("load-*"))
    rounds = busy.tally.steps["write"]
    assert busy.tally.refused == {}
    assert rounds >= busy.rounds >= 11
    assert busy.tally.requests == {"WRITE": rounds, "CREATE": 1, "UNLINK": 1}
    assert (busy.tally.missing, busy.tally.written_bytes) == (rounds, rounds * 4096)
    assert busy.tally.pid == busy.pid


def test_a_load_on_a_mount_that_ends_fails_with_its_reason(make_server: MakeServer) -> None:
    words = "Transport endpoint is not connected|Software caused connection abort"
    with make_server(Memory).started() as running, contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(load.LoadFailed, match=words))
        stack.enter_context(load.on(running.mount_point))
        running.process.kill()
        running.wait()
