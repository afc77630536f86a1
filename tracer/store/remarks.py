"""Reads what was said of a whole trace at its end, whatever its size: from the last block backwards.

A pcapng block tells its length at both ends, so that files can be read in either direction (section 3.1 of the draft).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tracer.errors import TraceFileError
from tracer.store import pcapng
from tracer.store.blocks import MIN_BLOCK

LONGEST = pcapng.MAX_OPTION + 1024  # bytes of a block that holds a remark, with room for totals
MOST_BLOCKS = 1 << 17  # read at most: one for each channel there may be, and as many remarks
OPTIONS_AT = 20  # in interface statistics: header, interface, time


def remarks(path: Path) -> Iterator[bytes]:
    """Yield the comments of the interface statistics that end a trace, the last one first.

    Stops where anything else comes, damage included. TraceFileError when the file cannot be read.
    """
    try:
        # Without waiting for a writer: what is opened may be a pipe.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise TraceFileError(f"cannot read {path}: {error.strerror}", "give the name of a trace") from error
    with file:
        facts = os.fstat(file.fileno())
        if stat.S_ISREG(facts.st_mode):
            yield from _backwards(file, facts.st_size & ~3)


def _backwards(file: BinaryIO, end: int) -> Iterator[bytes]:
    for _ in range(MOST_BLOCKS):
        if end < MIN_BLOCK:
            return
        (total,) = struct.unpack("<I", _read(file, end - 4, 4))
        if total % 4 or not OPTIONS_AT + 4 <= total <= min(LONGEST, end):
            return
        block = _read(file, end - total, total)
        if struct.unpack_from("<II", block) != (pcapng.INTERFACE_STATISTICS, total):
            return
        found = [value for code, value in pcapng.options(block[OPTIONS_AT:-4]) if code == pcapng.OPT_COMMENT]
        yield from reversed(found)
        end -= total


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    """Return `size` bytes; zeros, which are no block, where the file became shorter meanwhile."""
    file.seek(at)
    return file.read(size).ljust(size, b"\0")
