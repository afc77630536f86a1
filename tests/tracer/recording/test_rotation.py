"""Files in turn hold what one long file would: no record is split, lost or out of order, and each file opens alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracer.columns_of import columns_of
from tests.tracer.dialogue import START_NS, WRITE, Dialogue
from tests.tracer.small_disk import small_disk
from tracer.errors import TraceFileError
from tracer.recording.channels import INIT_BEFORE
from tracer.recording.limits import Limit, Unit
from tracer.recording.rotation import RotatingWriter
from tracer.records import ChannelInfo, Direction, Gap, RawRecord
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

NAME = re.compile(r"t_\d{5}_\d{14}\.pcapng")


def size(amount: int) -> Limit:
    return Limit(Unit.BYTES, amount, f"{amount}B")


def time(amount_ns: int) -> Limit:
    return Limit(Unit.NS, amount_ns, f"{amount_ns}ns")


def files(folder: Path) -> list[Path]:
    found = sorted(folder.iterdir())
    assert all(NAME.fullmatch(path.name) for path in found), found
    return found


def opened(folder: Path) -> list[Trace]:
    traces = [Trace.open(path) for path in files(folder)]
    assert all((trace.file.unreadable_bytes, trace.file.damaged) == (0, False) for trace in traces)
    return traces


def records_of(trace: Trace) -> list[RawRecord]:
    return [trace.record(row) for row in range(trace.records.count)]


# ---- what was recorded is there, once, in order ----

record = st.builds(
    lambda step, data, more, direction, channel, pid: (step, data, more, direction, channel, pid),
    st.integers(0, 5_000),
    st.binary(max_size=300) | st.integers(0, 9000).map(bytes),
    st.integers(0, 1000),
    st.sampled_from(Direction),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
)
limits = st.integers(500, 20_000).map(size) | st.integers(1, 50_000).map(time)


def made(parts: Sequence[tuple[int, bytes, int, Direction, int, int]]) -> list[RawRecord]:
    """Return records of these, their times going up by `step`."""
    t_ns, found = START_NS, []
    for step, data, more, direction, channel, pid in parts:
        t_ns += step
        found.append(RawRecord(t_ns, channel, direction, data, len(data) + more, server_pid=pid))
    return found


@given(st.lists(record, max_size=60), st.lists(st.integers(1, 20), min_size=1), limits, st.booleans())
def test_all_files_together_hold_the_records_of_one_long_file(
    parts: list[tuple[int, bytes, int, Direction, int, int]], batches: list[int], limit: Limit, as_columns: bool
) -> None:
    records = made(parts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with RotatingWriter(folder / "t.pcapng", limit) as writer:
            for number in range(3):
                assert writer.channel(ChannelInfo(f"channel {number}")) == number
            left, turn = records, 0
            while left:
                count = batches[turn % len(batches)]
                batch, left, turn = left[:count], left[count:], turn + 1
                writer.records(columns_of(batch) if as_columns else batch)
        assert writer.record_count == len(records)
        traces = opened(folder)
        assert [one for trace in traces for one in records_of(trace)] == records
        assert all(trace.file.finished and len(trace.channels) == 3 for trace in traces)
        for trace in traces:
            times = trace.records["t_ns"]
            if limit.unit is Unit.BYTES:
                assert trace.file.path.stat().st_size <= limit.amount or len(times) <= 1
            else:
                assert not len(times) or times[-1] - times[0] < limit.amount
        for trace, following in pairwise(traces):  # no file ends early
            times, next_ns = trace.records["t_ns"], following.records["t_ns"][0]
            if limit.unit is Unit.NS:
                assert next_ns >= times[0] + limit.amount


def test_each_file_opens_alone_with_its_channels_and_what_init_agreed_on(tmp_path: Path) -> None:
    talk = Dialogue([ChannelInfo("/mnt/test", fstype="fuse.test", server_pid=7), ChannelInfo("/mnt/other")])
    talk.init(minor=31)
    talk.init(minor=23, channel=1, unique=2)
    for _ in range(50):
        talk.write(5, 200)
        talk.syncfs(1, channel=1)
    with RotatingWriter(tmp_path / "t.pcapng", size(4096)) as writer:
        talk.feed(writer)  # type: ignore[arg-type]
    first, *rest = opened(tmp_path)
    assert len(rest) > 5
    assert INIT_BEFORE not in first.channels[0].notes
    for trace in rest:
        assert [info.name for info in trace.channels] == ["/mnt/test", "/mnt/other"]
        assert [(info.minor, INIT_BEFORE in info.notes) for info in trace.channels] == [(31, True), (23, True)]
        assert (trace.channels[0].fstype, trace.channels[0].server_pid) == ("fuse.test", 7)
        assert all(session.minor_is_known for session in trace.sessions)
        assert not any(exchange.message.is_malformed for exchange in trace.exchanges())
        context = first.context(first.records.count - 1)
        assert trace.context(0) in (context, first.context(2))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("as_columns", [False, True])
def test_an_init_is_found_in_either_byte_order(order: str, as_columns: bool, tmp_path: Path) -> None:
    talk = Dialogue([ChannelInfo("a", big_endian=order == ">")], order)
    talk.init(minor=28)
    talk.write(5, 5000)
    talk.write(5, 5000)
    with RotatingWriter(tmp_path / "t.pcapng", size(4096)) as writer:
        writer.channel(talk.channels[0])
        writer.records(columns_of(talk.records) if as_columns else talk.records)
    assert [trace.channels[0].minor for trace in opened(tmp_path)][1:] == [28] * (len(files(tmp_path)) - 1)


def test_a_channel_met_late_is_described_from_then_on(tmp_path: Path) -> None:
    talk = Dialogue()
    for _ in range(30):
        talk.write(5, 100)
    with RotatingWriter(tmp_path / "t.pcapng", size(4096)) as writer:
        writer.channel(ChannelInfo("early"))
        writer.records(talk.records)
        writer.channel(ChannelInfo("late"))
        writer.records([one._replace(channel=1) for one in talk.records])
    counts = [len(trace.channels) for trace in opened(tmp_path)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 2)


def test_a_reply_to_a_request_of_an_earlier_file_stands_alone(tmp_path: Path) -> None:
    talk = Dialogue()
    unique = talk.ask(WRITE, 5, talk.write_body(3000))
    talk.answer(unique, talk.pack("II", 3000, 0))
    with RotatingWriter(tmp_path / "t.pcapng", size(3500)) as writer:
        talk.feed(writer)  # type: ignore[arg-type]
    first, second = opened(tmp_path)
    assert (first.state(0), second.state(0)) == (State.PENDING, State.ORPHAN_REPLY)


def test_a_loss_is_written_where_it_happened_and_counted_over_all_files(tmp_path: Path) -> None:
    talk = Dialogue()
    for count in (3, 4):
        for _ in range(20):
            talk.write(5, 100)
        talk.gap(count, "the ring was full")
    with RotatingWriter(tmp_path / "t.pcapng", size(4096)) as writer:
        talk.feed(writer)  # type: ignore[arg-type]
    assert (writer.gap_count, writer.lost_count) == (2, 7)
    assert [gap.count for trace in opened(tmp_path) for gap in trace.gaps] == [3, 4]


# ---- which files there are ----


def test_only_the_newest_files_are_kept(tmp_path: Path) -> None:
    talk = Dialogue()
    for _ in range(100):
        talk.write(5, 100)
    with RotatingWriter(tmp_path / "t.pcapng", size(4096), keep=3) as writer:
        writer.channel(talk.channels[0])
        for one in talk.records:
            writer.records([one])
            assert len(files(tmp_path)) <= 3
    kept = [one for trace in opened(tmp_path) for one in records_of(trace)]
    assert kept == talk.records[-len(kept) :]
    assert list(writer.series.kept) == files(tmp_path)
    assert writer.record_count == 200


def test_an_earlier_recording_of_that_name_stays_and_numbers_go_on(tmp_path: Path) -> None:
    for _ in range(2):
        with RotatingWriter(tmp_path / "t.pcapng", size(1 << 20), keep=1) as writer:
            writer.channel(ChannelInfo("a"))
    assert [path.name[:8] for path in files(tmp_path)] == ["t_00001_", "t_00002_"]


def test_a_recording_that_cannot_start_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RotatingWriter(tmp_path / "t.pcapng", size(4096)):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


# ---- bad weather ----


def test_a_full_disk_ends_in_one_line_and_all_that_fitted_is_there(tmp_path: Path) -> None:
    talk = Dialogue()
    for _ in range(2000):
        talk.write(5, 100)
    with small_disk(tmp_path / "small", 65536) as disk:
        full = pytest.raises(TraceFileError, match=r"no room left|cannot be begun")
        with full, RotatingWriter(disk / "t.pcapng", size(10_000)) as writer:
            talk.feed(writer)  # type: ignore[arg-type]
        kept = [one for trace in opened(disk) for one in records_of(trace)]
        assert kept == talk.records[: len(kept)]
        assert len(kept) == writer.record_count > 100


def test_with_keep_a_disk_that_holds_the_files_never_gets_full(tmp_path: Path) -> None:
    talk = Dialogue()
    for _ in range(2000):
        talk.write(5, 100)
    with small_disk(tmp_path / "small", 65536) as disk:
        with RotatingWriter(disk / "t.pcapng", size(16_000), keep=4) as writer:
            talk.feed(writer)  # type: ignore[arg-type]
        assert len(files(disk)) == 4


RECORDER = """
import sys
from pathlib import Path
from tracer.records import ChannelInfo, Direction, RawRecord
from tracer.recording.limits import Limit, Unit
from tracer.recording.rotation import RotatingWriter

writer = RotatingWriter(Path(sys.argv[1]), Limit(Unit.BYTES, 4096, ""))
writer.channel(ChannelInfo("a"))
number = 0
while True:
    writer.records([RawRecord(number + i, 0, Direction.TO_SERVER, bytes(700), 700, server_pid=number + i) for i in range(3)])
    number += 3
    print(number, flush=True)
"""  # noqa: E501


@pytest.mark.parametrize("lines", [1, 57, 200, 333])
def test_a_recorder_killed_while_it_rotates_leaves_files_that_open_and_all_it_had_written(
    lines: int, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RECORDER, tmp_path / "t.pcapng"], stdout=subprocess.PIPE, text=True
    ) as recorder:
        assert recorder.stdout is not None
        said = [int(next(recorder.stdout)) for _ in range(lines)]
        recorder.send_signal(signal.SIGKILL)
        said += [int(line) for line in recorder.stdout if line.endswith("\n")]
    hidden = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(hidden) <= 1
    for path in hidden:
        os.unlink(path)  # noqa: PTH108
    kept = [one.server_pid for trace in opened(tmp_path) for one in records_of(trace)]
    assert kept == list(range(len(kept)))
    assert len(kept) >= said[-1]


def test_a_gap_before_any_channel_gets_a_channel_in_every_file(tmp_path: Path) -> None:
    with RotatingWriter(tmp_path / "t.pcapng", size(4096)) as writer:
        writer.gap(Gap(START_NS, -1, 0, "the beginning was missed"))
        writer.records([RawRecord(START_NS + n, 0, Direction.TO_SERVER, bytes(1000), 1000) for n in range(9)])
    assert all([info.name for info in trace.channels] == ["unknown"] for trace in opened(tmp_path))
