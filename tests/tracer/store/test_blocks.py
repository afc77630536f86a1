"""Blocks found by their tags are those found one after the other, whatever content says."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracer.dialogue import Dialogue
from tracer.records import ChannelInfo, Direction, RawRecord
from tracer.store import blocks, reader
from tracer.store.blocks import HEAD_WORDS, Positions, Words, heads, packets_from
from tracer.store.prefix import TAGS
from tracer.store.reader import TraceFile
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace


def words_of(content: bytes) -> Words:
    return np.frombuffer(content[: len(content) // 4 * 4], dtype="<u4")


def packet(data: bytes, total: int | None = None, trailer: int | None = None) -> bytes:
    """Return a block that looks like one of our packets at the place of its tags."""
    content = bytes(20) + TAGS + data + bytes(-len(data) % 4)
    length = len(content) + 12 if total is None else total
    return struct.pack("<II", 6, length) + content + struct.pack("<I", length if trailer is None else trailer)


def naive(words: Words, begin: int) -> list[int]:
    """Follow packets by their lengths alone."""
    found, at = [], begin
    while at + 11 < len(words) and words[at + 7 : at + 11].tobytes() == TAGS:
        total = int(words[at + 1])
        end = at + total // 4
        if total % 4 or total < 12 or end > len(words) or words[end - 1] != total:
            break
        found.append(at)
        at = end
    return found


PIECES = st.one_of(
    st.builds(packet, st.binary(max_size=40)),
    st.builds(packet, st.just(TAGS * 3)),
    st.builds(packet, st.just(packet(b"inside") * 2)),
    st.builds(packet, st.binary(max_size=8), st.integers(0, 200)),
    st.builds(packet, st.binary(max_size=8), st.none(), st.integers(0, 200)),
    st.binary(max_size=60).map(lambda raw: raw[: len(raw) // 4 * 4]),
)


@given(st.lists(PIECES, max_size=20).map(b"".join), st.integers(1, 30))
def test_packets_found_by_their_tags_follow_one_another(content: bytes, limit: int) -> None:
    words = words_of(content)
    expected = naive(words, 0)
    found = packets_from(words, 0, limit).tolist()
    assert found == expected[: len(found)]
    assert len(found) <= limit
    if expected:  # something is found, so that whoever asks again gets on
        assert found


def test_a_run_of_packets_is_found_in_one_go_and_content_like_packets_only_ends_it() -> None:
    plain, nested = packet(b"data"), packet(packet(b"inside"))
    words = words_of(plain * 100 + nested + plain)
    assert len(packets_from(words, 0, 1000)) == 101
    words = words_of(plain * 100)
    assert packets_from(words, 0, 1000).tolist() == list(range(0, len(words), len(plain) // 4))


def test_first_words_of_blocks_are_those_in_the_file_and_zero_behind_its_end() -> None:
    words = np.arange(1, 201, dtype=np.uint32)
    at = np.array([0, 3, 167, 168, 169, 190, 199], dtype=np.int64)
    found = heads(words, at)
    padded = np.concatenate([words, np.zeros(HEAD_WORDS, np.uint32)])
    assert found.tolist() == [padded[start : start + HEAD_WORDS].tolist() for start in at]
    assert heads(words[:5], at[:2]).tolist() == [
        [1, 2, 3, 4, 5] + [0] * (HEAD_WORDS - 5),
        [4, 5] + [0] * (HEAD_WORDS - 2),
    ]
    assert heads(words, at[:0]).shape == (0, HEAD_WORDS)


def without_search(words: Words, begin: int, limit: int) -> Positions:
    return np.empty(0, np.int64)


@pytest.mark.parametrize(("scan_blocks", "longest_searched"), [(1 << 15, 512), (7, 512), (100, 0), (1 << 15, 30)])
def test_a_trace_that_holds_a_trace_reads_as_when_followed_block_by_block(
    scan_blocks: int, longest_searched: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Dialogue()
    said.init()
    inner = said.write_to(tmp_path / "inner.pcapng").read_bytes()
    with TraceWriter(tmp_path / "outer.pcapng") as writer:
        writer.channel(ChannelInfo("a"))
        for n in range(300):
            # A recorder that watches the filesystem it writes to: packets inside packets, of all lengths.
            data = inner[: (n * 37) % len(inner)] if n % 3 else b"short"
            writer.records([RawRecord(n, 0, Direction(n & 1), data, len(data) + n % 5)])
            if n % 50 == 0:
                writer.channel(ChannelInfo(f"channel {n}"))
    monkeypatch.setattr(reader, "SCAN_BLOCKS", scan_blocks)
    monkeypatch.setattr(reader, "LONGEST_SEARCHED", longest_searched)
    searched = Trace.open(tmp_path / "outer.pcapng")
    monkeypatch.setattr(reader, "packets_from", without_search)
    followed = Trace.open(tmp_path / "outer.pcapng")
    assert searched.records.count == 300
    assert [searched.record(row) for row in range(300)] == [followed.record(row) for row in range(300)]
    assert searched.channels == followed.channels


def test_long_packets_are_not_searched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TraceWriter(tmp_path / "t.pcapng") as writer:
        writer.channel(ChannelInfo("a"))
        writer.records([RawRecord(n, 0, Direction.TO_SERVER, bytes(9000), 9000) for n in range(500)])
    searches = []

    def counted(words: Words, begin: int, limit: int) -> Positions:
        searches.append(begin)
        return packets_from(words, begin, limit)

    monkeypatch.setattr(reader, "packets_from", counted)
    file = TraceFile.open(tmp_path / "t.pcapng")
    assert len(file.scan().at) == 500
    assert len(searches) <= 3
    assert blocks.WINDOW * 4 < 500 * 9000
