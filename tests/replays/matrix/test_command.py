"""fusewire matrix: stdout is data, the exit code tells, and bad input is one line before any server is started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.replays.matrix.servers import entry, recording
from tests.replays.small_talk import small_talk
from tests.tracer.dialogue import UNLINK
from tracer.cli.main import main


@pytest.fixture
def matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function: a list of servers and words -> exit code, stdout, stderr; its last value stays."""
    trace, servers = recording(tmp_path), tmp_path / "servers.toml"

    def run(text: str, *words: object) -> tuple[int, str, str]:
        servers.write_text(text)
        code = main(["matrix", str(trace), str(servers), *map(str, words)])
        return code, *capsys.readouterr()

    return run


def test_servers_that_are_the_same_exit_with_0(matrix: Any) -> None:
    code, out, err = matrix(entry("is honest"))
    assert code == 0
    assert out.splitlines()[-1] == "1 server: 1 same"
    assert err == "fusewire: is honest: same\n"


@pytest.mark.parametrize("habit", ["too little", "exits"])
def test_a_server_that_differs_or_fails_exits_with_1(habit: str, matrix: Any) -> None:
    code, out, err = matrix(entry("is honest") + entry(habit))
    assert code == 1
    assert "2 servers: 1 same, 1 " in out
    assert err.startswith(f"fusewire: is honest: same\nfusewire: {habit}: ")


def test_nothing_played_is_no_success(matrix: Any) -> None:
    code, out, err = matrix(entry("is honest", skip='"not today"'))
    assert code == 2
    assert "not today" in out
    assert "no server was played" in err


def test_json_is_the_whole_of_stdout(matrix: Any, tmp_path: Path) -> None:
    code, out, _ = matrix(entry("too little") + entry("is honest"), "--json", "--html", tmp_path / "page.html")
    document = json.loads(out)
    assert code == 1
    assert [server["verdict"] for server in document["servers"]] == ["different", "same"]
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_source_of_the_command_line_stands_for_that_of_the_file(matrix: Any, tmp_path: Path) -> None:
    source = tmp_path / "other"
    source.mkdir()
    (source / "there").touch()
    text = 'source = "nowhere"\n' + entry("is honest", prepare='["test", "-e", "{source}/there"]')
    assert matrix(text, "--source", source)[0] == 0
    assert matrix(text)[0] == 2


def test_variables_and_servers_may_be_chosen(matrix: Any) -> None:
    text = '[variables]\nword = "false"\n' + entry("is honest", prepare='["{word}"]') + entry("exits")
    assert matrix(text, "--only", "is honest", "--set", "word=true")[0] == 0
    assert matrix(text, "--only", "is honest")[0] == 1


def test_requests_left_out_are_told_with_what_plays_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = small_talk()
    talk.talk(UNLINK, 1, b"file\0", b"")
    trace = talk.write_to(tmp_path / "t.pcapng")
    (tmp_path / "servers.toml").write_text(entry("is honest"))
    assert main(["matrix", str(trace), str(tmp_path / "servers.toml")]) == 0
    assert "1 request that would change files left out: allow_writes = true plays them" in capsys.readouterr().err


REFUSED = [
    (["--html", "{tmp}"], "cannot be written"),
    (["--html", "{tmp}/nowhere/page"], "cannot be written"),
    (["--html", "{tmp}/small.pcapng"], "the page would replace small.pcapng"),
    (["--html", "{tmp}/servers.toml"], "the page would replace servers.toml"),
    (["--live", "{tmp}/servers.toml"], "no place for live traces"),
    (["--source", "{tmp}/nowhere"], "is no directory"),
    (["--only", "nobody"], "there is no server 'nobody'"),
    (["--set", "a=b"], "has no variable 'a'"),
    (["--channel", "5"], "no request of a mount number 5"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_bad_input_is_one_line_and_2(words: list[str], message: str, matrix: Any, tmp_path: Path) -> None:
    before = (tmp_path / "small.pcapng").read_bytes()
    code, out, err = matrix(entry("is honest"), *[word.replace("{tmp}", str(tmp_path)) for word in words])
    assert (code, out) == (2, "")
    assert message in err.splitlines()[0]
    assert len(err.splitlines()) <= 2
    assert (tmp_path / "small.pcapng").read_bytes() == before


def test_a_live_trace_never_replaces_the_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = recording(tmp_path).rename(tmp_path / "01-is-honest.pcapng")
    before = trace.read_bytes()
    (tmp_path / "servers.toml").write_text(entry("is honest"))
    assert main(["matrix", str(trace), str(tmp_path / "servers.toml"), "--live", str(tmp_path)]) == 2
    assert "would replace the recording" in capsys.readouterr().err
    assert trace.read_bytes() == before


@pytest.mark.parametrize("words", [["--set", "x"], ["--jobs", "0"], ["--channel", "x"]])
def test_words_that_mean_nothing_are_usage(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["matrix", str(tmp_path / "a"), str(tmp_path / "b"), *words])
    assert ended.value.code == 2


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_signal_ends_the_servers_and_leaves_nothing(jobs: str, tmp_path: Path) -> None:
    trace, temporary = recording(tmp_path), tmp_path / "tmp"
    temporary.mkdir()
    text = entry("is honest") + "".join(entry("never", str(number)) for number in range(3))
    (tmp_path / "servers.toml").write_text(text)
    words = [sys.executable, "-m", "tracer.cli.main", "matrix", str(trace), str(tmp_path / "servers.toml")]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    words += ["--jobs", jobs]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == b"fusewire: is honest: same\n"
            while b"never" not in children_of(process.pid):
                assert process.poll() is None
            deadline_s = time.monotonic() + 15
            while process.poll() is None and time.monotonic() < deadline_s:
                process.send_signal(signal.SIGTERM)  # timeout(1) sends it twice, people press ^C again and again
            assert process.returncode == 128 + signal.SIGTERM
            assert not list(temporary.iterdir())
        finally:
            process.kill()


def children_of(pid: int) -> bytes:
    """Return the command lines of a process's children."""
    found = b""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            with contextlib.suppress(OSError):  # it has ended
                found += Path(f"/proc/{child}/cmdline").read_bytes()
    return found
