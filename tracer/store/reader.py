"""Reads a trace without copying it: finds the blocks, leaves the packets where they are.

Opening, following a file that grows and reading one that a killed recorder left are the same: scan what is whole,
remember where it ended, scan on from there.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.errors import TraceFileError
from tracer.records import ChannelInfo, Gap
from tracer.store import pcapng
from tracer.store.blocks import MAX_BLOCK, MIN_BLOCK, Positions, Words, heads, packets_from
from tracer.store.metadata import read_channel, read_gap
from tracer.store.prefix import (
    FUSE_AT,
    LINKTYPE_UPPER_PDU,
    OVERHEAD,
    PREFIX_AT,
    PREFIX_SIZE,
    PREFIX_VERSION,
    TAGS,
    TAGS_AT,
)

MAX_DESCRIPTION = 1 << 20
MAX_CHANNELS = 1 << 16  # a record's channel is 16 bits wide
SCAN_BLOCKS = 1 << 15  # blocks a scan takes at once: their heads fit the processor's cache, and a follower soon hears
STEPS = 64  # blocks followed one by one before packets are searched for again
# In words, of a block on average. A search reads all content; where it is long, following the lengths reads less.
LONGEST_SEARCHED = 512
KIND, LENGTH, INTERFACE, CAPTURED = 0, 1, 2, 5  # words of an enhanced packet block
SEARCH_WORDS = 1 << 10  # behind a damaged block, at first; doubled until something is found
_PROGRESS = ("foreign_packets", "scanned", "damaged", "skipped_bytes", "finished", "_searched")
_TAG_WORDS = np.frombuffer(TAGS, dtype="<u4")
_DESCRIPTIONS = (pcapng.SECTION_HEADER, pcapng.INTERFACE_DESCRIPTION, pcapng.INTERFACE_STATISTICS)
_SEARCHED_KINDS = np.array((*_DESCRIPTIONS, pcapng.ENHANCED_PACKET), dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets found by one scan. `at` is where each block begins, in 32-bit words; `channel` its channel's number.

    `heads` holds the first words of each block, a row a packet (`store.blocks.heads`).
    """

    at: Positions
    channel: npt.NDArray[np.uint16]
    heads: Words


def joined(pieces: list[Packets]) -> Packets:
    """Return the packets of all pieces as one."""
    kept = [piece for piece in pieces if len(piece.at)] or pieces[:1]
    if len(kept) == 1:
        return kept[0]
    return Packets(
        np.concatenate([piece.at for piece in kept]),
        np.concatenate([piece.channel for piece in kept]),
        np.concatenate([piece.heads for piece in kept]),
    )


@dataclass(slots=True)
class TraceFile:
    """A mapped trace. `words` is the file as little-endian u32: every block is aligned to four bytes."""

    path: Path
    channels: list[ChannelInfo] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    foreign_packets: int = 0  # packets of other link types or other dissectors, left out
    content: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    mapped: mmap.mmap | bytes = b""  # the same bytes, for what reads single messages
    words: Words = field(default_factory=lambda: np.empty(0, np.uint32))
    scanned: int = 0  # in bytes: everything before is read
    damaged: bool = False  # something in it was no block: what is at `scanned`, or what was skipped
    skipped_bytes: int = 0  # how much of it lay between blocks
    finished: bool = False  # the recorder wrote its closing statistics
    _interfaces: array[int] = field(default_factory=lambda: array("i"))  # of this section: channel, -1 when foreign
    _block_words: int = 0  # length of a block, on average of the last ones
    _identity: tuple[int, int] | None = None  # device and inode
    _searched: int = 0  # in words: no block begins before, behind a damaged one

    @classmethod
    def open(cls, path: Path) -> TraceFile:
        """Map `path`. TraceFileError when it is missing, empty, or no pcapng of this byte order."""
        trace = cls(path)
        trace.remap()
        trace._check_start()
        return trace

    def remap(self) -> None:
        """Map the file again, at its size of now. TraceFileError when it is another file, or lost what was read."""
        try:
            # Without waiting for a writer: what is opened may be a pipe.
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                facts = os.fstat(file)
                if self._is_to_map(facts):
                    self._map(mmap.mmap(file, facts.st_size, access=mmap.ACCESS_READ))
            finally:
                os.close(file)
        except OSError as error:
            raise TraceFileError(f"cannot read {self.path}: {error.strerror}", "give the name of a trace") from error

    def _is_to_map(self, facts: os.stat_result) -> bool:
        identity = (facts.st_dev, facts.st_ino)
        if self._identity not in (None, identity) or facts.st_size < self.scanned:
            raise TraceFileError(f"{self.path} was written anew while it was open", "open it again")
        if stat.S_ISDIR(facts.st_mode):
            raise TraceFileError(f"{self.path} is a directory", "give the name of a trace")
        if not stat.S_ISREG(facts.st_mode):
            raise TraceFileError(f"{self.path} is no regular file", "save what comes out of it to a file first")
        if facts.st_size == 0:
            raise TraceFileError(f"{self.path} is empty", "was the recorder stopped before its first write?")
        self._identity = identity
        return facts.st_size != len(self.content)

    def _map(self, mapped: mmap.mmap) -> None:
        self.mapped = mapped
        self.content = np.frombuffer(mapped, dtype=np.uint8)
        self.words = np.frombuffer(mapped, dtype="<u4", count=len(mapped) // 4)

    @property
    def is_foreign(self) -> bool:
        """Whether the file is a capture of something else: it has interfaces, and none of them is ours."""
        return not self.channels and (bool(self.foreign_packets) or bool(self._interfaces))

    @property
    def unreadable_bytes(self) -> int:
        """How many bytes at the end are no whole block."""
        return len(self.content) - self.scanned

    # ---- what a scan found, kept for the next time -----------------------------------------------------------------

    def progress(self) -> dict[str, int | bool | list[int]]:
        """Return how far the file was scanned and what that told, beside channels and gaps."""
        return {**{name: getattr(self, name) for name in _PROGRESS}, "interfaces": self._interfaces.tolist()}

    def could_go_on_from(self, progress: object) -> bool:
        """Tell whether `progress` may be that of this file."""
        if not isinstance(progress, dict) or set(progress) != {*_PROGRESS, "interfaces"}:
            return False
        numbers = progress["interfaces"]
        is_sound = isinstance(numbers, list) and all(type(one) is int and -1 <= one < MAX_CHANNELS for one in numbers)
        is_sound &= all(type(progress[name]) is type(getattr(self, name)) for name in _PROGRESS)
        return is_sound and 0 <= progress["scanned"] <= len(self.content) and not progress["scanned"] % 4

    def go_on_from(self, progress: dict[str, Any]) -> None:
        """Take up what `progress` of the same content returned."""
        for name in _PROGRESS:
            setattr(self, name, progress[name])
        self._interfaces = array("i", progress["interfaces"])

    def are_packets(self, at: Positions) -> bool:
        """Tell whether packets of ours have their FUSE bytes at these bytes of the file."""
        starts = at - FUSE_AT
        if not len(starts) or int(starts.min()) < 0 or int(starts.max()) + FUSE_AT > len(self.content):
            return False
        tags = [self.content[start + TAGS_AT : start + TAGS_AT + len(TAGS)].tobytes() for start in starts.tolist()]
        return not (starts % 4).any() and tags == [TAGS] * len(tags)

    def _check_start(self) -> None:
        start = self.content[:4096].tobytes()
        kind = int.from_bytes(start[:4], "little")
        if len(start) < 12 and pcapng.SECTION_HEADER.to_bytes(4, "little").startswith(start[:4]):
            raise TraceFileError(f"{self.path} ends after {len(start)} bytes: nothing was recorded", "record again")
        if kind != pcapng.SECTION_HEADER:
            raise TraceFileError(f"{self.path} is not a pcapng file", _what_it_is(start))
        order = int.from_bytes(start[8:12], "little")
        if order == pcapng.BYTE_ORDER_SWAPPED:
            raise TraceFileError(
                f"{self.path} is a big-endian pcapng file", "rewrite it on a little-endian machine: editcap FILE NEW"
            )
        if order != pcapng.BYTE_ORDER_MAGIC:
            raise TraceFileError(f"{self.path} is damaged: its section header has no byte order", "record again")

    def scan(self) -> Packets:
        """Read the next blocks, at most SCAN_BLOCKS; no packets means that nothing whole is left."""
        while True:
            at = self._walk()
            packets = self._sort(at)
            if len(packets.at) or not len(at):
                return packets

    def _walk(self) -> Positions:
        """Find where blocks begin, from `scanned` on, believing only those whose two lengths agree."""
        found: list[Positions] = []
        at, left = self.scanned >> 2, SCAN_BLOCKS
        while left > 0:
            run, following = self._run(at, left)
            if len(run):
                self._block_words = (following - at) // len(run)
            found.append(run)
            left -= len(run)
            at, is_end = following, not len(run)
            if is_end:
                break
        self.scanned = at << 2
        return np.concatenate(found)

    def _run(self, at: int, limit: int) -> tuple[Positions, int]:
        """Return where some blocks from word `at` on begin, and where the last ends; none at the end of the file."""
        if self._block_words <= LONGEST_SEARCHED:
            run = packets_from(self.words, at, limit)
            if len(run):
                last = int(run[-1])
                return run, last + (int(self.words[last + 1]) >> 2)
        return self._follow(at, min(limit, STEPS))

    def _follow(self, at: int, limit: int) -> tuple[Positions, int]:
        """Go from block to block by their lengths, past damage."""
        words = self.words.data
        found = array("q")
        end = len(words)
        for _ in range(limit):
            if at + 3 > end:
                break
            total = words[at + 1]
            following = at + (total >> 2)
            sound = MIN_BLOCK <= total <= MAX_BLOCK and not total & 3
            if sound and following > end:
                break
            if sound and words[following - 1] == total:
                found.append(at)
                at = following
            elif (following := self._behind_damage(at)) < end:
                self.skipped_bytes += following - at << 2
                at = following
            else:
                break
        return np.frombuffer(found, dtype=np.int64) if found else np.empty(0, np.int64), at

    def _behind_damage(self, at: int) -> int:
        """Return where the next certain block begins, in words; the end of the file when there is none."""
        self.damaged = True
        words, start, window = self.words, max(at + 1, self._searched), SEARCH_WORDS
        while start < len(words):
            piece = words[start : start + window]
            for candidate in (np.flatnonzero(np.isin(piece, _SEARCHED_KINDS)) + start).tolist():
                if self._is_block(candidate):
                    return int(candidate)
            start, window = start + window, window * 2
        self._searched = max(at + 1, len(words) - SEARCH_WORDS)  # a block may have been written in part
        return len(words)

    def _is_block(self, at: int) -> bool:
        words = self.words.data
        if at + 4 > len(words):
            return False
        total = words[at + 1]
        end = at + (total >> 2)
        if not MIN_BLOCK < total <= MAX_BLOCK or total & 3 or end > len(words) or words[end - 1] != total:
            return False
        return words[at] != pcapng.SECTION_HEADER or words[at + 2] == pcapng.BYTE_ORDER_MAGIC

    def _sort(self, at: Positions) -> Packets:
        """Take out the packets; read everything else in its place, since interfaces come before their packets."""
        rows = heads(self.words, at)
        others = np.flatnonzero(rows[:, KIND] != pcapng.ENHANCED_PACKET)
        pieces: list[Packets] = []
        start = 0
        for index in others.tolist():
            if start < index:
                pieces.append(self._packets(at[start:index], rows[start:index]))
            self._other(int(rows[index, KIND]), int(at[index]))
            start = index + 1
        pieces.append(self._packets(at[start:], rows[start:]))
        return joined(pieces)

    def _packets(self, at: Positions, rows: Words) -> Packets:
        """Check that packets are ours: their interface, their tags, a prefix we know, lengths that fit their block."""
        length, number, kept = rows[:, LENGTH], rows[:, INTERFACE], rows[:, CAPTURED]
        # 28 bytes of header and 4 of trailer around the packet. What a shorter block reads is of the next one.
        ours = (number < len(self._interfaces)) & (kept >= OVERHEAD) & (length >= FUSE_AT + 4) & (kept <= length - 32)
        for offset, word in enumerate(_TAG_WORDS, TAGS_AT // 4):
            ours &= rows[:, offset] == word
        channels = np.full(len(at), -1, np.int32)
        if ours.any():
            channels[ours] = np.frombuffer(self._interfaces, dtype=np.int32)[number[ours]]
        ours = channels >= 0
        if not ours.all():
            self.foreign_packets += len(at) - int(ours.sum())
            at, rows, channels = at[ours], rows[ours], channels[ours]
        if len(at):
            self._check_versions(rows[:, PREFIX_AT // 4])
        return Packets(at, channels.astype(np.uint16), rows)

    def _check_versions(self, first_words: Words) -> None:
        newest = int((first_words & 0xFF).max())
        if newest > PREFIX_VERSION:
            raise TraceFileError(
                f"{self.path} was made by a newer fusewire (record format {newest}, this one reads {PREFIX_VERSION})",
                "update fusewire",
            )
        if (((first_words >> 8) & 0xFF) != PREFIX_SIZE).any():
            raise TraceFileError(f"{self.path} has records whose prefix is not {PREFIX_SIZE} bytes", "record it again")

    def _other(self, kind: int, at: int) -> None:
        if kind not in _DESCRIPTIONS:
            return
        # No more than any writer says about an interface: a hostile block may be a gigabyte long.
        total = min(int(self.words[at + 1]), MAX_DESCRIPTION)
        content = self.content[(at << 2) + 8 : (at << 2) + total - 4].tobytes()
        if kind == pcapng.SECTION_HEADER:
            if content[:4] != struct.pack("<I", pcapng.BYTE_ORDER_MAGIC):
                raise TraceFileError(f"{self.path} continues in another byte order", "open the parts one by one")
            self._interfaces = array("i")
        elif kind == pcapng.INTERFACE_DESCRIPTION:
            self._interface(content)
        elif kind == pcapng.INTERFACE_STATISTICS and len(content) >= 12:
            self._statistics(content)

    def _interface(self, content: bytes) -> None:
        link_type = int.from_bytes(content[:2], "little")
        found = list(pcapng.options(content[8:]))
        values = dict(found)
        if link_type != LINKTYPE_UPPER_PDU or values.get(pcapng.IF_TSRESOL, b"\x06") != b"\x09":
            self._interfaces.append(-1)
            return
        if len(self.channels) == MAX_CHANNELS:
            raise TraceFileError(f"{self.path} has more than {MAX_CHANNELS} channels", "split it with editcap")
        name = values.get(pcapng.IF_NAME, b"").decode("utf-8", "surrogateescape")
        comments = [value for code, value in found if code == pcapng.OPT_COMMENT]
        self._interfaces.append(len(self.channels))
        self.channels.append(read_channel(name, comments))

    def _statistics(self, content: bytes) -> None:
        number, high, low = struct.unpack_from("<III", content)
        comments = [value for code, value in pcapng.options(content[12:]) if code == pcapng.OPT_COMMENT]
        channel = self._interfaces[number] if number < len(self._interfaces) else -1
        gap = read_gap(channel, high << 32 | low, comments)
        if gap is not None:
            self.gaps.append(gap)
        elif b"end of capture" in comments:
            self.finished = True


def _what_it_is(start: bytes) -> str:
    """Guess what somebody tried to open, and say what to do with it."""
    if start[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"M<\xb2\xa1", b"\xa1\xb2<M"):
        return "it is an old pcap file: convert it with editcap -F pcapng"
    if start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh")):
        return "it is compressed: unpack it first"
    if not any(byte < 32 and byte not in b"\t\n\r\x1b" for byte in start):
        return "it is text: for a log of strace, use fusewire import"
    return "fusewire opens what fusewire record or fusewire import wrote"
