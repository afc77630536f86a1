"""The eBPF bridge at work beside real servers, and the ways tests look at what it recorded."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers.memfs import Witnessed
from tests.tracer.bridges.collecting import Collected, opcode
from tests.tracer.bridges.collecting import unique as unique
from tracer.bridges.ebpf import EbpfBridge, Source
from tracer.errors import TracerError
from tracer.records import Bridge, ChannelInfo, Direction, RawRecord, RecordFlag
from tracer.store.writer import TraceWriter
from tracer.trace.exchange import Exchange
from tracer.trace.trace import Trace

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE, FLUSH, INIT = 1, 2, 3, 4, 14, 15, 16, 18, 25, 26
INTERRUPT, NOTIFY_REPLY, BATCH_FORGET, SYNCFS = 36, 41, 42, 50
HEADER_OUT, HEADER_IN, WRITE_IN = 16, 40, 40
ROOT_NODEID = 1
DEADLINE_S = 20.0
LIVE = [pytest.mark.e2e, pytest.mark.root, pytest.mark.usefixtures("ebpf")]


class Recording:
    """A bridge at work in a thread of its own."""

    def __init__(self, bridge: Bridge, sink: Collected) -> None:
        self.bridge, self.sink = bridge, sink
        self._stop = threading.Event()
        self._error: TracerError | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin, and wait until nothing more can be missed."""
        attached: threading.Event = self.bridge.attached  # type: ignore[attr-defined]
        self._thread.start()
        until(lambda: attached.is_set() or not self._thread.is_alive(), "the bridge is attached")
        if self._error is not None:
            raise self._error

    def end(self) -> Collected:
        """Stop it; return all that came."""
        self._stop.set()
        return self.wait()

    def wait(self) -> Collected:
        """Wait until it ends by itself; return all that came."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the capture goes on"
        if self._error is not None:
            raise self._error
        return self.sink

    def _run(self) -> None:
        try:
            self.bridge.run(self.sink, self._stop)
        except TracerError as error:
            self._error = error


@contextlib.contextmanager
def recording(source: Source | None = None, sink: Collected | None = None, **options: object) -> Iterator[Recording]:
    """Record with eBPF while the block runs: the whole host when nothing else is named. Whole messages, no `snap`."""
    with at_work(EbpfBridge(source or Source(), **options), sink) as capture:  # type: ignore[arg-type]
        yield capture


@contextlib.contextmanager
def at_work(bridge: Bridge, sink: Collected | None = None) -> Iterator[Recording]:
    """Let any bridge record while the block runs."""
    capture = Recording(bridge, sink or Collected())
    try:
        capture.start()
        yield capture
    finally:
        capture._stop.set()
        capture._thread.join(DEADLINE_S)


def until(is_so: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until something is so; AssertionError when it does not come to be."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        threading.Event().wait(0.005)


def channel_at(collected: Collected, mount_point: object) -> int:
    """Return the number of the one channel that is mounted there."""
    (number,) = [n for n, info in enumerate(collected.channels) if info.mount_point == str(mount_point)]
    return number


def info_at(collected: Collected, mount_point: object) -> ChannelInfo:
    """Return what is said of the channel that is mounted there."""
    return collected.channels[channel_at(collected, mount_point)]


def of_channel(collected: Collected, mount_point: object) -> list[RawRecord]:
    """Return the records of the one channel that is mounted there."""
    number = channel_at(collected, mount_point)
    return [record for record in collected.all if record.channel == number]


def messages(records: Iterable[RawRecord]) -> list[RawRecord]:
    """Return those that a server read or wrote: no times of delivery, and no ends that are the kernel's own."""
    return [record for record in records if not record.flags & (RecordFlag.ABORTED | RecordFlag.DELIVERED)]


def both_ways(records: Iterable[RawRecord]) -> dict[Direction, Counter[bytes]]:
    """Return the messages each way, with how often each came."""
    found: dict[Direction, Counter[bytes]] = {direction: Counter() for direction in Direction}
    for record in messages(records):
        found[record.direction][record.data] += 1
    return found


def by_unique(records: Iterable[RawRecord]) -> dict[tuple[Direction, int], list[bytes]]:
    """Return the messages of each unique and direction, in no order."""
    found: defaultdict[tuple[Direction, int], list[bytes]] = defaultdict(list)
    for record in messages(records):
        found[record.direction, unique(record)].append(record.data)
    return {key: sorted(several) for key, several in found.items()}


def witnessed_ways(witnessed: Iterable[Witnessed]) -> dict[Direction, Counter[bytes]]:
    """Return the messages of a server's journal each way, with how often each came."""
    found: dict[Direction, Counter[bytes]] = {direction: Counter() for direction in Direction}
    for message in witnessed:
        found[Direction(not message.to_server)][message.data] += 1
    return found


def check_same(one: Mapping[Direction, Counter[bytes]], other: Mapping[Direction, Counter[bytes]]) -> None:
    """Both hold the same messages; says which are only in one, shortened."""
    for direction in Direction:
        for name, extra in (
            ("first", one[direction] - other[direction]),
            ("second", other[direction] - one[direction]),
        ):
            shown = [(data[:64].hex(), len(data), count) for data, count in list(extra.items())[:5]]
            assert not extra, f"{extra.total()} {direction.name} only in the {name}: {shown}"


def check_witnessed(records: Iterable[RawRecord], witnessed: Iterable[Witnessed]) -> None:
    """The messages are those of the server's journal, but for requests the kernel took back before they were read."""
    records, witnessed = list(records), list(witnessed)
    unread = {unique(record) for record in records if record.flags & RecordFlag.ABORTED}
    unread -= {message.unique for message in witnessed if message.to_server}
    kept = [record for record in records if record.direction is Direction.TO_KERNEL or unique(record) not in unread]
    check_same(both_ways(kept), witnessed_ways(witnessed))


def check_whole(collected: Collected, records: Iterable[RawRecord]) -> None:
    """Nothing is known to be lost, and no message is cut."""
    assert collected.gaps == []
    assert [record for record in records if len(record.data) != record.wire_len] == []


def requests_of(records: Iterable[RawRecord], code: int) -> list[RawRecord]:
    """Return the requests with an opcode."""
    return [
        record
        for record in records
        if record.direction is Direction.TO_SERVER
        and not record.flags & RecordFlag.DELIVERED
        and opcode(record) == code
    ]


def reply_to(records: Iterable[RawRecord], request: RawRecord) -> RawRecord | None:
    """Return the end of a request: its reply, or the kernel's word that nobody answered."""
    for record in records:
        if record.direction is Direction.TO_KERNEL and unique(record) == unique(request) and unique(record):
            return record
    return None


def nodeid(record: RawRecord) -> int:
    """Return the node a request is about."""
    return int.from_bytes(record.data[16:24], "little")


def caller(record: RawRecord) -> int:
    """Return the thread that asked, as the header has it."""
    return int.from_bytes(record.data[32:36], "little")


def read_back(records: Iterable[RawRecord], node: int) -> bytes:
    """Return a file as the replies to READ make it up."""
    records = list(records)
    replies = {unique(r): r for r in messages(records) if r.direction is Direction.TO_KERNEL and unique(r)}
    content = bytearray()
    for request in requests_of(records, READ):
        if nodeid(request) == node and unique(request) in replies:
            _put(content, _offset(request), replies[unique(request)].data[HEADER_OUT:])
    return bytes(content)


def written(records: Iterable[RawRecord], node: int) -> bytes:
    """Return a file as WRITEs made it up."""
    content = bytearray()
    for request in requests_of(records, WRITE):
        if nodeid(request) == node:
            _put(content, _offset(request), request.data[HEADER_IN + WRITE_IN :])
    return bytes(content)


def _offset(request: RawRecord) -> int:
    """`offset` follows `fh`, in fuse_read_in and fuse_write_in alike."""
    return int(struct.unpack_from("<Q", request.data, HEADER_IN + 8)[0])


def _put(content: bytearray, at: int, piece: bytes) -> None:
    if len(content) < at + len(piece):
        content.extend(bytes(at + len(piece) - len(content)))
    content[at : at + len(piece)] = piece


def trace_of(collected: Collected, path: Path) -> Trace:
    """Write what was recorded into a trace, and open it."""
    with TraceWriter(path) as writer:
        for info in collected.channels:
            writer.channel(info)
        writer.records(collected.all)
        for gap in collected.gaps:
            writer.gap(gap)
    return Trace.open(path)


def exchanges_of(trace: Trace, mount_point: object, name: str) -> list[Exchange]:
    """Return the exchanges of the channel that is mounted there, with an opcode's name."""
    (number,) = [n for n, info in enumerate(trace.channels) if info.mount_point == str(mount_point)]
    return [one for one in trace.exchanges() if one.channel == number and one.message.name == name]
