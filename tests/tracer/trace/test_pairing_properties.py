"""Pairing against a reference that goes record by record, and against itself fed in other portions."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.tracer.dialogue import (
    BATCH_FORGET,
    FORGET,
    GETATTR,
    INIT,
    INTERRUPT,
    NOTIFY_REPLY,
    READ,
    RESENT,
    SYNCFS,
    Dialogue,
)
from tracer.records import ChannelInfo, Direction, RawRecord, RecordFlag
from tracer.store import reader
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

NEVER_ANSWERED = {FORGET, BATCH_FORGET, NOTIFY_REPLY}
UNIQUES = (0, 2, 3, 4, 5, 6, 2 | RESENT, 4 | RESENT)
FILES = itertools.count()


class Said(NamedTuple):
    """One message, as few words as tell it."""

    is_request: bool
    channel: int
    unique: int
    opcode: int
    target: int  # of an INTERRUPT
    error: int
    result: int  # errno of the kernel's refusal, 0: none
    cut: int  # bytes kept, at most


SAYINGS = st.lists(
    st.builds(
        Said,
        st.booleans(),
        st.integers(0, 1),
        st.sampled_from(UNIQUES),
        st.sampled_from(
            [READ, READ, READ, GETATTR, INTERRUPT, INTERRUPT, FORGET, BATCH_FORGET, NOTIFY_REPLY, SYNCFS, 77]
        ),
        st.sampled_from(UNIQUES),
        st.sampled_from([0, 0, 0, -2, -4, -4, -512, 3]),
        st.sampled_from([0, 0, 0, 0, 0, 0, -22, -2]),
        st.sampled_from([200, 200, 200, 200, 200, 44, 20, 12, 4]),
    ),
    max_size=40,
)


def records_of(sayings: list[Said]) -> list[RawRecord]:
    talk = Dialogue()
    for said in sayings:
        if said.is_request:
            body = struct.pack("<Q", said.target) if said.opcode == INTERRUPT else b""
            talk.ask(said.opcode, 7, body, unique=said.unique, channel=said.channel)
        else:
            flags = RecordFlag.REJECTED if said.result else RecordFlag.NONE
            talk.answer(said.unique, b"", said.error, channel=said.channel, flags=flags, result=said.result)
        whole = talk.entries.pop()
        assert isinstance(whole, RawRecord)
        talk.entries.append(whole._replace(data=whole.data[: said.cut]))
    return talk.records


class Reference:
    """The rules of fs/fuse/dev.c, one record after the other."""

    def __init__(self) -> None:
        self.mate: dict[int, int] = {}
        self.state: dict[int, str] = {}
        self._open: dict[tuple[int, int], int] = {}
        self._interrupted: set[int] = set()
        self._needs_none: set[int] = set()

    def feed(self, row: int, record: RawRecord) -> None:
        if record.direction is Direction.TO_SERVER:
            self._request(row, record)
        else:
            self._reply(row, record)

    def _request(self, row: int, record: RawRecord) -> None:
        self.state[row] = "PENDING"
        opcode = struct.unpack_from("<I", record.data, 4)[0] if len(record.data) >= 8 else -1
        if opcode in NEVER_ANSWERED | {INTERRUPT}:
            self.state[row] = "NO_REPLY"
        if len(record.data) < 16 or opcode in NEVER_ANSWERED:
            return
        unique = struct.unpack_from("<Q", record.data, 8)[0]
        if unique >= RESENT:
            self._supersede(record.channel, unique - RESENT)
        self._supersede(record.channel, unique)
        self._open[record.channel, unique] = row
        if opcode == INTERRUPT:
            named = struct.unpack_from("<Q", record.data, 40)[0] if len(record.data) >= 48 else unique & ~1
            target = self._open.get((record.channel, named))
            if target is not None and target != row:
                self._interrupted.add(target)

    def _supersede(self, channel: int, unique: int) -> None:
        lost = self._open.pop((channel, unique), None)
        if lost is not None and self.state[lost] != "NO_REPLY":
            self.state[lost] = "LOST"

    def _reply(self, row: int, record: RawRecord) -> None:
        self.state[row] = "ORPHAN_REPLY"
        if len(record.data) < 16:
            return
        length, error, unique = struct.unpack_from("<IiQ", record.data)
        if unique == 0:
            self.state[row] = "NOTIFY"
            return
        if record.result:
            looked_up = length == record.wire_len and -512 < error <= 0 and record.result == -22
            if not looked_up:
                return
        request = self._open.pop((record.channel, unique), None)
        if request is None and unique >= RESENT:  # the copy was only queued, which not every bridge sees
            request = self._open.pop((record.channel, unique - RESENT), None)
        if request is None:
            return
        del self.state[row]
        self.mate[row], self.mate[request] = request, row
        is_interrupted = request in self._interrupted and error == -4
        self.state[request] = "INTERRUPTED" if is_interrupted else "DONE"


def seen(trace: Trace) -> tuple[dict[int, str], dict[int, int]]:
    state = {int(trace.first_rows[e.number]): e.state.name for e in trace.exchanges()}
    mate = {row: int(mate) for row, mate in enumerate(trace.records["mate"].tolist()) if mate >= 0}
    return state, mate


def in_portions(path: Path, records: list[RawRecord], sizes: list[int], follow: bool = True) -> Trace:
    """Write records in portions and take each in as it comes, as a live capture does."""
    with TraceWriter(path) as writer:
        writer.channel(ChannelInfo("/a"))
        writer.channel(ChannelInfo("/b"))
        trace = Trace.open(path)
        left = list(records)
        for size in [*sizes, len(records)]:
            writer.records(left[:size])
            del left[:size]
            if follow:
                trace.refresh()
    trace.refresh()
    return trace


FAR = Said(True, 0, 2, READ, 0, 0, 0, 200)
NEAR = FAR._replace(is_request=False, error=-4)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sayings=SAYINGS, sizes=st.lists(st.integers(0, 5), max_size=10))
@example(sayings=[FAR, FAR._replace(opcode=INTERRUPT, unique=3, target=2), NEAR, FAR], sizes=[])
@example(sayings=[FAR, FAR._replace(unique=2 | RESENT), NEAR, NEAR._replace(unique=2 | RESENT)], sizes=[2])
@example(sayings=[FAR, NEAR._replace(unique=2 | RESENT, is_request=False)], sizes=[1])
@example(sayings=[FAR._replace(unique=2 | RESENT, opcode=INTERRUPT, target=2 | RESENT), FAR], sizes=[1])
def test_any_dialogue_in_any_portions_pairs_as_the_reference_does(
    sayings: list[Said], sizes: list[int], tmp_path: Path
) -> None:
    records = records_of(sayings)
    reference = Reference()
    for row, record in enumerate(records):
        reference.feed(row, record)
    expected = (reference.state, reference.mate)
    path = tmp_path / f"{next(FILES)}.pcapng"
    assert seen(in_portions(path, records, sizes)) == expected
    whole = Trace.open(path)
    assert seen(whole) == expected
    path.unlink()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sayings=SAYINGS, blocks=st.integers(1, 4))
def test_a_file_scanned_a_few_blocks_at_a_time_gives_the_same(sayings: list[Said], blocks: int, tmp_path: Path) -> None:
    path = tmp_path / f"{next(FILES)}.pcapng"
    in_portions(path, records_of(sayings), [], follow=False)
    expected = Trace.open(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SCAN_BLOCKS", blocks)
        trace = Trace.open(path)
    path.unlink()
    assert seen(trace) == seen(expected)
    for name in ("unique", "nodeid", "opcode", "error", "pid", "mate", "bits", "kind"):
        assert trace.records[name].tolist() == expected.records[name].tolist()
    assert trace.first_rows.tolist() == expected.first_rows.tolist()
    assert trace.latencies_ns().tolist() == expected.latencies_ns().tolist()


def test_two_sessions_on_one_channel_are_told_apart_however_they_are_read(tmp_path: Path) -> None:
    """The second INIT has the smaller unique: agreements are noted by time, not by unique."""
    talk = Dialogue(channels=[ChannelInfo("/a"), ChannelInfo("/b")])
    talk.init(31, unique=50)
    talk.talk(GETATTR)
    talk.init(12, unique=2)
    talk.talk(GETATTR)
    path = talk.write_to(tmp_path / "t.pcapng")
    whole = Trace.open(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SCAN_BLOCKS", 1)
        pieces = Trace.open(path)
    for trace in (whole, pieces):
        assert [trace.context(row).minor for row in range(trace.records.count)] == [31, 31, 31, 31, 31, 12, 12, 12]
        assert [agreement.minor for agreement in trace.sessions[0].agreements] == [31, 12]


def test_what_was_decoded_before_a_late_init_is_decoded_anew(tmp_path: Path) -> None:
    """READ's arguments grew in 7.9: what is read before INIT comes is a guess."""
    talk = Dialogue(channels=[ChannelInfo("/a"), ChannelInfo("/b")])
    talk.talk(READ, 5, bytes(24))
    early = talk.records[:]
    talk.init(8)
    path = tmp_path / "t.pcapng"
    with TraceWriter(path) as writer:
        writer.channel(talk.channels[0])
        writer.records(early)
        trace = Trace.open(path)
        before = trace.message(0).context.minor
        writer.records(talk.records[len(early) :])
    trace.refresh()
    assert (before, trace.message(0).context.minor) == (None, 8)
    assert INIT == 26
