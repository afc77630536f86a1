"""Drafts -> records: what comes after a message in the log may still add to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tracer.bridges import framing
from tracer.bridges.strace.channels import ChannelBook, Stream
from tracer.bridges.strace.drafts import Draft
from tracer.bridges.strace.hexdump import Dump
from tracer.bridges.strace.lines import Clock, ClockKind, Line
from tracer.records import BridgeKind, Direction, RawRecord, RecordFlag

DAMAGED: Final = "lines of the log that show a FUSE message are damaged"
TOO_LONG: Final = "a line of the log is longer than any message"
ENDS_IN_LINE: Final = "the log ends in the middle of a line"
NO_BYTES: Final = "strace kept not one byte of a message (-s 0)"
SPLICED_AWAY: Final = "messages were spliced through a pipe that strace was not told to show (-P hides it)"
OF_ONE_LINE: Final = frozenset({DAMAGED, TOO_LONG, ENDS_IN_LINE})
MOST_LATE_NS: Final = 20_000_000  # strace was kept from measuring; more than that, and the clock was set

# As plain numbers: arithmetic on enum members costs a microsecond each.
TIME_UNKNOWN: Final = int(RecordFlag.TIME_UNKNOWN)
SPLICED: Final = int(RecordFlag.SPLICED)

INITS: Final = frozenset(
    number.to_bytes(4, order)
    for number in (framing.OPCODE_INIT, framing.OPCODE_CUSE_INIT)
    for order in ("little", "big")
)


@dataclass(slots=True)
class Loss:
    """Messages that the log shows to have existed, but not their bytes."""

    t_ns: int
    stream: Stream | None
    reason: str
    line_number: int
    count: int = 1  # 0: nobody knows how many


def is_message(is_request: bool, data: bytes, length: int, stream: Stream) -> bool:
    """Tell whether `data` starts a message, judged by its header alone: the log does not name the device."""
    if is_request:
        return framing.request_byte_order(data, length) is not None
    return framing.is_reply(data, length, stream.order)


class Assembler:
    """Makes records of drafts; records and losses gather here until they are taken.

    `comm_of` maps the bytes of a request to the name of the calling process; only a live capture can tell it.
    """

    def __init__(
        self, book: ChannelBook, bridge: BridgeKind, clock: Clock, comm_of: Callable[[bytes], bytes] | None
    ) -> None:
        self.records: list[RawRecord] = []
        self.losses: list[Loss] = []
        self.held: Draft | None = None  # the last message, while following lines may add to it
        self.last_stream: Stream | None = None  # of the last line, when that was a message
        self.comm_of = comm_of
        self.saw_untimed_read = False
        self.guessed: set[int] = set()  # descriptors that carry FUSE, in a log that does not name them
        self.line_number = 0
        self.said_ns = -1  # stamp of the reply that was printed last
        self._book = book
        self._bridge = bridge
        self._clock = clock
        self._dump: Dump | None = None
        self._ticks = 0

    def draft(self, line: Line, stream: Stream, direction: Direction, data: bytes, wire_len: int) -> Draft:
        """Begin a message that `line` shows, dated when the call was entered."""
        if line.stamp_ns >= 0:
            return Draft(line.stamp_ns, stream, line.tid, direction, data, wire_len)
        t_ns = self._now_ns()
        if self._clock.kind is ClockKind.NONE:
            self._ticks += 1
            t_ns = self._ticks
        return Draft(t_ns, stream, line.tid, direction, data, wire_len, TIME_UNKNOWN)

    def time_request(self, draft: Draft, line: Line, took_ns: int) -> None:
        """Date a request when it arrived: when the read that took it returned, not when it began to wait."""
        if line.stamp_ns < 0:
            return
        if line.exit_ns >= 0:
            draft.t_ns = line.exit_ns
        elif took_ns >= 0:
            # Rounded down as the stamps are, so that a request never comes behind its reply.
            arrived_ns = line.stamp_ns + took_ns
            draft.t_ns = arrived_ns - arrived_ns % self._clock.resolution_ns
        else:
            draft.waits_for_time = True
            self.saw_untimed_read = True

    def arrived_ns(self, t_ns: int) -> int:
        """Return when a request arrived that was printed now and should have come at `t_ns`.

        strace stamps a call first and starts to measure how long it takes a little later, which is much later when it
        loses the processor in between: the sum may be too early. But it prints a call when it ends, so a request came
        after everything that was printed before it, and the stamp of a reply is exact.
        """
        return self.said_ns if 0 < self.said_ns - t_ns < MOST_LATE_NS else t_ns

    def hold(self, draft: Draft) -> None:
        """Keep a message until the next line shows that nothing is added to it."""
        self.held = draft
        self._dump = None
        self.last_stream = draft.stream

    def add_dump(self, row: bytes) -> None:
        """Take a row of the hex dump that follows the last message."""
        if self.held is None and self.last_stream is not None and self.records:
            last = self.records.pop()
            self.held = Draft(
                last.t_ns, self.last_stream, last.server_tid, last.direction, last.data, last.wire_len, last.flags
            )
        if self.held is not None:
            self._dump = self._dump or Dump()
            self._dump.add(row)

    def release(self, stamp_ns: int) -> None:
        """Finish the message held; `stamp_ns` is the time of the line behind it, -1 when there is none."""
        draft, dump = self.held, self._dump
        self.held = self._dump = None
        if draft is None:
            return
        if dump is not None and len(dumped := dump.data()) > len(draft.data):
            draft.data = dumped[: draft.wire_len]
        if draft.waits_for_time:
            draft.t_ns = max(draft.t_ns, stamp_ns)
        if draft.must_prove:
            if not is_message(draft.direction is Direction.TO_SERVER, draft.data, draft.wire_len, draft.stream):
                return
            self.guessed.add(draft.stream.fd)
        self.append(draft)

    def append(self, draft: Draft) -> None:
        """Turn a draft into a record, or into a loss when none of its bytes are known."""
        if not draft.data:
            reason = SPLICED_AWAY if draft.flags & SPLICED else NO_BYTES
            self.lose(draft.t_ns, draft.stream, reason)
            return
        if draft.direction is Direction.TO_KERNEL:
            self.said_ns = draft.t_ns
        else:
            draft.t_ns = self.arrived_ns(draft.t_ns)
            if draft.data[4:8] in INITS:
                draft.stream = self._book.init_seen(draft.stream)
            if self.comm_of is not None:
                draft.comm = self.comm_of(draft.data)
        draft.data = draft.data[: draft.wire_len]  # a damaged log may show more bytes than passed
        draft.stream.has_records = True
        self.records.append(draft.record(self._bridge))

    def lose(self, t_ns: int, stream: Stream | None, reason: str, count: int = 1) -> None:
        """Note a loss; one that repeats the last is added to it. `t_ns` is -1 when the time is not known."""
        last = self.losses[-1] if self.losses else None
        if last is not None and last.reason == reason and last.stream is stream:
            last.count += count
            return
        if t_ns < 0:
            t_ns = self._now_ns()
        self.losses.append(Loss(t_ns, stream, reason, self.line_number, count))

    def _now_ns(self) -> int:
        """Return the last time the log told; the short way does not tell the clock."""
        return max(self._clock.last_ns, self.records[-1].t_ns if self.records else 0)
