"""From the rings to the sink: copies wait in memory, with a bound, so that a slow disk never keeps a guest waiting."""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from tracer.records import BridgeKind, ChannelInfo, Gap, RecordColumns, Sink

MOST_WAITING_BYTES: Final = 256 << 20
_CHUNK_BYTES: Final = 4 << 20  # of messages; a longer one has a chunk for itself
_CHUNK_ROWS: Final = 8192
_ROUND_S: Final = 0.1
_HURRY_BYTES: Final = 8 << 20
_WHOLE: Final = 1 << 32
_MOST: Final = (1 << 32) - 1
_FULL: Final = "no memory left for messages: the disk or its reader is slower than the guest"

_ROW: Final = struct.Struct("<qqIIIHHB3x")  # the fields of _COLUMNS
_ROW_BYTES: Final = _ROW.size
_PACK: Final = _ROW.pack_into
_COLUMNS: Final = np.dtype(
    [
        ("t_ns", "<i8"),
        ("start", "<i8"),
        ("length", "<u4"),
        ("wire_len", "<u4"),
        ("desc_head", "<u4"),
        ("queue", "<u2"),
        ("flags", "<u2"),
        ("direction", "u1"),
        ("", "V3"),
    ]
)
_NO_NUMBER: Final = np.uint32(0)
_NO_NAME: Final = np.zeros(1, "S16")


class _Chunk:
    """Messages one behind the other, and a row for each. What the rows before `count` say does not change any more."""

    __slots__ = ("content", "count", "end", "handed", "rows", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.content = np.empty(size, np.uint8).data  # not cleared, unlike a bytearray
        self.rows = bytearray(_CHUNK_ROWS * _ROW_BYTES)
        self.count = self.end = self.handed = 0

    def columns(self, begin: int, end: int, channel: int) -> RecordColumns:
        """Return some of the messages as records."""
        rows = np.frombuffer(self.rows, _COLUMNS)[begin:end]
        count = len(rows)
        nothing = np.broadcast_to(_NO_NUMBER, count)
        return RecordColumns(
            content=self.content,
            start=rows["start"],
            length=rows["length"].astype(np.int64),
            t_ns=rows["t_ns"],
            channel=np.broadcast_to(np.uint16(channel), count),
            direction=rows["direction"],
            wire_len=rows["wire_len"],
            bridge=np.broadcast_to(np.uint8(BridgeKind.VHOST_USER), count),
            flags=rows["flags"],
            server_pid=nothing,
            server_tid=nothing,
            comm=np.broadcast_to(_NO_NAME, count),
            queue=rows["queue"],
            desc_head=rows["desc_head"],
            result=np.broadcast_to(np.int32(0), count),
        )


class Recorder:
    """Takes copies in the thread of the rings, and hands them to the sink in one of its own.

    The two meet in the chunks: one thread appends rows, the other reads those before the count, so no lock is needed.
    """

    def __init__(
        self, sink: Sink, describe: Callable[[], ChannelInfo], snap_bytes: int, most_waiting: int = MOST_WAITING_BYTES
    ) -> None:
        """`describe` is asked once, at the first message; `snap_bytes` 0 keeps messages whole."""
        self.snap_bytes = snap_bytes or _WHOLE
        self.messages = self.lost = 0
        self.failure: BaseException | None = None  # nothing is recorded any more, the guest goes on
        self._sink, self._describe, self._most_waiting = sink, describe, most_waiting
        self._chunk = _Chunk(_CHUNK_BYTES)
        self._chunks = deque([self._chunk])  # the last is the one being filled
        self._gaps: deque[tuple[int, int, str]] = deque()
        self._taken_bytes = self._handed_bytes = 0  # each is written by one thread only
        self._lost_since = 0
        self._wake = threading.Event()
        self._is_closed = False
        self._last_ns = 0
        self._channel = -1
        self._thread = threading.Thread(target=self._work, name="vhost-user-recorder", daemon=True)
        self._thread.start()

    def take(
        self, direction: int, queue: int, head: int, pieces: list[memoryview], kept: int, wire_len: int, flags: int
    ) -> None:
        """Take a message: copy the `kept` bytes in `pieces`."""
        taken_bytes = self._taken_bytes + kept + _ROW_BYTES
        waiting_bytes = taken_bytes - self._handed_bytes
        if waiting_bytes > self._most_waiting or self.failure is not None:
            self.lost += 1
            self._lost_since += 1
            return
        if self._lost_since:
            self._tell_lost()
        self._taken_bytes = taken_bytes
        chunk = self._chunk
        if chunk.end + kept > chunk.size or chunk.count == _CHUNK_ROWS:
            chunk = self._chunk = _Chunk(max(kept, _CHUNK_BYTES))
            self._chunks.append(chunk)
        content, end = chunk.content, chunk.end
        for piece in pieces:
            begin, end = end, end + len(piece)
            content[begin:end] = piece
        at, wire_len = chunk.count * _ROW_BYTES, wire_len if wire_len <= _MOST else _MOST
        _PACK(chunk.rows, at, self._now(), chunk.end, kept, wire_len, head, queue, flags, direction)
        chunk.end = end
        chunk.count += 1
        self.messages += 1
        if waiting_bytes > _HURRY_BYTES:
            self._wake.set()

    def skipped(self, count: int, reason: str) -> None:
        """Take the news that messages were not seen."""
        self._gaps.append((self._now(), count, reason))

    def close(self) -> None:
        """Hand over what waits. Raises what the sink raised."""
        if self._lost_since:
            self._tell_lost()
        self._is_closed = True
        self._wake.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _now(self) -> int:
        now_ns = time.time_ns()
        if now_ns > self._last_ns:  # records stay in order when the clock is set back
            self._last_ns = now_ns
        return self._last_ns

    def _tell_lost(self) -> None:
        self._gaps.append((self._now(), self._lost_since, _FULL))
        self._lost_since = 0

    def _work(self) -> None:
        try:
            while self._hand_over():
                pass
        except BaseException as error:  # raised by `close`, where somebody hears it
            self.failure = error
            self._chunks.clear()

    def _hand_over(self) -> bool:
        """Hand over what waits; False when there will be no more."""
        self._wake.wait(_ROUND_S)  # not at every message: threads that take turns cost the guest more than the wait
        self._wake.clear()
        is_last = self._is_closed
        gaps = [self._gaps.popleft() for _ in range(len(self._gaps))]
        if self._channel < 0 and (gaps or self._chunks[0].count):
            self._channel = self._sink.channel(self._describe())
        while self._hand_over_chunk():
            pass
        for t_ns, count, reason in gaps:
            self._sink.gap(Gap(t_ns, self._channel, count, reason))
        return not is_last

    def _hand_over_chunk(self) -> bool:
        """Hand over what waits in the oldest chunk; False when that is the one being filled."""
        chunk, is_full = self._chunks[0], len(self._chunks) > 1  # in this order: then a full one's count is its last
        count = chunk.count
        if count > chunk.handed:
            batch = chunk.columns(chunk.handed, count, self._channel)
            self._sink.records(batch)
            self._handed_bytes += int(batch.length.sum()) + _ROW_BYTES * len(batch)
            chunk.handed = count
        if is_full:
            self._chunks.popleft()
        return is_full
