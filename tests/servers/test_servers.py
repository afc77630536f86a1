"""The servers themselves: each mounts, does the work, unmounts, and leaves nothing behind."""

from __future__ import annotations

import pytest

from examples.demo import mounts
from tests.servers import workload
from tests.servers.base import Server

pytestmark = pytest.mark.e2e

XATTR_STEPS = ("setxattr", "getxattr", "listxattr", "removexattr")
REFUSES = {"sshfs": dict.fromkeys(XATTR_STEPS, "ENOTSUP")}  # sftp has no extended attributes


def test_server_does_the_work_and_leaves_nothing_behind(any_server: Server) -> None:
    with any_server.started() as running:
        tally = workload.run(running.mount_point, "mixed" if any_server.writable else "reading")
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()
    assert tally.refused == REFUSES.get(any_server.name, {})
    assert tally.missing == 1
    assert mounts.fuse_mount_at(any_server.mount_point) is None
