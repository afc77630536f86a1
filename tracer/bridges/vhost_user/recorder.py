"""From the rings to the sink: copies wait in memory, with a bound, so that a slow disk never keeps a guest waiting."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from tracer.records import BridgeKind, ChannelInfo, Direction, Gap, RawRecord, RecordFlag, Sink

MOST_WAITING_BYTES: Final = 256 << 20
_RECORD_BYTES: Final = 500  # what a record takes in memory, besides its bytes
_ROUND_S: Final = 0.02
_HURRY_BYTES: Final = 8 << 20
_BRIDGE: Final = BridgeKind.VHOST_USER
_WHOLE: Final = 1 << 32
_FULL: Final = "no memory left for messages: the disk or its reader is slower than the guest"


class Recorder:
    """Takes copies in the thread of the rings, and hands them to the sink in one of its own."""

    def __init__(
        self, sink: Sink, describe: Callable[[], ChannelInfo], snap_bytes: int, most_waiting: int = MOST_WAITING_BYTES
    ) -> None:
        """`describe` is asked once, at the first message; `snap_bytes` 0 keeps messages whole."""
        self.snap_bytes = snap_bytes or _WHOLE
        self.messages = self.lost = 0
        self.failure: BaseException | None = None  # nothing is recorded any more, the guest goes on
        self._sink, self._describe, self._most_waiting = sink, describe, most_waiting
        self._waiting: deque[RawRecord] = deque()  # one thread puts in, the other takes out: that needs no lock
        self._gaps: deque[tuple[int, int, str]] = deque()
        self._taken_bytes = self._handed_bytes = 0  # each is written by one thread only
        self._lost_since = 0
        self._wake = threading.Event()
        self._is_closed = False
        self._last_ns = 0
        self._channel = -1
        self._thread = threading.Thread(target=self._work, name="vhost-user-recorder", daemon=True)
        self._thread.start()

    def request(self, queue: int, head: int, data: bytes, wire_len: int) -> None:
        """Take what the guest asks."""
        self._take(Direction.TO_SERVER, queue, head, data, wire_len, 0)

    def reply(self, queue: int, head: int, data: bytes, wire_len: int, *, guessed: bool) -> None:
        """Take what the daemon answers."""
        self._take(Direction.TO_KERNEL, queue, head, data, wire_len, RecordFlag.LENGTH_GUESSED if guessed else 0)

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
        self._last_ns = max(self._last_ns, time.time_ns())  # records stay in order when the clock is set back
        return self._last_ns

    def _take(self, direction: Direction, queue: int, head: int, data: bytes, wire_len: int, flags: int) -> None:
        self._taken_bytes += (cost := len(data) + _RECORD_BYTES)
        waiting_bytes = self._taken_bytes - self._handed_bytes
        if self.failure is not None or waiting_bytes > self._most_waiting:
            self._taken_bytes -= cost
            self.lost += 1
            self._lost_since += 1
            return
        if self._lost_since:
            self._tell_lost()
        self.messages += 1
        t_ns, kept_len = self._now(), min(wire_len, 0xFFFFFFFF)
        self._waiting.append(RawRecord(t_ns, 0, direction, data, kept_len, _BRIDGE, flags, queue=queue, desc_head=head))
        if waiting_bytes > _HURRY_BYTES:
            self._wake.set()

    def _tell_lost(self) -> None:
        self._gaps.append((self._now(), self._lost_since, _FULL))
        self._lost_since = 0

    def _work(self) -> None:
        try:
            while self._hand_over():
                pass
        except BaseException as error:  # raised by `close`, where somebody hears it
            self.failure = error
            self._waiting.clear()

    def _hand_over(self) -> bool:
        """Hand over what waits; False when there will be no more."""
        self._wake.wait(_ROUND_S)  # not at every message: threads that take turns cost the guest more than the wait
        self._wake.clear()
        is_last = self._is_closed
        records = [self._waiting.popleft() for _ in range(len(self._waiting))]
        gaps = [self._gaps.popleft() for _ in range(len(self._gaps))]
        if self._channel < 0 and (records or gaps):
            self._channel = self._sink.channel(self._describe())
        if records:
            if self._channel:
                records = [record._replace(channel=self._channel) for record in records]
            self._sink.records(records)
            self._handed_bytes += sum([len(record.data) for record in records]) + _RECORD_BYTES * len(records)
        for t_ns, count, reason in gaps:
            self._sink.gap(Gap(t_ns, self._channel, count, reason))
        return not is_last
