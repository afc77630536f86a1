"""Files as accidents leave them: cut at any byte, damaged, grown, put together, or made by somebody hostile."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracer.dialogue import Dialogue
from tracer.errors import TraceFileError
from tracer.records import ChannelInfo, Direction, RawRecord
from tracer.store import pcapng
from tracer.store.prefix import LINKTYPE_UPPER_PDU, PREFIX_AT
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace


def small() -> Dialogue:
    """A dialogue of every kind of block, with odd lengths."""
    made = Dialogue(channels=[ChannelInfo("/mnt/a", minor=45), ChannelInfo("/mnt/b")])
    made.init()
    made.lookup(1, b"x", 2)
    made.gap(3, "the ring was full")
    made.write(2, 5)
    made.add(Direction.TO_SERVER, b"short", channel=1)
    made.syncfs()
    return made


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small().write_to(tmp_path_factory.mktemp("made") / "t.pcapng").read_bytes()


def blocks(content: bytes) -> list[tuple[int, int, int]]:
    """Return (kind, start, end) of every block, read naively."""
    found, at = [], 0
    while at < len(content):
        kind, total = struct.unpack_from("<II", content, at)
        found.append((kind, at, at + total))
        at += total
    return found


def everything(trace: Trace) -> list[RawRecord]:
    """Read all there is of a trace, in every way, so that whatever could fail does."""
    for number in range(trace.exchange_count):
        trace.exchange(number)
    trace.missing_uniques()
    return [trace.record(row) for row in range(trace.records.count)]


def test_a_file_cut_at_any_byte_yields_every_whole_record_before_the_cut(content: bytes, tmp_path: Path) -> None:
    ends = [end for kind, _, end in blocks(content) if kind == pcapng.ENHANCED_PACKET]
    whole = [end for _, _, end in blocks(content)]
    records = small().records
    for cut in range(len(content) + 1):
        path = tmp_path / f"{cut}.pcapng"
        path.write_bytes(content[:cut])
        if cut < 12:
            with pytest.raises(TraceFileError, match=r"is empty|ends after \d+ bytes: nothing was recorded"):
                Trace.open(path)
        else:
            trace = Trace.open(path)
            assert everything(trace) == records[: sum(end <= cut for end in ends)]
            assert trace.file.unreadable_bytes == cut - max([0, *(end for end in whole if end <= cut)])
            assert not trace.file.damaged
        path.unlink()


def test_a_file_that_grows_byte_by_byte_gives_each_record_once(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(content[:12])
    trace = Trace.open(path)
    new = 0
    for at in range(12, len(content)):
        with path.open("ab") as file:
            file.write(content[at : at + 1])
        new += trace.refresh()
    assert new == len(small().records)
    assert everything(trace) == small().records
    assert (trace.file.unreadable_bytes, trace.file.finished) == (0, True)


@pytest.mark.parametrize("length", [0, 4, 13, 14, 1 << 31, 0xFFFF_FFFF, (1 << 30) + 4], ids=hex)
def test_what_lies_before_and_behind_a_damaged_block_is_read(length: int, content: bytes, tmp_path: Path) -> None:
    packets = [block for block in blocks(content) if block[0] == pcapng.ENHANCED_PACKET]
    hit = 3
    at = packets[hit][1]
    path = tmp_path / "t.pcapng"
    path.write_bytes(content[: at + 4] + struct.pack("<I", length) + content[at + 8 :])
    trace = Trace.open(path)
    records = small().records
    assert everything(trace) == records[:hit] + records[hit + 1 :]
    assert trace.file.damaged
    assert trace.file.skipped_bytes == packets[hit][2] - at


def test_a_length_that_points_behind_the_end_is_a_cut(content: bytes, tmp_path: Path) -> None:
    at = blocks(content)[-1][1]
    path = tmp_path / "t.pcapng"
    path.write_bytes(content[: at + 4] + struct.pack("<I", 1 << 20) + content[at + 8 :])
    trace = Trace.open(path)
    assert everything(trace) == small().records
    assert trace.file.unreadable_bytes == len(content) - at


def test_zeros_where_a_disk_lost_the_end_are_no_records(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(content + bytes(5000))
    trace = Trace.open(path)
    assert everything(trace) == small().records
    assert trace.file.unreadable_bytes + trace.file.skipped_bytes == 5000


def test_garbage_between_two_traces_is_skipped_and_counted(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(content + b"garbage!" * 100 + content)
    trace = Trace.open(path)
    assert len(everything(trace)) == 2 * len(small().records)
    assert trace.file.skipped_bytes == 800


def test_two_traces_put_together_are_one_with_the_channels_of_both(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(content * 2)
    trace = Trace.open(path)
    records = small().records
    assert everything(trace) == records + [record._replace(channel=record.channel + 2) for record in records]
    assert [info.name for info in trace.channels] == ["/mnt/a", "/mnt/b"] * 2
    assert len(trace.gaps) == 2


def foreign_file(*interfaces: bytes, packets: list[tuple[int, bytes]]) -> bytes:
    content = pcapng.section_header("test", "test", "") + b"".join(interfaces)
    for number, data in packets:
        padded = data + bytes(-len(data) % 4)
        content += pcapng.block(6, struct.pack("<IIIII", number, 0, 0, len(data), len(data)) + padded)
    return content


def ours(content: bytes) -> bytes:
    """Return the packet data of the first record of a trace."""
    _, start, _ = next(block for block in blocks(content) if block[0] == pcapng.ENHANCED_PACKET)
    return content[start + 28 : start + 28 + struct.unpack_from("<I", content, start + 20)[0]]


def test_packets_of_other_link_types_dissectors_and_interfaces_are_counted_and_left_out(
    content: bytes, tmp_path: Path
) -> None:
    good = ours(content)
    fuse = pcapng.interface(LINKTYPE_UPPER_PDU, b"fuse", b"", b"")
    ethernet = pcapng.interface(1, b"eth0", b"", b"")
    in_microseconds = pcapng.block(1, struct.pack("<HHI", LINKTYPE_UPPER_PDU, 0, 0))
    http = good.replace(b"fusewire", b"httptwo!")
    path = tmp_path / "t.pcapng"
    path.write_bytes(
        foreign_file(
            ethernet,
            fuse,
            in_microseconds,
            packets=[(0, b"e" * 60), (1, good), (1, http), (1, b""), (1, good[:60]), (2, good), (7, good), (0, good)],
        )
    )
    trace = Trace.open(path)
    assert (trace.records.count, trace.file.foreign_packets) == (1, 7)
    assert [info.name for info in trace.channels] == ["fuse"]


def test_a_capture_of_something_else_is_refused_and_does_not_pass_for_one_in_which_nothing_happened(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(foreign_file(pcapng.interface(1, b"eth0", b"", b""), packets=[(0, b"frame")] * 3))
    with pytest.raises(TraceFileError, match="holds no FUSE messages"):
        Trace.open(path)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 9, 10, 0xBAD, 0x0A0D0D0A])
@pytest.mark.parametrize("body", [b"", b"\xff" * 4, b"\xff" * 8, b"\xff" * 24])
def test_the_smallest_block_of_any_kind_at_the_end_does_no_harm(
    kind: int, body: bytes, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(content + pcapng.block(kind, body))
    try:
        trace = Trace.open(path)
    except TraceFileError:
        assert kind == pcapng.SECTION_HEADER
    else:
        assert everything(trace) == small().records


@pytest.mark.parametrize("version", [2, 255])
def test_records_of_a_newer_version_are_refused_with_the_way_out(version: int, content: bytes, tmp_path: Path) -> None:
    damaged = bytearray(content)
    at = next(start for kind, start, _ in blocks(content) if kind == pcapng.ENHANCED_PACKET)
    damaged[at + PREFIX_AT] = version
    path = tmp_path / "t.pcapng"
    path.write_bytes(damaged)
    with pytest.raises(TraceFileError, match=rf"made by a newer fusewire \(record format {version}") as error:
        Trace.open(path)
    assert error.value.hint == "update fusewire"


def test_a_prefix_of_another_size_is_refused(content: bytes, tmp_path: Path) -> None:
    damaged = bytearray(content)
    at = next(start for kind, start, _ in blocks(content) if kind == pcapng.ENHANCED_PACKET)
    damaged[at + PREFIX_AT + 1] = 40
    path = tmp_path / "t.pcapng"
    path.write_bytes(damaged)
    with pytest.raises(TraceFileError, match="prefix is not 48 bytes"):
        Trace.open(path)


def test_more_channels_than_a_record_can_number_are_refused_soon(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    one = pcapng.block(1, struct.pack("<HHI", LINKTYPE_UPPER_PDU, 0, 0) + pcapng.option(9, b"\x09"))
    path.write_bytes(foreign_file(packets=[]) + one * 65_537)
    with pytest.raises(TraceFileError, match="more than 65536 channels"):
        Trace.open(path)


def test_packets_between_thousands_of_interfaces_are_read_in_time(content: bytes, tmp_path: Path) -> None:
    one = pcapng.block(1, struct.pack("<HHI", 1, 0, 0))
    packet = pcapng.block(6, struct.pack("<IIIII", 0, 0, 0, 4, 4) + b"data")
    path = tmp_path / "t.pcapng"
    path.write_bytes(foreign_file(packets=[]) + (one + packet) * 50_000)
    with pytest.raises(TraceFileError, match="holds no FUSE messages"):
        Trace.open(path)


def test_a_file_that_was_cut_below_what_was_read_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(content)
    trace = Trace.open(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TraceFileError, match="written anew while it was open") as error:
        trace.refresh()
    assert error.value.hint == "open it again"


def test_a_new_trace_of_the_same_name_leaves_the_open_one_readable_and_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(content * 50)
    trace = Trace.open(path)
    with TraceWriter(path) as writer:
        writer.channel(ChannelInfo("new"))
        assert len(everything(trace)) == 50 * len(small().records)
        with pytest.raises(TraceFileError, match="written anew while it was open"):
            trace.refresh()


def test_an_unfinished_block_that_the_recorder_takes_back_is_no_harm(content: bytes, tmp_path: Path) -> None:
    """A recorder whose disk is full cuts its file back to the last whole block."""
    path = tmp_path / "t.pcapng"
    end = blocks(content)[5][2]
    path.write_bytes(content[: end + 40])
    trace = Trace.open(path)
    with path.open("r+b") as file:
        file.truncate(end)
    trace.refresh()
    with path.open("ab") as file:
        file.write(content[end:])
    trace.refresh()
    assert everything(trace) == small().records


MUTATIONS = st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=6)), min_size=1, max_size=6)
SPLICES = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 400)), max_size=2)
NUMBER = itertools.count()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations=MUTATIONS, splices=SPLICES)
def test_no_mutation_of_a_trace_raises_anything_but_a_trace_file_error(
    mutations: list[tuple[int, bytes]], splices: list[tuple[int, int]], content: bytes, tmp_path: Path
) -> None:
    mutated = bytearray(content)
    for at, data in mutations:
        mutated[at % len(mutated) : at % len(mutated) + len(data)] = data
    for at, length in splices:  # a piece taken out, so that all behind it shifts
        del mutated[at % (len(mutated) + 1) : at % (len(mutated) + 1) + length]
    path = tmp_path / f"{next(NUMBER)}.pcapng"
    path.write_bytes(mutated)
    try:
        trace = Trace.open(path)
    except TraceFileError:
        return
    finally:
        path.unlink()
    everything(trace)
    trace.advance_state()


def test_records_beyond_four_gibibytes_are_found_and_read(content: bytes, tmp_path: Path) -> None:
    """Sparse blocks of a kind nobody knows stand for the gigabytes before."""
    path = tmp_path / "t.pcapng"
    unknown = 1 << 29
    with path.open("wb") as file:
        file.write(content)
        for _ in range(9):
            start = file.tell()
            file.write(struct.pack("<II", 0xBAD, unknown))
            file.seek(start + unknown - 4)
            file.write(struct.pack("<I", unknown))
        file.write(content)
        assert file.tell() > 1 << 32
    trace = Trace.open(path)
    records = small().records
    assert everything(trace)[len(records) :] == [record._replace(channel=record.channel + 2) for record in records]
    assert trace.file.unreadable_bytes == 0
    assert int(trace.records["at"][-1]) > 1 << 32


def test_damage_in_a_large_file_is_searched_once(content: bytes, tmp_path: Path) -> None:
    """What looks like the beginning of a block in every word must not be looked at again and again."""
    path = tmp_path / "t.pcapng"
    path.write_bytes(content + struct.pack("<I", pcapng.ENHANCED_PACKET) * 300_000 + content)
    trace = Trace.open(path)
    assert len(everything(trace)) == 2 * len(small().records)
    assert trace.file.skipped_bytes == 1_200_000
