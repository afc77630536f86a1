"""What a program file says of how it will reach FUSE: the libraries it needs, the Go packages built into it.

It is read, never run: ldd would start it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

# <elf.h>, 64 bit, little-endian: what Elf64_Ehdr begins with, Elf64_Phdr, Elf64_Dyn
_MAGIC: Final = b"\x7fELF\x02\x01"
_HEADER: Final = struct.Struct("<32xQ14xHH")
_SEGMENT: Final = struct.Struct("<IIQQQQ16x")
_DYNAMIC_ENTRY: Final = struct.Struct("<QQ")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5
_MOST_ENTRIES: Final = 1024  # of either table; real programs have some dozens
_LONGEST_NAME: Final = 256

# go-fuse takes /dev/fd/N since version 2; its import path is in the program, for stack traces
_GO_FUSE: Final = b"github.com/hanwen/go-fuse/v2/fuse."
_GO_FUSE_UNVERSIONED: Final = b"github.com/hanwen/go-fuse/fuse."  # version 1, or a distribution's path

_BAZIL: Final = b"bazil.org/fuse."  # rclone has both, and mostly uses this one, which wants a real directory


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int


def needed_libraries(program: Path) -> tuple[str, ...]:
    """Return the DT_NEEDED names of a 64-bit ELF program; none for scripts, static programs and whatever else."""
    with _mapped(program) as content:
        try:
            return tuple(_needed(content))
        except (struct.error, OverflowError):  # cut, or it lies about its tables
            return ()


def is_go_fuse(program: Path) -> bool:
    """Tell whether a program mounts by github.com/hanwen/go-fuse, which is built into it."""
    with _mapped(program) as content:
        has_go_fuse = any(content.find(words) >= 0 for words in (_GO_FUSE, _GO_FUSE_UNVERSIONED))
        return has_go_fuse and content.find(_BAZIL) < 0


def _mapped(program: Path) -> mmap.mmap:
    with open(program, "rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file
            return mmap.mmap(-1, 1)


def _needed(content: mmap.mmap) -> Iterator[str]:
    segments = list(_segments(content))
    entries = list(_dynamic(content, segments))
    table = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    strings = next((s.offset + table - s.address for s in segments if _holds(s, table)), None)
    if strings is None:
        return
    for tag, value in entries:
        if tag == _DT_NEEDED:
            start = strings + value
            yield content[start : start + _LONGEST_NAME].partition(b"\0")[0].decode("ascii", "backslashreplace")


def _segments(content: mmap.mmap) -> Iterator[_Segment]:
    if content[: len(_MAGIC)] != _MAGIC:
        return
    table, entry_size, count = _HEADER.unpack_from(content)
    for number in range(min(count, _MOST_ENTRIES)):
        kind, _, offset, address, _, size = _SEGMENT.unpack_from(content, table + number * entry_size)
        yield _Segment(kind, offset, address, size)


def _dynamic(content: mmap.mmap, segments: list[_Segment]) -> Iterator[tuple[int, int]]:
    for segment in segments:
        if segment.kind == _PT_DYNAMIC:
            for number in range(min(segment.size // _DYNAMIC_ENTRY.size, _MOST_ENTRIES)):
                tag, value = _DYNAMIC_ENTRY.unpack_from(content, segment.offset + number * _DYNAMIC_ENTRY.size)
                if tag == _DT_NULL:
                    return
                yield tag, value


def _holds(segment: _Segment, address: int) -> bool:
    return segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size
