"""Mounts that are gone before anybody asks are remembered."""

from __future__ import annotations

import time

import pytest

from tests.servers.memfs import Memfs
from tracer.bridges.host import processes
from tracer.bridges.host.mount_watch import MountWatch

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def test_a_mount_is_known_after_it_is_gone(memfs: Memfs) -> None:
    with MountWatch() as watch:
        with memfs.started() as running:
            (mount,) = [one for one in processes.mounts() if one.mount_point == str(running.mount_point)]
            deadline = time.monotonic() + 10
            while watch.last_of(mount.connection) != mount:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            assert running.unmount()
        assert watch.last_of(mount.connection) == mount
        assert watch.last_of(0) is None
