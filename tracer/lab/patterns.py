"""The content of the files that `inside/load.c` writes: every WRITE and every answer to a READ can be checked alone.

Each eight bytes of a file hold its number and their own offset in it, least byte first: number << 40 | offset.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dissectors.opcodes import OPS_BY_NAME
from tracer.trace.columns import Kind, Rows
from tracer.trace.trace import Trace

READ, WRITE = OPS_BY_NAME["READ"].code, OPS_BY_NAME["WRITE"].code
OFFSET_AT = 40 + 8  # of fuse_read_in.offset and fuse_write_in.offset, from the beginning of the request
WRITE_DATA_AT, READ_DATA_AT = 40 + 40, 16
NUMBER = re.compile(rb".*-(\d+)", re.DOTALL)  # of a file, at the end of its path
NUMBER_BIT = 40


@dataclass(frozen=True, slots=True)
class Block:
    """Data that a message carried: row of that message, offset in the file, and the file's number by its name."""

    row: int
    offset: int
    number: int
    data: memoryview

    @property
    def is_intact(self) -> bool:
        """Whether each word of it is the one that belongs there."""
        if len(self.data) % 8 or not len(self.data):
            return False
        words = np.frombuffer(self.data, "<u8")
        first = self.number << NUMBER_BIT | self.offset
        return bool((words == np.arange(first, first + len(self.data), 8, dtype=np.uint64)).all())


def written(trace: Trace) -> Iterator[Block]:
    """Yield what each WRITE carried."""
    for row in _requests(trace, WRITE).tolist():
        data = trace.record(row).data
        yield Block(row, _offset(data), _number(trace, row), memoryview(data)[WRITE_DATA_AT:])


def read(trace: Trace) -> Iterator[Block]:
    """Yield what each READ that was answered got."""
    for row in _requests(trace, READ).tolist():
        if (mate := int(trace.records["mate"][row])) >= 0:
            request, reply = trace.record(row).data, trace.record(mate).data
            yield Block(mate, _offset(request), _number(trace, row), memoryview(reply)[READ_DATA_AT:])


def _requests(trace: Trace, opcode: int) -> Rows:
    table = trace.records
    return np.flatnonzero((table["kind"] == Kind.REQUEST) & (table["opcode"] == opcode))


def _offset(request: bytes) -> int:
    (offset,) = struct.unpack_from("<Q", request, OFFSET_AT)
    return int(offset)


def _number(trace: Trace, row: int) -> int:
    """Return the number of the file a request is about; 0, which no file has, when the trace does not know its name."""
    path = trace.names(int(trace.records["channel"][row])).path(int(trace.records["nodeid"][row]), row)
    found = NUMBER.fullmatch(path or b"")
    return int(found[1]) if found else 0
