"""From /proc: servers, mounts, connections and callers, without a question to any file system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo import mounts
from tests.servers.real import Bindfs
from tracer.bridges.host import processes, targets
from tracer.bridges.host.processes import CallerNames, Mount
from tracer.bridges.strace import command
from tracer.errors import CaptureError

LINE = "42 27 7:5 / /mnt/a\\040b\\134c rw,nosuid shared:1 master:2 - fuseblk.sub /dev/loop5 ro,user_id=0"


def test_a_line_of_mountinfo_is_read_with_its_escapes() -> None:
    mount = processes._mount(LINE)
    assert mount == Mount("/mnt/a b\\c", "fuseblk.sub", "/dev/loop5", "7:5", True)
    assert mount.is_fuse
    assert mount.connection == 7 << 20 | 5


@pytest.mark.parametrize("line", ["", "42 27 7:5 / /mnt rw", "42 27 7:5 / /mnt rw -", "a - b - c"])
def test_a_line_of_mountinfo_that_says_too_little_is_passed_over(line: str) -> None:
    assert processes._mount(line) is None


def test_a_process_that_is_gone_is_no_error() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert processes.status(ended.pid) == {}
    assert processes.command_line(ended.pid) == ""
    assert processes.device_fds(ended.pid) == []
    assert processes.mounts(ended.pid) == []
    assert (processes.thread_group(ended.pid), processes.tracer_of(ended.pid)) == (0, 0)
    assert not processes.is_alive(ended.pid)
    assert not processes.shares_pid_namespace(ended.pid)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(20)


def _request_of(pid: int) -> bytes:
    return bytes(32) + pid.to_bytes(4, "little") + bytes(4)


def test_a_caller_keeps_its_name_for_a_while_after_it_ended(sleeper: subprocess.Popen[bytes]) -> None:
    names = CallerNames()
    name = names.of_request(_request_of(sleeper.pid))
    assert name.startswith(b"python")
    _end(sleeper)
    assert names.of_request(_request_of(sleeper.pid)) == name


def test_a_caller_nobody_knows_has_no_name() -> None:
    names = CallerNames()
    assert names.of_request(_request_of(0)) == b""
    assert names.of_request(_request_of(2**32 - 1)) == b""
    assert names.of_request(b"cut") == b""


def test_the_names_of_callers_do_not_pile_up() -> None:
    names = CallerNames()
    for pid in range(CallerNames.LIMIT + 10):
        names.of_request(_request_of(2**31 + pid))
    assert len(names._names) <= CallerNames.LIMIT


@pytest.mark.e2e
@pytest.mark.root
def test_a_mount_is_found_through_links_and_by_the_command_line_of_its_server(bindfs: Bindfs, tmp_path: Path) -> None:
    with bindfs.started() as running:
        (tmp_path / "one").symlink_to("two")
        (tmp_path / "two").symlink_to(bindfs.directory.relative_to(tmp_path))
        mount = targets.find_mount(str(tmp_path / "one" / ".." / "one" / "mnt" / "dir"))
        assert mount.mount_point == str(bindfs.mount_point)
        assert mount.st_dev == mounts.fuse_mount_at(bindfs.mount_point).st_dev
        assert targets._servers_by_command(mount) == [running.pid]
        assert targets.servers_of_mount(str(bindfs.mount_point)) == [running.pid]
        assert processes.is_connected(running.pid)
        with pytest.raises(CaptureError, match="FUSE mounts here: "):
            targets.find_mount("/proc")


def test_links_that_go_round_are_no_mount(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CaptureError, match="not on a FUSE mount"):
        targets.find_mount(str(tmp_path / "a" / "x"))


def test_the_strace_of_other_times_is_asked_for_what_it_knows() -> None:
    old = command.capture_options(command.Strace("strace", (4, 26)), 512, ["-v"])
    new = command.capture_options(command.Strace("strace", (6, 1)), 512, ["-v"])
    assert "-ttt" in old
    assert not any(word.startswith("--") for word in old)
    assert "--timestamps=unix,ns" in new
    assert "status=!detached" in new
    assert old[-1] == new[-1] == "-v"


def test_keeping_all_is_longer_than_the_longest_message_of_this_kernel() -> None:
    assert command.string_limit(0) >= 256 * 4096 + 4096
    assert command.string_limit(77) == 77


@pytest.mark.parametrize(
    ("options", "dumps", "killable"),
    [
        ((), False, True),
        (("-e", "write=all"), True, True),
        (("-eread=4",), True, True),
        (("-e", "trace=read,write"), False, True),
        (("--seccomp-bpf",), False, False),
    ],
)
def test_options_of_the_user_that_change_what_we_do(options: tuple[str, ...], dumps: bool, killable: bool) -> None:
    assert (command.makes_dumps(options), command.may_kill(options)) == (dumps, killable)


def test_the_launch_and_attach_commands_end_with_their_targets() -> None:
    options = ["strace", "-f"]
    assert command.launch_command(options, Path("F"), ["server", "-o", "x"])[-4:] == ["--", "server", "-o", "x"]
    assert command.attach_command(options, Path("F"), [7, 8])[-4:] == ["-p", "7", "-p", "8"]
    assert os.fspath(Path("F")) in command.launch_command(options, Path("F"), ["server"])
