"""What cannot be imported or traced is refused in one line that says what to do."""

from __future__ import annotations

import gzip
import os
import subprocess
import threading
from pathlib import Path

import pytest

from examples.demo import possible
from tests.tracer.bridges.collecting import LOGS, Collected
from tracer.bridges.strace import StraceBridge, StraceLog
from tracer.errors import CaptureError, TraceFileError, TracerError


def _import_refused(path: Path) -> TraceFileError:
    with pytest.raises(TraceFileError) as refused:
        StraceLog(path).run(Collected(), threading.Event())
    return _one_line(refused.value)


def _capture_refused(**target: object) -> TracerError:
    if (reason := possible.why_no_program("strace", "strace")) is not None:
        pytest.skip(reason)
    with pytest.raises(CaptureError) as refused:
        StraceBridge(**target).run(Collected(), threading.Event())  # type: ignore[arg-type]
    return _one_line(refused.value)


def _one_line(error: TracerError) -> TracerError:
    assert "\n" not in str(error)
    assert str(error).isprintable()
    return error


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    error = _import_refused(tmp_path / "log")
    assert "is empty" in error.message
    assert "strace -f" in error.hint


def test_a_file_that_is_not_a_strace_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"May 3 12:00:00 host kernel: fuse: init\n" * 50 + os.urandom(5000))
    assert "not a strace log" in _import_refused(tmp_path / "log").message


def test_a_huge_file_that_is_not_a_strace_log_is_given_up_early(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log:
        log.truncate(1 << 40)  # a hole: reading all of it would take hours
    assert "not a strace log" in _import_refused(tmp_path / "log").message


def test_a_strace_log_without_fuse(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(
        b'1 read(3</etc/passwd>, "root"..., 4096) = 3000\n1 exit_group(0) = ?\n1 +++ exited with 0 +++\n'
    )
    error = _import_refused(tmp_path / "log")
    assert "without any FUSE message" in error.message
    assert "-yy" in error.hint


def test_a_log_that_keeps_no_byte(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b'1 read(3</dev/fuse>, ""..., 4096) = 56\n1 read(3</dev/fuse>, ""..., 4096) = 56\n')
    error = _import_refused(tmp_path / "log")
    assert "the bytes of none" in error.message
    assert "-s 0" in error.hint


def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    (tmp_path / "gz").write_bytes(gzip.compress((LOGS / "squashfuse.strace").read_bytes()))
    (tmp_path / "pcapng").write_bytes(b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a")
    assert "gunzip" in _import_refused(tmp_path / "gz").hint
    assert "fusewire show" in _import_refused(tmp_path / "pcapng").hint


def test_a_file_that_is_not_there_and_a_directory(tmp_path: Path) -> None:
    assert "no such file" in _import_refused(tmp_path / "log").message
    assert "no such file" in _import_refused(tmp_path / "no" / "log").message
    assert "Is a directory" in _import_refused(tmp_path).message


def test_a_name_with_control_characters_is_shown_escaped(tmp_path: Path) -> None:
    assert "\\x1b[31m" in _import_refused(tmp_path / "\x1b[31mlog").message


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    assert "not there" in _capture_refused(server_argv=["./no-such-server", "mnt"]).message
    (tmp_path / "text").write_text("hello")
    assert "not executable" in _capture_refused(server_argv=[str(tmp_path / "text")]).message


def test_a_process_that_is_not_there() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert f"no process {ended.pid}" in _capture_refused(pid=ended.pid).message


def test_a_process_that_waits_to_be_reaped() -> None:
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert "has ended" in _capture_refused(pid=ended.pid).message
    finally:
        ended.wait()


def test_our_own_process() -> None:
    assert "itself" in _capture_refused(pid=os.getpid()).message


def test_a_directory_that_is_on_no_fuse_mount(tmp_path: Path) -> None:
    assert "not on a FUSE mount" in _capture_refused(mount=tmp_path).message


def test_no_strace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CaptureError) as refused:
        StraceBridge(pid=1).run(Collected(), threading.Event())
    error = refused.value
    assert "not installed" in error.message
    assert "apt-get install strace" in error.hint


def test_something_that_only_has_the_name_of_strace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "strace").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "strace").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "which version" in _capture_refused(pid=1).message


def test_one_target_only() -> None:
    with pytest.raises(ValueError, match="one of"):
        StraceBridge(pid=1, mount="/mnt")
