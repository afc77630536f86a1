"""From the rings to the sink: copies wait in memory, with a bound, so that a slow disk never keeps a guest waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from tracer.records import BridgeKind, ChannelInfo, Direction, Gap, RawRecord, RecordFlag, Sink

MOST_WAITING_BYTES: Final = 256 << 20
_RECORD_BYTES: Final = 500  # what a record takes in memory, besides its bytes
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
        self._changed = threading.Condition()
        self._waiting: list[RawRecord] = []
        self._waiting_bytes = 0
        self._lost_since = 0
        self._gaps: list[tuple[int, int, str]] = []
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
        with self._changed:
            self._gaps.append((self._now(), count, reason))
            self._changed.notify()

    def close(self) -> None:
        """Hand over what waits. Raises what the sink raised."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _now(self) -> int:
        self._last_ns = max(self._last_ns, time.time_ns())  # records stay in order when the clock is set back
        return self._last_ns

    def _take(self, direction: Direction, queue: int, head: int, data: bytes, wire_len: int, flags: int) -> None:
        cost = len(data) + _RECORD_BYTES
        with self._changed:
            if self.failure is not None or self._waiting_bytes + cost > self._most_waiting:
                self.lost += 1
                self._lost_since += 1
                return
            if self._lost_since:
                self._tell_lost()
            self.messages += 1
            self._waiting.append(
                RawRecord(
                    self._now(),
                    0,
                    direction,
                    data,
                    min(wire_len, 0xFFFFFFFF),
                    BridgeKind.VHOST_USER,
                    flags,
                    queue=queue,
                    desc_head=head,
                )
            )
            self._waiting_bytes += cost
            self._changed.notify()

    def _tell_lost(self) -> None:
        self._gaps.append((self._now(), self._lost_since, _FULL))
        self._lost_since = 0

    def _work(self) -> None:
        try:
            while self._hand_over():
                pass
        except BaseException as error:  # raised by `close`, where somebody hears it
            with self._changed:
                self.failure = error
                self._waiting.clear()

    def _hand_over(self) -> bool:
        """Hand over what waits; False when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._gaps or self._is_closed)
            records, self._waiting = self._waiting, []
            self._waiting_bytes = 0
            if self._is_closed and self._lost_since:
                self._tell_lost()
            gaps, self._gaps = self._gaps, []
            is_last = self._is_closed
        if self._channel < 0 and (records or gaps):
            self._channel = self._sink.channel(self._describe())
        if records:
            if self._channel:
                records = [record._replace(channel=self._channel) for record in records]
            self._sink.records(records)
        for t_ns, count, reason in gaps:
            self._sink.gap(Gap(t_ns, self._channel, count, reason))
        return not is_last
