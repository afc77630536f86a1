"""What is read from many bodies at once is what the careful decoder reads from each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectors.layout import Context
from tests.tracer.dialogue import Dialogue
from tests.tracer.mangled import mangled_trace
from tracer.trace.columns import Rows
from tracer.trace.events import BodyReader, Read
from tracer.trace.trace import Trace


class CarefulAlone(BodyReader):
    """Reads nothing at once, so that every event is decoded with care."""

    def read(self, rows: Rows, stretches: Iterable[tuple[Rows, Context]]) -> Read:
        return Read.nothing(len(rows))


def what_is_known(trace: Trace) -> dict[object, object]:
    found: dict[object, object] = {"submounts": trace.submounts}
    for row in range(trace.records.count):
        nodeid, channel = int(trace.records["nodeid"][row]), int(trace.records["channel"][row])
        names = trace.names(channel)
        found[row] = trace.path(row), trace.submount(row), names.nlookup(nodeid), names.submount(nodeid, row)
    return found


def assert_same(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    found = what_is_known(trace)
    with monkeypatch.context() as patch:
        patch.setattr("tracer.trace.state.BodyReader", CarefulAlone)
        careful = Trace.open(trace.file.path)
        assert isinstance(careful._state._reader, CarefulAlone)
    assert found == what_is_known(careful)


@pytest.mark.parametrize("big_endian", [False, True])
def test_names_of_a_whole_trace_are_those_the_careful_decoder_finds(
    big_endian: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(mangled_trace(tmp_path / "t.pcapng", 1, share=0, big_endian=big_endian), monkeypatch)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), big_endian=st.booleans())
def test_names_of_a_mangled_trace_are_those_the_careful_decoder_finds(
    seed: int, big_endian: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(mangled_trace(tmp_path / "t.pcapng", seed, big_endian=big_endian), monkeypatch)


@pytest.mark.parametrize("snap", range(16, 800, 7))
def test_a_listing_cut_at_any_length_names_what_was_wholly_kept(
    snap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Dialogue()
    said.init()
    said.readdirplus(1, [(b".", 1, False), (b"one", 2, False), (b"second", 3, True), (b"x" * 30, 4, False)])
    record = said.records[-1]
    said.entries[-1] = record._replace(data=record.data[:snap], wire_len=len(record.data))
    said.talk(3, 3, bytes(16))
    said.talk(3, 4, bytes(16))
    assert_same(said.trace(tmp_path), monkeypatch)


def test_a_session_that_began_anew_is_read_by_what_it_agreed_on_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Dialogue()
    said.init(minor=8)  # entries are 8 bytes shorter: no blksize, no flags
    entry = said.entry_out(2)[:-8]
    said.talk(1, 1, b"old\0", entry)
    said.init()
    said.lookup(1, b"new", 3, submount=True)
    trace = said.trace(tmp_path)
    assert [trace.path(row) for row in (2, 6)] == [b"/", b"/"]
    assert [trace.names(0).path(nodeid, 99) for nodeid in (2, 3)] == [b"/old", b"/new"]
    assert trace.submounts == [(0, 1), (0, 3)]
    assert_same(trace, monkeypatch)
