"""The short way for lines in the form that the live bridge asks strace for.

One pattern per line, two searches for the border of the string, and the decoder in C. A line that is in any way odd
gives None and takes the long way through `lines` and `transfers`; both ways give the same record. Plain tuples and
repeated lines instead of helpers are on purpose: this is what the speed of an import hangs on.
"""

from __future__ import annotations

import re
from codecs import escape_decode
from typing import Final

from tracer.bridges.strace.strings import closing_quote
from tracer.bridges.strace.transfers import MAX_LENGTH, iovecs

Message = tuple[int, bytes, int]  # t_ns, data, wire_len

# pid, epoch with us or ns, call, descriptor with the device's name, start of the buffer
match_fast: Final = re.compile(
    rb"(?:([1-9]\d{0,6}) +)?([1-8]\d{9})\.(\d{6}(?:\d{3})?) (read|writev|write)"
    rb"\((\d{1,10}</dev/fuse(?:<char 10:229>)?>), (?=[\"\[])"
).match
# A read from something that is neither the device nor a pipe. A write could hide the start of another line behind its
# last argument; a read that shows its bytes has ended.
match_other: Final = re.compile(
    rb"(?:\d{1,7} +)?[1-8]\d{9}\.\d{6,9} read\(\d{1,10}<(?!/dev/[cf]use|pipe:|\\x)[^<>\n]{0,4096}>, \""
).match
_READ_TAIL: Final = re.compile(rb'"(\.\.\.)?, \d{1,10}\) = (\d{1,10}) <(\d{1,8})\.(\d{6}(?:\d{3})?)>\r?$').match
_RESULT: Final = rb", \d{1,10}\) = (\d{1,10})(?: <\d{1,8}\.\d{6,9}>)?\r?$"
_WRITE_TAIL: Final = re.compile(rb'"' + _RESULT).match
_ARRAY_TAIL: Final = re.compile(_RESULT).match
_WRITEV_TAIL: Final = re.compile(rb'", iov_len=(\d{1,10})\}\]' + _RESULT).match
_FIRST_IOVEC: Final = b'[{iov_base="'
_HEADER_END: Final = b'", iov_len=16}'
_NEXT_IOVEC: Final = b', {iov_base="'


def fast_request(line: bytes, at: int, seconds: bytes, part: bytes) -> Message | None:
    """Read a request whose buffer starts at `at`. It arrived when read(2) returned: the stamp plus the duration."""
    quote = line.rfind(b'"')
    tail = _READ_TAIL(line, quote)
    if tail is None or quote <= at:
        return None
    cut, count, took_seconds, took_part = tail.groups()
    wire_len = int(count)
    try:
        data = escape_decode(line[at + 1 : quote])[0]
    except (ValueError, DeprecationWarning):
        return None
    if cut is None:
        if len(data) != wire_len:
            return None
    elif len(data) >= wire_len or wire_len > MAX_LENGTH or closing_quote(line, at + 1) != quote:
        return None
    if len(part) == len(took_part):
        t_ns = int(seconds + part) + int(took_seconds + took_part)
        return (t_ns if len(part) == 9 else t_ns * 1000), data, wire_len
    if len(part) == 9:
        return int(seconds + part) + int(took_seconds + took_part) * 1000, data, wire_len
    # The sum keeps the resolution of the stamps, so that a request can never pass its reply.
    return (int(seconds + part) + int(took_seconds + took_part[:6])) * 1000, data, wire_len


def fast_reply(line: bytes, at: int, seconds: bytes, part: bytes) -> Message | None:
    """Read what the server wrote, whose buffer starts at `at`. It was sent when write(2) was entered."""
    message = _header_and_body(line, at) or _any_buffer(line, at)
    if message is None:
        return None
    data, wire_len = message
    t_ns = int(seconds + part)
    return (t_ns if len(part) == 9 else t_ns * 1000), data, wire_len


def _header_and_body(line: bytes, at: int) -> tuple[bytes, int] | None:
    """Read a writev of a header alone, or of a header and one body: what libfuse does."""
    header_end = line.find(_HEADER_END, at)
    if header_end < 0 or not line.startswith(_FIRST_IOVEC, at):
        return None
    last = line.rfind(b'", iov_len=')
    tail = _WRITEV_TAIL(line, last)
    if tail is None:
        return None
    wire_len = int(tail[2])
    try:
        data = escape_decode(line[at + len(_FIRST_IOVEC) : header_end])[0]
        if last != header_end:
            body = header_end + len(_HEADER_END)
            if len(data) != 16 or not line.startswith(_NEXT_IOVEC, body):
                return None
            data += escape_decode(line[body + len(_NEXT_IOVEC) : last])[0]
    except (ValueError, DeprecationWarning):
        return None
    return (data, wire_len) if len(data) == wire_len else None


def _any_buffer(line: bytes, at: int) -> tuple[bytes, int] | None:
    if line.startswith(b'"', at):
        quote = line.rfind(b'"')
        tail = _WRITE_TAIL(line, quote)
        try:
            data, is_cut = escape_decode(line[at + 1 : quote])[0], False
        except (ValueError, DeprecationWarning):
            return None
    else:
        buffers = iovecs(line, at)
        if buffers is None:
            return None
        data, _, end, is_cut, _ = buffers
        tail = _ARRAY_TAIL(line, end)
    if tail is None or not data:
        return None
    wire_len = int(tail[1])
    if wire_len > MAX_LENGTH or (len(data) >= wire_len if is_cut else len(data) != wire_len):
        return None
    return data, wire_len
