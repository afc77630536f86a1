"""Where the contents of two files begin to differ. What is a hole in both is not read, however large it is."""

from __future__ import annotations

import errno
import os
from typing import Final, NamedTuple

_CHUNK_BYTES: Final = 1 << 20


class ContentDifference(NamedTuple):
    """The first byte that is not the same; -1 where a file has ended."""

    offset: int
    first: int
    second: int


def first_difference(first: int, second: int) -> tuple[ContentDifference | None, int]:
    """Compare two open files from their beginnings; return where they differ first, and how many bytes were compared.

    Raises OSError when one cannot be read.
    """
    position = compared = 0
    while (begin := _next_data(first, second, position)) is not None:
        one, two = os.pread(first, _CHUNK_BYTES, begin), os.pread(second, _CHUNK_BYTES, begin)
        compared += min(len(one), len(two))
        if one != two:
            at = _same_length(one, two)
            values = [content[at] if at < len(content) else -1 for content in (one, two)]
            return ContentDifference(begin + at, *values), compared
        if not one:
            break
        position = begin + len(one)
    return None, compared


def _next_data(first: int, second: int, position: int) -> int | None:
    """Return where from `position` on either file has something that is no hole; None when neither has."""
    found = [at for fd in (first, second) if (at := _data_from(fd, position)) is not None]
    return min(found, default=None)


def _data_from(fd: int, position: int) -> int | None:
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but holes up to the end
            return None
        if error.errno == errno.EINVAL:  # a file system that does not tell
            return position
        raise


def _same_length(one: bytes, two: bytes) -> int:
    """Return how many bytes at the beginning are the same, of two contents that differ somewhere."""
    low, high = 0, min(len(one), len(two))
    if one[:high] == two[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle
    return low
