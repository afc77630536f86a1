"""Writes a trace. Every write ends on a block's border, so a killed recorder leaves a file that opens."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from dissectors.text import escape
from tracer.errors import TraceFileError
from tracer.records import ChannelInfo, Gap, RawRecord, RecordColumns
from tracer.store import pcapng
from tracer.store.metadata import MAX_DESCRIPTION, MAX_NAME, channel_comment, gap_comment
from tracer.store.prefix import (
    LINKTYPE_UPPER_PDU,
    OVERHEAD,
    PREFIX_SIZE,
    PREFIX_VERSION,
    TAGS,
    TAGS_SIZE,
)

# Everything before the FUSE bytes: block header (28), tags (16), prefix (48), of which the first two bytes are fixed.
_HEAD = f"<IIIIIII{TAGS_SIZE + 2}sBBHHIIII16siI"
_FIXED = TAGS + bytes((PREFIX_VERSION, PREFIX_SIZE))
_AROUND = 96  # bytes of a block beside the FUSE bytes
LONGEST_PACKED = 4096  # FUSE bytes packed with their block; more are added as they are, which copies them once less
_MOST_PIECES = 1024  # IOV_MAX of Linux
MAX_MESSAGE = 64 << 20  # no kernel sends more; a larger "message" is a bridge's mistake or an attack
_U16, _U32, _I32, _I64 = 2**16 - 1, 2**32 - 1, 2**31 - 1, 2**63 - 1


class TraceWriter:
    """A Sink that writes a pcapng file. Use as a context manager; closing twice is harmless.

    Raises TraceFileError when the file cannot be made, and when the disk is full: what was written before stays whole.
    An older file of that name stays until the first channel is met: until then the new one is written beside it, as
    `.NAME.new`. A capture that met no channel leaves the older file in its place; `kept_older` then tells.
    """

    def __init__(self, path: Path, *, command: str = "", overwrite: bool = True) -> None:
        # Appending: after a write that failed the file is cut back, and the next one must begin there.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if overwrite else os.O_EXCL)
        # Whoever is reading the older file keeps it: emptying it under their feet would end them (SIGBUS).
        self._beside = path.with_name(f".{path.name}.new") if overwrite and _is_regular(path) else None
        self.path = path
        self.kept_older = False
        self.record_count = 0
        self.gap_count = 0
        self.lost_count = 0
        self._channel_records: list[int] = []
        self._channel_dropped: list[int] = []
        try:
            self._fd = os.open(self._beside or path, flags, 0o600)  # a trace holds file contents: for its owner alone
        except OSError as error:
            raise TraceFileError(f"cannot write {path}: {error.strerror}", "give another file with -o") from error
        self._size = 0
        uname = os.uname()
        comment = f"fusewire trace; command: {command}" if command else "fusewire trace"
        system = f"{uname.sysname} {uname.release}"
        self._write([pcapng.section_header("fusewire", system, _printable(comment, pcapng.MAX_OPTION).decode())])

    def channel(self, info: ChannelInfo) -> int:
        """Write an interface description; return the channel's number."""
        number = len(self._channel_records)
        if number > 0xFFFF:
            raise TraceFileError("more than 65536 channels in one trace", "record fewer mounts at once")
        description = " ".join(part for part in (info.fstype, info.server_command) if part)
        words = _printable(info.name, MAX_NAME), _printable(description, MAX_DESCRIPTION)
        self._write([pcapng.interface(LINKTYPE_UPPER_PDU, *words, channel_comment(info))])
        self._channel_records.append(0)
        self._channel_dropped.append(0)
        self._take_place()
        return number

    def records(self, batch: Sequence[RawRecord]) -> None:
        """Write a batch with one system call. Numbers that do not fit are stored as the nearest that does.

        RecordColumns are packed whole: the file is the same, in a third of the time.
        """
        if isinstance(batch, RecordColumns):
            self._write_columns(batch)
            return
        self._write(blocks_of(batch))
        self.record_count += len(batch)
        counts = self._channel_records
        for record in batch:
            counts[record[1]] += 1

    def _write_columns(self, batch: RecordColumns) -> None:
        # Whoever brings columns has loaded numpy; who records with strace need not.
        from tracer.store.packing import counted, packed

        self._append(packed(batch))
        self.record_count += len(batch)
        for number, count in enumerate(counted(batch)):
            if count:
                self._channel_records[number] += count

    def blocks(self, content: bytes, counts: Mapping[int, int]) -> None:
        """Write records that `blocks_of` packed before; `counts` says how many of each channel."""
        self._write([content])
        self.record_count += sum(counts.values())
        for channel, count in counts.items():
            self._channel_records[channel] += count

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def gap(self, gap: Gap) -> None:
        """Write the loss into interface statistics: the running total, and what happened in words."""
        if not self._channel_records:
            self.channel(ChannelInfo(name="unknown"))
        number = gap.channel if 0 <= gap.channel < len(self._channel_records) else 0
        self.gap_count += 1
        self.lost_count += gap.count
        self._channel_dropped[number] += gap.count
        self._write(
            [
                pcapng.statistics(
                    number,
                    gap.t_ns,
                    gap_comment(gap),
                    received=self._channel_records[number],
                    dropped=self._channel_dropped[number],
                )
            ]
        )

    def remarks(self, comments: Sequence[bytes]) -> None:
        """Write what there is to say of the whole trace, at its end: `store.remarks` finds it there.

        Each comment is cut at what the format allows, pcapng.MAX_OPTION bytes.
        """
        if not self._channel_records:
            self.channel(ChannelInfo(name="unknown"))
        now = time.time_ns()
        self._write([pcapng.statistics(0, now, comment) for comment in comments])

    def close(self) -> None:
        """Write the totals of every channel and close the file."""
        if self._fd < 0:
            return
        if self._beside is not None:  # nothing was met: not worth the older file
            self.discard()
            self.kept_older = True
            return
        now = time.time_ns()
        try:
            self._write(
                [
                    pcapng.statistics(
                        number, now, b"end of capture", received=received, dropped=self._channel_dropped[number]
                    )
                    for number, received in enumerate(self._channel_records)
                ]
            )
        finally:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Take the new file away, as if nothing had been begun."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        (self._beside or self.path).unlink(missing_ok=True)

    def _take_place(self) -> None:
        """Put the new file where the older one is."""
        if self._beside is not None:
            self._beside.replace(self.path)
            self._beside = None

    def _write(self, pieces: list[bytes]) -> None:
        """Append whole blocks, joined: many small pieces are written faster so."""
        self._append([memoryview(b"".join(pieces))])

    def _append(self, pieces: list[memoryview]) -> None:
        """Append whole blocks; on a full disk keep those that fit, and nothing of the one that does not."""
        left = pieces
        written = 0
        try:
            while left:
                count = os.writev(self._fd, left[:_MOST_PIECES])
                written += count
                left = _after(left, count)
        except OSError as error:
            kept, packets = _whole_blocks(memoryview(b"".join(pieces))[:written])
            self._size += kept
            self.record_count += packets
            with contextlib.suppress(OSError):  # no regular file: a reader stops at the last whole block anyway
                os.ftruncate(self._fd, self._size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise TraceFileError(
                    f"no room left for {self.path}; it is complete up to here ({self.record_count} records)",
                    "free some room, keep less of each message with --snap, or write elsewhere with -o",
                ) from error
            raise TraceFileError(
                f"cannot write {self.path}: {error.strerror}; it is complete up to here ({self.record_count} records)",
                "write elsewhere with -o",
            ) from error
        self._size += written

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._channel_records:
            self.discard()
            return
        try:
            self.close()
        except TraceFileError:
            if error is None:
                raise


def blocks_of(batch: Sequence[RawRecord]) -> list[bytes]:
    """Return records as the blocks of a trace; joined they are whole. Numbers that do not fit become the nearest."""
    try:
        return _packed(batch)
    except struct.error:
        return _packed([_fitting(record) for record in batch])


def block_size(record: RawRecord) -> int:
    """Return how many bytes a record takes in a trace."""
    return _AROUND + ((min(len(record[3]), MAX_MESSAGE) + 3) & ~3)


def _is_regular(path: Path) -> bool:
    """Tell whether there is an ordinary file already, in a folder that takes another one beside it."""
    try:
        return stat.S_ISREG(path.lstat().st_mode) and os.access(path.parent, os.W_OK)
    except OSError:
        return False


def _printable(text: str, limit: int) -> bytes:
    """Return what other programs may print: no control characters, valid UTF-8, at most `limit` bytes of it."""
    kept = text.encode("utf-8", "surrogateescape")[:limit]
    return escape(kept, limit).encode()[:limit].decode("utf-8", "ignore").encode()


class _Packers(dict[int, Callable[..., bytes]]):
    """What packs a block with so many FUSE bytes, which struct pads with NULs."""

    def __missing__(self, length: int) -> Callable[..., bytes]:
        found = self[length] = struct.Struct(f"{_HEAD}{length}sI").pack
        return found


_PACKERS = _Packers()


def _packed(batch: Iterable[RawRecord]) -> list[bytes]:
    """Encode records as blocks; struct.error when a number does not fit its place."""
    pieces: list[bytes] = []
    add, packers = pieces.append, _PACKERS
    for t_ns, channel, direction, data, wire_len, bridge, flags, pid, tid, comm, queue, head, result in batch:
        kept = len(data)
        if kept > MAX_MESSAGE:
            kept, data = MAX_MESSAGE, data[:MAX_MESSAGE]
        length = (kept + 3) & ~3
        total = _AROUND + length
        original = OVERHEAD + (wire_len if wire_len > kept else kept)
        is_short = length <= LONGEST_PACKED
        block = packers[length if is_short else 0](
            pcapng.ENHANCED_PACKET,
            total,
            channel,
            t_ns >> 32,
            t_ns & 0xFFFF_FFFF,
            OVERHEAD + kept,
            original if original <= _U32 else _U32,
            _FIXED,
            direction,
            bridge,
            channel,
            queue,
            flags,
            wire_len,
            pid,
            tid,
            comm,
            result,
            head,
            data if is_short else b"",
            total,
        )
        if is_short:
            add(block)
        else:
            pieces += (block[:-4], data, bytes(length - kept) + block[-4:])
    return pieces


def _fitting(record: RawRecord) -> RawRecord:
    """Return the record with every number bounded: a log's times and lengths are text from somewhere."""
    return record._replace(
        t_ns=_bounded(record.t_ns, _I64),
        wire_len=_bounded(record.wire_len, _U32),
        flags=_bounded(record.flags, _U16),
        server_pid=_bounded(record.server_pid, _U32),
        server_tid=_bounded(record.server_tid, _U32),
        queue=_bounded(record.queue, _U16),
        desc_head=_bounded(record.desc_head, _U32),
        result=_bounded(record.result, _I32, -_I32 - 1),
    )


def _bounded(value: int, largest: int, least: int = 0) -> int:
    return max(least, min(value, largest))


def _after(pieces: list[memoryview], count: int) -> list[memoryview]:
    """Return what is left of `pieces` without their first `count` bytes."""
    for at, piece in enumerate(pieces):
        if count < len(piece):
            return [piece[count:], *pieces[at + 1 :]]
        count -= len(piece)
    return []


def _whole_blocks(content: memoryview) -> tuple[int, int]:
    """Return how many bytes at the beginning are whole blocks, and how many packets those are."""
    at = packets = 0
    while at + 8 <= len(content):
        kind, total = struct.unpack_from("<II", content, at)
        if at + total > len(content):
            break
        at += total
        packets += kind == pcapng.ENHANCED_PACKET
    return at, packets
