"""A mount that two servers seem to serve: one of them never noticed that its own mount is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from examples.demo import mounts, possible
from tests.conftest import MakeServer
from tests.servers.memfs import Memfs
from tests.tracer.bridges.collecting import Collected
from tracer.bridges.host import processes
from tracer.bridges.strace import StraceBridge, rivals
from tracer.errors import CaptureError

pytestmark = [pytest.mark.e2e, pytest.mark.root]

TRIES = 5
SHARE_AND_WAIT = "import os, sys; print('shared', flush=True); sys.stdin.read()"


@pytest.fixture
def rival(make_server: MakeServer) -> Iterator[tuple[Memfs, int, int]]:
    """A running server, its pid, and that of a stopped one whose connection's number the kernel gave it."""
    for attempt in range(TRIES):
        stale, fresh = (make_server(Memfs, directory=f"{name}{attempt}") for name in ("stale", "fresh"))
        with stale.started() as old:
            os.kill(old.pid, signal.SIGSTOP)
            try:
                assert old.unmount()
                with fresh.started() as new:
                    if new.mount.st_dev == old.mount.st_dev:  # else another mount of this machine got the number
                        yield fresh, new.pid, old.pid
                        return
            finally:
                os.kill(old.pid, signal.SIGCONT)
    pytest.fail(f"the kernel gave the number of a connection to no mount of ours in {TRIES} tries")


def _connection(fresh: Memfs) -> int:
    mount = mounts.fuse_mount_at(fresh.mount_point)
    assert mount is not None
    major, minor = map(int, mount.st_dev.split(":"))
    return major << 20 | minor


def test_a_mount_whose_connection_a_stale_server_holds_too_is_refused_with_both_pids(
    rival: tuple[Memfs, int, int],
) -> None:
    fresh, *pids = rival
    if (reason := possible.why_no_program("strace", "strace")) is not None:
        pytest.skip(reason)
    if processes.servers_of(_connection(fresh)) == []:
        pytest.skip("this kernel does not tell the connection of a descriptor (fdinfo has it since Linux 6.14)")
    with pytest.raises(CaptureError) as refused:
        StraceBridge(mount=fresh.mount_point).run(Collected(), threading.Event())
    assert all(f"{pid} ({processes.name(pid)})" in refused.value.message for pid in pids)
    assert refused.value.message.startswith(f"2 servers hold the connection of {fresh.mount_point}: ")
    assert "--pid" in refused.value.hint
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("is_shared", [True, False])
def test_processes_are_one_server_when_they_share_the_descriptor(is_shared: bool) -> None:
    if (reason := possible.why_no_fuse()) is not None:
        pytest.skip(reason)
    fds = [os.open("/dev/fuse", os.O_RDWR) for _ in range(2)]
    passed = fds[0] if is_shared else fds[1]
    argv = [sys.executable, "-c", SHARE_AND_WAIT]
    helper = subprocess.Popen(argv, pass_fds=[passed], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert helper.stdout is not None
        assert helper.stdout.readline() == b"shared\n"
        os.close(fds.pop())
        pids = [os.getpid(), helper.pid]
        # Connection 0: these were never mounted.
        if is_shared:
            rivals.check_one_server("/mnt", 0, pids)
            return
        with pytest.raises(CaptureError, match=rf"2 servers .* of /mnt: {pids[0]} \(.*\), {pids[1]} \("):
            rivals.check_one_server("/mnt", 0, pids)
    finally:
        helper.communicate(timeout=20)
        for fd in fds:
            os.close(fd)
