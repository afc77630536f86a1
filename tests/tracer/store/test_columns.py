"""Records that come as columns: the same file as of the same records one by one, also where there is no room for it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tracer.columns_of import columns_of
from tests.tracer.small_disk import small_disk
from tests.tracer.store.test_round_trip import U16, U32
from tracer.errors import TraceFileError
from tracer.records import BridgeKind, ChannelInfo, Direction, RawRecord
from tracer.store.writer import LONGEST_PACKED, MAX_MESSAGE, TraceWriter
from tracer.trace.trace import Trace

# Around each power of two the way of copying changes, and at LONGEST_PACKED the way of writing.
LENGTHS = st.one_of(
    st.integers(0, 200),
    st.integers(0, 12).flatmap(lambda power: st.integers(max(0, (1 << power) - 2), (1 << power) + 2)),
    st.integers(LONGEST_PACKED - 5, LONGEST_PACKED + 9),
    st.integers(LONGEST_PACKED, 70_000),
)
DATA = st.builds(lambda length, byte: bytes((byte + at) & 0xFF for at in range(length)), LENGTHS, st.integers(0, 255))
RECORDS = st.builds(
    RawRecord,
    t_ns=st.integers(0, 2**63 - 1),
    channel=st.integers(0, 2),
    direction=st.sampled_from(Direction),
    data=DATA,
    wire_len=U32,
    bridge=st.sampled_from(BridgeKind),
    flags=U16,
    server_pid=U32,
    server_tid=U32,
    comm=st.binary(max_size=16).map(lambda raw: raw.rstrip(b"\0")),
    queue=U16,
    desc_head=U32,
    result=st.integers(-(2**31), 2**31 - 1),
)


def record(number: int, size: int) -> RawRecord:
    return RawRecord(number, 0, Direction.TO_SERVER, os.urandom(size), size + number % 3, server_pid=number)


def file_of(*batches: object) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "t.pcapng"
        writer = TraceWriter(path)
        for name in "abc":
            writer.channel(ChannelInfo(name))
        for batch in batches:
            writer.records(batch)  # type: ignore[arg-type]
        os.close(writer._fd)  # what comes at the end has the time in it
        return path.read_bytes()


@given(st.lists(RECORDS, max_size=12), st.binary(min_size=1, max_size=3))
@example([], b"x")
@settings(max_examples=200, deadline=None)
def test_columns_become_the_same_bytes_as_the_records_one_by_one(records: list[RawRecord], between: bytes) -> None:
    assert file_of(columns_of(records, between)) == file_of(records)


def test_records_without_a_single_byte_become_the_same_bytes() -> None:
    records = [RawRecord(1, 0, Direction.TO_SERVER, b"", 0), RawRecord(2, 1, Direction.TO_KERNEL, b"", 7)]
    assert file_of(columns_of(records, b"")) == file_of(records)


def test_a_message_longer_than_any_kernel_sends_is_cut_as_ever() -> None:
    records = [record(1, 40), record(2, MAX_MESSAGE + 3), record(3, 5000)]
    assert file_of(columns_of(records)) == file_of(records)


def test_thousands_of_long_messages_in_one_batch_come_back() -> None:
    records = [record(number, LONGEST_PACKED + 1 + number % 9) for number in range(2500)]
    assert file_of(columns_of(records)) == file_of(records)


@given(st.lists(RECORDS, max_size=12))
def test_columns_are_a_sequence_of_the_records(records: list[RawRecord]) -> None:
    columns = columns_of(records)
    assert len(columns) == len(records)
    assert list(columns) == records
    assert [columns[at] for at in range(-len(records), len(records))] == records * 2
    assert list(columns[1:7:2]) == records[1:7:2]
    assert list(reversed(columns)) == records[::-1]
    with pytest.raises(IndexError):
        columns[len(records)]


def test_a_record_of_columns_has_the_types_every_bridge_gives() -> None:
    (found,) = columns_of([RawRecord(1, 0, Direction.TO_KERNEL, b"abc", 3, BridgeKind.EBPF, comm=b"ls")])
    assert [type(value) for value in found] == [
        int, int, Direction, bytes, int, BridgeKind, int, int, int, bytes, int, int, int
    ]  # fmt: skip


def test_chosen_rows_come_in_the_order_asked_for() -> None:
    records = [record(number, 100) for number in range(5)]
    columns = columns_of(records)
    assert list(columns.taken(np.array([3, 0, 3]))) == [records[3], records[0], records[3]]
    assert list(columns.taken(columns.server_pid > 2)) == records[3:]


def test_the_records_of_each_channel_are_counted(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.pcapng") as writer:
        for name in "abc":
            writer.channel(ChannelInfo(name))
        writer.records(columns_of([record(1, 9)._replace(channel=number) for number in (2, 0, 2)]))
        assert writer.record_count == 3
        assert writer._channel_records == [1, 0, 2]


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def filled(path: Path, *, as_columns: bool, sizes: list[int]) -> tuple[bytes, str, int]:
    """Write until there is no room; return the file, what was said and how many were counted."""
    records = [RawRecord(n, 0, Direction.TO_SERVER, bytes([n]) * size, size) for n, size in enumerate(sizes)]
    writer = TraceWriter(path)
    writer.channel(ChannelInfo("a"))
    said = ""
    while not said:
        try:
            writer.records(columns_of(records) if as_columns else records)
        except TraceFileError as refusal:
            said = refusal.message
    os.close(writer._fd)
    content = path.read_bytes()
    path.unlink()
    return content, said, writer.record_count


SIZES = [[1000] * 100, [9000, 40, 9001, 4096, 4097, 0], [5000], [40] * 7]


@pytest.mark.parametrize("sizes", SIZES)
def test_a_full_disk_keeps_the_same_whole_records(sizes: list[int], tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 65536) as disk:
        path = disk / "t.pcapng"
        expected = filled(path, as_columns=False, sizes=sizes)
        assert filled(path, as_columns=True, sizes=sizes) == expected


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.usefixtures("file_size_limit")
def test_a_limit_on_file_size_keeps_the_same_whole_records(sizes: list[int], tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    expected = filled(path, as_columns=False, sizes=sizes)
    assert filled(path, as_columns=True, sizes=sizes) == expected
    assert expected[2] > 0
    assert 50_000 - len(expected[0]) < 96 + max(sizes) + 3


def test_columns_written_to_a_slow_pipe_arrive_whole(tmp_path: Path) -> None:
    records = [record(number, 5000 + number) for number in range(200)]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        writer = TraceWriter(pipe)
        for name in "abc":
            writer.channel(ChannelInfo(name))
        received: list[bytes] = []
        stream = reader.stdout

        drainer = threading.Thread(target=lambda: received.append(stream.read()))
        drainer.start()
        writer.records(columns_of(records))
        os.close(writer._fd)
        drainer.join(30)
    assert received == [file_of(records)]


def test_columns_come_back_from_the_file(tmp_path: Path) -> None:
    records = [record(number, number * 37) for number in range(300)]
    with TraceWriter(tmp_path / "t.pcapng") as writer:
        writer.channel(ChannelInfo("a"))
        writer.records(columns_of(records))
    trace = Trace.open(tmp_path / "t.pcapng")
    assert [trace.record(row) for row in range(trace.records.count)] == records


def test_recording_ordinary_records_loads_no_numpy(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from tracer.records import ChannelInfo, Direction, RawRecord
from tracer.store.writer import TraceWriter
with TraceWriter(Path(sys.argv[1])) as writer:
    writer.channel(ChannelInfo("a"))
    writer.records([RawRecord(1, 0, Direction.TO_SERVER, b"abcd", 4)])
sys.exit("numpy" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, tmp_path / "t.pcapng"], check=True, timeout=60)
