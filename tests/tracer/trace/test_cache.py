"""A cached index is the index a scan makes, or it is not used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import make_trace
from tests.tracer.dialogue import Dialogue
from tests.tracer.mangled import mangled_trace
from tracer.records import ChannelInfo, Gap
from tracer.store.writer import TraceWriter
from tracer.trace import cache
from tracer.trace.columns import COLUMNS, Kind
from tracer.trace.trace import Trace


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every trace's index, below the test's own directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv(cache.OFF, raising=False)
    monkeypatch.setattr(cache, "LEAST_RECORDS", 1)
    return tmp_path / "caches" / "fusewire" / "index"


def entries(place: Path) -> list[Path]:
    return sorted(place.glob("*"))


def everything(trace: Trace) -> dict[str, object]:
    """Return all a trace knows of its file and its records."""
    trace.advance_state()
    found: dict[str, object] = {name: trace.records[name].tolist() for name in COLUMNS}
    found |= {name: getattr(trace.file, name) for name in ("channels", "gaps", "foreign_packets", "scanned", "damaged")}
    found |= {"skipped": trace.file.skipped_bytes, "finished": trace.file.finished, "first": trace.first_rows.tolist()}
    found |= {"states": trace.states().tolist(), "submounts": trace.submounts, "missing": trace.missing_uniques()}
    found["agreements"] = [(session.agreements, session.big_endian) for session in trace.sessions]
    found["open"] = [trace._pairing.open_rows(channel).tolist() for channel in range(len(trace.channels))]
    found["paths"] = [trace.path(row) for row in range(trace.records.count)]
    return found


def opened_without_cache(path: Path) -> Trace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.OFF, "1")
        return Trace.open(path)


def was_scanned(trace: Trace) -> bool:
    """Whether the columns are the process's own, and not an entry that is mapped."""
    base = trace.records["at"]
    while base.base is not None:
        if isinstance(base, np.memmap):
            return False
        base = base.base
    return True


def odd_trace(path: Path) -> Path:
    """Write a trace with gaps, several channels, byte orders, requests left open and bytes that are no block."""
    with TraceWriter(path) as writer:
        for number in range(3):
            writer.channel(ChannelInfo(f"/mnt/\udcff{number}", minor=number, notes=("cannot see everything",)))
        writer.records(list(make_trace.records(500, channels=2, seed=4)))
        writer.gap(Gap(5, -1, 3, "the ring was full"))
        writer.gap(Gap(6, 2, 0, "\x1b[0m of unknown number"))
        big = Dialogue(order=">", channels=[])
        big.init(channel=2)
        big.ask(3, 1, bytes(16), channel=2)
        writer.records(big.records)
    content = path.read_bytes()
    path.write_bytes(content[:-60] + b"\xff" * 40 + content + content[:200])
    os.utime(path, (1, 1))
    return path


def test_an_index_read_from_the_cache_is_that_of_a_scan(tmp_path: Path, place: Path) -> None:
    path = odd_trace(tmp_path / "t.pcapng")
    first = Trace.open(path)
    assert was_scanned(first)
    assert len(entries(place)) == 1
    second = Trace.open(path)
    assert not was_scanned(second)
    assert everything(second) == everything(first) == everything(opened_without_cache(path))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), big_endian=st.booleans())
def test_the_index_of_any_trace_comes_back_from_the_cache(seed: int, big_endian: bool, tmp_path: Path) -> None:
    path = mangled_trace(tmp_path / f"{seed}-{big_endian}.pcapng", seed, big_endian=big_endian).file.path
    cached = Trace.open(path)
    assert not was_scanned(cached)
    assert everything(cached) == everything(opened_without_cache(path))


def test_a_trace_taken_from_the_cache_goes_on_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SETTLED_S", -1)
    path = tmp_path / "t.pcapng"
    records = list(make_trace.records(3000))
    with TraceWriter(path) as writer:
        writer.channel(ChannelInfo("a"))
        writer.records(records[:1001])
        Trace.open(path)
        trace = Trace.open(path)
        assert not was_scanned(trace)
        trace.advance_state()
        writer.records(records[1001:])
        assert trace.refresh() == 1999
    trace.refresh()
    assert everything(trace) == everything(opened_without_cache(path))


def test_nothing_is_kept_of_a_short_trace_or_one_that_is_being_written_or_when_told_not_to(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = list(make_trace.records(50))
    with TraceWriter(tmp_path / "t.pcapng") as writer:
        writer.channel(ChannelInfo("a"))
        writer.records(records)
        Trace.open(tmp_path / "t.pcapng")
        assert entries(place) == []
    opened_without_cache(tmp_path / "t.pcapng")
    assert entries(place) == []
    monkeypatch.setattr(cache, "LEAST_RECORDS", 51)
    Trace.open(tmp_path / "t.pcapng")
    assert entries(place) == []


def test_entries_are_for_their_owner_alone(tmp_path: Path, place: Path) -> None:
    path = odd_trace(tmp_path / "t.pcapng")
    Trace.open(path)
    [entry] = entries(place)
    assert entry.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o700
    entry.chmod(0o666)  # anybody could have written this
    assert was_scanned(Trace.open(path))


def test_another_trace_of_the_same_name_is_not_taken_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    make_trace.make(path, 500, seed=1)
    Trace.open(path)
    make_trace.make(path, 500, seed=2)
    trace = Trace.open(path)
    assert everything(trace) == everything(opened_without_cache(path))


def changed_columns(name: str, change: Callable[[np.ndarray], None]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        at = 8 + int.from_bytes(content[:8], "little")
        count = json.loads(content[8:at])["count"]
        changed = bytearray(content)
        for column, kind in COLUMNS.items():
            size = np.dtype(kind).itemsize * count
            if column == name:
                change(np.frombuffer(memoryview(changed)[at : at + size], kind))
            at += size + -size % cache.ALIGNMENT
        return bytes(changed)

    return apply


def changed_facts(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        at = 8 + int.from_bytes(content[:8], "little")
        facts = json.loads(content[8:at])
        header = json.dumps(change(facts) or facts).encode()
        header += b" " * (-(len(header) + 8) % cache.ALIGNMENT)
        return len(header).to_bytes(8, "little") + header + content[at:]

    return apply


def put(place: int, value: int) -> Callable[[np.ndarray], None]:
    return lambda column: column.__setitem__(place, value)


def two_replies(column: np.ndarray) -> None:
    column[:] = Kind.REPLY


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "longer": lambda content: content + b"x",
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: bytes(range(256)) * (len(content) // 256),
    "header without end": lambda content: b"\xff" * 8 + content[8:],
    "nested header": lambda content: (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "no dictionary": changed_facts(lambda facts: [facts]),
    "another count": changed_facts(lambda facts: {**facts, "count": facts["count"] + 1}),
    "negative count": changed_facts(lambda facts: {**facts, "count": -5}),
    "no count": changed_facts(lambda facts: facts.pop("count") and None),
    "no channels": changed_facts(lambda facts: {**facts, "channels": []}),
    "channels of numbers": changed_facts(lambda facts: {**facts, "channels": [1, 2, 3]}),
    "no gap's channel": changed_facts(lambda facts: {**facts, "gap_channels": []}),
    "gaps that say nothing": changed_facts(lambda facts: {**facts, "gaps": ["x"] * len(facts["gaps"])}),
    "scanned too far": changed_facts(lambda facts: {**facts, "file": {**facts["file"], "scanned": 1 << 40}}),
    "scanned too little": changed_facts(lambda facts: {**facts, "file": {**facts["file"], "scanned": 400}}),
    "scanned text": changed_facts(lambda facts: {**facts, "file": {**facts["file"], "scanned": "0"}}),
    "odd interfaces": changed_facts(lambda facts: {**facts, "file": {**facts["file"], "interfaces": [1 << 40]}}),
    "no file": changed_facts(lambda facts: {**facts, "file": None}),
    "before the file": changed_columns("at", put(0, -8)),
    "behind the file": changed_columns("at", put(-1, 1 << 62)),
    "overflowing": changed_columns("at", put(5, (1 << 63) - 1)),
    "out of order": changed_columns("at", put(7, 92)),
    "elsewhere": changed_columns("at", lambda column: column.__iadd__(4)),
    "kept too much": changed_columns("kept", put(3, 1 << 31)),
    "kept more than sent": changed_columns("wire_len", put(3, 1)),
    "unknown channel": changed_columns("channel", put(3, 900)),
    "unknown kind": changed_columns("kind", put(3, 7)),
    "mate outside": changed_columns("mate", put(3, 1 << 30)),
    "mate below": changed_columns("mate", put(3, -2)),
    "mate of another": changed_columns("mate", put(0, 5)),
    "own mate": changed_columns("mate", lambda column: column.__setitem__(slice(None), np.arange(len(column)))),
    "replies alone": changed_columns("kind", two_replies),
    "submounts known": changed_columns("submount", put(0, 3)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_entry_is_passed_over_and_written_anew(
    damage: Callable[[bytes], bytes], tmp_path: Path, place: Path
) -> None:
    path = odd_trace(tmp_path / "t.pcapng")
    expected = everything(Trace.open(path))
    [entry] = entries(place)
    content = entry.read_bytes()
    entry.write_bytes(damage(content))
    trace = Trace.open(path)
    assert was_scanned(trace)
    assert everything(trace) == expected
    assert entries(place) == [entry]
    assert entry.read_bytes() == content


def test_the_entries_used_longest_ago_make_room(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.pcapng" for number in range(4)]
    sizes = []
    for number, path in enumerate(paths):
        make_trace.make(path, 500, seed=number)
        if number == 3:
            monkeypatch.setattr(cache, "MOST_BYTES", 3 * max(sizes))
            assert not was_scanned(Trace.open(paths[0]))  # used again: no longer the oldest
        before = set(entries(place))
        Trace.open(path)
        [new] = set(entries(place)) - before
        if number < 3:
            os.utime(new, (number, number))
        sizes.append(new.stat().st_size)
    assert [was_scanned(Trace.open(path)) for path in (paths[0], *paths[2:])] == [False, False, False]
    assert was_scanned(Trace.open(paths[1]))


def test_what_a_killed_writer_left_is_removed_like_an_entry(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir(parents=True)
    left = place / "0123.index.4711"
    left.write_bytes(bytes(1 << 20))
    os.utime(left, (1, 1))
    monkeypatch.setattr(cache, "MOST_BYTES", 1 << 20)
    make_trace.make(tmp_path / "t.pcapng", 500)
    Trace.open(tmp_path / "t.pcapng")
    assert not left.exists()
    assert len(entries(place)) == 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make_trace.make(tmp_path / "t.pcapng", 500)
    assert Trace.open(tmp_path / "t.pcapng").records.count == 500


def test_a_relative_cache_directory_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    # XDG Base Directory Specification: paths must be absolute, others are to be ignored.
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/nowhere")
    assert cache.directory() == Path("/nowhere/.cache/fusewire/index")
