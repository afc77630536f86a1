"""Where the kernel sees all memory at once (its direct map), so that programs can read the pages of a payload.

`address = 64 * struct_page + C`: neither base that C is made of is told to anybody, and both are random. So a page with
a mark is put into a pipe, and a program looks for the mark where the page may be. Needs no privilege of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import secrets
from collections.abc import Callable
from typing import Final

import numpy as np

from tracer.bridges.ebpf.event import CALIBRATE

# The formula holds for pages of 4 KiB and a struct page of 64 bytes, which is how x86-64 is.
PAGE_BYTES: Final = 4096
_MACHINES = ("x86_64",)
_MOST_GIB = 1 << 15
_GIB = 1 << 30


def find(ask: Callable[[np.ndarray], None]) -> int | None:
    """Return C of `address = 64 * struct_page + C`, or None when it cannot be found.

    `ask` runs the `calibrate` program on one CALIBRATE record, which it changes. Two pages must give the same answer.
    """
    if platform.machine() not in _MACHINES or mmap.PAGESIZE != PAGE_BYTES:
        return None
    try:
        first = _look_once(ask)
        return first if first is not None and first == _look_once(ask) else None
    except OSError:  # the program was not run, or nothing spliced: payloads are then left out, and it is said
        return None


def _look_once(ask: Callable[[np.ndarray], None]) -> int | None:
    mark = secrets.token_bytes(16)
    with mmap.mmap(-1, PAGE_BYTES) as page:
        page[: len(mark)] = mark
        receiver, sender = os.pipe()
        try:
            _splice_page(page, sender)
            query = np.zeros(1, CALIBRATE)
            query["fd"] = receiver
            query["range"] = _gib_of_memory()
            query["mark"] = np.frombuffer(mark, "<u8")
            ask(query)
        finally:
            os.close(receiver)
            os.close(sender)
    return int(query["constant"][0]) or None


def _splice_page(page: mmap.mmap, sender: int) -> None:
    """Put the page itself into the pipe, not a copy: vmsplice(2)."""

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    anchor = ctypes.c_char.from_buffer(page)
    vector = Vector(ctypes.addressof(anchor), PAGE_BYTES)
    vmsplice = ctypes.CDLL(None, use_errno=True).vmsplice
    vmsplice.restype = ctypes.c_ssize_t
    vmsplice.argtypes = (ctypes.c_int, ctypes.POINTER(Vector), ctypes.c_size_t, ctypes.c_uint)
    sent = vmsplice(sender, ctypes.byref(vector), 1, 0)
    del vector, anchor  # the mapping cannot be closed while a pointer into it lives
    if sent != PAGE_BYTES:
        raise OSError(ctypes.get_errno(), "vmsplice")


def _gib_of_memory() -> int:
    """Return how far from one page another may be; memory has holes, so twice what there is, and some."""
    total = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES
    return min(2 * (total // _GIB) + 8, _MOST_GIB)
