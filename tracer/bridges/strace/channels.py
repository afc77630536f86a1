"""Which connection a message belongs to.

Two mounts in one process count `unique` from the same start, and with clone_fd one connection has many descriptors:
neither `unique` nor the descriptor alone names a connection. A `Stream` is what one thread moves through one
descriptor. Live, /proc tells the connection of a stream at once. In a log it is worked out from the messages
themselves, when the records around them are known: the kernel gives each request of a connection the next `unique`,
so two streams of one connection interleave without a collision, and two streams of different ones do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tracer.bridges import framing
from tracer.bridges.framing import ByteOrder
from tracer.bridges.strace.devices import Role
from tracer.records import ChannelInfo, Direction, RawRecord, RecordFlag, Sink

_RECENT: Final = 512  # uniques remembered per connection, so that a stream met after a flush finds its neighbours
_CANDIDATES: Final = 64  # connections looked at for a new stream; older ones are taken for closed
_SILENT_OPCODES: Final = frozenset({framing.OPCODE_INTERRUPT, framing.OPCODE_NOTIFY_REPLY})  # no `unique` of their own

Key = tuple[bytes, bytes]  # thread and descriptor, as the log prints them


class Identity(NamedTuple):
    """What /proc tells of a stream."""

    connection: int  # number under /sys/fs/fuse/connections; 0: not told
    server_pid: int


@dataclass(slots=True, eq=False)
class Connection:
    """One mount, or one /dev/cuse device, as far as it is known."""

    fd: int
    tid: int
    role: Role
    number: int = 0
    server_pid: int = 0
    is_new: bool = True  # no record of it was resolved yet
    saw_init: bool = False
    order: ByteOrder = "little"
    channel: int = -1  # what the sink called it; -1: not announced
    requests: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))
    replies: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))


@dataclass(slots=True, eq=False)
class Stream:
    """What one thread moves through one descriptor."""

    key: Key
    tid: int
    fd: int
    role: Role
    channel: int  # the sink's number; negative: not known yet, and a key of its own
    flags: int
    order: ByteOrder = "little"
    server_pid: int = 0
    connection: Connection | None = None
    saw_init: bool = False
    has_records: bool = False


@dataclass(slots=True)
class _Uniques:
    requests: set[int] = field(default_factory=set)
    replies: set[int] = field(default_factory=set)

    def add(self, more: _Uniques | None) -> None:
        if more is not None:
            self.requests |= more.requests
            self.replies |= more.replies


class ChannelBook:
    """Keeps the streams of a capture, and finds the connection of each.

    `describe` makes what the sink is told of a connection. `identify` asks /proc; None when the capture is not live.
    """

    def __init__(
        self,
        describe: Callable[[Connection], ChannelInfo],
        identify: Callable[[int, int], Identity | None] | None = None,
    ) -> None:
        self.by_key: dict[Key, Stream] = {}
        self.connections: list[Connection] = []
        self._describe = describe
        self._identify = identify
        self._keys_of: dict[int, list[Key]] = {}  # by descriptor
        self._by_number: dict[int, Connection] = {}
        self._unresolved: dict[int, Stream] = {}
        self._next_key = -2  # -1 means "the whole capture" in a Gap

    def open(self, key: Key, tid: int, fd: int, role: Role, flags: int = 0) -> Stream:
        """Start a stream under `key`."""
        stream = Stream(key, tid, fd, role, 0, flags)
        self.by_key[key] = stream
        self._keys_of.setdefault(fd, []).append(key)
        self._unsettle(stream)
        identity = self._identify(tid, fd) if self._identify else None
        if identity is not None:
            stream.server_pid = identity.server_pid
            if identity.connection:
                self._number(stream, identity)
        return stream

    def init_seen(self, stream: Stream) -> Stream:
        """Return the stream for an INIT request: a new one when the descriptor has served another mount before."""
        if stream.has_records:
            # Other threads may hold the same number for the new mount: their next message is looked at afresh.
            for other_key in self._keys_of.pop(stream.fd, ()):
                self.by_key.pop(other_key, None)
            stream = self.open(stream.key, stream.tid, stream.fd, stream.role, stream.flags)
        stream.saw_init = True
        if stream.connection is not None and not stream.connection.is_new:
            # The kernel gives the number of an unmounted connection to the next one.
            del self._by_number[stream.connection.number]
            identity = Identity(stream.connection.number, stream.server_pid)
            self._unsettle(stream)
            self._number(stream, identity)
        return stream

    @property
    def has_unresolved(self) -> bool:
        """Whether there are streams whose channel the sink has not been told."""
        return bool(self._unresolved)

    def resolve(self, records: list[RawRecord], sink: Sink) -> list[RawRecord]:
        """Give every record the number of its channel, and announce to `sink` the channels that are new."""
        if not self._unresolved:
            return records
        seen = _uniques(records, self._unresolved)
        waiting = [s for s in self._unresolved.values() if s.channel in seen]
        waiting.sort(key=lambda stream: not stream.saw_init)
        candidates = self.connections[-_CANDIDATES:]
        evidence = {c: _Uniques(set(c.requests), set(c.replies)) for c in candidates}
        for connection in candidates:
            evidence[connection].add(seen.get(connection.channel))
        settled: dict[int, Stream] = {}
        for stream in waiting:
            settled[stream.channel] = stream
            found = seen[stream.channel]
            connection = stream.connection or self._guess(stream, found, evidence)
            connection.is_new = False
            connection.saw_init |= stream.saw_init
            evidence.setdefault(connection, _Uniques()).add(found)
            connection.order = stream.order
            if connection.channel < 0:
                connection.channel = sink.channel(self._describe(connection))
            self._settle(stream, connection)
        return [_renumbered(r, settled) if r.channel < 0 else r for r in records]

    def remember(self, records: Sequence[RawRecord]) -> None:
        """Keep the last uniques of what was handed over: evidence for streams that are met later."""
        by_channel = {c.channel: c for c in self.connections[-_CANDIDATES:]}
        for record in records[-_RECENT:]:
            connection = by_channel.get(record.channel)
            if connection is not None:
                uniques = connection.replies if record.direction else connection.requests
                uniques.append(framing.unique_of(record.data, connection.order))

    def _guess(self, stream: Stream, found: _Uniques, evidence: dict[Connection, _Uniques]) -> Connection:
        best = None
        if not stream.saw_init:
            scores = {c: _kinship(found, uniques) for c, uniques in evidence.items() if c.role is stream.role}
            best = max(scores, key=lambda c: (scores[c], c.fd == stream.fd), default=None)
            if best is not None and scores[best] <= 0:
                best = self._same_descriptor(stream, found, scores)
        if best is None:
            best = Connection(stream.fd, stream.tid, stream.role, server_pid=stream.server_pid)
            self.connections.append(best)
        elif len(self.connections) > 1:
            stream.flags |= int(RecordFlag.CHANNEL_GUESSED)
        return best

    @staticmethod
    def _same_descriptor(stream: Stream, found: _Uniques, scores: dict[Connection, int]) -> Connection | None:
        """Without other evidence the same number is the same mount: servers with many threads share one descriptor."""
        same = [c for c, score in scores.items() if c.fd == stream.fd and score == 0]
        return same[-1] if same and len(found.requests) < 2 else None

    def _number(self, stream: Stream, identity: Identity) -> None:
        connection = self._by_number.get(identity.connection)
        if connection is None:
            connection = Connection(stream.fd, stream.tid, stream.role, identity.connection, identity.server_pid)
            self._by_number[identity.connection] = connection
            self.connections.append(connection)
        stream.connection = connection
        if connection.channel >= 0:
            self._settle(stream, connection)

    def _unsettle(self, stream: Stream) -> None:
        stream.connection = None
        stream.channel = self._next_key
        self._next_key -= 1
        self._unresolved[stream.channel] = stream

    def _settle(self, stream: Stream, connection: Connection) -> None:
        self._unresolved.pop(stream.channel, None)
        stream.connection = connection
        stream.channel = connection.channel


def _uniques(records: Iterable[RawRecord], unresolved: dict[int, Stream]) -> dict[int, _Uniques]:
    """Collect the uniques of every channel and unresolved stream, and learn the byte order of the latter."""
    seen: dict[int, _Uniques] = {}
    for record in records:
        uniques = seen.get(record.channel)
        if uniques is None:
            uniques = seen[record.channel] = _Uniques()
        stream = unresolved.get(record.channel)
        order: ByteOrder = stream.order if stream else "little"
        if record.direction is Direction.TO_KERNEL:
            uniques.replies.add(framing.unique_of(record.data, order))
            continue
        if stream is not None:
            stream.order = order = framing.request_byte_order(record.data, record.wire_len) or order
        if int.from_bytes(record.data[4:8], order) not in _SILENT_OPCODES:
            uniques.requests.add(framing.unique_of(record.data, order))
    return seen


def _kinship(one: _Uniques, other: _Uniques) -> int:
    """Count what speaks for two streams being of one connection; negative when a request was read on both."""
    if (one.requests & other.requests) - {0}:
        return -1
    score = len((one.replies & other.requests) - {0}) + len((one.requests & other.replies) - {0})
    # The counter steps by 2 since 4.20 (FUSE_REQ_ID_STEP), by 1 before.
    for unique in one.requests | one.replies:
        if unique and any(unique + step in other.requests or unique + step in other.replies for step in (-2, 2, -1, 1)):
            score += 1
    return score


def _renumbered(record: RawRecord, settled: dict[int, Stream]) -> RawRecord:
    stream = settled[record.channel]
    return RawRecord(  # _replace() takes three times as long, and this is done for all records of a first window
        record.t_ns,
        stream.channel,
        record.direction,
        record.data,
        record.wire_len,
        record.bridge,
        record.flags | stream.flags,
        record.server_pid or stream.server_pid,
        record.server_tid,
        record.comm,
        record.queue,
        record.desc_head,
        record.result,
    )
