"""Paths of many exchanges at once are those that the trace gives one by one, whatever was renamed in between."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracer.dialogue import GETATTR, Dialogue
from tracer.filters.paths import Path as PathSource
from tracer.filters.paths import Stretches
from tracer.trace.names import MAX_DEPTH
from tracer.trace.trace import Trace

NODES = st.integers(1, 5)
NAMES = st.sampled_from((b"a", b"b", b"c"))
PLACES = st.tuples(NODES, NAMES)
EVENTS = st.one_of(
    st.tuples(st.just("lookup"), NODES, NAMES, st.integers(2, 6)),
    st.tuples(st.just("rename"), PLACES, PLACES),
    st.tuples(st.just("exchange"), PLACES, PLACES),
    st.tuples(st.just("unlink"), NODES, NAMES),
    st.tuples(st.just("link"), st.integers(2, 6), NODES, NAMES),
    st.tuples(st.just("forget"), st.integers(2, 6), st.integers(1, 3)),
    st.tuples(st.just("use"), st.integers(0, 7)),
)


def said_about(events: list[tuple]) -> Dialogue:
    said = Dialogue()
    for kind, *arguments in events:
        match kind:
            case "rename":
                said.rename(*arguments)
            case "exchange":
                said.rename2(*arguments, flags=2)
            case "use":
                said.talk(GETATTR, arguments[0], bytes(16))
            case _:
                getattr(said, kind)(*arguments)
    return said


def paths_of(trace: Trace) -> dict[int, bytes]:
    numbers = np.arange(trace.exchange_count, dtype=np.int64)
    return {place: path for places, path in PathSource().groups(trace, numbers) for place in places.tolist()}


@settings(max_examples=200)
@given(st.lists(EVENTS, max_size=30))
def test_paths_are_the_same_at_once_and_one_by_one(events: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trace = said_about(events).trace(Path(directory))
        one_by_one = {number: trace.path(int(row)) for number, row in enumerate(trace.first_rows)}
        assert paths_of(trace) == {number: path for number, path in one_by_one.items() if path is not None}


def test_rows_asked_about_in_any_order_have_the_same_paths(tmp_path: Path) -> None:
    events = [("lookup", 1, b"a", 2), ("use", 2), ("rename", (1, b"a"), (1, b"b")), ("use", 2), ("unlink", 1, b"b")]
    trace = said_about([*events, ("use", 2)]).trace(tmp_path)
    names, stretches = trace.names(0), Stretches(trace.names(0))
    for row in [*range(trace.records.count), *reversed(range(trace.records.count))]:
        assert stretches.path(2, row)[0] == names.path(2, row)


def test_a_server_s_tree_without_end_has_no_paths_and_takes_no_memory(tmp_path: Path) -> None:
    said = Dialogue()
    for nodeid in range(2, MAX_DEPTH + 20):
        said.lookup(nodeid - 1, b"n" * 200, nodeid)
    trace = said.trace(tmp_path)
    stretches, names, last = Stretches(trace.names(0)), trace.names(0), trace.records.count - 1
    for nodeid in (50, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, MAX_DEPTH + 19):
        assert stretches.path(nodeid, last)[0] == names.path(nodeid, last)
    assert stretches.path(MAX_DEPTH + 19, last)[0] is None
    assert sum(len(one.path or b"") for one in stretches._known.values()) < 1 << 24


def test_nodes_that_contain_one_another_have_no_path(tmp_path: Path) -> None:
    said = Dialogue()
    said.lookup(3, b"a", 2)
    said.lookup(2, b"b", 3)
    said.talk(GETATTR, 2, bytes(16))
    assert 2 not in paths_of(said.trace(tmp_path))
