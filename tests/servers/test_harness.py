"""The harness around the servers: failures are told, hung mounts are freed, what is left behind is found."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from examples.demo import mounts, possible
from tests.conftest import MakeServer
from tests.servers import workload
from tests.servers.memfs import SERVER, Memfs
from tests.servers.real import Bindfs, Squashfuse

ROOT = Path(__file__).parent.parent.parent
MOUNTINFO = """\
22 28 0:20 / /sys rw,relatime shared:7 - sysfs sysfs rw
61 28 0:45 / /tmp/with\\040space\\134n rw,nosuid shared:9 master:2 - fuse.sshfs host:/a\\040b rw,user_id=0
62 28 7:0 / /mnt ro,relatime - fuseblk /dev/loop0 rw,blksize=4096
63 28 0:46 / /ro rw - fuse memfs ro,user_id=0
"""


def test_mountinfo_is_read_with_its_escapes_and_the_superblocks_own_read_only() -> None:
    _, sshfs, block, read_only = mounts.parse_mountinfo(MOUNTINFO)
    assert sshfs == mounts.Mount("/tmp/with space\\n", "0:45", "fuse.sshfs", "host:/a b", False)
    assert (block.fstype, block.read_only) == ("fuseblk", False)
    assert read_only.read_only


def test_a_child_that_does_not_end_is_killed_and_told_apart() -> None:
    pids: list[int] = []
    ended = mounts.run_child(["sh", "-c", "echo begun; exec sleep 60"], 0.3, pids.append)
    assert (ended.pid, ended.status, ended.output) == (pids[0], None, b"begun\n")
    with pytest.raises(ProcessLookupError):
        os.kill(ended.pid, 0)


def test_no_wait_for_a_mount_outlives_the_server(tmp_path: Path) -> None:
    process = subprocess.Popen(["sh", "-c", "exit 7"])
    with pytest.raises(mounts.MountError, match="ended with status 7 before it mounted"):
        mounts.wait_mounted(tmp_path, process, timeout_s=30)


def test_a_wait_for_a_mount_that_does_not_come_ends(tmp_path: Path) -> None:
    with pytest.raises(mounts.MountError, match="nothing was mounted"):
        mounts.wait_mounted(tmp_path, timeout_s=0.1)


@pytest.mark.e2e
def test_a_server_that_cannot_start_is_quoted(squashfuse: Squashfuse) -> None:
    (squashfuse.directory / "image.squashfs").write_bytes(b"not a file system")
    with pytest.raises(mounts.MountError, match=r"before it mounted; it said: .*squashfs"), squashfuse.started():
        pass


@pytest.mark.e2e
def test_a_stopped_server_does_not_keep_the_test_waiting(memfs: Memfs) -> None:
    with memfs.started() as running:
        os.kill(running.pid, signal.SIGSTOP)
        with pytest.raises(workload.WorkloadFailed, match="reading hung"):
            workload.run(running.mount_point, "reading", timeout_s=0.3)
        running.unmount(timeout_s=0.3)
        assert mounts.fuse_mount_at(running.mount_point) is None
        assert mounts.stop(running.process, timeout_s=0.1) == 0


@pytest.mark.e2e
def test_a_killed_server_leaves_no_mount(make_server: MakeServer) -> None:
    bindfs = make_server(Bindfs)
    with bindfs.started() as running:
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        assert mounts.fuse_mount_at(running.mount_point) is not None
    assert mounts.fuse_mount_at(running.mount_point) is None


@pytest.mark.e2e
def test_the_recorders_words_go_in_front_of_the_servers(bindfs: Bindfs) -> None:
    with bindfs.started(launch=lambda argv: ["env", "A=b", *argv]) as running:
        assert Path(f"/proc/{running.pid}/environ").read_bytes().split(b"\0").count(b"A=b") == 1


@pytest.mark.e2e
def test_a_loop_device_is_gone_afterwards(tmp_path: Path) -> None:
    if (reason := possible.why_no_fuseblk()) is not None:
        pytest.skip(reason)
    image = tmp_path / "image"
    with mounts.loop_device(image) as device:
        backing = Path("/sys/block", Path(device).name, "loop/backing_file")
        assert backing.read_text().strip() == str(image)
    assert not image.exists()
    assert not backing.exists() or str(image) not in backing.read_text()


def test_a_program_that_is_missing_is_named_with_its_package() -> None:
    assert possible.why_no_program("no-such-program", "no-such-package") == (
        "no-such-program is not installed (Debian package no-such-package)"
    )


def test_a_server_that_cannot_run_is_skipped_with_its_reason(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bindfs, "needs", lambda self: "bindfs is not installed (Debian package bindfs)")
    with pytest.raises(pytest.skip.Exception, match=r"^bindfs is not installed \(Debian package bindfs\)$"):
        make_server(Bindfs)


LEAKY = """
import subprocess, sys
from pathlib import Path
from examples.demo import mounts
from tests.conftest import _nothing_stays_mounted

def test_forgets_to_unmount(tmp_path):
    process = subprocess.Popen([sys.executable, {server!r}, str(tmp_path)])
    mounts.wait_mounted(tmp_path, process)
"""


@pytest.mark.e2e
@pytest.mark.parametrize("workers", [(), ("-p", "xdist.plugin", "-n", "1")], ids=["one-process", "xdist"])
def test_a_mount_that_a_test_left_is_unmounted_and_fails_the_run(
    memfs: Memfs, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the other plugins take a second to load
    pytester.makepyfile(test_leaky=LEAKY.format(server=str(SERVER)))
    result = pytester.runpytest_subprocess(*workers, timeout=60)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*tests left these mounted (now unmounted)*test_forgets_to_unmount*"])
    assert not [m for m in mounts.fuse_mounts() if Path(m.mount_point).is_relative_to(pytester.path)]
