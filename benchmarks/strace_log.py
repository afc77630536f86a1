"""Prints a trace as strace would have: what `fusewire import` reads, as long as wished.

The form is that of `strace -f -ttt -T -yy -s 512` over a server that uses libfuse: read(2) takes a request, writev(2)
gives header and body of a reply.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tracer.records import Direction, RawRecord

STRING_BYTES = 512  # strace -s
DEVICE = b"5</dev/fuse<char 10:229>>"
BUFFER_BYTES = 135168
OUT_SIZE = 16

_NAMED = {9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}
# strace writes the shortest octal form, and all three digits when a digit follows (string_quote() in its util.c).
_SHORT = [_NAMED.get(byte) or (b"%c" % byte if 32 <= byte < 127 else b"\\%o" % byte) for byte in range(256)]
_LONG = [
    short if short in _NAMED.values() or 32 <= byte < 127 else b"\\%03o" % byte for byte, short in enumerate(_SHORT)
]
_DIGITS = frozenset(b"01234567")


def quoted(data: bytes, length: int) -> bytes:
    """Print bytes as strace does; `length` is how many there were before the recorder cut them."""
    kept = data[:STRING_BYTES]
    pieces = [
        _LONG[byte] if following in _DIGITS else _SHORT[byte]
        for byte, following in zip(kept, kept[1:] + b"\0", strict=True)
    ]
    return b'"' + b"".join(pieces) + (b'"...' if length > len(kept) else b'"')


def line(record: RawRecord) -> bytes:
    """Print the system call that carried a record."""
    seconds, rest = divmod(record.t_ns, 10**9)
    head = b"%d %d.%06d " % (record.server_tid, seconds, rest // 1000)
    length = record.wire_len
    if record.direction is Direction.TO_SERVER:
        text = quoted(record.data, length)
        return head + b"read(%s, %s, %d) = %d <0.000012>\n" % (DEVICE, text, BUFFER_BYTES, length)
    parts = [b"{iov_base=%s, iov_len=%d}" % (quoted(record.data[:OUT_SIZE], OUT_SIZE), OUT_SIZE)]
    if length > OUT_SIZE:
        body = quoted(record.data[OUT_SIZE:], length - OUT_SIZE)
        parts.append(b"{iov_base=%s, iov_len=%d}" % (body, length - OUT_SIZE))
    return head + b"writev(%s, [%s], %d) = %d <0.000009>\n" % (DEVICE, b", ".join(parts), len(parts), length)


def write(path: Path, records: Iterable[RawRecord]) -> None:
    """Write a log of `records`."""
    with path.open("wb") as file:
        file.write(
            b'2200 1760000000.000001 openat(AT_FDCWD</>, "/dev/fuse", O_RDWR|O_CLOEXEC) = %s <0.000012>\n' % DEVICE
        )
        file.writelines(map(line, records))
