"""Lines of a strace log -> messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from tracer.bridges import framing
from tracer.bridges.strace.assembler import DAMAGED, ENDS_IN_LINE, INITS, SPLICED, Assembler, Loss, is_message
from tracer.bridges.strace.channels import ChannelBook, Key, Stream
from tracer.bridges.strace.context import NAMES as CONTEXT_CALLS
from tracer.bridges.strace.context import LogContext
from tracer.bridges.strace.devices import Descriptor, DescriptorReader, Role
from tracer.bridges.strace.fast import fast_reply, fast_request, match_fast, match_other
from tracer.bridges.strace.hexdump import is_dump
from tracer.bridges.strace.lines import ClockKind, Kind, Line, LineReader, glued
from tracer.bridges.strace.splices import PipeKey, SpliceTracker
from tracer.bridges.strace.transfers import (
    READS,
    WRITES,
    Splice,
    Transfer,
    first_descriptor,
    read_splice,
    read_transfer,
)
from tracer.records import BridgeKind, Direction, RawRecord, RecordFlag

TO_SERVER: Final = Direction.TO_SERVER
TO_KERNEL: Final = Direction.TO_KERNEL

# A line with one of these must not be dropped without a word. The last is /fuse as -xx prints it.
_DEVICE_WORDS: Final = (b"/dev/fuse", b"/dev/cuse", b"<char 10:229>", b"<char 10:203>", rb"\x2f\x66\x75\x73\x65")
_MOVES: Final = re.compile(rb"(?:read|write|splice)[v0-9]{0,3}(?:\(| resumed>)").search
_GLUE_LIMIT: Final = 200  # lines in one
_new_tuple: Final = tuple.__new__


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
        self._book = book
        self._bridge = bridge
        self._default_tid_text = b"%d" % default_tid
        self._out = Assembler(book, bridge, self.reader.clock, comm_of)
        self._descriptors = DescriptorReader()
        self._splices = SpliceTracker()
        self._has_dumps = has_dumps
        self._is_last_line_cut = False
        self._glue_depth = 0

    @property
    def saw_untimed_read(self) -> bool:
        """Whether a request had to be dated by the line behind it."""
        return self._out.saw_untimed_read

    def feed(self, lines: Iterable[bytes]) -> None:
        """Read the next lines, each with or without its line break."""
        for line in lines:
            self.line_count += 1
            found = match_fast(line)
            if found is not None and not self._has_dumps and self._read_fast(found, line):
                continue
            if found is not None or not match_other(line) or not line.endswith(b">"):
                self._read_line(line)

    def take_records(self) -> list[RawRecord]:
        """Return the records finished since the last call, in the order of the log."""
        records, self._out.records = self._out.records, []
        return records

    def take_losses(self) -> list[Loss]:
        """Return the losses found since the last call."""
        losses, self._out.losses = self._out.losses, []
        return losses

    def release(self) -> None:
        """Finish the last message: the caller knows that no more lines come for now."""
        self._out.release(-1)

    def lose(self, reason: str, count: int = 0) -> None:
        """Note that messages were lost before they could be read; `count` 0 means that nobody knows how many."""
        self._out.line_number = self.line_count
        self._out.lose(-1, None, reason, count)

    def finish(self, cut_line: bytes = b"") -> None:
        """Read the end of the log; `cut_line` is a last line without a line break."""
        if cut_line:
            self.line_count += 1
            self._is_last_line_cut = True
            self._read_line(cut_line)
            self._is_last_line_cut = False
        self._out.release(-1)
        for line in self.reader.drain():
            self._read_call(line)
        self._out.release(-1)
        for request in self._splices.finish():
            self._out.append(request)

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
        out = self._out
        if out.held is not None:
            out.release(int(seconds + part) * (1 if len(part) == 9 else 1000))
        comm = b""
        if is_request:
            if t_ns < out.said_ns:
                t_ns = out.arrived_ns(t_ns)
            if data[4:8] in INITS:
                stream = self._book.init_seen(stream)
            if out.comm_of is not None:
                comm = out.comm_of(data)
        else:
            out.said_ns = t_ns
            if self._splices.waiting:
                self._answered(stream.tid)
        stream.has_records = True
        out.last_stream = stream
        direction = TO_SERVER if is_request else TO_KERNEL
        # fmt: off
        out.records.append(_new_tuple(RawRecord, (  # what RawRecord() does, without its second call
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
        self._out.line_number = self.line_count
        if is_dump(line):
            self._has_dumps = True
            self._out.add_dump(line)
            return
        said = self.reader.read(line)
        self._out.release(said.stamp_ns)
        self._out.last_stream = None
        if said.kind is Kind.OTHER:
            return
        rest = self._foreign(line) if said.kind is Kind.FOREIGN else self._read_call(said)
        if rest:
            self._read_glued(rest)

    def _read_glued(self, rest: bytes) -> None:
        """Read what follows a call on the same line: strace leaves the line break out when it is detached."""
        at = glued(rest, 0)
        if at >= 0 and self._glue_depth < _GLUE_LIMIT:
            self._glue_depth += 1
            self._read_line(rest[at:])
            self._glue_depth -= 1
        elif _MOVES(rest) and any(word in rest for word in _DEVICE_WORDS):
            self._lose_line(-1, None)

    def _foreign(self, line: bytes) -> bytes:
        at = glued(line, 0)
        head = line if at < 0 else line[:at]
        if _MOVES(head) and any(word in head for word in _DEVICE_WORDS):
            self._lose_line(-1, None)
        return line[at:] if at >= 0 else b""

    def _read_call(self, line: Line) -> bytes:
        """Read a call; return the text behind it, which belongs to another line, or nothing."""
        if line.name in READS or line.name in WRITES:
            return self._move(line)
        if line.name == b"splice":
            return self._splice(line)
        if line.name == b"vmsplice":
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
        if at == len(line.text) and line.name in READS:
            return b""  # a read that never returned
        if descriptor.role is Role.OTHER and not any(word in line.text for word in _DEVICE_WORDS):
            return b""
        transfer = read_transfer(line.text, at)
        if transfer is None and glued(line.text, at) == at:
            return line.text[at:]  # cut before it showed anything
        if descriptor.role in (Role.FUSE, Role.CUSE):
            stream = self._stream(line, printed, descriptor)
            if transfer is None or not self._move_device(line, stream, transfer):
                return self._damaged(line, stream, line.text[transfer.end if transfer else at :])
        elif transfer is not None and descriptor.role is Role.UNNAMED:
            self._move_unnamed(line, printed, descriptor, transfer)
        elif transfer is not None and descriptor.role is Role.PIPE:
            self._move_pipe(line, ("pipe", descriptor.inode), transfer)
        return line.text[transfer.end :] if transfer else b""

    def _move_device(self, line: Line, stream: Stream, transfer: Transfer) -> bool:
        """Take what went through the device; False when the line contradicts itself."""
        is_read = line.name in READS
        if is_read and (transfer.returned or 0) <= 0:
            return transfer.returned is not None or not transfer.data  # nothing was read, or its length is lost
        if not is_read and transfer.returned is None and transfer.errno:
            return True  # interrupted before it wrote; the kernel starts it again
        if self._is_last_line_cut:
            # The digits of the result may be cut too; only the message's own length can confirm what is there.
            length = transfer.length if is_read else transfer.offered
            if length != int.from_bytes(transfer.data[:4], stream.order):
                return False
            transfer = transfer._replace(length=length)
        if len(transfer.data) > transfer.length or (not transfer.is_cut and len(transfer.data) < transfer.length):
            return False
        if not is_read:
            self._answered(line.tid)
        direction = TO_SERVER if is_read else TO_KERNEL
        draft = self._out.draft(line, stream, direction, transfer.data, transfer.length)
        if is_read:
            self._out.time_request(draft, line, transfer.took_ns)
        if transfer.is_injected:
            draft.flags |= int(RecordFlag.INJECTED)
        if transfer.errno:
            draft.flags |= int(RecordFlag.REJECTED)
            draft.result = -transfer.errno
        self._out.hold(draft)
        return True

    # -- logs without -y -------------------------------------------------------------------------------------------

    def _is_device(self, descriptor: Descriptor) -> bool:
        if descriptor.role is Role.UNNAMED:
            return descriptor.number in self._out.guessed or descriptor.number in self.context.device_fds
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
        is_proven = bool(transfer.errno) or must_prove or is_message(is_read, transfer.data, transfer.length, stream)
        if not is_proven:
            self._out.guessed.discard(descriptor.number)  # closed, and opened again as something else
        elif self._move_device(line, stream, transfer) and self._out.held is not None:
            self._out.held.must_prove = must_prove and not transfer.errno
            if is_read and not must_prove:
                self._out.guessed.add(descriptor.number)

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
            self._out.append(request)

    def _vmsplice(self, line: Line) -> None:
        first = first_descriptor(line.text)
        transfer = read_transfer(line.text, first[1]) if first else None
        if first is None or transfer is None or transfer.returned is None or transfer.returned <= 0:
            return
        key = self._pipe_key(self._descriptors.read(first[0]), line.tid)
        if key is not None:
            self._splices.filled(key, transfer.returned, transfer.data)

    def _splice(self, line: Line) -> bytes:
        splice = read_splice(line.text)
        if splice is None:
            is_damaged = line.kind is Kind.CALL and any(word in line.text for word in _DEVICE_WORDS)
            return self._damaged(line, None, line.text) if is_damaged else b""
        source, target = self._descriptors.read(splice.source), self._descriptors.read(splice.target)
        from_key, to_key = self._pipe_key(source, line.tid), self._pipe_key(target, line.tid)
        returned = splice.returned or 0
        if self._is_device(source):
            if returned > 0 and to_key is not None:
                self._splice_request(line, self._stream(line, splice.source, source), to_key, splice)
        elif self._is_device(target):
            if returned != 0 and from_key is not None:
                self._splice_reply(line, self._stream(line, splice.target, target), from_key, splice)
        elif returned > 0 and from_key is not None and self._splices.holds_request(from_key):
            self._drain(line, from_key, returned, None)  # the payload of a WRITE went on into a file, unseen
        elif returned > 0 and to_key is not None:
            self._splices.filled(to_key, returned, None)  # file data of a READ to come, unseen
        return b""

    def _splice_request(self, line: Line, stream: Stream, key: PipeKey, splice: Splice) -> None:
        draft = self._out.draft(line, stream, TO_SERVER, b"", splice.returned or 0)
        self._out.time_request(draft, line, splice.took_ns)
        before = self._splices.from_device(key, draft)
        if before is not None:
            self._out.append(before)

    def _splice_reply(self, line: Line, stream: Stream, key: PipeKey, splice: Splice) -> None:
        self._answered(line.tid)
        length = splice.length if splice.errno else splice.returned or 0
        data = self._splices.to_device(key, length)
        if len(data) >= framing.OUT_HEADER_SIZE and not splice.errno:
            # vmsplice lends the page: libfuse corrects the length in the header when the file gave less than was asked
            # for, after strace has printed it. The kernel takes no reply with a wrong length (fuse_dev_do_write).
            data = length.to_bytes(4, stream.order) + data[4:]
        draft = self._out.draft(line, stream, TO_KERNEL, data, length)
        draft.flags |= SPLICED
        if splice.errno:
            draft.flags |= int(RecordFlag.REJECTED)
            draft.result = -splice.errno
        self._out.append(draft)

    @staticmethod
    def _pipe_key(descriptor: Descriptor, tid: int) -> PipeKey | None:
        if descriptor.role is Role.PIPE:
            return ("pipe", descriptor.inode)
        return ("tid", tid) if descriptor.role is Role.UNNAMED else None

    def _answered(self, tid: int) -> None:
        request = self._splices.answered(tid)
        if request is not None:
            self._out.append(request)

    # -- common ----------------------------------------------------------------------------------------------------

    def _stream(self, line: Line, printed: bytes, descriptor: Descriptor) -> Stream:
        key = (b"%d" % line.tid, printed)
        stream = self._book.by_key.get(key)
        if stream is None:
            flags = int(RecordFlag.CHANNEL_GUESSED) if descriptor.role is Role.UNNAMED else 0
            stream = self._book.open(key, line.tid, descriptor.number, descriptor.role, flags)
        return stream

    def _damaged(self, line: Line, stream: Stream | None, rest: bytes) -> bytes:
        """Count a call that cannot be read; return `rest` when another line may be found in it."""
        if stream is not None or any(word in line.text for word in _DEVICE_WORDS):
            self._lose_line(line.stamp_ns, stream)
        return rest if glued(rest, 0) >= 0 else b""

    def _lose_line(self, t_ns: int, stream: Stream | None) -> None:
        self.unparsed_count += 1
        if self._is_last_line_cut:
            self._out.lose(t_ns, stream, ENDS_IN_LINE, 0)
        else:
            self._out.lose(t_ns, stream, DAMAGED)
