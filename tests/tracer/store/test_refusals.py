"""What is no trace is refused in one line that says what it is, and what to do."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import pytest

from tracer.errors import TraceFileError
from tracer.store import pcapng
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

BIG_ENDIAN_SECTION = struct.pack(">IIIHHqI", pcapng.SECTION_HEADER, 28, pcapng.BYTE_ORDER_MAGIC, 1, 0, -1, 28)
CONTENTS = {
    "empty": (b"", "is empty", "stopped before its first write"),
    "one byte": (b"\x0a", "ends after 1 bytes: nothing was recorded", "record again"),
    "text": (
        b"openat(AT_FDCWD, ...) = 3\n",
        "is not a pcapng file",
        "it is text: for a log of strace, use fusewire import",
    ),
    "short text": (b"hi\n", "is not a pcapng file", "it is text"),
    "utf-8 text": ("écrit par strace\n".encode(), "is not a pcapng file", "fusewire import"),
    "gzip": (gzip.compress(b"x"), "is not a pcapng file", "it is compressed: unpack it first"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), "is not a pcapng file", "it is compressed"),
    "xz": (b"\xfd7zXZ\0" + bytes(20), "is not a pcapng file", "it is compressed"),
    "bzip2": (b"BZh91AY&SY" + bytes(20), "is not a pcapng file", "it is compressed"),
    "old pcap": (
        struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1),
        "is not a pcapng file",
        "editcap -F pcapng",
    ),
    "old pcap in ns": (struct.pack(">IHH", 0xA1B23C4D, 2, 4) + bytes(16), "is not a pcapng file", "editcap -F pcapng"),
    "zeros": (bytes(4096), "is not a pcapng file", "opens what fusewire record or fusewire import wrote"),
    "an ELF": (b"\x7fELF\x02\x01\x01" + bytes(60), "is not a pcapng file", "opens what fusewire record"),
    "big endian": (BIG_ENDIAN_SECTION, "is a big-endian pcapng file", "editcap"),
    "a broken byte order": (pcapng.block(pcapng.SECTION_HEADER, b"\x01" * 16), "is damaged", "record again"),
}


@pytest.mark.parametrize(("content", "message", "hint"), CONTENTS.values(), ids=CONTENTS)
def test_what_is_no_trace_is_refused_with_what_to_do(content: bytes, message: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(content)
    with pytest.raises(TraceFileError) as error:
        Trace.open(path)
    assert message in error.value.message
    assert str(path) in error.value.message
    assert hint in error.value.hint
    assert "\n" not in str(error.value)


def test_a_second_section_of_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    with TraceWriter(path):
        pass
    with path.open("ab") as file:
        file.write(struct.pack("<IIIHHqI", pcapng.SECTION_HEADER, 28, pcapng.BYTE_ORDER_SWAPPED, 1, 0, -1, 28))
    with pytest.raises(TraceFileError, match="continues in another byte order"):
        Trace.open(path)


def test_a_file_that_is_missing_a_directory_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match="No such file"):
        Trace.open(tmp_path / "none.pcapng")
    with pytest.raises(TraceFileError, match="is a directory"):
        Trace.open(tmp_path)
    with pytest.raises(TraceFileError, match="is no regular file"):
        Trace.open("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TraceFileError, match="is no regular file"):  # and does not wait for a writer
        Trace.open(tmp_path / "fifo")


@pytest.mark.parametrize("place", ["no/such/directory/t.pcapng", "."])
def test_a_place_that_takes_no_trace_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match="cannot write") as error:
        TraceWriter(tmp_path / place)
    assert error.value.hint


def test_an_older_trace_is_kept_when_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(b"precious")
    with pytest.raises(TraceFileError, match="File exists"):
        TraceWriter(path, overwrite=False)
    assert path.read_bytes() == b"precious"
