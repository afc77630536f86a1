"""What a run promises of any scenario: steps in time, the reason of a failure, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dissectors.opcodes import OPS_BY_NAME
from tests.lab.conftest import skip_where_it_cannot_run
from tracer.cli.main import main
from tracer.lab import scenarios
from tracer.lab.judging import exchanges_in
from tracer.lab.run import run
from tracer.lab.scenario import Evidence, Live, Scenario, Variant
from tracer.lab.verdict import Verdict

pytestmark = pytest.mark.vm
END_S = 60.0
RELEASEDIR = OPS_BY_NAME["RELEASEDIR"].code


def nothing(_: Evidence) -> Iterator[None]:
    yield from ()


BARE = Scenario("bare", "a test", "mount_at /mnt/v", nothing)  # type: ignore[arg-type]


def ran(scenario: Scenario, directory: Path) -> Verdict:
    skip_where_it_cannot_run("submount-sync", "6.1", "c")
    return run(scenario, Variant(daemon="c"), directory, lambda note: None)


def test_the_host_acts_while_the_guest_waits_and_the_guest_sees_what_it_did(tmp_path: Path) -> None:
    seen: list[int] = []

    def act(live: Live) -> None:
        (live.served.source / "of the host").write_text("hello\n")
        seen.append(live.trace_when(lambda trace: RELEASEDIR in trace.records["opcode"]).exchange_count)

    script = "mount_at /mnt/v; ls /mnt/v > /dev/null; step write; cat '/mnt/v/of the host'; step end; sync"
    verdict = ran(replace(BARE, script=script, host={"write": act}), tmp_path)
    assert verdict.holds
    evidence = verdict.evidence
    assert evidence.step("write").lines == ("hello",)
    before, during = (exchanges_in(evidence.trace, evidence.step(name)) for name in ("boot", "write"))
    assert next(one.message.name for one in before) == "INIT"
    assert "OPEN" in [one.message.name for one in during]
    assert "SYNCFS" not in [one.message.name for one in during]
    assert seen == [len(before)], "the guest waits, so the trace has all of it and no more"


def test_a_command_that_fails_is_told_with_its_step_and_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_where_it_cannot_run("submount-sync", "6.1", "c")
    failing = replace(BARE, script="step nowhere; ls /nowhere")
    monkeypatch.setattr(scenarios, "SCENARIOS", (failing,))
    assert main(["lab", "bare", "-o", str(tmp_path)]) == 1
    told = "a command ended with 1, in step nowhere; printed last: ls: /nowhere: No such file or directory"
    assert f"  FAILED the guest runs the whole script: {told}" in capsys.readouterr().out.splitlines()
    verdict = json.loads((tmp_path / "bare" / "verdict.json").read_text())
    assert (verdict["holds"], verdict["findings"][0]["words"]) == (False, told)


def test_a_daemon_that_dies_is_told_and_ends_the_guest(tmp_path: Path) -> None:
    began = time.monotonic()
    script = "mount_at /mnt/v; step kill; ls /mnt/v"
    verdict = ran(replace(BARE, script=script, host={"kill": lambda live: live.served.process.terminate()}), tmp_path)
    assert verdict.findings[0].words == "its daemon ended before it did, in step kill"
    assert time.monotonic() - began < BARE.timeout_s


def test_a_guest_that_hangs_is_ended_in_time(tmp_path: Path) -> None:
    verdict = ran(replace(BARE, script="step hang; sleep 1000", timeout_s=15), tmp_path)
    assert verdict.findings[0].words == "it did not end within 15 s, in step hang"


@contextlib.contextmanager
def booting(out: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run the command until there is a guest; yield it, and the directory for its temporary files."""
    skip_where_it_cannot_run("submount-sync", "6.1", "c")
    with tempfile.TemporaryDirectory(prefix="lab-") as place:  # short, for sockets lie in it
        process = subprocess.Popen(
            [sys.executable, "-m", "tracer.cli.main", "lab", "-o", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": place},
            start_new_session=True,
        )
        wait_until(lambda: bool(processes_naming(place, "qemu-system")), process)
        yield process, Path(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_neither_process_nor_file_behind(tmp_path: Path, number: int) -> None:
    with booting(tmp_path) as (process, place):
        process.send_signal(number)
        assert process.wait(END_S) == 128 + number
        assert processes_naming(str(place)) == []
        assert list(place.iterdir()) == []


def test_what_was_started_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    with booting(tmp_path) as (process, place):
        process.kill()
        process.wait(END_S)
        wait_until(lambda: not processes_naming(str(place)))


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Look again and again; AssertionError when it takes too long, or `process` ends before."""
    deadline, pause = time.monotonic() + END_S, threading.Event()
    while not holds():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, "it ended before there was a guest"
        pause.wait(0.05)


def processes_naming(*words: str) -> list[str]:
    """Return the command lines of processes that hold all of these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if all(word in line for word in words):
            found.append(line)
    return found
