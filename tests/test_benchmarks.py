"""The benchmarks run: what they measure cannot rot unseen. No figure is asserted here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import make_trace, strace_log
from benchmarks.__main__ import CASES
from dissectors.opcodes import OPS_BY_NAME
from tracer.trace.columns import Kind
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

ROOT = Path(__file__).parents[1]


def test_every_case_runs_and_gives_rows() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--no-tshark"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("measuring:")] == [
        f"measuring: {name}" for name in CASES
    ]
    for work in (
        "open + index, cold",
        "memory of the index",
        "filter fuse.opcode == READ",
        "batch JSON",
        "write a trace",
    ):
        assert f"| {work}" in result.stdout


def test_a_made_trace_is_the_same_each_time_and_as_long_as_asked() -> None:
    first, second = ([*make_trace.records(2000, channels=2, seed=5)] for _ in range(2))
    assert first == second
    assert len(first) == 2000
    assert [record.t_ns for record in first] == sorted(record.t_ns for record in first)
    assert first != [*make_trace.records(2000, channels=2, seed=6)]


def test_a_made_trace_is_a_dialogue_as_kernels_hold_it(tmp_path: Path) -> None:
    make_trace.make(tmp_path / "made.pcapng", 20_000, submounts=3)
    trace = Trace.open(tmp_path / "made.pcapng")
    counts = np.bincount(trace.states(), minlength=len(State))
    # Replies that found their request, what needs none, and what was in flight when the recording ended.
    assert counts[State.DONE.value] + counts[State.NO_REPLY.value] + counts[State.PENDING.value] == trace.exchange_count
    assert counts[State.PENDING.value] <= make_trace.IN_FLIGHT
    assert trace.missing_uniques() == []
    assert len(trace.submounts) == 4
    asked = set(trace.records["opcode"][trace.records["kind"] == Kind.REQUEST].tolist())
    wanted = (
        "INIT LOOKUP GETATTR SETATTR OPEN READ WRITE RELEASE FLUSH FSYNC CREATE UNLINK RENAME FORGET BATCH_FORGET "
        "OPENDIR READDIRPLUS RELEASEDIR GETXATTR STATFS SYNCFS"
    )
    assert asked == {OPS_BY_NAME[name].code for name in wanted.split()}
    for row in range(trace.records.count):
        problems = trace.message(row).problems
        was_cut = trace.records["kept"][row] < trace.records["wire_len"][row]
        assert was_cut or not problems, trace.message(row)


def test_a_log_in_the_form_of_strace_escapes_as_strace_does() -> None:
    # string_quote() in strace's util.c: the shortest octal form, three digits before another digit.
    assert strace_log.quoted(b'\0a\x001\t"\\\xff\x7f', 9) == rb'"\0a\0001\t\"\\\377\177"'
    assert strace_log.quoted(b"abc", 5) == b'"abc"...'
