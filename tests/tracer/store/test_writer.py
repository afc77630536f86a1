"""The writer in bad weather: a full disk, a killed recorder, names that attack whoever prints them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracer.dialogue import Dialogue
from tests.tracer.small_disk import small_disk
from tracer.errors import TraceFileError
from tracer.records import ChannelInfo, Direction, Gap, RawRecord
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace


def record(number: int, size: int = 1000) -> RawRecord:
    return RawRecord(number, 0, Direction.TO_SERVER, bytes(size), size, server_pid=number)


def numbers(path: Path) -> list[int]:
    trace = Trace.open(path)
    assert (trace.file.unreadable_bytes, trace.file.damaged) == (0, False)
    return [trace.record(row).server_pid for row in range(trace.records.count)]


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """Limit how large a file may grow; Python ignores SIGXFSZ, so a write fails with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 50_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 pages."""
    with small_disk(tmp_path / "small", 65536) as place:
        yield place


def fill(path: Path, batch: int) -> tuple[TraceFileError, TraceWriter]:
    """Write until there is no room left."""
    writer = TraceWriter(path)
    try:
        with writer:
            writer.channel(ChannelInfo("a"))
            for start in range(0, 100_000, batch):
                writer.records([record(number) for number in range(start, start + batch)])
    except TraceFileError as error:
        return error, writer
    pytest.fail("the disk never got full")


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_full_disk_leaves_every_record_that_fitted_and_says_how_many(batch: int, disk: Path) -> None:
    path = disk / "t.pcapng"
    error, writer = fill(path, batch)
    kept = numbers(path)
    assert kept == list(range(len(kept)))
    assert len(kept) == writer.record_count > 40
    assert error.message == f"no room left for {path}; it is complete up to here ({len(kept)} records)"
    assert "--snap" in error.hint
    assert 65536 - path.stat().st_size < 96 + 1000


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_limit_on_file_size_is_a_full_disk(batch: int, file_size_limit: int, tmp_path: Path) -> None:
    _, writer = fill(tmp_path / "t.pcapng", batch)
    kept = numbers(tmp_path / "t.pcapng")
    assert kept == list(range(writer.record_count))
    assert file_size_limit - (tmp_path / "t.pcapng").stat().st_size < 96 + 1000


def test_a_writer_goes_on_when_there_is_room_again(file_size_limit: int, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    with TraceWriter(path) as writer:
        writer.channel(ChannelInfo("a"))
        with pytest.raises(TraceFileError):
            writer.records([record(number) for number in range(100)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size_limit * 2, resource.RLIM_INFINITY))
        kept = writer.record_count
        writer.gap(Gap(1, 0, 100 - kept, "the disk was full"))
        writer.records([record(1000)])
    assert numbers(path) == [*range(kept), 1000]
    assert Trace.open(path).gaps == [Gap(1, 0, 100 - kept, "the disk was full")]


def test_the_end_of_a_capture_on_a_full_disk_is_an_error_of_its_own(file_size_limit: int, tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t.pcapng")
    writer.channel(ChannelInfo("a"))
    size = (tmp_path / "t.pcapng").stat().st_size
    writer.records([record(0, file_size_limit - size - 96)])
    with pytest.raises(TraceFileError, match="no room left"):
        writer.close()
    writer.close()
    assert numbers(tmp_path / "t.pcapng") == [0]


RECORDER = """
import sys
from pathlib import Path
from tracer.records import ChannelInfo, Direction, RawRecord
from tracer.store.writer import TraceWriter

writer = TraceWriter(Path(sys.argv[1]))
writer.channel(ChannelInfo("a"))
number = 0
while True:
    batch = [RawRecord(number + i, 0, Direction.TO_SERVER, bytes(700), 700, server_pid=number + i) for i in range(5)]
    writer.records(batch)
    number += len(batch)
    print(number, flush=True)
"""


def test_a_killed_recorder_loses_nothing_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    with subprocess.Popen([sys.executable, "-c", RECORDER, path], stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        said = [int(next(recorder.stdout)) for _ in range(200)]
        recorder.send_signal(signal.SIGKILL)
        said += [int(line) for line in recorder.stdout if line.endswith("\n")]
    kept = numbers(path)
    assert kept == list(range(len(kept)))
    assert len(kept) >= said[-1]
    assert not Trace.open(path).file.finished


def test_a_trace_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = Dialogue().write_to(tmp_path / "t.pcapng")
    assert path.stat().st_mode & 0o777 == 0o600


def test_closing_twice_is_harmless_and_what_is_written_says_so(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t.pcapng")
    writer.channel(ChannelInfo("a"))
    writer.close()
    writer.close()
    assert Trace.open(tmp_path / "t.pcapng").file.finished


def test_a_trace_of_many_messages_and_large_ones_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    big = os.urandom(1 << 20)
    with TraceWriter(path) as writer:
        writer.channel(ChannelInfo("a"))
        writer.records([record(number, 40) for number in range(300_000)])
        writer.records([RawRecord(1, 0, Direction.TO_KERNEL, big, 4 << 20)])
    trace = Trace.open(path)
    assert trace.records.count == 300_001
    assert trace.record(300_000).data == big
    assert trace.nbytes / trace.records.count < 100


def test_a_capture_that_cannot_start_leaves_the_older_trace_as_it_was(tmp_path: Path) -> None:
    path = Dialogue().write_to(tmp_path / "t.pcapng")
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), TraceWriter(path):
        raise ZeroDivisionError
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_capture_that_cannot_start_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), TraceWriter(tmp_path / "t.pcapng"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_capture_that_met_a_channel_takes_the_older_traces_place(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(b"older")
    with TraceWriter(path) as writer:
        assert path.read_bytes() == b"older"
        writer.channel(ChannelInfo("a"))
        assert [info.name for info in Trace.open(path).channels] == ["a"]
    assert not writer.kept_older
    assert list(tmp_path.iterdir()) == [path]


def test_a_capture_that_met_nothing_leaves_the_older_trace_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(b"older")
    with TraceWriter(path) as writer:
        pass
    assert writer.kept_older
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_recorder_killed_before_it_met_anything_leaves_the_older_trace_to_this_and_the_next(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(b"older")
    os.close(TraceWriter(path)._fd)  # what a kill leaves
    assert path.read_bytes() == b"older"
    with TraceWriter(path) as writer:
        writer.channel(ChannelInfo("a"))
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_after_the_first_record_keeps_what_was_captured(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(b"older")
    with contextlib.suppress(ZeroDivisionError), TraceWriter(path) as writer:
        writer.channel(ChannelInfo("a"))
        writer.records([record(1)])
        raise ZeroDivisionError
    assert numbers(path) == [1]
    assert list(tmp_path.iterdir()) == [path]
