"""The command line itself: exit codes, one-line errors with the next step, help, streams, terminals and pipes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracer.dialogue import GETATTR, Dialogue
from tracer.cli.commands.doctor import Doctor
from tracer.cli.main import COMMANDS, main
from tracer.cli.main import run as run_command_line
from tracer.records import ChannelInfo

SAMPLES = Path(__file__).parent.parent.parent / "data" / "strace"
PROGRAM = [sys.executable, "-m", "tracer.cli.main"]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    talk = Dialogue()
    talk.init()
    talk.syncfs()
    return talk.write_to(tmp_path / "t.pcapng")


def run(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


def fails(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[str, str]:
    """Run a command that must fail; return its one line and its hint."""
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, *rest = err.splitlines()
    assert first.startswith("fusewire: ")
    assert len(rest) <= 1
    return first.removeprefix("fusewire: "), rest[0].strip() if rest else ""


# ---- help and usage ----


def test_help_names_every_command_and_the_exit_codes() -> None:
    ended = run("--help")
    assert ended.returncode == 0
    assert all(f"\n    {name}" in ended.stdout for name, *_ in COMMANDS)
    assert "Exit codes: 0 fine, 1 a finding, 2 usage or bad input, 3 the capture lost records, 70 a bug." in " ".join(
        ended.stdout.split()
    )


@pytest.mark.parametrize("command", [name for name, *_ in COMMANDS])
def test_each_command_has_help_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: fusewire {command} ")
    assert "--help" in shown


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("fusewire 0.")


def test_no_command_shows_the_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: fusewire" in err


def test_a_trace_keeps_its_command_as_it_was_typed_not_where_fusewire_lies(tmp_path: Path) -> None:
    (tmp_path / "log").write_text((SAMPLES / "bindfs-best.strace").read_text())
    run("import", "log", "-o", "t", cwd=tmp_path)
    assert b"fusewire trace; command: fusewire import log -o t" in (tmp_path / "t").read_bytes()


@pytest.mark.parametrize("words", [["nonsense"], ["show", "--nonsense"], ["sync"], ["record"], ["import"]])
def test_a_usage_error_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: fusewire" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["show", "f", "-c", "x"], "'x' is no number from 0 on"),
        (["show", "f", "-c", "-1"], "'-1' is no number from 0 on"),
        (["show", "f", "--minor", "8.1"], "'8.1' is no protocol minor up to 46: write 31, or 7.31"),
        (["sync", "f", "--minor", "7.x"], "'7.x' is no protocol minor"),
        (["sync", "f", "--minor", "256"], "'256' is no protocol minor"),
        (["sync", "f", "--minor", "\u0661"], "is no protocol minor"),
        (["record", "-o", "f", "--pid", "me"], "'me' is no number from 1 on"),
        (["record", "-o", "f", "--pid", "-3"], "'-3' is no number from 1 on"),
        (
            ["record", "-o", "f", "--snap", "lots", "--pid", "1"],
            "'lots' is neither a number of bytes nor headers, listings or all",
        ),
        (["show", "f", "-T", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_a_bad_value_is_explained_in_the_users_words(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert reason in err
    assert "_" not in err.splitlines()[-1].replace("strace_option", "")


# ---- bad input ----


@pytest.mark.parametrize("command", ["show", "sync"])
@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "is empty", "was the recorder stopped before its first write?"),
        (b"12 read(3</dev/fuse>, ...) = 40\n", "is not a pcapng file", "fusewire import"),
        (b"\x1f\x8b\x08\0\0\0", "is not a pcapng file", "unpack it first"),
        (None, "No such file", "give the name of a trace"),
    ],
    ids=["empty", "text", "gzip", "missing"],
)
def test_what_is_no_trace_is_one_line_with_the_next_step(
    command: str,
    content: bytes | None,
    message: str,
    hint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "t"
    if content is not None:
        path.write_bytes(content)
    first, next_step = fails(capsys, command, path)
    assert message in first
    assert hint in next_step


def test_a_directory_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = fails(capsys, "show", tmp_path)
    assert first.endswith("is a directory")


def test_a_trace_of_a_newer_version_is_one_line(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = trace.read_bytes()
    trace.write_bytes(content.replace(b"\0\0\0\0\x01\x30\0", b"\0\0\0\0\x07\x30\0"))
    first, hint = fails(capsys, "show", trace)
    assert "was made by a newer fusewire (record format 7, this one reads 1)" in first
    assert hint == "update fusewire"


def test_show_wants_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, "show") == ("which trace?", "fusewire show FILE")


def test_an_unknown_field_gets_the_nearest_name(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, hint = fails(capsys, "show", trace, "-T", "fields", "-e", "fuse.opcod")
    assert first == "there is no field 'fuse.opcod'"
    assert hint == "did you mean fuse.opcode?"
    _, hint = fails(capsys, "show", trace, "-T", "csv", "-e", "xyzzy")
    assert "fusewire show --fields" in hint


def test_a_field_without_a_format_that_has_columns_is_refused(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, hint = fails(capsys, "show", trace, "-e", "fuse.opcode")
    assert hint == "add -T fields"


def test_a_fault_in_a_filter_is_pointed_at_in_its_column(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(trace), "-Y", "fuse.opcode == SYNCFS && fuse.nonsense > 3"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "fusewire: fuse.opcode == SYNCFS && fuse.nonsense > 3"
    assert lines[1].index("^") == lines[0].index("fuse.nonsense")


def test_every_field_name_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--fields"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 300
    assert any(line.startswith("fuse.write.size ") for line in lines)


# ---- what a trace lacks ----


def test_loss_damage_and_assumptions_are_told_on_stderr_by_show_and_sync(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = Dialogue(channels=[ChannelInfo("/mnt")])
    talk.talk(GETATTR, unique=2)
    talk.talk(GETATTR, unique=8)
    for number in range(25):
        talk.gap(number, "the ring was full")
    path = talk.write_to(tmp_path / "t.pcapng")
    content = path.read_bytes()
    path.write_bytes(content + b"damage!!" * 3 + content[:-10])
    for command in ("show", "sync"):
        assert main([command, str(path)]) == 0
        said = capsys.readouterr().err
        assert "24 bytes of the file skipped, which are damaged" in said
        assert "bytes of the file are no whole block" in said
        assert "some records lost: the ring was full" in said
        assert "1 record lost: the ring was full" in said
        assert said.count("the ring was full") == 20
        assert "records were lost in 30 more places" in said
        assert "2 requests of /mnt may be missing: uniques that never came, first 4" in said
        assert "/mnt: no answer to INIT was captured, its protocol minor is assumed; --minor N says otherwise" in said
        assert main([command, str(path), "--minor", "7.31"]) == 0
        assert "assumed" not in capsys.readouterr().err


def test_a_whole_trace_is_shown_without_a_word_on_stderr(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(trace)]) == 0
    assert capsys.readouterr().err == ""


def test_the_minor_given_is_the_one_decoded_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """INIT's own reply is read as long as it is; SETATTR's reply before 7.9 has no blksize and padding."""
    talk = Dialogue(channels=[ChannelInfo("/mnt")])
    talk.talk(GETATTR, 1, b"", bytes(96))
    path = talk.write_to(tmp_path / "t.pcapng")
    assert main(["show", str(path), "--minor", "8"]) == 0
    assert "malformed" not in capsys.readouterr().out


def test_sync_exits_with_1_for_a_finding_and_0_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for error, code in ((0, 0), (-5, 1)):
        talk = Dialogue()
        talk.syncfs(error=error)
        path = talk.write_to(tmp_path / f"{code}.pcapng")
        assert main(["sync", str(path)]) == code
        assert main(["sync", str(path), "--json"]) == code
        shown = capsys.readouterr().out
        assert json.loads(shown[shown.index("{") :])["finding"] is bool(code)


# ---- streams ----


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    talk = Dialogue()
    for _ in range(20_000):
        talk.talk(GETATTR, 1, bytes(16), bytes(104))
    path = talk.write_to(tmp_path / "t.pcapng")
    for options in ([], ["-T", "ndjson"], ["-T", "json"], ["-T", "csv"]):
        with subprocess.Popen(
            [*PROGRAM, "show", path, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.read(100)
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == b""
            assert process.wait(60) == 0


def test_colours_are_for_terminals(trace: Path) -> None:
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen([*PROGRAM, "show", trace], stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(leader, 65536):
                seen += piece
        assert process.wait(60) == 0
    os.close(leader)
    assert b"\x1b[1;30;43m" in seen
    assert "\x1b" not in run("show", trace).stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_locale_that_cannot_show_our_signs_is_no_error(encoding: str, trace: Path) -> None:
    ended = subprocess.run(
        [*PROGRAM, "show", trace, "-V"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ("◆".encode() in ended.stdout) is (encoding == "utf-8")
    assert (b"\\u25c6" in ended.stdout) is (encoding != "utf-8")


def test_a_bug_is_a_harmless_traceback_with_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise AssertionError("no such \x1b[31mstate")

    monkeypatch.setattr(Doctor, "run", fail)
    assert run_command_line(["doctor"]) == 70
    words = capsys.readouterr().err
    assert "Traceback" in words
    assert "in fail" in words
    assert r"no such \x1b[31mstate" in words
    assert "please report it" in words


def test_data_goes_to_stdout_and_narration_to_stderr(trace: Path) -> None:
    trace.write_bytes(trace.read_bytes()[:-3])
    ended = run("show", trace, "-T", "json")
    assert len(json.loads(ended.stdout)) == 2
    assert "no whole block" in ended.stderr


# ---- import ----


def test_importing_a_log_gives_a_trace_and_says_what_it_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.pcapng"
    assert main(["import", str(SAMPLES / "bindfs-best.strace"), "-o", str(out)]) == 0
    said = capsys.readouterr().err
    assert f"113 records in {out}" in said
    assert "fusewire: channel 0:" in said
    assert main(["show", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 58


def test_without_o_the_trace_lies_beside_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "some.log"
    log.write_bytes((SAMPLES / "bindfs-cut-at-64.strace").read_bytes())
    assert main(["import", str(log)]) == 0
    assert (tmp_path / "some.log.pcapng").exists()
    assert "10088 bytes of messages are not in the log" in capsys.readouterr().err


def test_an_import_that_lost_records_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = SAMPLES / "fuse-overlayfs-splice-hidden.strace"
    assert main(["import", str(log), "-o", str(tmp_path / "t.pcapng")]) == 3
    said = capsys.readouterr().err
    assert "known to be lost:" in said
    assert main(["show", str(tmp_path / "t.pcapng")]) == 0
    assert "lost" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"execve(...) = 0\n+++ exited with 0 +++\n", "without any FUSE message"), (bytes(100), "")],
    ids=["empty", "no-fuse", "zeros"],
)
def test_a_log_without_fuse_in_it_is_refused_in_one_line(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_bytes(content)
    first, hint = fails(capsys, "import", log, "-o", tmp_path / "t.pcapng")
    assert message in first
    assert hint
    assert list(tmp_path.iterdir()) == [log]


def test_a_log_that_is_missing_is_refused_and_the_older_trace_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = tmp_path / "t.pcapng"
    older.write_bytes(b"older")
    first, _ = fails(capsys, "import", tmp_path / "none", "-o", older)
    assert "none" in first
    assert older.read_bytes() == b"older"


def test_a_log_is_not_imported_onto_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"precious")
    first, hint = fails(capsys, "import", log, "-o", log)
    assert first.endswith("is the log itself")
    assert "-o" in hint
    assert log.read_bytes() == b"precious"


@pytest.mark.parametrize("place", [".", "no/such/place/t.pcapng"])
def test_a_place_that_takes_no_trace_is_refused(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, hint = fails(capsys, "import", SAMPLES / "squashfuse.strace", "-o", tmp_path / place)
    assert "-o" in hint


# ---- commands for terminals, and doctor ----


@pytest.mark.parametrize("words", [["open"], ["live", "--pid", "1"]])
def test_the_terminal_ui_wants_a_terminal(words: list[str], trace: Path) -> None:
    ended = run(*words, *([trace] if words == ["open"] else []), stdin=subprocess.DEVNULL)
    assert ended.returncode == 2
    assert "the terminal UI needs a terminal" in ended.stderr
    assert ended.stdout == ""


def test_doctor_names_what_is_there_and_how_to_mend_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(ended.stdout)}
    assert {"kernel", "/dev/fuse", "strace", "ptrace"} <= set(checks)
    assert os.uname().release in checks["kernel"]["fact"]
    assert ended.returncode == int(any(check["verdict"] == "missing" for check in checks.values()))
    without = run("doctor", env={**os.environ, "PATH": "/nonexistent"})
    assert without.returncode == 1
    assert "mend: apt install strace" in without.stdout
