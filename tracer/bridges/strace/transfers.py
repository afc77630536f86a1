"""The text of a call that moves bytes -> which bytes, how many, and how it ended."""

from __future__ import annotations

import errno
import re
from typing import Final, NamedTuple

from tracer.bridges.strace.strings import CUT, QUOTE, closing_quote, is_escaped, unescape

MAX_LENGTH: Final = 0xFFFF_FFFF  # `len` of both FUSE headers is 32 bits wide

READS: Final = frozenset({b"read", b"pread64", b"readv", b"preadv", b"preadv2"})
WRITES: Final = frozenset({b"write", b"pwrite64", b"writev", b"pwritev", b"pwritev2"})

# A descriptor: its number, with -y also its path, with -yy its device too. `->` stands in the path of a socket.
FD: Final = rb"(?:[a-z_]{1,16}=)?(\d{1,10}(?:<(?:[^<>]|->|<[^<>]*>)*>(?:\(deleted\))?)?)"
_FIRST_FD: Final = re.compile(FD + rb"(?:, *|$)").match
_RESULT: Final = (
    rb"\) *= (\?|-?\d{1,10}|0x[0-9a-f]{1,16})(?: ([A-Z][A-Z0-9]{1,30}))?((?: \([^()]*\)){0,4})"
    rb"(?: <(\d{1,8}\.\d{1,9})>)?"
)
_TAIL: Final = re.compile(rb"((?:, [^,)\"{}]{1,80}){0,4})" + _RESULT + rb"[ \r\n]*").match
_OPEN_TAIL: Final = re.compile(rb"(?:, [^,)\"{}\s]{1,80}){1,4}\)?").match
_SPLICE: Final = re.compile(
    FD + rb", (?:off_in=)?([^,]{1,40}), " + FD + rb", (?:off_out=)?([^,]{1,40}), (?:len=)?(\d{1,19})"
    rb"(, [^,)]{1,80})?" + _RESULT
).match
_ARGUMENT_NAME: Final = re.compile(rb"[a-z_]{1,16}=").match

# Internal results of the kernel, which strace prints and errno does not know (include/linux/errno.h).
_KERNEL_ERRNO: Final = {
    "ERESTARTSYS": 512,
    "ERESTARTNOINTR": 513,
    "ERESTARTNOHAND": 514,
    "ERESTART_RESTARTBLOCK": 516,
}
_ERRNO: Final = {name: number for number, name in errno.errorcode.items()} | _KERNEL_ERRNO


class Buffers(NamedTuple):
    """The bytes an argument shows."""

    data: bytes  # up to the first byte that was not shown
    total: int  # sum of the lengths printed; -1: none is printed
    end: int  # where the text behind the argument starts
    is_cut: bool  # more bytes belong to it than `data` shows
    next_argument: int  # what it must be: iovecs, or bytes; -1: not known


class Transfer(NamedTuple):
    """A call that moves bytes through one descriptor."""

    data: bytes
    is_cut: bool
    length: int  # bytes moved, or offered by a call that failed or did not end; -1: not known
    offered: int  # bytes the arguments name; -1: not known
    returned: int | None  # None: the result is not known
    errno: int  # positive; 0: did not fail
    is_injected: bool
    took_ns: int  # -1: the log has no -T
    end: int  # where the call ends in its text


class Splice(NamedTuple):
    """A splice(2) call."""

    source: bytes  # descriptor as printed
    target: bytes
    length: int
    returned: int | None
    errno: int
    took_ns: int


def first_descriptor(text: bytes) -> tuple[bytes, int] | None:
    """Return the descriptor that starts `text`, as printed, and where the next argument starts."""
    found = _FIRST_FD(text)
    return (found[1], found.end()) if found else None


def read_transfer(text: bytes, at: int) -> Transfer | None:
    """Read buffer, count and result of a read or write call whose buffer argument is at `at`; None when damaged."""
    named = _ARGUMENT_NAME(text, at)  # strace -N, since 6.17
    buffers = _buffers(text, named.end() if named else at)
    if buffers is None:
        return None
    tail = _TAIL(text, buffers.end)
    if tail is None:
        return _open_transfer(text, buffers)
    returned, error = _result(tail[2], tail[3])
    offered = buffers.total if buffers.total >= 0 else _count(tail[1])
    length = offered if returned is None or error else returned
    if length > MAX_LENGTH:
        return None
    took_ns = _seconds(tail[5])
    injected = b"(INJECTED)" in tail[4]
    return Transfer(buffers.data, buffers.is_cut, length, offered, returned, error, injected, took_ns, tail.end())


def read_splice(text: bytes) -> Splice | None:
    """Read the arguments and the result of splice(2); None when the text is damaged or the call did not end."""
    found = _SPLICE(text)
    if found is None:
        return None
    returned, error = _result(found[7], found[8])
    length = min(int(found[5]), MAX_LENGTH)
    if returned is not None and returned > MAX_LENGTH:
        return None
    return Splice(found[1], found[3], length, returned, error, _seconds(found[10]))


def _open_transfer(text: bytes, buffers: Buffers) -> Transfer | None:
    """A write whose result was not printed has shown its bytes all the same."""
    tail = _OPEN_TAIL(text, buffers.end)
    if tail is None:
        return None
    length = buffers.total if buffers.total >= 0 else _count(tail[0])
    end = tail.end()
    expected = b", %d" % buffers.next_argument
    if text.startswith(expected, buffers.end):  # the pid of a line glued to this one may follow without a space
        end = buffers.end + len(expected)
        length = buffers.total if buffers.total >= 0 else buffers.next_argument
    if not 0 <= length <= MAX_LENGTH:
        return None
    return Transfer(buffers.data, buffers.is_cut, length, length, None, 0, False, -1, end)


def _buffers(text: bytes, at: int) -> Buffers | None:
    first = text[at : at + 1]
    if first == b'"':
        return _string(text, at)
    if first == b"[":
        return iovecs(text, at)
    if text.startswith((b"0x", b"NULL"), at):  # a failed read prints the pointer
        end = text.find(b",", at)
        return Buffers(b"", -1, end, True, -1) if end > 0 else None
    return None


def _string(text: bytes, at: int) -> Buffers | None:
    end = closing_quote(text, at + 1)
    if end < 0:
        return None
    data = unescape(text[at + 1 : end])
    if data is None:
        return None
    is_cut = text.startswith(CUT, end + 1)
    return Buffers(data, -1, end + (4 if is_cut else 1), is_cut, -1 if is_cut else len(data))


def iovecs(text: bytes, at: int) -> Buffers | None:
    """Read an array of iovecs that starts at `at`; None when the text is damaged.

    Whatever follows the first cut buffer is left out: the bytes of a record are always a start of the message.
    """
    parts: list[bytes] = []
    total = count = 0
    is_cut = False
    at += 1
    while not text.startswith(b"]", at):
        if text.startswith(b"...]", at):  # strace shows at most -s elements
            at, total, is_cut = at + 3, -1, True
            break
        iovec = _iovec(text, at) if text.startswith(_IOVEC, at) else _unread_iovec(text, at)
        if iovec is None:
            return None
        if not is_cut:
            parts.append(iovec.data)
            is_cut = iovec.is_cut
        count += 1
        if total >= 0:
            total += iovec.total
        at = iovec.end
        if text.startswith(b", ", at):
            at += 2
        elif not text.startswith(b"]", at):
            return None
    return Buffers(parts[0] if len(parts) == 1 else b"".join(parts), total, at + 1, is_cut, count)


_IOVEC: Final = b'{iov_base="'
_LENGTH: Final = b", iov_len="


def _iovec(text: bytes, at: int) -> Buffers | None:
    """Read one iovec whose bytes are shown. The length behind the string finds its end faster than its quotes do."""
    start = at + len(_IOVEC)
    comma = text.find(_LENGTH, start)
    quote = comma - 1
    is_cut = False
    if comma < 0:
        return None
    if quote < start or text[quote] != QUOTE or is_escaped(text, quote, start):
        quote = closing_quote(text, start)
        is_cut = quote >= 0 and text.startswith(CUT, quote + 1)
        comma = quote + (4 if is_cut else 1)
        if quote < 0 or not text.startswith(_LENGTH, comma):
            return None
    brace = text.find(b"}", comma)
    digits = text[comma + len(_LENGTH) : brace]
    data = unescape(text[start:quote])
    if data is None or brace < 0 or not digits.isdigit() or len(digits) > 10:
        return None
    return Buffers(data, int(digits), brace + 1, is_cut, 1)


_UNREAD_IOVEC: Final = re.compile(rb"\{iov_base=(?:0x[0-9a-f]{1,16}|NULL), iov_len=(\d{1,10})\}").match


def _unread_iovec(text: bytes, at: int) -> Buffers | None:
    """Read one iovec of which strace could only print the address."""
    found = _UNREAD_IOVEC(text, at)
    return Buffers(b"", int(found[1]), found.end(), True, 1) if found else None


def _result(value: bytes, name: bytes | None) -> tuple[int | None, int]:
    if value == b"?":
        return None, _ERRNO.get((name or b"").decode(), 0)
    number = int(value, 16 if value.startswith(b"0x") else 10)
    if number >= 0:
        return number, 0
    return number, _ERRNO.get((name or b"").decode(), -number)


def _count(arguments: bytes) -> int:
    """Return the count that follows the buffer, -1 when there is none."""
    digits = arguments[2:].split(b",", 1)[0].split(b"=")[-1].strip().rstrip(b")")
    return int(digits) if digits.isdigit() and len(digits) <= 10 else -1


def _seconds(text: bytes | None) -> int:
    if text is None:
        return -1
    whole, _, part = text.partition(b".")
    return int(whole + part.ljust(9, b"0"))
