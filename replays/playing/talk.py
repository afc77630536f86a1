"""A step that takes more than one request: a generator that yields what to ask, is sent the replies, and returns one.

Plain data both ways, so that each such way of asking can be tried without a server.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import NamedTuple

from dissectors.structs import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE
from replays.recorded.sites import ERROR_AT, EXTENSION_AT, NODE_AT, OPCODE_AT

U16, U32, U64, I32 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<i")
_REPLY = struct.Struct("<IiQ")


class Ask(NamedTuple):
    """A whole request but for its unique, and the room for its reply."""

    message: bytearray
    room: int


Talk = Generator[Ask, bytes, bytes]


def error_of(reply: bytes) -> int:
    """Return the error of a reply: 0 or a negative errno."""
    return int(I32.unpack_from(reply, ERROR_AT)[0])


def reply_of(body: bytes, error: int = 0) -> bytes:
    """Return a reply put together from several, its unique 0."""
    return _REPLY.pack(REPLY_HEADER_SIZE + len(body), error, 0) + body


def request_like(asked: bytes | bytearray, opcode: int, node: int, body: bytes) -> bytearray:
    """Return another request of the caller of `asked`: same user, group and process."""
    message = bytearray(asked[:REQUEST_HEADER_SIZE]) + body
    U32.pack_into(message, 0, len(message))
    U32.pack_into(message, OPCODE_AT, opcode)
    U64.pack_into(message, NODE_AT, node)
    U16.pack_into(message, EXTENSION_AT, 0)
    return message
