"""Did sync reach the server? A real fuseblk server, recorded while syncfs(2), sync(2), remounts and unmounts happen.

sync(2) reaches every mounted file system, so somebody else's may send this mount a SYNCFS too: compare pids.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.demo import mounts
from tests.conftest import MakeServer
from tests.e2e.recorder import DEADLINE_S, launched, recording
from tests.servers import syncing
from tests.servers.memfs import Memfs, MemfsBlk
from tests.servers.real import Bindfs
from tracer.cli.main import main

pytestmark = [pytest.mark.e2e, pytest.mark.root]

EIO, ENOSYS = -5, -38


def report(out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str, int]:
    """Return the report as JSON, as text, and the exit code."""
    capsys.readouterr()
    code = main(["sync", "--json", str(out)])
    as_json = json.loads(capsys.readouterr().out)
    assert main(["sync", str(out)]) == code
    return as_json, capsys.readouterr().out, code


def asked(found: dict[str, Any], *pids: int) -> list[dict[str, Any]]:
    """Return the SYNCFS of these processes, by time."""
    (channel,) = found["channels"]
    (root,) = channel["submounts"]
    return sorted((one for one in root["syncfs"] if one["pid"] in pids), key=lambda one: one["time_ns"])


def test_syncfs_sync_and_remount_are_reported_with_who_asked_and_unmount_is_not(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        written = mounts.run_child(["sh", "-c", 'printf 12345 >"$0"', running.mount_point / "new"], 10)
        assert written.status == 0
        ended = [
            syncing.sync_file_system(running.mount_point),
            syncing.sync_everything(),
            syncing.remount_read_only(running.mount_point),
        ]
        quiet = syncing.sync_file_system(running.mount_point)
        assert running.unmount()
        assert running.wait() == 0, running.output()
        st_dev = running.mount.st_dev
    found, text, code = report(out, capsys)
    pids = [one.pid for one in ended]
    requests = asked(found, *pids)
    assert [(one["pid"], one["state"], one["error"]) for one in requests] == [(pid, "DONE", 0) for pid in pids]
    # A process that ends at once may be gone before its name is looked up.
    assert {one["comm"] for one in requests} <= {"sync", "mount", ""}
    assert [one["pid"] for one in requests if one["latency_ns"] <= 0] == []
    assert asked(found, quiet.pid, 0) == []
    (channel,) = found["channels"]
    (root,) = channel["submounts"]
    assert (channel["kind"], channel["fstype"], root["nodeid"], root["path"]) == ("FUSEBLK", "fuseblk", 1, "/")
    assert (root["st_dev"], root["written_bytes"], root["unsynced_bytes"]) == (st_dev, 5, 0)
    assert requests[0]["covered_bytes"] == 5 or len(root["syncfs"]) > 3
    assert (code, found["finding"], channel["enosys_since_ns"], channel["left_out"]) == (0, False, None, [])
    assert f"[{pids[0]}]: answered in" in text
    assert "◆ SYNCFS" in text


def test_after_enosys_the_report_says_that_sync_is_a_no_op_and_since_when(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    memfs_fuseblk.options = ["--syncfs", "enosys"]
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        assert [syncing.sync_file_system(running.mount_point).status for _ in range(3)] == [0, 0, 0]
        assert running.unmount()
        running.wait()
    found, text, code = report(out, capsys)
    (channel,) = found["channels"]
    ((request,),) = [root["syncfs"] for root in channel["submounts"]]
    assert (request["error"], code, found["finding"]) == (ENOSYS, 1, True)
    assert channel["enosys_since_ns"] == request["time_ns"] + request["latency_ns"]
    assert "this server will never be asked again: sync(2) is a no-op on this connection since" in text


def test_an_error_is_reported_for_each_call(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    memfs_fuseblk.options = ["--syncfs", "eio"]
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        ended = [syncing.sync_file_system(running.mount_point) for _ in range(2)]
        assert running.unmount()
        running.wait()
    found, text, code = report(out, capsys)
    assert [one["error"] for one in asked(found, *(one.pid for one in ended))] == [EIO, EIO]
    assert (code, found["channels"][0]["enosys_since_ns"]) == (1, None)
    assert "EIO after" in text


def test_a_slow_answer_is_reported_as_slow(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    memfs_fuseblk.options = ["--syncfs", "0.2"]
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        ended = syncing.sync_file_system(running.mount_point)
        assert running.unmount()
        running.wait()
    found, _, code = report(out, capsys)
    (request,) = asked(found, ended.pid)
    assert 200_000_000 <= request["latency_ns"] < 5_000_000_000
    assert code == 0


def test_an_answer_that_never_came_is_reported_as_missing(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    memfs_fuseblk.options = ["--syncfs", "never"]
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        ended = syncing.sync_file_system(running.mount_point, timeout_s=0.5)
        assert ended.status is None
        assert running.unmount(timeout_s=0.3) is False
        assert running.wait(DEADLINE_S) == 0, running.output()
    found, text, code = report(out, capsys)
    (request,) = asked(found, ended.pid)
    if bridge == "strace":  # the server's calls do not show what becomes of a request when it ends
        assert (request["state"], request["latency_ns"], code) == ("PENDING", None, 1)
        assert "not answered when the trace ends" in text
    else:
        assert (request["state"], code) == ("ABORTED", 1)
        assert "never answered: the kernel ended it with ECONNABORTED" in text


def test_a_write_that_waits_for_its_answer_holds_syncfs_back_or_is_counted(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Since 5.15 the kernel waits for written-back WRITEs; a WRITE of write(2) itself may be open all the same."""
    out = tmp_path / "t.pcapng"
    memfs_fuseblk.options = ["--write-delay", "1"]
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        path = running.mount_point / "hello.txt"
        writer = subprocess.Popen(["sh", "-c", 'exec printf 12345 >"$0"', path])
        while not memfs_fuseblk.requests(16):
            mounts.run_child(["stat", "-f", running.mount_point], 5)
        ended = syncing.sync_file_system(running.mount_point)
        assert writer.wait(20) == 0
        assert running.unmount()
        running.wait()
    found, text, _ = report(out, capsys)
    (request,) = asked(found, ended.pid)
    assert (request["open_writes"], request["open_write_bytes"], request["covered_bytes"]) == (1, 5, 0)
    assert "1 WRITE (5 B) still unanswered" in text
    assert found["channels"][0]["submounts"][0]["unsynced_bytes"] == 5


def test_plain_fuse_says_why_there_is_none(
    bridge: str, make_server: MakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in (Memfs, Bindfs):
        server = make_server(kind)
        out = tmp_path / f"{kind.name}.pcapng"
        with server.started(launched(out, "--bridge", bridge)) as running:
            assert syncing.sync_file_system(running.mount_point).status == 0
            syncing.sync_everything()
            assert running.unmount()
            running.wait()
        found, text, code = report(out, capsys)
        (channel,) = found["channels"]
        assert (found["syncfs_count"], code, channel["kind"]) == (0, 0, "DEV_FUSE")
        assert "a plain fuse mount never sends SYNCFS" in channel["no_syncfs_because"][0]
        assert "no SYNCFS: a plain fuse mount never sends SYNCFS" in text
        assert text.rstrip().endswith("No SYNCFS in this trace.")


def test_a_fuseblk_mount_nobody_synced_names_the_unmount(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        mounts.run_child(["stat", running.mount_point], 10)  # mount(2) does not wait for the answer to INIT
        assert running.unmount()
        running.wait()
    found, _, _ = report(out, capsys)
    if found["syncfs_count"]:
        pytest.skip("somebody else called sync(2) in the meantime")
    assert found["channels"][0]["no_syncfs_because"] == [
        "the mount was unmounted: an unmount sends DESTROY, never SYNCFS"
    ]


def test_a_read_only_mount_that_was_attached_to_says_so(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    with memfs_fuseblk.started() as running:
        assert syncing.remount_read_only(running.mount_point).status == 0
        with recording(out, "--bridge", bridge, "--mount", str(running.mount_point)) as recorder:
            recorder.wait_for("attached to")
            assert syncing.sync_file_system(running.mount_point).status == 0
            mounts.run_child(["stat", running.mount_point / "hello.txt"], 10)
            assert recorder.stop() == 0, recorder.said
    found, _, code = report(out, capsys)
    assert (found["syncfs_count"], found["channels"][0]["read_only"], code) == (0, True, 0)
    assert "the superblock is mounted read-only: there is nothing to write" in found["channels"][0]["no_syncfs_because"]


def test_a_late_recorder_sees_syncfs_too(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    with memfs_fuseblk.started() as running:
        with recording(out, "--bridge", bridge, "--pid", str(running.pid)) as recorder:
            recorder.wait_for("attached to")
            ended = syncing.sync_file_system(running.mount_point)
            assert recorder.stop() == 0, recorder.said
        found, _, code = report(out, capsys)
    (request,) = asked(found, ended.pid)
    assert (request["error"], code) == (0, 0)


def test_syncfs_stands_out_in_show(bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path) -> None:
    out = tmp_path / "t.pcapng"
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        ended = syncing.sync_file_system(running.mount_point)
        assert running.unmount()
        running.wait()
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "tracer.cli.main",
            "show",
            str(out),
            "-Y",
            f"fuse.opcode == SYNCFS && fuse.pid == {ended.pid}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    heading, line = shown.stdout.splitlines()
    assert heading.split()[4] == "opcode"
    assert "◆" in line
    assert "SYNCFS" in line
    assert f"[{ended.pid}]" in line


CALLER = """
import ctypes, os, sys
open("/proc/self/comm", "w").write("my \x1b[31m sync")
fd = os.open(sys.argv[1], os.O_RDONLY)
ctypes.CDLL(None, use_errno=True).syncfs(fd)
print("done", flush=True)
sys.stdin.read()
"""


def test_who_asked_is_named_as_the_kernel_names_it_and_harmlessly(
    bridge: str, memfs_fuseblk: MemfsBlk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    with memfs_fuseblk.started(launched(out, "--bridge", bridge)) as running:
        with subprocess.Popen(
            [sys.executable, "-c", CALLER, running.mount_point],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as caller:
            assert caller.stdout is not None
            assert caller.stdin is not None
            assert caller.stdout.readline() == "done\n"
            running.process.send_signal(signal.SIGINT)  # ends the recording, while the caller is still there
            assert running.wait(DEADLINE_S) == 0, running.output()
            caller.stdin.close()
        assert running.unmount()
    found, text, _ = report(out, capsys)
    (request,) = asked(found, caller.pid)
    assert request["comm"] == "my \\x1b[31m sync"
    assert f"by my \\x1b[31m sync[{caller.pid}]: answered in" in text
    assert "\x1b" not in text
