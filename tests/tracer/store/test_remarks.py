"""What was said of a whole trace is found from its end, whatever stands there."""

from __future__ import annotations

import struct
from itertools import islice
from pathlib import Path

import pytest

from tests.tracer.tui.sample import HOME, LOOKUP, ROOT, START_NS, request
from tracer.errors import TraceFileError
from tracer.records import Direction, RawRecord
from tracer.store.pcapng import MAX_OPTION
from tracer.store.remarks import remarks
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

END = b"end of capture"


def written(path: Path, *comments: bytes) -> Path:
    data = request(LOOKUP, 2, ROOT, b"a\0")
    with TraceWriter(path) as writer:
        writer.channel(HOME)
        writer.records([RawRecord(START_NS, 0, Direction.TO_SERVER, data, len(data))])
        writer.remarks(comments)
    return path


def test_remarks_come_back_the_last_one_first_and_the_trace_opens_as_ever(tmp_path: Path) -> None:
    path = written(tmp_path / "t.pcapng", b"one", b"x" * (MAX_OPTION + 9), b"three")
    assert list(remarks(path)) == [END, b"three", b"x" * MAX_OPTION, b"one"]
    trace = Trace.open(path)
    assert (trace.exchange_count, trace.gaps, trace.file.finished, trace.file.damaged) == (1, [], True, False)


def test_only_what_stands_at_the_end_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "t.pcapng", b"one")
    first = path.read_bytes()
    path.write_bytes(first + written(tmp_path / "again.pcapng", b"two").read_bytes())
    assert list(remarks(path)) == [END, b"two"]


def test_a_trace_cut_anywhere_yields_what_is_whole_or_nothing(tmp_path: Path) -> None:
    whole = written(tmp_path / "t.pcapng", b"one", b"two").read_bytes()
    path = tmp_path / "cut.pcapng"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert list(remarks(path)) in ([], [b"one"], [b"two", b"one"], [END, b"two", b"one"])


def test_a_length_that_points_anywhere_ends_the_search(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    block = struct.pack("<IIIII", 5, 24, 0, 0, 0)
    for total in (0, 8, 20, 23, 28, 1 << 20, 0xFFFF_FFFC):
        path.write_bytes(block + struct.pack("<I", total))
        assert list(islice(remarks(path), 3)) == []


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match=r"cannot read .*no-such"):
        list(remarks(tmp_path / "no-such"))
