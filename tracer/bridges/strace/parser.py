"""Lines of a strace log -> messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tracer.bridges import framing
from tracer.bridges.strace.channels import ChannelBook, Key, Stream
from tracer.bridges.strace.context import NAMES as CONTEXT_CALLS
from tracer.bridges.strace.context import LogContext
from tracer.bridges.strace.devices import Descriptor, DescriptorReader, Role
from tracer.bridges.strace.drafts import Draft
from tracer.bridges.strace.fast import fast_reply, fast_request, match_fast
from tracer.bridges.strace.hexdump import Dump, is_dump
from tracer.bridges.strace.lines import ClockKind, Kind, Line, LineReader, glued
from tracer.bridges.strace.splices import PipeKey, SpliceTracker
from tracer.bridges.strace.transfers import (
    READS,
    WRITES,
    Transfer,
    first_descriptor,
    read_splice,
    read_transfer,
)
from tracer.records import BridgeKind, Direction, RawRecord, RecordFlag

TO_SERVER: Final = Direction.TO_SERVER
TO_KERNEL: Final = Direction.TO_KERNEL

DAMAGED: Final = "lines of the log that show a FUSE message are damaged"
TOO_LONG: Final = "a line of the log is longer than any message"
ENDS_IN_LINE: Final = "the log ends in the middle of a line"
NO_BYTES: Final = "strace kept not one byte of a message (-s 0)"
SPLICED_AWAY: Final = "messages were spliced through a pipe that strace was not told to show (-P hides it)"

_INITS: Final = frozenset(
    number.to_bytes(4, order)
    for number in (framing.OPCODE_INIT, framing.OPCODE_CUSE_INIT)
    for order in ("little", "big")
)
# A line with one of these must not be dropped without a word. The last is /fuse as -xx prints it.
_DEVICE_WORDS: Final = (b"/dev/fuse", b"/dev/cuse", b"<char 10:229>", b"<char 10:203>", rb"\x2f\x66\x75\x73\x65")
_new_tuple: Final = tuple.__new__
_MOVES: Final = re.compile(rb"(?:read|write|splice)[v0-9]{0,3}(?:\(| resumed>)").search
_RECURSION_LIMIT: Final = 200  # glued lines in one


@dataclass(slots=True)
class Loss:
    """Messages that the log shows to have existed, but not their bytes."""

    t_ns: int
    stream: Stream | None
    reason: str
    line_number: int
    count: int = 1


class LogParser:
    """Reads one strace log; finished records and losses gather until the caller takes them.

    `comm_of` maps the bytes of a request to the name of the calling process; only a live capture can tell it.
    """

    def __init__(
        self,
        book: ChannelBook,
        bridge: BridgeKind,
        *,
        context: LogContext | None = None,
        default_tid: int = 0,
        first_day: int = 0,
        has_dumps: bool = False,
        comm_of: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.line_count = 0
        self.unparsed_count = 0
        self.reader = LineReader(default_tid, first_day)
        self.context = context or LogContext()
        self.saw_untimed_read = False
        self._records: list[RawRecord] = []
        self._losses: list[Loss] = []
        self._book = book
        self._bridge = bridge
        self._default_tid = default_tid
        self._default_tid_text = b"%d" % default_tid
        self._comm_of = comm_of
        self._descriptors = DescriptorReader()
        self._splices = SpliceTracker()
        self._held: Draft | None = None  # the last message, while following lines may add to it
        self._dump: Dump | None = None
        self._last_stream: Stream | None = None  # of the last line, when that was a message
        self._has_dumps = has_dumps
        self._guessed: set[int] = set()
        self._is_last_line_cut = False
        self._glue_depth = 0
        self._ticks = 0

    def feed(self, lines: Iterable[bytes]) -> None:
        """Read the next lines, each with or without its line break."""
        for line in lines:
            self.line_count += 1
            found = match_fast(line)
            if found is None or self._has_dumps or not self._read_fast(found, line):
                self._read_line(line)

    def take_records(self) -> list[RawRecord]:
        """Return the records finished since the last call, in the order of the log."""
        records, self._records = self._records, []
        return records

    def take_losses(self) -> list[Loss]:
        """Return the losses found since the last call."""
        losses, self._losses = self._losses, []
        return losses

    def release(self) -> None:
        """Finish the last message: the caller knows that no more lines come for now."""
        self._release(-1)

    def lose(self, reason: str, count: int = 0) -> None:
        """Note that messages were lost before they could be read; `count` 0 means that their number is not known."""
        self._losses.append(Loss(max(self.reader.clock.last_ns, 0), None, reason, self.line_count, count))

    def finish(self, cut_line: bytes = b"") -> None:
        """Read the end of the log; `cut_line` is a last line without a line break."""
        if cut_line:
            self.line_count += 1
            self._is_last_line_cut = True
            self._read_line(cut_line)
            self._is_last_line_cut = False
        self._release(-1)
        for line in self.reader.drain():
            self._read_call(line)
        self._release(-1)
        for request in self._splices.finish():
            self._append(request)

    # -- the short way ---------------------------------------------------------------------------------------------

    def _read_fast(self, found: re.Match[bytes], line: bytes) -> bool:
        tid_text, seconds, part, name, printed = found.groups()
        is_request = name == b"read"
        message = (fast_request if is_request else fast_reply)(line, found.end(), seconds, part)
        if message is None:
            return False
        t_ns, data, wire_len = message
        key = (tid_text or self._default_tid_text, printed)
        stream = self._book.by_key.get(key) or self._open_fast(key)
        if self._held is not None:
            self._release(t_ns)
        comm = b""
        if is_request:
            if data[4:8] in _INITS:
                stream = self._book.init_seen(stream)
            if self._comm_of is not None:
                comm = self._comm_of(data)
        elif self._splices.waiting:
            self._answered(stream.tid)
        stream.has_records = True
        self._last_stream = stream
        direction = TO_SERVER if is_request else TO_KERNEL
        # fmt: off
        self._records.append(_new_tuple(RawRecord, (  # what RawRecord() does, without its second call
            t_ns, stream.channel, direction, data, wire_len, self._bridge, stream.flags, stream.server_pid, stream.tid,
            comm, 0, 0, 0,
        )))
        # fmt: on
        return True

    def _open_fast(self, key: Key) -> Stream:
        self.reader.recognized += 1
        self.reader.clock.kind = ClockKind.EPOCH
        descriptor = self._descriptors.read(key[1])
        return self._book.open(key, int(key[0]), descriptor.number, descriptor.role)

    # -- the long way ----------------------------------------------------------------------------------------------

    def _read_line(self, line: bytes) -> None:
        if is_dump(line):
            self._add_dump(line)
            return
        said = self.reader.read(line)
        self._release(said.stamp_ns)
        self._last_stream = None
        if said.kind is Kind.OTHER:
            return
        rest = self._foreign(line) if said.kind is Kind.FOREIGN else self._read_call(said)
        if rest:
            self._read_glued(rest)

    def _read_glued(self, rest: bytes) -> None:
        """Read what follows a call on the same line: strace leaves the line break out when it is detached."""
        at = glued(rest, 0)
        if at >= 0 and self._glue_depth < _RECURSION_LIMIT:
            self._glue_depth += 1
            self._read_line(rest[at:])
            self._glue_depth -= 1

    def _foreign(self, line: bytes) -> bytes:
        at = glued(line, 0)
        head = line if at < 0 else line[:at]
        if _MOVES(head) and any(word in head for word in _DEVICE_WORDS):
            self._lose(-1, None, DAMAGED)
        return line[at:] if at >= 0 else b""

    def _read_call(self, line: Line) -> bytes:
        """Read a call; return the text behind it, which belongs to another line, or nothing."""
        if line.name in READS or line.name in WRITES:
            return self._move(line)
        if line.name == b"splice":
            self._splice(line)
        elif line.name == b"vmsplice":
            self._vmsplice(line)
        elif line.name in CONTEXT_CALLS and line.kind is Kind.CALL:
            self.context.note(line)
        return b""

    def _move(self, line: Line) -> bytes:
        first = first_descriptor(line.text)
        if first is None:
            return self._damaged(line, None, line.text)
        printed, at = first
        descriptor = self._descriptors.read(printed)
        if descriptor.role is Role.OTHER:
            return line.text[at:] if any(word in line.text for word in _DEVICE_WORDS) else b""
        if at == len(line.text) and line.name in READS:
            return b""  # a read that never returned
        transfer = read_transfer(line.text, at)
        if descriptor.role is Role.UNNAMED:
            if transfer is not None:
                self._move_unnamed(line, printed, descriptor, transfer)
        elif descriptor.role is Role.PIPE:
            if transfer is not None:
                self._move_pipe(line, ("pipe", descriptor.inode), transfer)
        else:
            stream = self._stream(line, printed, descriptor)
            if transfer is None:
                return self._damaged(line, stream, line.text[at:])
            if not self._move_device(line, stream, transfer):
                return self._damaged(line, stream, line.text[transfer.end :])
        return line.text[transfer.end :] if transfer else b""

    def _move_device(self, line: Line, stream: Stream, transfer: Transfer) -> bool:
        """Take what went through the device; False when the line contradicts itself."""
        is_read = line.name in READS
        if is_read and (transfer.returned or 0) <= 0:
            return True  # nothing was read
        if not is_read and transfer.returned is None and transfer.errno:
            return True  # interrupted before it wrote; the kernel starts it again
        if not self._is_consistent(transfer, stream):
            return False
        if not is_read:
            self._answered(line.tid)
        draft = self._draft(line, stream, TO_SERVER if is_read else TO_KERNEL, transfer.data, transfer.length)
        if is_read:
            self._time_request(draft, line, transfer.took_ns)
        if transfer.is_injected:
            draft.flags |= RecordFlag.INJECTED
        if transfer.errno:
            draft.flags |= RecordFlag.REJECTED
            draft.result = -transfer.errno
        self._hold(draft)
        return True

    def _is_consistent(self, transfer: Transfer, stream: Stream) -> bool:
        if not len(transfer.data) <= transfer.length or (not transfer.is_cut and len(transfer.data) < transfer.length):
            return False
        # The digits of the result may be cut too; then only the message's own length can confirm them.
        return not self._is_last_line_cut or (
            transfer.returned == transfer.length == int.from_bytes(transfer.data[:4], stream.order)
        )

    # -- logs without -y -------------------------------------------------------------------------------------------

    def _is_device(self, descriptor: Descriptor) -> bool:
        if descriptor.role is Role.UNNAMED:
            return descriptor.number in self._guessed or descriptor.number in self.context.device_fds
        return descriptor.role in (Role.FUSE, Role.CUSE)

    def _move_unnamed(self, line: Line, printed: bytes, descriptor: Descriptor, transfer: Transfer) -> None:
        """Take a message if the bytes say that it is one: the log does not name the device."""
        is_read = line.name in READS
        is_device = self._is_device(descriptor)
        pipe: PipeKey = ("tid", line.tid)
        if is_read and not is_device and self._splices.holds_request(pipe):
            self._move_pipe(line, pipe, transfer)
            return
        if not is_read and not is_device:
            return
        stream = self._stream(line, printed, descriptor)
        must_prove = len(transfer.data) < (8 if is_read else framing.OUT_HEADER_SIZE)
        if not must_prove and not self._is_message(is_read, transfer.data, transfer.length, stream, transfer.errno):
            self._guessed.discard(descriptor.number)  # closed, and opened again as something else
            return
        if self._move_device(line, stream, transfer) and self._held is not None:
            self._held.must_prove = must_prove
            if is_read and not must_prove:
                self._guessed.add(descriptor.number)

    @staticmethod
    def _is_message(is_read: bool, data: bytes, length: int, stream: Stream, error: int) -> bool:
        if is_read:
            return framing.request_byte_order(data, length) is not None
        return bool(error) or framing.is_reply(data, length, stream.order)

    # -- through a pipe --------------------------------------------------------------------------------------------

    def _move_pipe(self, line: Line, key: PipeKey, transfer: Transfer) -> None:
        if transfer.returned is None or transfer.returned <= 0:
            return
        if line.name in READS:
            self._drain(line, key, transfer.returned, transfer.data)
        else:
            self._splices.filled(key, transfer.returned, transfer.data)

    def _drain(self, line: Line, key: PipeKey, length: int, data: bytes | None) -> None:
        request = self._splices.drained(key, length, data, line.stamp_ns)
        if request is not None:
            self._append(request)

    def _vmsplice(self, line: Line) -> None:
        first = first_descriptor(line.text)
        transfer = read_transfer(line.text, first[1]) if first else None
        if first is None or transfer is None or transfer.returned is None or transfer.returned <= 0:
            return
        key = self._pipe_key(self._descriptors.read(first[0]), line.tid)
        if key is not None:
            self._splices.filled(key, transfer.returned, transfer.data)

    def _splice(self, line: Line) -> None:
        splice = read_splice(line.text)
        if splice is None:
            if line.kind is Kind.CALL and any(word in line.text for word in _DEVICE_WORDS):
                self._damaged(line, None, line.text)
            return
        source, target = self._descriptors.read(splice.source), self._descriptors.read(splice.target)
        returned = splice.returned or 0
        if self._is_device(source):
            key = self._pipe_key(target, line.tid)
            if returned > 0 and key is not None:
                self._splice_request(line, self._stream(line, splice.source, source), key, returned, splice.took_ns)
        elif self._is_device(target):
            key = self._pipe_key(source, line.tid)
            if returned != 0 and key is not None:
                length = returned if returned > 0 else splice.length
                self._splice_reply(line, self._stream(line, splice.target, target), key, length, splice.errno)
        elif returned > 0:
            self._splice_pipe(line, source, target, returned)

    def _splice_request(self, line: Line, stream: Stream, key: PipeKey, length: int, took_ns: int) -> None:
        draft = self._draft(line, stream, TO_SERVER, b"", length)
        self._time_request(draft, line, took_ns)
        before = self._splices.from_device(key, draft)
        if before is not None:
            self._append(before)

    def _splice_reply(self, line: Line, stream: Stream, key: PipeKey, length: int, error: int) -> None:
        self._answered(line.tid)
        draft = self._draft(line, stream, TO_KERNEL, self._splices.to_device(key, length), length)
        draft.flags |= RecordFlag.SPLICED
        if error:
            draft.flags |= RecordFlag.REJECTED
            draft.result = -error
        self._append(draft)

    def _splice_pipe(self, line: Line, source: Descriptor, target: Descriptor, length: int) -> None:
        """Payload moved between a pipe and a file: bytes that are never seen."""
        from_key, to_key = self._pipe_key(source, line.tid), self._pipe_key(target, line.tid)
        if from_key is not None and self._splices.holds_request(from_key):
            self._drain(line, from_key, length, None)
        elif to_key is not None:
            self._splices.filled(to_key, length, None)

    @staticmethod
    def _pipe_key(descriptor: Descriptor, tid: int) -> PipeKey | None:
        if descriptor.role is Role.PIPE:
            return ("pipe", descriptor.inode)
        return ("tid", tid) if descriptor.role is Role.UNNAMED else None

    def _answered(self, tid: int) -> None:
        request = self._splices.answered(tid)
        if request is not None:
            self._append(request)

    # -- from a draft to a record ----------------------------------------------------------------------------------

    def _stream(self, line: Line, printed: bytes, descriptor: Descriptor) -> Stream:
        key = (b"%d" % line.tid, printed)
        stream = self._book.by_key.get(key)
        if stream is None:
            flags = RecordFlag.CHANNEL_GUESSED if descriptor.role is Role.UNNAMED else RecordFlag.NONE
            stream = self._book.open(key, line.tid, descriptor.number, descriptor.role, flags)
        return stream

    def _draft(self, line: Line, stream: Stream, direction: Direction, data: bytes, wire_len: int) -> Draft:
        if line.stamp_ns >= 0:
            return Draft(line.stamp_ns, stream, line.tid, direction, data, wire_len)
        t_ns = self.reader.clock.last_ns
        if self.reader.clock.kind is ClockKind.NONE:
            self._ticks += 1
            t_ns = self._ticks
        return Draft(t_ns, stream, line.tid, direction, data, wire_len, RecordFlag.TIME_UNKNOWN)

    def _time_request(self, draft: Draft, line: Line, took_ns: int) -> None:
        """Set when the request arrived: when the read that took it returned, not when it began to wait."""
        if line.stamp_ns < 0:
            return
        if line.exit_ns >= 0:
            draft.t_ns = line.exit_ns
        elif took_ns >= 0:
            # Rounded down as the stamps are, so that a request never comes behind its reply.
            arrived_ns = line.stamp_ns + took_ns
            draft.t_ns = arrived_ns - arrived_ns % self.reader.clock.resolution_ns
        else:
            draft.waits_for_time = True
            self.saw_untimed_read = True

    def _hold(self, draft: Draft) -> None:
        self._held = draft
        self._dump = None
        self._last_stream = draft.stream

    def _add_dump(self, line: bytes) -> None:
        self._has_dumps = True
        if self._held is None and self._last_stream is not None and self._records:
            last = self._records.pop()
            self._held = Draft(
                last.t_ns, self._last_stream, last.server_tid, last.direction, last.data, last.wire_len, last.flags
            )
        if self._held is not None:
            self._dump = self._dump or Dump()
            self._dump.add(line)

    def _release(self, stamp_ns: int) -> None:
        draft, dump = self._held, self._dump
        self._held = self._dump = None
        if draft is None:
            return
        if dump is not None and len(dumped := dump.data()) > len(draft.data):
            draft.data = dumped[: draft.wire_len]
        if draft.waits_for_time:
            draft.t_ns = max(draft.t_ns, stamp_ns)
        if draft.must_prove:
            is_read = draft.direction is TO_SERVER
            if not self._is_message(is_read, draft.data, draft.wire_len, draft.stream, draft.result):
                return
            self._guessed.add(draft.stream.fd)
        self._append(draft)

    def _append(self, draft: Draft) -> None:
        if not draft.data:
            reason = SPLICED_AWAY if draft.flags & RecordFlag.SPLICED else NO_BYTES
            self._lose(draft.t_ns, draft.stream, reason)
            return
        if draft.direction is TO_SERVER:
            if draft.data[4:8] in _INITS:
                draft.stream = self._book.init_seen(draft.stream)
            if self._comm_of is not None:
                draft.comm = self._comm_of(draft.data)
        draft.stream.has_records = True
        self._records.append(draft.record(self._bridge))

    def _damaged(self, line: Line, stream: Stream | None, rest: bytes) -> bytes:
        """Count a call that cannot be read; return `rest` when another line may be found in it."""
        at = glued(rest, 0)
        head = rest if at < 0 else rest[:at]
        is_about_device = stream is not None or any(word in line.text for word in _DEVICE_WORDS)
        never_returned = line.name in READS and not head.strip()
        if is_about_device and not never_returned:
            self._lose(line.stamp_ns, stream, ENDS_IN_LINE if self._is_last_line_cut else DAMAGED)
        return rest if at >= 0 else b""

    def _lose(self, t_ns: int, stream: Stream | None, reason: str) -> None:
        if reason in (DAMAGED, ENDS_IN_LINE):
            self.unparsed_count += 1
        last = self._losses[-1] if self._losses else None
        if last is not None and last.reason == reason and last.stream is stream:
            last.count += 1
            return
        t_ns = t_ns if t_ns >= 0 else max(self.reader.clock.last_ns, 0)
        self._losses.append(Loss(t_ns, stream, reason, self.line_count, 0 if reason == ENDS_IN_LINE else 1))
