"""Lines are read thousands at a time; each says what it says alone."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.tracer.dialogue import READ, Dialogue
from tests.tracer.mangled import mangled_trace
from tracer.output import lines as module
from tracer.output.lines import Lines
from tracer.records import Direction


@pytest.mark.parametrize("seed", range(4))
def test_lines_read_together_are_the_lines_read_one_by_one(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 97)
    trace = mangled_trace(tmp_path / "t.pcapng", seed)
    numbers = np.arange(trace.exchange_count, dtype=np.int64)
    together = list(Lines(trace).lines(numbers))
    alone = Lines(trace)
    assert together == [alone.line(number) for number in numbers.tolist()]
    assert [line.number for line in together] == numbers.tolist()
    assert any("malformed" in line.what for line in together)


def test_lines_come_in_the_order_they_were_asked_for(tmp_path: Path) -> None:
    trace = mangled_trace(tmp_path / "t.pcapng", 1)
    backwards = np.arange(trace.exchange_count, dtype=np.int64)[::-1]
    assert [line.number for line in Lines(trace).lines(backwards)] == backwards.tolist()


def test_lines_of_nothing_are_none(tmp_path: Path) -> None:
    trace = mangled_trace(tmp_path / "t.pcapng", 1)
    assert list(Lines(trace).lines(np.empty(0, np.int64))) == []


def test_of_content_that_was_cut_the_true_length_is_told(tmp_path: Path) -> None:
    talk = Dialogue()
    asked = talk.ask(READ, 7, struct.pack("<QQIIQII", 3, 0, 4096, 0, 0, 0, 0))
    whole = talk.pack("IiQ", 16 + 1000, 0, asked) + b"abcde" * 200
    talk.add(Direction.TO_KERNEL, whole[: 16 + 10], wire_len=len(whole))
    trace = talk.trace(tmp_path)
    (line,) = Lines(trace).lines(np.arange(1))
    assert '→ 1000 bytes, 10 kept: "abcdeabcde"' in line.what
