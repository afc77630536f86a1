"""What a bridge produces, and nothing else: channels, records and gaps.

A bridge never decodes more of a message than it needs to find its borders.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, overload

if TYPE_CHECKING:  # recording with strace goes without numpy, which takes longer to load than all the rest
    import numpy as np
    import numpy.typing as npt


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
    REPLAY = 6  # not overheard: a replay spoke itself; `desc_head` of a request is the recorded exchange + 1


class RecordFlag(IntFlag):
    """What a bridge has to say about one record."""

    NONE = 0
    TIME_UNKNOWN = 1 << 0  # the source has no times; t_ns only orders the records
    REJECTED = 1 << 1  # the kernel refused the server's write; `result` holds the errno
    SPLICED = 1 << 2  # passed through a pipe; file data may be missing
    CHANNEL_GUESSED = 1 << 3  # the source does not name the device; the channel was inferred
    LENGTH_GUESSED = 1 << 4  # the source cut the length too; wire_len is the header's own word
    INJECTED = 1 << 5  # the result was made up by the tracer (strace -e inject)
    ABORTED = 1 << 6  # the kernel's own end of a request nobody answered: `data` is the header {16, errno, unique}
    DELIVERED = 1 << 7  # no message: the server took one then; `data` is {length, opcode (0: unknown), unique}


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
    desc_head: int = 0  # virtqueue: index of the chain's first descriptor; eBPF: what st_dev says
    result: int = 0  # negative errno of the server's write, when the kernel refused it

    @property
    def st_dev(self) -> str:
        """Device number of the superblock the request is about, as mountinfo prints it; empty where not known.

        eBPF sees `fm->sb->s_dev`, which tells the submounts of a connection apart: major << 20 | minor.
        """
        if self.bridge != BridgeKind.EBPF or not self.desc_head:
            return ""
        return f"{self.desc_head >> 20}:{self.desc_head & 0xFFFFF}"


@dataclass(frozen=True, slots=True, eq=False)
class RecordColumns(Sequence[RawRecord]):
    """Records as numpy columns, and their bytes in one buffer: what a bridge gives that drains many at once.

    It is a sequence of ordinary RawRecords, made when they are asked for; who knows better takes the columns whole.
    The types are part of the contract: whatever a column can hold fits its place in a trace. Columns may be
    broadcast, and the buffer must not change any more. Indexes are checked by numpy; `start` and `length` by the maker.
    """

    content: memoryview  # of bytes
    start: npt.NDArray[np.int64]  # where each record's bytes begin in `content`
    length: npt.NDArray[np.int64]  # how many there are
    t_ns: npt.NDArray[np.int64]  # not negative
    channel: npt.NDArray[np.uint16]
    direction: npt.NDArray[np.uint8]
    wire_len: npt.NDArray[np.uint32]
    bridge: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint16]
    server_pid: npt.NDArray[np.uint32]
    server_tid: npt.NDArray[np.uint32]
    comm: npt.NDArray[np.bytes_]  # S16
    queue: npt.NDArray[np.uint16]
    desc_head: npt.NDArray[np.uint32]
    result: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.start)

    def __iter__(self) -> Iterator[RawRecord]:
        for begin in range(0, len(self), _TURN):
            yield from self._made(slice(begin, begin + _TURN))

    @overload
    def __getitem__(self, where: int) -> RawRecord: ...

    @overload
    def __getitem__(self, where: slice) -> RecordColumns: ...

    def __getitem__(self, where: int | slice) -> RawRecord | RecordColumns:
        if isinstance(where, slice):
            return self.taken(where)
        row = range(len(self))[where]
        return self._made(slice(row, row + 1))[0]

    def taken(self, rows: slice | npt.NDArray[Any]) -> RecordColumns:
        """Return some of the records: a slice, a mask, or row numbers in the order wanted. The bytes are shared."""
        return RecordColumns(self.content, *(getattr(self, name)[rows] for name in _COLUMNS))

    def _made(self, rows: slice) -> list[RawRecord]:
        starts, lengths, *rest = (getattr(self, name)[rows].tolist() for name in _COLUMNS)
        content = self.content
        return [
            RawRecord(
                t_ns, channel, _DIRECTIONS[direction], bytes(content[at : at + size]), wire_len, _BRIDGES[bridge], *more
            )
            for at, size, t_ns, channel, direction, wire_len, bridge, *more in zip(starts, lengths, *rest, strict=True)
        ]


_TURN = 4096  # records made at a time
_COLUMNS = tuple(column.name for column in fields(RecordColumns))[1:]
_DIRECTIONS, _BRIDGES = tuple(Direction), tuple(BridgeKind)


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
    deliveries: bool = False  # when the server takes its requests is recorded too (RecordFlag.DELIVERED)
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
