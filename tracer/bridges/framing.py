"""The few facts about a FUSE message that a bridge needs to find its borders.

Layouts are those of `struct fuse_in_header` and `struct fuse_out_header` in <linux/fuse.h>; they have not changed
since 7.1. Byte order is that of the kernel that speaks, so every reader here takes it as an argument.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

ByteOrder = Literal["little", "big"]

IN_HEADER_SIZE: Final = 40  # len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
OUT_HEADER_SIZE: Final = 16  # len, error, unique

IN_HEADER: Final[dict[ByteOrder, struct.Struct]] = {
    "little": struct.Struct("<IIQQIIIHH"),
    "big": struct.Struct(">IIQQIIIHH"),
}
OUT_HEADER: Final[dict[ByteOrder, struct.Struct]] = {
    "little": struct.Struct("<IiQ"),
    "big": struct.Struct(">IiQ"),
}

OPCODE_INIT: Final = 26
OPCODE_INTERRUPT: Final = 36
OPCODE_NOTIFY_REPLY: Final = 41
OPCODE_CUSE_INIT: Final = 4096
MAX_OPCODE: Final = 127  # 53 is the highest of 7.46; room for the kernels of the next years

MAX_ERRNO: Final = 4095  # the kernel's own bound for an error number (include/linux/err.h)
MAX_NOTIFY_CODE: Final = 64  # 8 is the highest of 7.46

CALLER_PID: Final = slice(32, 36)  # of fuse_in_header
UNIQUE: Final = slice(8, 16)  # the same place in both headers


def is_opcode(number: int) -> bool:
    """Tell whether `number` can be the opcode of a request."""
    return 1 <= number <= MAX_OPCODE or number == OPCODE_CUSE_INIT


def request_byte_order(data: bytes, wire_len: int) -> ByteOrder | None:
    """Return the byte order in which `data` starts a request of `wire_len` bytes; None when it does not.

    Eight bytes are enough, so a capture that kept only 8 bytes of each read is still recognized.
    """
    if wire_len < IN_HEADER_SIZE or len(data) < 8:
        return None
    orders: tuple[ByteOrder, ...] = ("little", "big")
    for order in orders:
        if int.from_bytes(data[:4], order) == wire_len and is_opcode(int.from_bytes(data[4:8], order)):
            return order
    return None


def is_reply(data: bytes, wire_len: int, order: ByteOrder) -> bool:
    """Tell whether `data` starts a reply or a notification of `wire_len` bytes that a kernel would take."""
    if wire_len < OUT_HEADER_SIZE or len(data) < OUT_HEADER_SIZE:
        return False
    length, error, unique = OUT_HEADER[order].unpack_from(data)
    if length != wire_len:
        return False
    if unique == 0:
        return bool(0 < error <= MAX_NOTIFY_CODE)
    return error == 0 or (-MAX_ERRNO <= error < 0 and wire_len == OUT_HEADER_SIZE)


def unique_of(data: bytes, order: ByteOrder) -> int:
    """Return the `unique` of a message, 0 when it was cut before it."""
    return int.from_bytes(data[UNIQUE], order) if len(data) >= 16 else 0
