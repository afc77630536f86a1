"""Writes a long file and reads it, through the page cache and past it: `transfers.py PATH SOURCE`.

The file that SOURCE holds is written with write(2) and read back twice: with read(2), its pages dropped before, and
with O_DIRECT. PATH + ".direct" is written with O_DIRECT. Prints "same" when all that was read is what was written,
and "same, no direct writes" where the server refuses those: one that passes O_DIRECT on to a disk, but has its data
at no multiple of a block.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from pathlib import Path

MIB = 1 << 20


def write_all(path: str, content: bytes, flags: int) -> None:
    """O_DIRECT takes memory that begins on a page, and whole blocks."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o644)
    with mmap.mmap(-1, MIB) as buffer:
        for at in range(0, len(content), MIB):
            piece = content[at : at + MIB]
            buffer[: len(piece)] = piece
            with memoryview(buffer)[: len(piece)] as view:
                assert os.write(fd, view) == len(piece)
    os.fsync(fd)
    os.close(fd)


def read_all(path: str, flags: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | flags)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    content = bytearray()
    with mmap.mmap(-1, MIB) as buffer:
        while got := os.readv(fd, [buffer]):
            content += buffer[:got]
    os.close(fd)
    return bytes(content)


def main() -> None:
    path, source = sys.argv[1:]
    content = Path(source).read_bytes()
    write_all(path, content, 0)
    same = [read_all(path, flags) == content for flags in (0, os.O_DIRECT)]
    blocks = content[: len(content) // 4096 * 4096]
    try:
        write_all(path + ".direct", blocks, os.O_DIRECT)
    except OSError as refusal:
        if refusal.errno != errno.EINVAL:
            raise
        print("same, no direct writes" if all(same) else same)
        return
    same.append(read_all(path + ".direct", os.O_DIRECT) == blocks)
    print("same" if all(same) else same)


if __name__ == "__main__":
    main()
