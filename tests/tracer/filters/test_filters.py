"""Filters on a made session: which exchanges pass. The session is in made.py, with the exchanges' numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tracer.filters.made import session
from tracer.filters import compile_filter
from tracer.trace.trace import Trace

EVERYTHING = list(range(20))
LOOKUPS = [1, 2, 3, 16, 19]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return session(tmp_path_factory.mktemp("session"))


def without(*left_out: int) -> list[int]:
    return [number for number in EVERYTHING if number not in left_out]


# What is known without a look into a body.
HEADER = {
    "fuse.opcode == SYNCFS": [8, 9, 18],
    "fuse.opcode eq syncfs": [8, 9, 18],
    "fuse.opcode == FUSE_SYNCFS": [8, 9, 18],
    "fuse.opcode == 50": [8, 9, 18],
    "fuse.opcode == 0x32": [8, 9, 18],
    "fuse.opcode == 0o62": [8, 9, 18],
    "fuse.opcode == 062": [8, 9, 18],
    "fuse.opcode != LOOKUP": without(*LOOKUPS, 13, 17),
    "fuse.opcode in {READ, WRITE}": [5, 6, 7, 14],
    "fuse.opcode in {15..16}": [5, 6, 7, 14],
    "fuse.opcode in {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15}": [*LOOKUPS[:3], 7, 12, 14, 16, 19],
    "fuse.opcode >= 50": [8, 9, 18],
    "fuse.notify": [13],
    "fuse.notify == INVAL_ENTRY": [13],
    "fuse.notify.inval_entry": [13],
    "fuse.error": without(12, 13, 14),
    "fuse.error == ENOENT": [3, 16, 19],
    "fuse.error == 2": [3, 16, 19],
    "fuse.error == -2": [3, 16, 19],
    "fuse.error in {ENOENT, ENOSYS}": [3, 9, 16, 19],
    "fuse.error != OK": [3, 9, 16, 19],
    "fuse.error == 0": without(3, 9, 12, 13, 14, 16, 19),
    "fuse.nodeid == 6": [5, 7, 10, 11, 14],
    "fuse.nodeid in {5..6, 9}": [2, 3, 4, 5, 7, 9, 10, 11, 14, 19],
    "fuse.unique == 999": [17],
    "fuse.uid == 1000": without(13, 17),
    "fuse.pid == 812": [8, 9, 18],
    "proc.pid == 200 || proc.pid == 201": [5, 6, 7],
    'proc.comm == "sync"': [8, 9, 18],
    'proc.comm in {"dd", "cp"}': [5, 6, 7],
    'proc.comm contains "c"': [*without(0, 5, 7, 12, 13, 17)],
    'proc.comm matches "^.{2}$"': [5, 6, 7],
    "proc.comm": without(0, 12, 13, 17),
    "server.pid": [16],
    "server.pid == 9": [16],
    "fuse.queue == 2": [16],
    'fuse.channel contains "virtiofs"': [16],
    'fuse.channel != "/mnt/test"': [16],
    'fuse.mount == "/mnt/test"': without(16),
    "fuse.len > 4KiB": [5],
    "fuse.len > 4.0K": [5],
    "fuse.len <= 48B": [1, 2, 3, 8, 9, 10, 11, 12, 13, 16, 17, 19],
    "fuse.lost_bytes > 0": [],
    "fuse.latency > 10ms": [7],
    "fuse.latency > 0.01s": [7],
    "fuse.latency <= 1us": without(7, 12, 13, 14, 17, 19),
    "fuse.latency < 1.5us": without(7, 12, 13, 14, 17, 19),
    "fuse.latency == 1.5ns": [],
    "fuse.latency != 1.5ns": without(12, 13, 14, 17, 19),
    "fuse.latency >= 0": without(12, 13, 14, 17, 19),
    "fuse.time > 10ms": without(*range(8), 19),
    'fuse.time == "2023-11-14T22:13:20.000001Z"': [0],
    'fuse.time < "2023-11-14T23:13:20.000004+01:00"': [0, 1],
    "fuse.time in {0s..2us, 4us}": [0, 1, 2],
    "fuse.state == PENDING": [14],
    "fuse.pending_for": [14],
    "fuse.pending_for > 1us": [14],
    "fuse.pending_for > 1h": [],
    "fuse.state in {ORPHAN_REPLY, NOTIFY, NO_REPLY}": [12, 13, 17],
    "fuse.kind == NOTIFICATION": [13],
    "fuse.malformed": [18],
    "fuse.malformed == true": [18],
    "fuse.malformed == false": without(18),
    "!fuse.malformed": without(18),
    "fuse": EVERYTHING,
}

# What lies in bodies.
BODY = {
    "fuse.write": [5, 6],
    "fuse.write.reply": [5, 6],
    "fuse.syncfs.reply": [8, 18],
    "fuse.write.size": [5, 6],
    "fuse.write.size >= 4KiB": [5],
    "fuse.write.size >= 64KiB": [],
    "fuse.write.size == 100": [6],
    "fuse.write.reply.size in {100, 4096}": [5, 6],
    "fuse.write.size != 100": [5],
    "fuse.open.flags == WRONLY|TRUNC": [10],
    "fuse.open.flags == O_WRONLY|O_TRUNC": [10],
    "fuse.open.flags == TRUNC": [],
    "fuse.open.flags & TRUNC": [10],
    "fuse.open.flags & TRUNC|LARGEFILE": [10, 11],
    "fuse.open.flags & SYNC": [],
    "fuse.open.flags & 0x201": [10],
    "(fuse.open.flags & 3) == RDONLY": [11],
    "fuse.open.flags & 3 != WRONLY": [11],
    "fuse.open.reply.open_flags & KEEP_CACHE": [10],
    "fuse.lookup.reply.nodeid == 5": [1],
    "fuse.lookup.reply.attr.flags & SUBMOUNT": [1],
    "fuse.lookup.reply.attr": [1, 2],
    "fuse.lookup.reply.attr.mode == 040755": [1, 2],
    "fuse.lookup.reply.entry_valid == 1s": [1, 2],
    "fuse.lookup.reply.entry_valid < 1500ms": [1, 2],
    'fuse.lookup.reply.attr.mtime == "1970-01-01T00:00:00Z"': [1, 2],
    'fuse.lookup.name == "mnt1"': [1],
    'fuse.lookup.name matches "^m"': [1, 3],
    'fuse.name contains "t"': [1, 2],
    'fuse.name == "new file"': [4],
    r'fuse.name == "\xff\x1b[31m"': [19],
    r'fuse.name contains "\xff"': [19],
    r'fuse.name matches "\\.txt$"': [2],
    r'fuse.name matches "\.txt$"': [2],
    r'fuse.name matches r"\.txt$"': [2],
    r'fuse.name matches "(?i)TMP"': [2],
    r'fuse.name matches "[\xff]"': [19],
    "fuse.name": [1, 2, 3, 4, 16, 19],
    'fuse.name != "mnt1"': [2, 3, 4, 16, 19],
    '!(fuse.name == "mnt1")': without(1),
    'fuse.readdirplus.reply.entries.dirent.name == "other"': [15],
    'fuse.readdirplus.reply.entries.dirent.name in {"a", "mnt1"}': [15],
    'fuse.readdirplus.reply.entries.dirent.name != "other"': [],
    'fuse.readdirplus.reply.entries.dirent.name != "absent"': [15],
    "fuse.readdirplus.reply.entries.nodeid == 9": [15],
    "fuse.readdirplus.reply.entries.nodeid != 9": [],
    "fuse.readdirplus.reply.entries": [15],
    'fuse.read.reply.data contains "of a"': [7],
    r'fuse.write.data contains "\0\0"': [5, 6],
    'fuse.notify.inval_entry.name == "tmp.txt"': [13],
    "fuse.notify.inval_entry.parent == 5": [13],
    "fuse.forget.nlookup == 1": [12],
}

# What depends on what came before.
SESSION = {
    'fuse.path == "/mnt1/tmp.txt"': [5, 7, 10, 11, 14],
    'fuse.path matches "^/mnt1/"': [5, 6, 7, 10, 11, 12, 14],  # a FORGET has the name it takes back
    'fuse.path matches "^/mnt1"': [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14],
    'fuse.path == "/"': [1, 8, 15, 16, 18],
    "fuse.submount == 5": [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14],
    "fuse.submount == 1 && fuse.nodeid == 1": [1, 8, 15, 16, 18],
}

JOINED = {
    "fuse.opcode == SYNCFS && fuse.nodeid in {1, 5}": [8, 9, 18],
    "fuse.opcode == SYNCFS and fuse.nodeid == 5": [9],
    "fuse.opcode == SYNCFS && !fuse.malformed": [8, 9],
    "fuse.write || fuse.read && fuse.latency > 10ms": [5, 6, 7],
    "(fuse.write || fuse.read) && fuse.latency > 10ms": [7],
    "not fuse.write and not fuse.read and fuse.nodeid == 6": [10, 11],
    "!(fuse.write || fuse.read) && fuse.nodeid == 6": [10, 11],
    "fuse.lookup AND NOT fuse.error == OK": [3, 16, 19],
    "!!fuse.write": [5, 6],
    'fuse.submount == 5 && fuse.path contains "tmp" && proc.comm == "dd"': [5, 7],
    "fuse.write &&\n  fuse.write.size > 1K\t": [5],
}


@pytest.mark.parametrize(("text", "passing"), (HEADER | BODY | SESSION | JOINED).items())
def test_a_filter_passes_these_exchanges(trace: Trace, text: str, passing: list[int]) -> None:
    assert compile_filter(text).numbers(trace).tolist() == passing


@pytest.mark.parametrize("text", (HEADER | BODY | SESSION | JOINED))
def test_the_mask_of_some_exchanges_is_that_part_of_the_whole_mask(trace: Trace, text: str) -> None:
    compiled = compile_filter(text)
    whole = compiled.mask(trace)
    some = np.array([17, 2, 5, 9, 9, 0], dtype=np.int64)
    assert compiled.mask(trace, some).tolist() == whole[some].tolist()
    assert compiled.mask(trace, slice(3, 12)).tolist() == whole[3:12].tolist()
    assert compiled.mask(trace, np.empty(0, np.int64)).tolist() == []


def test_a_time_without_a_zone_is_local(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Etc/GMT-2")  # two hours east
    time.tzset()
    try:
        assert compile_filter('fuse.time < "2023-11-15T00:13:20.000004"').numbers(trace).tolist() == [0, 1]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_filter_is_kept_as_it_was_written() -> None:
    assert compile_filter(" fuse.write ").text == " fuse.write "


def test_a_filter_made_before_the_trace_grew_sees_what_is_new(tmp_path: Path) -> None:
    from tests.tracer.dialogue import Dialogue
    from tracer.store.writer import TraceWriter

    said = Dialogue()
    said.write(6, 10)
    path = tmp_path / "growing.pcapng"
    compiled = compile_filter('fuse.write.size == 10 && fuse.path == "/"')
    with TraceWriter(path) as writer:
        said.feed(writer)
        trace = Trace.open(path)
        assert compiled.mask(trace).tolist() == [False]
        more = Dialogue(unique=100)
        more.write(1, 10)
        writer.records(more.records)
        trace.refresh()
    assert compiled.mask(trace).tolist() == [False, True]
