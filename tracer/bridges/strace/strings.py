"""Strings as strace quotes them: where they end, and what bytes they stand for.

strace writes C escapes, octal without padding unless the next character is an octal digit (so `\\09` is a NUL and
a `9`), or hex with -x and -xx. `codecs.escape_decode` reads all of them in C; it is what CPython's pickle uses.
"""

from __future__ import annotations

from codecs import escape_decode
from typing import Final

QUOTE: Final = 0x22
BACKSLASH: Final = 0x5C
CUT: Final = b"..."  # after the closing quote: the string was longer than -s


def unescape(body: bytes) -> bytes | None:
    """Return the bytes between the quotes of a strace string, or None when the text is damaged."""
    if b"\\" not in body:
        return body
    try:
        return escape_decode(body)[0]
    except (ValueError, DeprecationWarning):  # a cut \x4; an escape that strace never writes, where warnings are errors
        return None


def is_escaped(text: bytes, at: int, floor: int) -> bool:
    """Tell whether the character at `at` follows an odd number of backslashes, none of them before `floor`."""
    first = at
    while first > floor and text[first - 1] == BACKSLASH:
        first -= 1
    return (at - first) % 2 == 1


def closing_quote(text: bytes, start: int) -> int:
    """Return where the string whose first character is at `start` ends; -1 when it does not."""
    at = text.find(b'"', start)
    while at >= 0 and is_escaped(text, at, start):
        at = text.find(b'"', at + 1)
    return at
