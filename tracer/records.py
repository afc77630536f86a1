"""What a bridge produces, and nothing else: channels, records and gaps.

A bridge never decodes more of a message than it needs to find its borders.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import NamedTuple, Protocol


class Direction(IntEnum):
    """Who the message is for."""

    TO_SERVER = 0  # a request: the server read it
    TO_KERNEL = 1  # a reply or a notification: the server wrote it


class BridgeKind(IntEnum):
    """Which bridge overheard a record; stored with each record."""

    UNKNOWN = 0
    STRACE = 1
    EBPF = 2
    VHOST_USER = 3
    IMPORT = 4
    SYNTHETIC = 5


class RecordFlag(IntFlag):
    """What a bridge has to say about one record."""

    NONE = 0
    TIME_UNKNOWN = 1 << 0  # the source has no times; t_ns only orders the records
    REJECTED = 1 << 1  # the kernel refused the server's write; `result` holds the errno
    SPLICED = 1 << 2  # passed through a pipe; file data may be missing
    CHANNEL_GUESSED = 1 << 3  # the source does not name the device; the channel was inferred
    LENGTH_GUESSED = 1 << 4  # the source cut the length too; wire_len is the header's own word
    INJECTED = 1 << 5  # the result was made up by the tracer (strace -e inject)


class RawRecord(NamedTuple):
    """One message as it was on the wire, or as much of it as was kept.

    A tuple because a bridge makes hundreds of thousands a second: a frozen dataclass costs three times as much.
    `wire_len > len(data)` means the record was cut; the difference is the exact count of bytes lost.
    """

    t_ns: int  # since the epoch for bridges on the wall clock; see ChannelInfo.clock
    channel: int  # what Sink.channel() returned
    direction: Direction
    data: bytes  # starts at fuse_in_header or fuse_out_header
    wire_len: int
    bridge: BridgeKind = BridgeKind.UNKNOWN
    flags: int = 0  # RecordFlag bits
    server_pid: int = 0
    server_tid: int = 0
    comm: bytes = b""  # name of the calling process, as the kernel has it (at most 16 bytes), if known
    queue: int = 0  # virtqueue index or io_uring queue
    desc_head: int = 0  # virtqueue: index of the chain's first descriptor
    result: int = 0  # negative errno of the server's write, when the kernel refused it


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that are known to be lost."""

    t_ns: int
    channel: int  # -1: of the whole capture
    count: int  # 0: unknown how many
    reason: str


class ChannelKind(IntEnum):
    """What carries the messages of a channel."""

    DEV_FUSE = 0
    FUSEBLK = 1
    VIRTIOFS = 2
    CUSE = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One connection between a kernel and a server, with all that is known about it when it is first met.

    Zero and empty mean "not known". `minor` and `init_flags` are filled only when the source knows them without
    having seen INIT (a capture that began late, or the user's word); an INIT in the trace overrules them.
    """

    name: str  # what a person calls it: "/mnt/photos", "virtiofs tag home", "fd 4 of pid 812"
    kind: ChannelKind = ChannelKind.UNKNOWN
    connection: int = 0  # number under /sys/fs/fuse/connections
    mount_point: str = ""
    fstype: str = ""  # "fuse.sshfs", "fuseblk", "virtiofs"
    read_only: bool = False  # the superblock is mounted read-only: sync(2) then sends nothing
    st_dev: str = ""  # "0:45", as /proc/self/mountinfo prints it
    server_pid: int = 0
    server_command: str = ""
    kernel: str = ""  # uname -r of the kernel that speaks
    clock: str = "realtime"  # "realtime", "monotonic" (shifted to the wall clock once, at the start) or "none"
    minor: int = 0
    init_flags: int = 0
    big_endian: bool = False
    snap_bytes: int = 0  # bytes kept of each message; 0: all
    notes: tuple[str, ...] = field(default=())  # what this bridge cannot see here, one sentence each


class Sink(Protocol):
    """Where a bridge puts what it overhears. Calls come from one thread at a time."""

    def channel(self, info: ChannelInfo) -> int:
        """Announce a channel; return its number for RawRecord.channel."""
        ...

    def records(self, batch: Sequence[RawRecord]) -> None:
        """Take a batch, in time order. Never blocks for a reader; raises TraceFileError when the disk is full."""
        ...

    def gap(self, gap: Gap) -> None:
        """Take the news that records were lost."""
        ...


class Bridge(Protocol):
    """One way to overhear. `run` returns when the source ends or soon after `stop` is set."""

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Feed `sink` until the source ends. Raises CaptureError when it cannot start."""
        ...
