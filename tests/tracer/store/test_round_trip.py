"""What a bridge gave to the writer comes back from the file: every field of every kind."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tracer.dialogue import Dialogue
from tracer.records import BridgeKind, ChannelInfo, ChannelKind, Direction, Gap, RawRecord, RecordFlag
from tracer.store import pcapng
from tracer.store.metadata import MAX_NAME, channel_comment, read_channel
from tracer.store.writer import MAX_MESSAGE, TraceWriter
from tracer.trace.trace import Trace

U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
# What os.fsdecode() makes of arbitrary bytes, and any text a bridge may say.
OS_TEXT = st.one_of(
    st.text(max_size=40), st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
RECORDS = st.builds(
    RawRecord,
    t_ns=st.integers(0, 2**63 - 1),
    channel=st.integers(0, 2),
    direction=st.sampled_from(Direction),
    data=st.binary(max_size=120),
    wire_len=U32,
    bridge=st.sampled_from(BridgeKind),
    flags=st.integers(0, 2**6 - 1),
    server_pid=U32,
    server_tid=U32,
    comm=st.binary(max_size=16).map(lambda raw: raw.rstrip(b"\0")),
    queue=U16,
    desc_head=U32,
    result=st.integers(-(2**31), 2**31 - 1),
)
CHANNELS = st.builds(
    ChannelInfo,
    name=OS_TEXT,
    kind=st.sampled_from(ChannelKind),
    connection=U32,
    mount_point=OS_TEXT,
    fstype=OS_TEXT,
    read_only=st.booleans(),
    st_dev=st.from_regex(r"[0-9]{1,4}:[0-9]{1,6}", fullmatch=True),
    server_pid=U32,
    server_command=OS_TEXT,
    kernel=OS_TEXT,
    clock=st.sampled_from(["realtime", "monotonic", "none"]),
    minor=st.integers(0, 255),
    init_flags=st.integers(0, 2**64 - 1),
    big_endian=st.booleans(),
    snap_bytes=U32,
    notes=st.lists(OS_TEXT, max_size=4).map(tuple),
)
GAPS = st.builds(Gap, st.integers(0, 2**63 - 1), st.integers(-1, 2), st.integers(0, 2**32), OS_TEXT)


def written(channels: list[ChannelInfo], records: list[RawRecord], gaps: list[Gap]) -> Trace:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.pcapng"
        with TraceWriter(path) as writer:
            for info in channels:
                writer.channel(info)
            writer.records(records)
            for gap in gaps:
                writer.gap(gap)
        return Trace.open(path)


@given(st.lists(RECORDS, max_size=12))
def test_every_field_of_a_record_comes_back(records: list[RawRecord]) -> None:
    trace = written([ChannelInfo(name) for name in "abc"], records, [])
    assert [trace.record(row) for row in range(trace.records.count)] == records


@given(st.lists(CHANNELS, min_size=1, max_size=3))
@example([ChannelInfo("/mnt/\udcff\x1b[31m\n", mount_point="/mnt/\udcff\\udcff", notes=("a\\n", "\udc80"))])
@example([ChannelInfo("")])
def test_every_field_of_a_channel_comes_back(channels: list[ChannelInfo]) -> None:
    assert written(channels, [], []).channels == channels


@given(st.lists(GAPS, max_size=6))
def test_every_field_of_a_gap_comes_back(gaps: list[Gap]) -> None:
    assert written([ChannelInfo(name) for name in "abc"], [], gaps).gaps == gaps


def test_a_gap_before_any_channel_is_kept() -> None:
    lost = Gap(5, -1, 3, "the ring was full before anything came through")
    assert written([], [], [lost]).gaps == [lost]


@settings(max_examples=30)
@given(st.integers(1, 5_000), st.integers(1, 100), st.sampled_from(["x", "ä", "\U0001f4be", "\x01", "\udcff", '"']))
def test_a_channel_of_which_too_much_is_said_keeps_its_facts_and_begins_of_its_texts(
    length: int, notes: int, character: str
) -> None:
    text = character * length
    info = ChannelInfo(text, mount_point=text, fstype=text, server_command=text, minor=31, notes=(text,) * notes)
    (found,) = written([info], [], []).channels
    assert found.minor == 31
    for field in dataclasses.fields(ChannelInfo):
        ours, theirs = getattr(info, field.name), getattr(found, field.name)
        if isinstance(ours, str):
            assert ours.startswith(theirs)
            assert theirs[:60] == ours[:60]
    assert found.notes
    assert all(text.startswith(note) for note in found.notes)


def test_the_interface_name_of_a_channel_is_bounded_and_its_own_bytes() -> None:
    (_, name), *_ = [o for o in pcapng.options(pcapng.interface(252, b"n" * 300, b"", b"")[16:]) if o[0] == 2]
    assert len(name) == 300
    (found,) = written([ChannelInfo("n" * 300)], [], []).channels
    assert found.name == "n" * 300
    assert MAX_NAME == 255


@pytest.mark.parametrize(
    "comment",
    [
        b'{"minor": -1, "connection": true, "read_only": 1, "name": 7, "kind": [], "notes": {}, "clock": null}',
        b'{"minor": 1e400, "kind": "NO_SUCH_KIND", "notes": [1, null, {"a": 2}], "unknown": 1}',
        b'{"minor": 99999999999999999999999999, "init_flags": -4}',
        rb'{"name": "\ud800\udcff", "fstype": "\udfff", "notes": ["\udbff"], "server_command": "\ud83d\ude00"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"[]",
        b"7",
        b"",
        b"\xff\xfe",
        b'{"minor": ' + b"9" * 5000 + b"}",
    ],
)
def test_hostile_words_about_a_channel_leave_a_channel_of_the_declared_types(comment: bytes) -> None:
    info = read_channel("eth0", [b"fusewire channel " + comment])
    for field in dataclasses.fields(ChannelInfo):
        value = getattr(info, field.name)
        assert type(value) in (type(field.default), ChannelKind, tuple) or field.name == "name"
        assert not isinstance(value, int) or 0 <= value < 2**64
    assert isinstance(info.name, str)
    assert all(isinstance(note, str) for note in info.notes)
    for text in (info.name, info.fstype, info.server_command, *info.notes):
        os.fsencode(text)


def test_the_first_comment_of_ours_counts_and_others_are_left_alone() -> None:
    ours = channel_comment(ChannelInfo("real", minor=12))
    assert read_channel("eth0", [b"made by hand", ours, channel_comment(ChannelInfo("second"))]).minor == 12
    assert read_channel("eth0", [b"made by hand"]) == ChannelInfo("eth0")


@pytest.mark.parametrize(
    ("record", "stored"),
    [
        (RawRecord(-1, 0, Direction.TO_SERVER, b"x", 1), {"t_ns": 0}),
        (RawRecord(2**70, 0, Direction.TO_SERVER, b"x", 1), {"t_ns": 2**63 - 1}),
        (RawRecord(1, 0, Direction.TO_SERVER, b"x", 2**40), {"wire_len": 2**32 - 1}),
        (RawRecord(1, 0, Direction.TO_SERVER, b"x", 2**32 - 1), {}),
        (RawRecord(1, 0, Direction.TO_SERVER, b"x", -1), {"wire_len": 0}),
        (
            RawRecord(1, 0, Direction.TO_SERVER, b"x", 1, server_pid=-1, result=2**40),
            {"server_pid": 0, "result": 2**31 - 1},
        ),
        (RawRecord(1, 0, Direction.TO_SERVER, b"x", 1, comm=b"c" * 99), {"comm": b"c" * 16}),
    ],
    ids=["negative-time", "time-too-large", "length-too-large", "longest", "negative-length", "ids", "comm"],
)
def test_a_number_that_does_not_fit_is_stored_as_the_nearest_that_does(record: RawRecord, stored: dict) -> None:
    """A log of strace is text from somewhere: its times and lengths may be anything."""
    trace = written([ChannelInfo("a")], [record, record], [])
    assert [trace.record(row) for row in range(2)] == [record._replace(**stored)] * 2


def test_a_message_longer_than_any_kernel_sends_is_cut_and_says_so(tmp_path: Path) -> None:
    made = Dialogue()
    made.add(Direction.TO_SERVER, bytes(MAX_MESSAGE + 1))
    record = made.trace(tmp_path).record(0)
    assert (len(record.data), record.wire_len) == (MAX_MESSAGE, MAX_MESSAGE + 1)


def test_a_direction_or_bridge_of_a_later_version_is_read_as_what_it_is_treated_as(tmp_path: Path) -> None:
    path = Dialogue().write_to(tmp_path / "t.pcapng")
    with TraceWriter(path) as writer:
        writer.channel(ChannelInfo("a"))
        writer.records([RawRecord(1, 0, 5, bytes(40), 40, bridge=77, flags=RecordFlag.SPLICED)])  # type: ignore[arg-type]
    record = Trace.open(path).record(0)
    assert (record.direction, record.bridge) == (Direction.TO_SERVER, BridgeKind.UNKNOWN)


@pytest.mark.parametrize("command", ["bindfs /a /b\udcff", "x" * 100_000, "\x1b]0;title\x07"])
def test_any_command_line_can_be_noted_in_the_file(command: str, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.pcapng", command=command) as writer:
        writer.channel(ChannelInfo("a"))
    assert len(Trace.open(tmp_path / "t.pcapng").channels) == 1
