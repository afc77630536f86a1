"""A server's command is understood as people write it, and its program as it was built."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from replays.transports import command, launcher, process, programs
from tracer.errors import TracerError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the directories src and mnt and the file image in it, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "mnt").mkdir()
    (tmp_path / "image").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "served"),
    [
        ("bindfs -f src mnt", "bindfs -f src /dev/fd/5"),
        ("bindfs -f src not-there-yet", "bindfs -f src /dev/fd/5"),
        ("hello_ll -f mnt", "hello_ll -f /dev/fd/5"),
        ("hello_ll -f not-there-yet", "hello_ll -f /dev/fd/5"),
        ("sshfs host:/dir mnt -o idmap=user -f", "sshfs host:/dir /dev/fd/5 -o idmap=user -f"),
        ("passthrough_ll -o source=src mnt -f", "passthrough_ll -o source=src /dev/fd/5 -f"),
        ("squashfuse -f image mnt", "squashfuse -f image /dev/fd/5"),
        ("rclone mount remote: mnt --vfs-cache-mode full", "rclone mount remote: /dev/fd/5 --vfs-cache-mode full"),
        ("simple --data-dir src --mount-point not-there-yet", "simple --data-dir src --mount-point /dev/fd/5"),
        ("server {} src --cache mnt", "server /dev/fd/5 src --cache mnt"),
        ("server --at={} mnt", "server --at=/dev/fd/5 mnt"),
    ],
)
def test_the_mount_point_is_found_and_replaced(words: str, served: str, here: Path) -> None:
    assert command.parse(words.split()).serving("/dev/fd/5") == served.split()


def test_a_command_without_a_mount_point_says_how_to_mark_it() -> None:
    with pytest.raises(TracerError, match="names no mount point") as refused:
        command.parse(["server", "-f", "-o", "source=src"])
    assert "{}" in refused.value.hint


def test_two_marks_are_refused() -> None:
    with pytest.raises(TracerError, match="stands 2 times"):
        command.parse(["server", "{}", "{}"])


def test_libraries_are_those_the_dynamic_loader_would_load(tmp_path: Path) -> None:
    source = tmp_path / "program.c"
    source.write_text("#include <math.h>\nint main(int c, char **v) { return (int)cos(c); }\n")
    built = tmp_path / "program"
    subprocess.run(["gcc", "-Wl,--no-as-needed", "-o", built, source, "-lm"], check=True, timeout=60)
    assert programs.needed_libraries(built) == ("libm.so.6", "libc.so.6")
    subprocess.run(["gcc", "-static", "-o", built, source, "-lm"], check=True, timeout=60)
    assert programs.needed_libraries(built) == ()


def test_a_program_cut_or_changed_anywhere_is_read_without_a_fault(tmp_path: Path) -> None:
    whole = Path(shutil.which("true") or "").read_bytes()
    path = tmp_path / "program"
    for size in (0, 1, 6, 63, 64, 65, 400, 5000, len(whole) // 2):
        path.write_bytes(whole[:size])
        programs.needed_libraries(path)
    for at in range(6, 64):  # every byte of the header: tables that lie anywhere
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        programs.needed_libraries(path)


@pytest.mark.parametrize(
    ("program", "transport", "reason"),
    [
        ("sshfs", "fd", "sshfs needs libfuse3.so.3, which takes a connected descriptor for a mount point"),
        ("gocryptfs", "fd", "gocryptfs has go-fuse in it, which takes a connected descriptor for a mount point"),
        ("bindfs", "seccomp", "bindfs is no program of libfuse 3 or go-fuse; this suits whatever mounts by itself"),
        ("rclone", "seccomp", "rclone is no program of libfuse 3 or go-fuse; this suits whatever mounts by itself"),
    ],
)
def test_the_program_says_how_it_is_reached(program: str, transport: str, reason: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package {program})")
    assert launcher.choose([program, "mnt"]) == launcher.Choice(transport, reason)


def test_a_daemon_of_virtiofs_is_reached_by_vhost_user(tmp_path: Path) -> None:
    daemon = tmp_path / "virtiofsd"
    daemon.write_text("#!/bin/sh\n")
    daemon.chmod(0o755)
    assert launcher.choose([str(daemon)]).transport == "vhost-user"
    assert launcher.choose(["env", str(daemon), "--shared-dir=/srv"]).transport == "vhost-user"
    assert launcher.choose(["true", f"--log={daemon}", "virtiofsd"]).transport == "seccomp"
    assert launcher.choose([str(daemon)], "seccomp") == launcher.Choice("seccomp", "as you said")


def test_a_server_has_the_environment_it_is_given_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEWIRE_OURS", "1")
    child = process.start([sys.executable, "-c", "import os; print(dict(os.environ))"], environment={"THEIRS": "2"})
    assert child.has_ended(20)
    said = child.end().output
    assert "'THEIRS': '2'" in said
    assert "FUSEWIRE_OURS" not in said
