"""A file system so small that it is soon full."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo.memfs import syscalls


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """Mount a tmpfs of `size` bytes; skips where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("not root: mount(2) needs CAP_SYS_ADMIN")
    place.mkdir()
    try:
        syscalls.mount("small", str(place), "tmpfs", data=f"size={size}")
    except OSError as refusal:
        pytest.skip(f"mount(2) is refused even to root: {refusal.strerror}")
    try:
        yield place
    finally:
        syscalls.umount(str(place), syscalls.MNT_DETACH)  # a trace is unmapped when it is collected
