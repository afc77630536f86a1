"""READ and WRITE in parts, for a server that takes less at a time than the recorded one, as a kernel splits them."""

from __future__ import annotations

import struct

from dissectors.structs import REPLY_HEADER_SIZE
from replays.playing.talk import U32, U64, Ask, Talk, error_of, reply_of
from replays.recorded.sites import RequestSites

WRITTEN = struct.Struct("<II")  # fuse_write_out


def read_in_parts(message: bytearray, sites: RequestSites, most: int) -> Talk:
    """Read `most` bytes at a time until one part comes back short."""
    (size,) = U32.unpack_from(message, sites.size_at)
    (offset,) = U64.unpack_from(message, sites.offset_at)
    found: list[bytes] = []
    done = 0
    while done < size:
        wanted = min(most, size - done)
        part = bytearray(message)
        U64.pack_into(part, sites.offset_at, offset + done & 0xFFFF_FFFF_FFFF_FFFF)
        U32.pack_into(part, sites.size_at, wanted)
        reply = yield Ask(part, REPLY_HEADER_SIZE + wanted)
        if error_of(reply):
            return reply if not found else reply_of(b"".join(found))
        found.append(reply[REPLY_HEADER_SIZE:])
        done += wanted
        if len(found[-1]) < wanted:
            break
    return reply_of(b"".join(found))


def write_in_parts(message: bytearray, sites: RequestSites, most: int) -> Talk:
    """Write `most` bytes at a time until one part is taken only partly; the reply tells the sum."""
    (size,) = U32.unpack_from(message, sites.size_at)
    (offset,) = U64.unpack_from(message, sites.offset_at)
    done = 0
    while done < size:
        wanted = min(most, size - done)
        begin = sites.head_size + done
        part = message[: sites.head_size] + message[begin : begin + wanted]
        U32.pack_into(part, 0, len(part))
        U64.pack_into(part, sites.offset_at, offset + done & 0xFFFF_FFFF_FFFF_FFFF)
        U32.pack_into(part, sites.size_at, wanted)
        reply = yield Ask(part, REPLY_HEADER_SIZE + WRITTEN.size)
        if error_of(reply) or len(reply) < REPLY_HEADER_SIZE + 4:
            return reply if not done else reply_of(WRITTEN.pack(done, 0))
        (written,) = U32.unpack_from(reply, REPLY_HEADER_SIZE)
        done += min(written, wanted)
        if written < wanted:
            break
    return reply_of(WRITTEN.pack(done, 0))
