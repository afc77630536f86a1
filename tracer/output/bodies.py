"""Bodies as JSON text, many at once: messages of one kind share a struct, a template and their checks.

Only what is laid out exactly as declared is read here: whole messages, and those cut inside their file content or their
directory entries. For any other the caller gets None and takes the careful way (`Trace.fast_values`, then
`Trace.message`).
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from mmap import mmap
from typing import Any

import numpy as np
import orjson

from dissectors.columns import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE, gather
from dissectors.errnos import MAX_ERRNO
from dissectors.fields import MAX_ELEMENTS, Field
from dissectors.fields import Kind as FieldKind
from dissectors.layout import Context, agreed_layout, is_undecided
from dissectors.opcodes import OPS, Answer
from dissectors.steps import Block
from dissectors.text import escape, is_name
from tracer.trace.columns import BIG_ENDIAN, Array, CodeSet, Kind, Rows, distinct
from tracer.trace.trace import Trace

Heads = Iterator[tuple[Any, ...]]
Spans = tuple[list[int], list[int], list[int]]  # where bodies begin, where what was kept of them ends, bytes sent
_ANSWERED = CodeSet(op.code for op in OPS.values() if op.answer is not Answer.NEVER)
EXTENSION_WORD = 36 // 4  # of fuse_in_header: its lower half is total_extlen


@dataclass(frozen=True, slots=True)
class _Shape:
    """How to read the bodies of one opcode in one direction: a head of integers, and at most one field after it."""

    head: Block
    tail: Field | None
    template: bytes

    def read(self, mapped: mmap | bytes, heads: Heads, spans: Spans) -> list[bytes | None]:
        """Return the bodies at `spans`; None for one that is not as declared."""
        template = self.template
        if self.tail is None:
            return [template % head for head in heads]
        return list(self._with_tail(mapped, heads, spans, self.tail))

    def _with_tail(self, mapped: mmap | bytes, heads: Heads, spans: Spans, tail: Field) -> Iterator[bytes | None]:
        template, size, is_string = self.template, self.head.size, tail.kind is FieldKind.NAME
        encode: Callable[[bytes], bytes] = _text if is_name(tail) else _payload
        counter = self.head.names.index(tail.size_from) if tail.size_from else -1
        for head, start, end, sent in zip(heads, *spans, strict=True):
            raw = mapped[start + size : end]
            if is_string:
                if raw.find(b"\0") != len(raw) - 1 or end - start != sent:
                    yield None
                    continue
                raw = raw[:-1]
            elif counter >= 0 and head[counter] != sent - size:
                yield None
                continue
            yield template % (*head, encode(raw))


@dataclass(frozen=True, slots=True)
class _Listing:
    """How to read replies that are records up to the end, each a head of integers and a name."""

    field: Field
    head: Block
    name: Field
    template: bytes

    def read(self, mapped: mmap | bytes, spans: Spans) -> list[bytes | None]:
        """Return the listings at `spans`; of one that was cut the records that are whole."""
        return [self._listing(mapped[start:end], sent) for start, end, sent in zip(*spans, strict=True)]

    def _listing(self, blob: bytes, sent: int) -> bytes | None:
        size, align, template, unpack = self.head.size, self.field.align, self.template, self.head.unpack
        counter, kept = self.head.names.index(self.name.size_from), len(blob)
        records: list[bytes] = []
        at = 0
        while at < sent:
            if at + size > kept:
                if kept == sent:
                    return None
                break
            head = unpack(blob, at)
            end = at + size + head[counter]
            following = end + (at - end) % align
            if following > sent or len(records) == MAX_ELEMENTS:
                return None
            if end > kept:
                break
            records.append(template % (*head, _text(blob[at + size : end])))
            at = following
        return b'{"%b":[%b]}' % (self.field.name.encode(), b",".join(records))


def _text(raw: bytes) -> bytes:
    return orjson.dumps(escape(raw, len(raw)))


def _payload(raw: bytes) -> bytes:
    return b'{"bytes":%d,"hex":"%b"}' % (len(raw), hexlify(raw))


def _template(names: tuple[str, ...], tail: Field | None) -> bytes:
    members = [f'"{name}":%d' for name in names] + ([f'"{tail.name}":%b'] if tail is not None else [])
    return f"{{{','.join(members)}}}".encode()


def _listing_shape(field: Field, order: str) -> _Listing | None:
    *head, name = field.record
    is_plain = all(member.kind.is_integer for member in head) and name.kind is FieldKind.DATA and is_name(name)
    if field.count_from or not is_plain:
        return None
    block = Block(head, order)
    return _Listing(field, block, name, _template(block.names, name))


@lru_cache(1024)
def _shape(code: int, is_reply: bool, context: Context) -> _Shape | _Listing | None:
    """Return how the bodies of an opcode are read together; None when each has to be looked at."""
    op = OPS[code]
    fields = op.reply if is_reply else op.request
    if not isinstance(fields, tuple) or is_undecided(fields, context):
        return None
    layout = agreed_layout(fields, context)
    shown = [field for field in layout.head if not field.hidden]
    if len(layout.tail) > 1 or not all(field.kind.is_integer for field in shown):
        return None
    tail = layout.tail[0] if layout.tail else None
    if tail is not None and tail.kind is FieldKind.RECORDS and not layout.head:
        return _listing_shape(tail, layout.order)
    if tail is not None and (tail.kind not in (FieldKind.NAME, FieldKind.DATA) or tail.when is not None):
        return None
    head = Block(layout.head, layout.order)
    return _Shape(head, tail, _template(head.names, tail))


def read_bodies(trace: Trace, rows: Rows) -> list[bytes | None]:
    """Return the JSON text of each request's and reply's body in `rows`; None where it has to be decoded with care."""
    found: list[bytes | None] = [None] * len(rows)
    table = trace.records
    is_reply, opcodes = table["kind"][rows] == Kind.REPLY, table["opcode"][rows]
    is_plain = _is_sound(trace, rows, is_reply)
    error = table["error"][rows]
    is_error = is_reply & (error < 0) & (error >= -MAX_ERRNO) & (table["wire_len"][rows] == REPLY_HEADER_SIZE)
    is_error &= (table["mate"][rows] >= 0) & _ANSWERED.holds(opcodes)
    for place in np.flatnonzero(is_plain & is_error).tolist():
        found[place] = b"{}"
    is_plain &= ~is_reply | ((error == 0) & (table["mate"][rows] >= 0))
    for places, context in trace.stretches(rows):
        own = places[is_plain[places]]
        for code in distinct(opcodes[own]):
            if code not in OPS:
                continue
            same = own[opcodes[own] == code]
            for chosen, side in ((same[~is_reply[same]], False), (same[is_reply[same]], True)):
                shape = _shape(code, side, context)
                if shape is not None and len(chosen):
                    _read(trace, shape, rows, chosen, found)
    return found


def _is_sound(trace: Trace, rows: Rows, is_reply: Array) -> Array:
    """Tell which messages have whole little-endian headers that say their true length, and no extension area."""
    table, words = trace.records, trace.file.words
    at = table["at"][rows] >> 2
    header = np.where(is_reply, REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE)
    is_sound: Array = (table["kind"][rows] != Kind.NOTIFICATION) & (table["bits"][rows] & BIG_ENDIAN == 0)
    is_sound &= table["kept"][rows] >= header
    at = np.where(is_sound, at, 0)
    is_sound &= words[at] == table["wire_len"][rows]
    requests = np.where(is_reply, 0, at + EXTENSION_WORD)
    is_sound &= is_reply | (words[requests] & 0xFFFF == 0)
    return is_sound


def _read(trace: Trace, shape: _Shape | _Listing, rows: Rows, chosen: Rows, found: list[bytes | None]) -> None:
    table, own = trace.records, rows[chosen]
    header = np.where(table["kind"][own] == Kind.REPLY, REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE)
    starts = table["at"][own] + header
    kept, sent = table["kept"][own] - header, table["wire_len"][own] - header
    if isinstance(shape, _Listing):
        fits = kept <= sent
    elif shape.tail is None:
        fits = (kept == sent) & (sent == shape.head.size)
    else:
        fits = (kept >= shape.head.size) & (kept <= sent)
    if not fits.all():
        chosen, starts, kept, sent = chosen[fits], starts[fits], kept[fits], sent[fits]
    spans = starts.tolist(), (starts + kept).tolist(), sent.tolist()
    if isinstance(shape, _Listing):
        bodies = shape.read(trace.file.mapped, spans)
    elif shape.head.size:
        joined = gather(trace.file.content, starts, shape.head.size)
        bodies = shape.read(trace.file.mapped, shape.head.unpack_joined(joined), spans)
    else:
        bodies = shape.read(trace.file.mapped, repeat((), len(starts)), spans)
    for place, body in zip(chosen.tolist(), bodies, strict=True):
        found[place] = body
