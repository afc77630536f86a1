"""What the state pass needs of the bodies of many messages, read for all of one kind at once.

Integers are gathered as columns, names are cut out where the declaration says they lie. Only messages laid out exactly
as declared, whole or cut by the capture, are read here; any other is left to the careful decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from mmap import mmap
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dissectors.columns import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE, field_column, has_field, head_layouts
from dissectors.fields import MAX_ELEMENTS, Field
from dissectors.fields import Kind as FieldKind
from dissectors.flags import ATTR_SUBMOUNT
from dissectors.layout import Context, Layout, agreed_layout, compile_layout
from dissectors.message import MessageKind
from dissectors.opcodes import NEWEST_MINOR, OPS, OPS_BY_NAME, Op
from tracer.trace.columns import BIG_ENDIAN, Array, Rows, Table

Mask = npt.NDArray[np.bool_]
Entry = tuple[bytes, int, bool]  # name, nodeid, whether it is a submount's root
EXTENSION_WORD = 36 // 4  # of fuse_in_header: its lower half is total_extlen

ENTRY_OPS = tuple(
    OPS_BY_NAME[name].code for name in ("LOOKUP", "SYMLINK", "MKNOD", "MKDIR", "LINK", "CREATE", "TMPFILE")
)
REMOVALS = (OPS_BY_NAME["UNLINK"].code, OPS_BY_NAME["RMDIR"].code)
RENAMES = (OPS_BY_NAME["RENAME"].code, OPS_BY_NAME["RENAME2"].code)
READDIRPLUS, FORGET = OPS_BY_NAME["READDIRPLUS"].code, OPS_BY_NAME["FORGET"].code


class Source(Protocol):
    """The mapped file as arrays, and as what single messages are cut out of."""

    content: npt.NDArray[np.uint8]
    words: npt.NDArray[np.uint32]
    mapped: mmap | bytes


@dataclass(slots=True)
class Read:
    """What was read, an element a message. Not `is_plain`: to be decoded with care, the rest says nothing."""

    is_plain: Mask
    nodeid: Array  # of an entry that was given out; the new directory of a RENAME; nlookup of a FORGET
    flags: Array  # of the attributes of an entry, or of a RENAME2
    names: Array  # objects: a name, several, or entries of a directory

    @classmethod
    def nothing(cls, count: int) -> Read:
        """Return room for `count` messages, of which nothing is known."""
        names = np.full(count, b"", dtype=object)
        return cls(np.zeros(count, np.bool_), np.zeros(count, np.uint64), np.zeros(count, np.int64), names)

    def put(self, places: Rows, other: Read) -> None:
        """Put what was read of some messages in its place."""
        self.is_plain[places], self.nodeid[places] = other.is_plain, other.nodeid
        self.flags[places], self.names[places] = other.flags, other.names


@dataclass(frozen=True, slots=True)
class _Spans:
    """Where bodies begin, how many bytes of each were kept, how many were sent; whether the header is as it must be."""

    starts: Rows
    kept: Rows
    sent: Rows
    is_sound: Mask

    def __getitem__(self, chosen: Array) -> _Spans:
        return _Spans(self.starts[chosen], self.kept[chosen], self.sent[chosen], self.is_sound[chosen])


class BodyReader:
    """Reads bodies of one table's records; `source` is asked anew each time, since a growing file is mapped anew."""

    def __init__(self, table: Table, source: Callable[[], Source]) -> None:
        self._table, self._source = table, source
        self._readers: dict[int, Callable[[Op, Rows, Context], Read]] = {
            **dict.fromkeys(ENTRY_OPS, self._entries),
            **dict.fromkeys(REMOVALS, self._removals),
            **dict.fromkeys(RENAMES, self._renames),
            READDIRPLUS: self._listings,
            FORGET: self._forgets,
        }

    def read(self, rows: Rows, stretches: Iterable[tuple[Rows, Context]]) -> Read:
        """Read the bodies that the events `rows` are about; `stretches`: places in `rows`, and what was agreed on."""
        opcodes = self._table["opcode"][rows]
        found = Read.nothing(len(rows))
        for places, context in stretches:
            own = opcodes[places]
            for code in self._readers:
                chosen = places[own == code]
                if len(chosen):
                    found.put(chosen, self._readers[code](OPS[code], rows[chosen], context))
        return found

    # ---- one kind of event -----------------------------------------------------------------------------------------

    def _entries(self, op: Op, rows: Rows, context: Context) -> Read:
        """Read replies that give out a node, and the name it was asked for by."""
        found = Read.nothing(len(rows))
        replies = self._spans(rows, REPLY_HEADER_SIZE)
        found.is_plain = replies.is_sound
        self._heads(op, MessageKind.REPLY, context, replies, found, nodeid="nodeid", flags="attr.flags")
        named = np.flatnonzero(found.is_plain & (found.nodeid != 0))
        asked = self._names(op, self._table["mate"][rows[named]].astype(np.int64), context)
        found.is_plain[named], found.names[named] = asked.is_plain, asked.names
        for place in named[asked.is_plain].tolist() if len(op.request) > 1 else ():
            if isinstance(found.names[place], tuple):  # SYMLINK tells the target as well
                found.names[place] = found.names[place][0]
        return found

    def _removals(self, op: Op, rows: Rows, context: Context) -> Read:
        return self._names(op, self._table["mate"][rows].astype(np.int64), context)

    def _renames(self, op: Op, rows: Rows, context: Context) -> Read:
        requests = self._table["mate"][rows].astype(np.int64)
        found = self._names(op, requests, context)
        spans = self._spans(requests, REQUEST_HEADER_SIZE)
        self._heads(op, MessageKind.REQUEST, context, spans, found, nodeid="newdir", flags="flags")
        return found

    def _forgets(self, op: Op, rows: Rows, context: Context) -> Read:
        found = Read.nothing(len(rows))
        spans = self._spans(rows, REQUEST_HEADER_SIZE)
        found.is_plain = spans.is_sound & (spans.kept >= spans.sent)
        self._heads(op, MessageKind.REQUEST, context, spans, found, nodeid="nlookup")
        return found

    def _listings(self, op: Op, rows: Rows, context: Context) -> Read:
        found = Read.nothing(len(rows))
        spans = self._spans(rows, REPLY_HEADER_SIZE)
        record, mapped = _record_of(op), self._source().mapped
        for place in np.flatnonzero(spans.is_sound).tolist():
            start = int(spans.starts[place])
            blob = mapped[start : start + int(spans.kept[place])]
            entries = record.entries(blob, int(spans.sent[place]))
            if entries is not None:
                found.is_plain[place], found.names[place] = True, entries
        return found

    # ---- parts of bodies -------------------------------------------------------------------------------------------

    def _spans(self, rows: Rows, header: int) -> _Spans:
        """Return where the bodies of messages lie. Sound headers tell the length that was on the wire."""
        table, words = self._table, self._source().words
        kept, sent = table["kept"][rows].astype(np.int64), table["wire_len"][rows].astype(np.int64)
        at = table["at"][rows]
        is_sound = ((table["bits"][rows] & BIG_ENDIAN) == 0) & (kept >= 4)
        is_sound &= words[at >> 2] == sent
        if header == REQUEST_HEADER_SIZE:
            whole = kept >= header
            extension = words[np.where(whole, (at >> 2) + EXTENSION_WORD, 0)] & 0xFFFF
            is_sound &= ~whole | (extension == 0)
        return _Spans(at + header, np.maximum(kept - header, 0), sent - header, is_sound)

    def _heads(
        self, op: Op, kind: MessageKind, context: Context, spans: _Spans, found: Read, *, nodeid: str, flags: str = ""
    ) -> None:
        """Gather integers; bodies of a length that no layout has are not plain. What was cut off counts as 0."""
        has_layout = np.zeros(len(spans.sent), np.bool_)
        for group in head_layouts(op, kind, context):
            chosen = spans.sent >= group.shortest
            if group.longest is not None:
                chosen &= spans.sent <= group.longest
            has_layout |= chosen
            places = np.flatnonzero(chosen)
            if len(places):
                self._gather(group.layout, spans[places], nodeid, found.nodeid, places)
                self._gather(group.layout, spans[places], flags, found.flags, places)
        found.is_plain &= has_layout

    def _gather(self, layout: Layout, spans: _Spans, name: str, into: Array, places: Rows) -> None:
        if has_field(layout, name):
            content = self._source().content
            into[places] = field_column(content, spans.starts, spans.kept, layout, name)[1]

    def _names(self, op: Op, requests: Rows, context: Context) -> Read:
        """Cut the names out of requests that end in names; of a single one that was cut nothing: it is another name."""
        found = Read.nothing(len(requests))
        layout = agreed_layout(op.request, context)
        count = len(layout.tail)
        if not all(field.kind is FieldKind.NAME for field in layout.tail):
            return found
        spans = self._spans(requests, REQUEST_HEADER_SIZE)
        is_whole = spans.kept == spans.sent
        found.is_plain = spans.is_sound & (spans.sent > layout.head_size) & (is_whole | (count == 1))
        whole = np.flatnonzero(found.is_plain & is_whole)
        starts = (spans.starts[whole] + layout.head_size).tolist()
        ends = (spans.starts[whole] + spans.sent[whole]).tolist()
        cut = _one_name if count == 1 else _several_names
        names = list(cut(self._source().mapped, starts, ends, count))
        found.names[whole] = np.fromiter(names, dtype=object, count=len(names))
        found.is_plain[whole] = [name is not None for name in names]
        return found


def _one_name(mapped: mmap | bytes, starts: list[int], ends: list[int], _: int) -> Iterator[bytes | None]:
    """Yield names that end in the only NUL of their span, None for any other."""
    for start, end in zip(starts, ends, strict=True):
        name = mapped[start:end]
        yield name[:-1] if name.find(b"\0") == end - start - 1 else None


def _several_names(
    mapped: mmap | bytes, starts: list[int], ends: list[int], count: int
) -> Iterator[tuple[bytes, ...] | None]:
    for start, end in zip(starts, ends, strict=True):
        *names, rest = mapped[start:end].split(b"\0")
        yield tuple(names) if len(names) == count and not rest else None


class _EntryRecord:
    """One entry of READDIRPLUS as a struct that reads only what is asked for, compiled from the declaration."""

    def __init__(self, records: Field) -> None:
        layout = compile_layout(records.record, NEWEST_MINOR, frozenset(), "<")
        places = {field.name: (at, field) for at, field in zip(layout.offsets(), layout.head, strict=True)}
        self._size, self._align = layout.head_size, records.align
        wanted = [places[name] for name in ("nodeid", "attr.flags", "dirent.namelen")]
        self._unpack = _picking(wanted, layout.head_size).unpack_from
        self._ends = [at + field.size for at, field in wanted]

    def entries(self, blob: bytes, sent: int) -> list[Entry] | None:
        """Return the nodes a listing of `sent` bytes gives out, as far as it was kept; None when it is malformed."""
        found: list[Entry] = []
        at, kept, size, unpack = 0, len(blob), self._size, self._unpack
        while at < sent:
            if at + size > kept:
                if kept >= sent:
                    return None
                found += self._part(blob[at:])
                break
            nodeid, flags, name_length = unpack(blob, at)
            end = at + size + name_length
            name = blob[at + size : end] if end <= kept else b""  # a part of a name is another name
            at = end + (at - end) % self._align
            if at > sent or len(found) > MAX_ELEMENTS:
                return None
            if nodeid and name not in (b".", b".."):  # 0: without attributes; dots are never counted
                found.append((name, nodeid, bool(flags & ATTR_SUBMOUNT)))
        return found

    def _part(self, blob: bytes) -> list[Entry]:
        """Return the entry in which the capture ended, when its node is there."""
        nodeid, flags, _ = self._unpack(blob.ljust(self._size, b"\0"))
        has_nodeid, has_flags = len(blob) >= self._ends[0], len(blob) >= self._ends[1]
        return [(b"", nodeid, bool(has_flags and flags & ATTR_SUBMOUNT))] if has_nodeid and nodeid else []


def _picking(wanted: list[tuple[int, Field]], size: int) -> struct.Struct:
    """Return a little-endian struct of `size` bytes that reads some fields and skips the rest."""
    codes, at = "<", 0
    for offset, field in wanted:
        codes += f"{offset - at}x{field.code}"
        at = offset + field.size
    return struct.Struct(codes + f"{size - at}x")


@cache
def _record_of(op: Op) -> _EntryRecord:
    assert isinstance(op.reply, tuple)
    return _EntryRecord(op.reply[-1])
