"""`fusewire import` of a strace log: one file, a set that -ff made, or standard input."""

from __future__ import annotations

import heapq
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from tracer.bridges import framing
from tracer.bridges.host.words import printable
from tracer.bridges.strace.assembler import TOO_LONG
from tracer.bridges.strace.channels import ChannelBook, Connection
from tracer.bridges.strace.context import LogContext
from tracer.bridges.strace.devices import Role
from tracer.bridges.strace.lines import ClockKind
from tracer.bridges.strace.outbox import WINDOW, Outbox, StraceStats
from tracer.bridges.strace.parser import LogParser
from tracer.bridges.strace.splitter import LineSplitter
from tracer.errors import TraceFileError
from tracer.records import BridgeKind, ChannelInfo, ChannelKind, RawRecord, Sink

CHUNK_BYTES: Final = 1 << 20
_GIVE_UP_BYTES: Final = 16 << 20  # this much without one line of strace: not a strace log
_TRACE_HINT: Final = (
    "trace the server with: strace -f -ttt -T -yy -s 512 -e trace=read,readv,write,writev,splice -o LOG"
)
_MAGICS: Final = (
    (b"\x0a\x0d\x0d\x0a", "is a pcapng trace, not a strace log", "open it with: fusewire show FILE"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first: gunzip FILE"),
    (b"\xfd7zXZ\x00", "is compressed with xz", "unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first: unzstd FILE"),
    (b"BZh", "is compressed with bzip2", "unpack it first: bunzip2 FILE"),
)
_CLOCKS: Final = {
    ClockKind.NONE: ("none", "the log has no times (strace -ttt adds them): the records are only in order"),
    ClockKind.EPOCH: ("realtime", ""),
    ClockKind.DAY: ("realtime", "the log has the time of day without a date: its days count from 1970-01-01"),
    ClockKind.RELATIVE: ("monotonic", "the log has relative times only: they count from its first line"),
}
_NO_DURATIONS: Final = (
    "the log has no durations (strace -T adds them): a request is dated by the server's next call, "
    "so latencies are lower bounds"
)
_NO_NAMES: Final = "the log does not name descriptors (strace -yy does): messages were told apart by their bytes"
_DAY_STAMP: Final = re.compile(rb"[^:\"]{0,20}?(\d\d):(\d\d):(\d\d)").match
_CLOCK_SLACK_S: Final = 60


class LogFile(NamedTuple):
    """One open file of a log."""

    stream: BinaryIO
    tid: int  # from the name of a file that -ff made; else 0
    first_day: int = 0


class StraceLog:
    """Imports a strace log. `path` names a file, the common start of a set made by -ff, or `-` for standard input."""

    def __init__(self, path: str | Path, on_note: Callable[[str], None] | None = None) -> None:
        self.stats = StraceStats()
        self._path = Path(path)
        self._on_note = on_note or (lambda note: None)
        self._context = LogContext()
        self._parsers: list[LogParser] = []
        self._outbox: Outbox | None = None
        self._read_bytes = 0

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Feed `sink` until the log ends or `stop` is set. Raises TraceFileError when there is no FUSE in it."""
        book = ChannelBook(self._describe)
        self._outbox = outbox = Outbox(sink, book, self.stats)
        with ExitStack() as stack:
            files = self._open(stack)
            if len(files) == 1:
                for parser in self._parse(files[0], book, stop):
                    outbox.take(parser.take_records(), parser.take_losses())
                    outbox.flush_half()
            else:
                self._merge(files, book, outbox, stop)
        outbox.flush()
        self.stats.lines = sum(parser.line_count for parser in self._parsers)
        self.stats.unparsed_lines = sum(parser.unparsed_count for parser in self._parsers)
        if not self.stats.messages and not stop.is_set():
            self._refuse()

    # -- files -----------------------------------------------------------------------------------------------------

    def _open(self, stack: ExitStack) -> list[LogFile]:
        if str(self._path) == "-":
            return [LogFile(sys.stdin.buffer, 0)]
        paths = [self._path] if self._path.exists() else _set_of(self._path)
        try:
            files = [LogFile(stack.enter_context(path.open("rb")), _tid_of(path)) for path in paths]
        except OSError as error:
            hint = "a set made by strace -ff is named by the start of its names" if self._path.is_dir() else ""
            raise TraceFileError(f"cannot read {self._shown}: {error.strerror}", hint) from error
        if not files:
            raise TraceFileError(f"no such file: {self._shown}", "nor is there a set of -ff files that starts so")
        if len(files) > 1:
            self._on_note(f"{len(files)} files of strace -ff are merged by time")
        return _dated(files)

    def _parse(self, file: LogFile, book: ChannelBook, stop: threading.Event) -> Iterator[LogParser]:
        """Read one file; yield its parser each time it has read a chunk."""
        parser = LogParser(
            book, BridgeKind.IMPORT, context=self._context, default_tid=file.tid, first_day=file.first_day
        )
        self._parsers.append(parser)
        splitter = LineSplitter()
        while not stop.is_set() and (chunk := file.stream.read(CHUNK_BYTES)):
            if self._read_bytes == 0:
                self._check_magic(chunk)
            self._read_bytes += len(chunk)
            parser.feed(splitter.feed(chunk))
            for _ in range(splitter.take_dropped()):
                parser.lose(TOO_LONG, 1)
            if self._read_bytes >= _GIVE_UP_BYTES and not any(p.reader.recognized for p in self._parsers):
                self._refuse()
            yield parser
        parser.finish(splitter.rest())
        yield parser

    def _merge(self, files: list[LogFile], book: ChannelBook, outbox: Outbox, stop: threading.Event) -> None:
        streams = [self._records_of(file, book, outbox, stop) for file in files]
        batch: list[RawRecord] = []
        for record in heapq.merge(*streams, key=itemgetter(0, 2)):  # by time; at one instant requests come first
            batch.append(record)
            if len(batch) >= WINDOW // 4:
                outbox.take(batch, ())
                outbox.flush_half()
                batch.clear()
        outbox.take(batch, ())

    def _records_of(
        self, file: LogFile, book: ChannelBook, outbox: Outbox, stop: threading.Event
    ) -> Iterator[RawRecord]:
        """Yield the records of one file of a set. Without times, the request last read orders them."""
        last_unique = 0
        for parser in self._parse(file, book, stop):
            outbox.take((), parser.take_losses())
            for record in parser.take_records():
                if parser.reader.clock.kind is not ClockKind.NONE:
                    yield record
                    continue
                if not record.direction:
                    order = framing.request_byte_order(record.data, record.wire_len) or "little"
                    last_unique = framing.unique_of(record.data, order)
                yield record._replace(t_ns=last_unique)

    # -- what is said of it ----------------------------------------------------------------------------------------

    @property
    def _shown(self) -> str:
        return printable(bytes(self._path), 200)

    def _describe(self, connection: Connection) -> ChannelInfo:
        mount = self._context.mount_of(connection.fd)
        kinds = [p.reader.clock.kind for p in self._parsers if p.reader.clock.kind is not ClockKind.NONE]
        clock, clock_note = _CLOCKS[kinds[0] if kinds else ClockKind.NONE]
        notes = [
            clock_note,
            _NO_DURATIONS if any(parser.saw_untimed_read for parser in self._parsers) else "",
            _NO_NAMES if connection.role is Role.UNNAMED else "",
        ]
        kind = ChannelKind.CUSE if connection.role is Role.CUSE else ChannelKind.DEV_FUSE
        owner = f" of thread {connection.tid}" if connection.tid else ""
        return ChannelInfo(
            name=mount.mount_point if mount else f"fd {connection.fd}{owner}",
            kind=ChannelKind.FUSEBLK if mount and mount.fstype.startswith("fuseblk") else kind,
            mount_point=mount.mount_point if mount else "",
            fstype=mount.fstype if mount else "",
            read_only=bool(mount and mount.is_read_only),
            server_command=self._context.server_command,
            clock=clock,
            big_endian=connection.order == "big",
            snap_bytes=self._outbox.longest_cut if self._outbox else 0,
            notes=tuple(note for note in notes if note),
        )

    def _check_magic(self, chunk: bytes) -> None:
        for magic, what, hint in _MAGICS:
            if chunk.startswith(magic):
                raise TraceFileError(f"{self._shown} {what}", hint)

    def _refuse(self) -> None:
        recognized = sum(parser.reader.recognized for parser in self._parsers)
        if not self._read_bytes:
            raise TraceFileError(f"{self._shown} is empty", _TRACE_HINT)
        if not recognized:
            raise TraceFileError(f"{self._shown} is not a strace log: no line of it was written by strace", _TRACE_HINT)
        if self.stats.gaps:
            raise TraceFileError(
                f"{self._shown} shows that FUSE messages passed, but the bytes of none",
                f"without -P and -s 0, {_TRACE_HINT}",
            )
        raise TraceFileError(f"{self._shown} is a strace log without any FUSE message", _TRACE_HINT)


def _tid_of(path: Path) -> int:
    suffix = path.suffix[1:]
    return int(suffix) if suffix.isdecimal() and suffix.isascii() and len(suffix) <= 7 else 0


def _set_of(start: Path) -> list[Path]:
    """Return the files that `strace -ff -o start` made, oldest thread first."""
    if not start.parent.is_dir():
        return []
    found = [p for p in start.parent.iterdir() if p.name.startswith(f"{start.name}.") and p.stem == start.name]
    return sorted((p for p in found if _tid_of(p)), key=_tid_of)


def _dated(files: list[LogFile]) -> list[LogFile]:
    """Give each file of a -ff set its day: one that starts before the first file's time of day began after midnight."""
    if len(files) < 2:
        return files
    starts = [_time_of_day(file.stream) for file in files]
    first = next((start for start in starts if start is not None), 0)
    return [
        file._replace(first_day=1) if start is not None and start < first - _CLOCK_SLACK_S else file
        for file, start in zip(files, starts, strict=True)
    ]


def _time_of_day(stream: BinaryIO) -> int | None:
    line = stream.readline(4096)
    stream.seek(0)
    found = _DAY_STAMP(line)
    return (int(found[1]) * 60 + int(found[2])) * 60 + int(found[3]) if found else None
