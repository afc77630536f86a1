"""pcapng blocks as bytes. Source: the IETF draft "PCAP Next Generation (pcapng) Capture File Format", sections 3-4.

Only what a trace needs: section header, interface description, enhanced packet, interface statistics. Little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
ENHANCED_PACKET = 6
INTERFACE_STATISTICS = 5
BYTE_ORDER_MAGIC = 0x1A2B3C4D
BYTE_ORDER_SWAPPED = 0x4D3C2B1A

OPT_END, OPT_COMMENT = 0, 1
SHB_HARDWARE, SHB_OS, SHB_USERAPPL = 2, 3, 4
IF_NAME, IF_DESCRIPTION, IF_TSRESOL = 2, 3, 9
ISB_STARTTIME, ISB_IFRECV, ISB_IFDROP = 2, 4, 5

MAX_OPTION = 65535


def option(code: int, value: bytes) -> bytes:
    """Encode one option; a value longer than the format allows is cut."""
    value = value[:MAX_OPTION]
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(kind: int, content: bytes) -> bytes:
    """Wrap `content`, already padded to four bytes, in a block of type `kind`."""
    total = len(content) + 12
    return struct.pack("<II", kind, total) + content + struct.pack("<I", total)


def section_header(application: str, os: str, comment: str) -> bytes:
    """Encode the block a file begins with."""
    content = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
    content += option(SHB_OS, os.encode()) + option(SHB_USERAPPL, application.encode())
    content += option(OPT_COMMENT, comment.encode()) + option(OPT_END, b"")
    return block(SECTION_HEADER, content)


def interface(link_type: int, name: bytes, description: bytes, comment: bytes) -> bytes:
    """Encode an interface description with nanosecond times and no snap length of its own."""
    content = struct.pack("<HHI", link_type, 0, 0)
    content += option(IF_NAME, name) + option(IF_DESCRIPTION, description)
    content += option(IF_TSRESOL, b"\x09") + option(OPT_COMMENT, comment) + option(OPT_END, b"")
    return block(INTERFACE_DESCRIPTION, content)


def statistics(
    number: int, t_ns: int, comment: bytes, *, received: int | None = None, dropped: int | None = None
) -> bytes:
    """Encode interface statistics: totals so far, and a comment a person can read."""
    content = struct.pack("<III", number, (t_ns >> 32) & 0xFFFF_FFFF, t_ns & 0xFFFF_FFFF)
    if received is not None:
        content += option(ISB_IFRECV, struct.pack("<Q", received))
    if dropped is not None:
        content += option(ISB_IFDROP, struct.pack("<Q", dropped))
    content += option(OPT_COMMENT, comment) + option(OPT_END, b"")
    return block(INTERFACE_STATISTICS, content)


def options(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (code, value) of an option list; stops at the first one that does not fit."""
    at = 0
    while at + 4 <= len(content):
        code, length = struct.unpack_from("<HH", content, at)
        at += 4
        if code == OPT_END or at + length > len(content):
            return
        yield code, content[at : at + length]
        at += length + (-length % 4)
