"""Readers of other people see in our files what we see: the same bytes, times, lengths, interfaces and losses."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo import possible
from tests.tracer.dialogue import START_NS, Dialogue
from tracer.errors import TraceFileError
from tracer.records import ChannelInfo, ChannelKind, Direction, Gap, RawRecord
from tracer.store.prefix import OVERHEAD
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

CHANNELS = [
    ChannelInfo(
        "/mnt/photos", kind=ChannelKind.DEV_FUSE, fstype="fuse.sshfs", server_command="sshfs host: /mnt", minor=31
    ),
    ChannelInfo("virtiofs tag hömé", kind=ChannelKind.VIRTIOFS, notes=("no INIT was seen",)),
]


def need(program: str) -> str:
    if (reason := possible.why_no_program(program, "tshark")) is not None:
        pytest.skip(reason)
    return program


def run(*words: str | Path) -> str:
    ended = subprocess.run([need(str(words[0])), *words[1:]], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def made() -> Dialogue:
    """Two channels, a cut record, a loss, and times with all nine digits."""
    talk = Dialogue(channels=CHANNELS, t_ns=START_NS + 123_456_789)
    talk.init()
    talk.lookup(1, b"x", 2)
    talk.write(2, 1000)
    talk.add(Direction.TO_SERVER, b"kept", channel=1, wire_len=70_000)
    talk.gap(7, "the ring was full", channel=1)
    talk.syncfs(channel=1)
    return talk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return made().write_to(tmp_path / "t.pcapng")


def test_tshark_sees_the_same_bytes_times_lengths_and_interfaces(path: Path) -> None:
    fields = ("frame.time_epoch", "frame.cap_len", "frame.len", "frame.interface_name", "frame.protocols")
    listed = run("tshark", "-r", path, "-T", "fields", *[word for field in fields for word in ("-e", field)])
    rows = [line.split("\t") for line in listed.splitlines()]
    records = made().records
    assert [(time, int(kept), int(length), name) for time, kept, length, name, _ in rows] == [
        (
            f"{record.t_ns // 10**9}.{record.t_ns % 10**9:09d}",
            OVERHEAD + len(record.data),
            OVERHEAD + record.wire_len,
            CHANNELS[record.channel].name,
        )
        for record in records
    ]
    assert {protocols.partition(":")[0] for *_, protocols in rows} == {"exported_pdu"}


def test_capinfos_counts_packets_and_interfaces_and_shows_what_we_say(path: Path) -> None:
    said = run("capinfos", path)
    assert "Wireshark/... - pcapng" in said
    assert "Wireshark Upper PDU" in said
    assert f"Number of packets:   {len(made().records)}" in said
    assert "Number of interfaces in file: 2" in said
    assert "Name = /mnt/photos" in said
    assert "Time precision = nanoseconds (9)" in said
    assert "Number of stat entries = 2" in said  # of the second: the loss, and the end


def test_tshark_shows_the_loss_as_dropped_packets_and_words_are_in_the_file(path: Path) -> None:
    assert b"7 records lost: the ring was full" in path.read_bytes()
    (gap,) = Trace.open(path).gaps
    assert (gap.count, gap.reason) == (7, "the ring was full")


def test_scapys_reader_sees_the_same_bytes_and_times(path: Path) -> None:
    program = """
import sys
from scapy.utils import RawPcapNgReader
with RawPcapNgReader(sys.argv[1]) as packets:
    for data, meta in packets:
        high, low = meta.tshigh, meta.tslow
        print(meta.linktype, (high << 32) + low, meta.tsresol, meta.wirelen, data.hex())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines()]
    records = made().records
    assert len(rows) == len(records)
    for (link, t_ns, resolution, length, data), record in zip(rows, records, strict=True):
        assert (int(link), int(t_ns), int(resolution)) == (252, record.t_ns, 10**9)
        assert int(length) == OVERHEAD + record.wire_len
        assert bytes.fromhex(data)[OVERHEAD:] == record.data


def kept(path: Path) -> list[RawRecord]:
    trace = Trace.open(path)
    assert (trace.file.foreign_packets, trace.file.unreadable_bytes) == (0, 0)
    return [trace.record(row) for row in range(trace.records.count)]


def test_an_editcapd_file_is_a_trace_still(path: Path, tmp_path: Path) -> None:
    some = tmp_path / "some.pcapng"
    run("editcap", "-r", path, some, "3-5")
    assert kept(some) == made().records[2:5]
    assert [info.name for info in Trace.open(some).channels] == [info.name for info in CHANNELS]
    assert Trace.open(some).channels == CHANNELS


def test_mergecapd_files_keep_their_channels_apart(path: Path, tmp_path: Path) -> None:
    other = Dialogue(channels=[ChannelInfo("/mnt/other")], t_ns=START_NS)
    other.init()
    second = other.write_to(tmp_path / "second.pcapng")
    merged = tmp_path / "merged.pcapng"
    run("mergecap", "-w", merged, path, second)
    trace = Trace.open(merged)
    by_name = {
        info.name: [trace.record(row).data for row in range(trace.records.count) if trace.record(row).channel == number]
        for number, info in enumerate(trace.channels)
    }
    assert by_name == {
        "/mnt/photos": [record.data for record in made().records if record.channel == 0],
        "virtiofs tag hömé": [record.data for record in made().records if record.channel == 1],
        "/mnt/other": [record.data for record in other.records],
    }
    times = trace.records["t_ns"]
    assert (times[1:] >= times[:-1]).all()


def test_a_merged_trace_pairs_as_before(path: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged.pcapng"
    run("mergecap", "-w", merged, path)
    before, after = Trace.open(path), Trace.open(merged)
    assert after.states().tolist() == before.states().tolist()
    assert after.latencies_ns().tolist() == before.latencies_ns().tolist()


def test_a_trace_among_packets_of_a_network_opens_and_counts_them(path: Path, tmp_path: Path) -> None:
    network = tmp_path / "eth.pcap"
    hexdump = tmp_path / "eth.txt"
    hexdump.write_text("0000 " + "ff " * 60 + "\n")
    run("text2pcap", hexdump, network)
    merged = tmp_path / "merged.pcapng"
    run("mergecap", "-w", merged, path, network)
    trace = Trace.open(merged)
    assert (trace.records.count, trace.file.foreign_packets) == (len(made().records), 1)


def swapped_options(content: bytes) -> bytes:
    swapped, at = b"", 0
    while at + 4 <= len(content):
        code, length = struct.unpack_from("<HH", content, at)
        value = content[at + 4 : at + 4 + length]
        value = value[::-1] if length == 8 and code in (4, 5) else value  # the counters of interface statistics
        swapped += struct.pack(">HH", code, length) + value + bytes(-length % 4)
        at += 4 + length + -length % 4
    return swapped


def as_a_big_endian_machine_writes_it(content: bytes) -> bytes:
    """Rewrite a pcapng file in the other byte order."""
    heads = {0x0A0D0D0A: "IHHq", 1: "HHI", 5: "III", 6: "IIIII"}
    swapped, at = b"", 0
    while at < len(content):
        kind, total = struct.unpack_from("<II", content, at)
        body = content[at + 8 : at + total - 4]
        head = heads[kind]
        numbers = struct.unpack_from("<" + head, body)
        rest = body[struct.calcsize("<" + head) :]
        rest = rest if kind == 6 else swapped_options(rest)
        swapped += struct.pack(">II" + head, kind, total, *numbers) + rest + struct.pack(">I", total)
        at += total
    return swapped


def test_a_big_endian_machines_file_opens_after_editcap_as_the_hint_says(path: Path, tmp_path: Path) -> None:
    big, new = tmp_path / "big.pcapng", tmp_path / "new.pcapng"
    big.write_bytes(as_a_big_endian_machine_writes_it(path.read_bytes()))
    with pytest.raises(TraceFileError, match="big-endian pcapng file") as error:
        Trace.open(big)
    assert "editcap FILE NEW" in error.value.hint
    run("editcap", big, new)
    assert kept(new) == made().records


def test_hostile_names_pass_other_programs_which_print_no_control_character_for_them(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    names = ["\x1b[31mred\n", "n" * 5000, "ö" * 5000, "\udcff\udcfe", "", "[bold]markup[/]"]
    with TraceWriter(path, command="rm \x1b]0;owned\x07 -- \udcff") as writer:
        for name in names:
            number = writer.channel(ChannelInfo(name, fstype="\x1b", server_command="\udcff" * 400))
            writer.records([RawRecord(START_NS, number, Direction.TO_SERVER, b"x", 1)])
        writer.gap(Gap(START_NS, 0, 1, "\x1b[2J"))
    assert [info.name[:60] for info in Trace.open(path).channels] == [name[:60] for name in names]
    assert len(run("tshark", "-r", path, "-T", "fields", "-e", "frame.number").splitlines()) == 6
    assert "\x1b" not in run("capinfos", path)
