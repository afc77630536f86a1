"""What the kernel side puts into the ring and shares with us, as numpy types; the C side is bpf/event.h.

Numbers are little endian and naturally aligned, so that an array of bytes can be viewed as these types.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np


class Kind(IntEnum):
    """What happened."""

    SEND = 1  # the kernel queues a request for the server
    END = 2  # a request ends, with or without an answer
    DELIVER = 3  # a server's read returned this request; no bytes follow
    READ = 4  # a server read what has no request event: FORGET, BATCH_FORGET, INTERRUPT
    WRITE = 5  # a server wrote a notification, or a reply that the kernel refused


class Flag(IntFlag):
    """What is to be known about one event."""

    CUT_BY_SNAP = 1  # bytes were left out because the configuration says so
    NO_PAYLOAD = 2  # the pages could not be read: headers and arguments only
    RING_FULL = 4  # no room for all: the first SMALL_BYTES at most
    NO_REPLY = 8  # END of a request that got no answer
    FAULT = 16  # a read of kernel or user memory failed: what follows it is missing
    SPLICED = 32
    URING = 64
    BACKGROUND = 128  # current is not the caller


class Choice(IntEnum):
    """What the configured set of connections means."""

    ALL = 0
    ONLY = 1
    EXCEPT = 2


class ConnectionFlag(IntFlag):
    """State of a connection as the task_file iterator finds it."""

    INITIALIZED = 1
    CONNECTED = 2
    IO_URING = 4
    SYNC_FS = 8  # SYNCFS is sent: no ENOSYS was answered yet
    NO_INTERRUPT = 16
    WRITEBACK_CACHE = 32
    AUTO_SUBMOUNTS = 64
    ON_MOUNT = 128  # not a server's device, but a file of this process opened with O_PATH on a FUSE mount


SMALL_BYTES: Final = 256  # FUSE bytes kept of a message that found the ring full
CONNECTIONS_MAX: Final = 16
PROGRAMS: Final = 5  # that put messages together, each in a place of its own

# Followed by `kept` FUSE bytes. The ring's own record may be longer than that by up to 7 bytes.
EVENT: Final = np.dtype(
    [
        ("t_ns", "<u8"),  # CLOCK_MONOTONIC
        ("req", "<u8"),  # a key, nothing else; 0 for what a system call showed
        ("unique", "<u8"),
        ("connection", "<u4"),
        ("s_dev", "<u4"),  # major << 20 | minor; 0: not known
        ("wire_len", "<u4"),
        ("kept", "<u4"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("cpu", "<u2"),
        ("seq", "<u4"),
        ("tgid", "<u4"),
        ("tid", "<u4"),
        ("comm", "S16"),
        ("error", "<i4"),
        ("queue", "<u2"),
        ("reserved", "<u2"),
    ]
)
EVENT_BYTES: Final = EVENT.itemsize

CONFIG: Final = np.dtype(
    [
        ("direct_map", "<u8"),
        ("opcodes", "<u8"),
        ("snap", "<u4"),
        ("pid", "<u4"),
        ("wakeup_bytes", "<u4"),
        ("connection_count", "<u4"),
        ("connections", "<u4", (CONNECTIONS_MAX,)),
        ("connection_choice", "u1"),
        ("want_payload", "u1"),
        ("other_opcodes", "u1"),
        ("want_deliver", "u1"),
        ("reserved", "<u4"),
    ]
)

# One per CPU.
COUNTERS: Final = np.dtype(
    [
        ("dropped_events", "<u8"),
        ("dropped_bytes", "<u8"),
        ("cut_events", "<u8"),  # kept as headers only, because the ring was full
        ("faults", "<u8"),
        ("events", "<u8"),  # dropped ones too: the next `seq`
        ("end_tid", "<u8"),
    ]
)

CONNECTION: Final = np.dtype(
    [
        ("tgid", "<u4"),
        ("fd", "<u4"),
        ("connection", "<u4"),  # 0: a device that no mount uses yet
        ("minor", "<u4"),
        ("max_write", "<u4"),
        ("max_pages", "<u4"),
        ("s_dev", "<u4"),
        ("flags", "<u4"),
    ]
)

CALIBRATE: Final = np.dtype(
    [("fd", "<u4"), ("range", "<u4"), ("mark", "<u8", (2,)), ("page", "<u8"), ("constant", "<u8")]
)

UNIQUE_QUERY: Final = np.dtype(
    [("req", "<u8"), ("nodeid", "<u8"), ("opcode", "<u4"), ("found", "<u4"), ("unique", "<u8")]
)
