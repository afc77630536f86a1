"""What is kept of differences is bounded however many there are and however long; none is left uncounted."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import replays.playing.judge as judging
from replays.options import ReplayOptions
from replays.parting import ALWAYS_WHOLE, KEPT_BYTES, MOST_WHOLE, Keeper, Part, parting
from replays.replay import replay
from replays.report import ReplayReport
from replays.results.report_json import report_json
from replays.results.report_text import report_lines
from replays.results.value_text import difference_texts
from tests.replays.made_report import TERMS, difference, made_report
from tests.replays.model import LOOKUP, OPEN, READ, ModelServer, ModelTransport
from tests.tracer.dialogue import REGULAR, Dialogue
from tracer.output.style import Painter

BIG = 128 << 10


class Liar(ModelServer):
    """Reads other bytes than were recorded."""

    def answer(self, request: bytes) -> bytes | None:
        _, opcode, unique = struct.unpack_from("<IIQ", request)
        if opcode != READ:
            return super().answer(request)
        return struct.pack("<IiQ", 16 + BIG, 0, unique) + b"a" * (BIG - 10) + b"live bytes"


def read_over_and_over(count: int, directory: Path) -> ReplayReport:
    dialogue = Dialogue()
    dialogue.init()
    dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(50, REGULAR))
    dialogue.talk(OPEN, 50, bytes(8), struct.pack("<QII", 7, 0, 0))
    for _ in range(count):
        dialogue.talk(READ, 50, struct.pack("<QQIIQII", 7, 0, BIG, 0, 0, 0, 0), b"a" * (BIG - 10) + b"were here.")
    trace = dialogue.trace(directory)
    dialogue.entries.clear()
    tracemalloc.start()
    try:
        report = replay(trace, ModelTransport(Liar()), ReplayOptions(timeout_s=5))
        assert tracemalloc.get_traced_memory()[0] < 4 * MOST_WHOLE
    finally:
        tracemalloc.stop()
    return report


def test_hundreds_of_large_reads_that_differ_are_all_told_and_few_are_kept_whole(tmp_path: Path) -> None:
    report = read_over_and_over(400, tmp_path)
    assert (report.stopped, len(report.differences)) == ("", 400)
    whole = [one for one in report.differences if isinstance(one.recorded, bytes)]
    assert whole == list(report.differences[: MOST_WHOLE // (2 * BIG)])
    assert len({difference_texts(one) for one in report.differences}) == 1
    assert difference_texts(report.differences[-1])[1] == f'{BIG} bytes, at {BIG - 10}: "live bytes"'
    assert len(json.dumps(report_json(report, TERMS))) < 3 * MOST_WHOLE
    assert report_json(report, TERMS)["differences"][-1]["live"] == {
        "bytes": BIG,
        "at": BIG - 10,
        "hex": b"live bytes".hex(),
    }


@given(st.binary(max_size=9000), st.binary(max_size=50), st.binary(max_size=50))
def test_two_contents_part_at_the_first_byte_that_is_not_the_same(same: bytes, one: bytes, other: bytes) -> None:
    first, second = same * 2 + one, same * 2 + other
    at = parting(first, second)
    assert first[:at] == second[:at]
    assert first[at : at + 1] != second[at : at + 1] or first[at:] == second[at:] == b""


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300))), st.integers(0, 2000))
def test_no_more_is_kept_whole_than_there_is_room_for(values: list[tuple[bytes, bytes]], room: int) -> None:
    keeper, whole = Keeper(room), 0
    for recorded, live in values:
        kept = keeper.kept(recorded, live)
        if kept == (recorded, live):
            whole += len(recorded + live) if len(recorded + live) > ALWAYS_WHOLE else 0
        for before, after in zip((recorded, live), kept, strict=True):
            if isinstance(after, Part):
                assert isinstance(after.kept, bytes)
                assert (after.length, after.kept) == (len(before), before[after.at :][:KEPT_BYTES])
    assert whole <= room


def test_of_many_names_the_first_are_kept_and_all_are_counted() -> None:
    names: list[bytes] = [b"name-%03d" % number for number in range(100)]
    recorded, live = Keeper(0).kept(names, [])
    one = difference(1, "READDIR", "names", "entries", recorded, live)
    assert difference_texts(one)[0].endswith('"name-007" and 92 more')
    found = report_json(made_report(differences=(one,)), TERMS)["differences"][0]["recorded"]
    assert (found["names"], found["first"][0]) == (100, "name-000")


def test_differences_beyond_what_is_kept_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MOST_DIFFERENCES", 3)
    report = read_over_and_over(10, tmp_path)
    assert (len(report.differences), report.unkept) == (3, 7)
    assert "  ... and 7 differences more that were counted, and not kept" in report_lines(report, TERMS, Painter(False))
    assert report_json(report, TERMS)["counts"]["unkept"] == 7
