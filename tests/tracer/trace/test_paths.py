"""Paths asked for in any order are those of the names at that record."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectors.text import escape
from tests.tracer.dialogue import Dialogue
from tests.tracer.mangled import mangled_trace
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace


def assert_right(trace: Trace, rows: list[int]) -> None:
    paths = trace.paths()
    for row in rows:
        channel, nodeid = int(trace.records["channel"][row]), int(trace.records["nodeid"][row])
        path = trace.path(row)
        assert (paths.text(channel, nodeid, row) if nodeid else None) == (None if path is None else escape(path))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_paths_are_right_forwards_backwards_and_in_leaps(seed: int, tmp_path: Path) -> None:
    trace = mangled_trace(tmp_path / "t.pcapng", seed, share=0.05)
    rows = list(range(trace.records.count))
    assert_right(trace, rows)
    assert_right(trace, rows[::-1])
    random.Random(seed).shuffle(rows)
    assert_right(trace, rows)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_lies_in_a_directory_moves_with_it(reverse: bool, tmp_path: Path) -> None:
    said = Dialogue()
    said.init()
    said.lookup(1, b"dir", 2)
    said.lookup(2, b"file", 3)
    before = said.talk(3, 3, bytes(16))
    said.rename((1, b"dir"), (1, b"moved"))
    after = said.talk(3, 3, bytes(16))
    said.unlink(2, b"file")
    gone = said.talk(3, 3, bytes(16))
    paths = said.trace(tmp_path).paths()
    wanted = [(before, "/dir/file"), (after, "/moved/file"), (gone, "/moved/file (deleted)")]
    for row, path in wanted[::-1] if reverse else wanted:
        assert paths.text(0, 3, row) == path


def test_paths_of_a_channel_without_names_are_unknown_but_for_its_root(tmp_path: Path) -> None:
    said = Dialogue()
    said.init()
    paths = said.trace(tmp_path).paths()
    assert paths.text(0, 1, 0) == "/"
    assert paths.text(0, 7, 0) is None
    assert paths.text(9, 1, 0) == "/"
    assert paths.text(9, 2, 0) is None


def test_paths_learnt_while_a_trace_grows_are_used(tmp_path: Path) -> None:
    said = Dialogue()
    said.init()
    with TraceWriter(tmp_path / "growing.pcapng") as writer:
        said.feed(writer)
        trace = Trace.open(tmp_path / "growing.pcapng")
        paths = trace.paths()
        assert paths.text(0, 2, 1) is None
        said.lookup(1, b"new", 2)
        writer.records(said.records[2:])
        trace.refresh()
        trace.advance_state()
        assert paths.text(0, 2, 3) == "/new"
