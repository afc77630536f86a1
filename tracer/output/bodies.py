"""Bodies as JSON text, many at once: messages of one kind share a struct, a template and their checks.

Only what is laid out exactly as declared is read here: whole messages, and those cut inside their file content or their
directory entries. For any other the caller gets None and takes the careful way (`Trace.fast_values`, then
`Trace.message`).
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable, Iterable
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

Heads = Iterable[tuple[Any, ...]]
Mapped = mmap | bytes
Spans = tuple[list[int], list[int], list[int]]  # where bodies begin, where what was kept of them ends, bytes sent
_ANSWERED = CodeSet(op.code for op in OPS.values() if op.answer is not Answer.NEVER)
EXTENSION_WORD = 36 // 4  # of fuse_in_header: its lower half is total_extlen
LONG_HEAD = 10  # integers from which a head is kept with its text: attributes, which are told again and again
MAX_HEADS = 1 << 12  # of one shape that are kept: about 4 MB
MAX_TEXTS = 1 << 14  # of any other values that are kept
MAX_TEXT = 2048  # bytes of a text that is kept


class Texts(dict[Any, bytes]):
    """Values in their JSON form: the same few come again and again. At most `limit` are kept, and no long ones."""

    def __init__(self, encode: Callable[[Any], bytes], limit: int = MAX_TEXTS) -> None:
        super().__init__()
        self._encode, self._limit = encode, limit

    def __missing__(self, value: Any) -> bytes:
        if len(self) >= self._limit:
            self.clear()
        found = self._encode(value)
        if len(found) <= MAX_TEXT:
            self[value] = found
        return found


@dataclass(frozen=True, slots=True)
class _Shape:
    """How to read the bodies of one opcode in one direction: a head of integers, and at most one field after it."""

    head: Block
    tail: Field | None
    template: bytes
    counter: int  # place in the head of the integer that says how long the field after it is; -1 when none does
    known: Texts  # whole heads and their JSON form

    def read(self, trace: Trace, starts: Rows, spans: Spans) -> list[bytes | None]:
        """Return the bodies at `spans`, which begin at `starts`; None for one that is not as declared."""
        size, template, tail = self.head.size, self.template, self.tail
        if not size and tail is None:
            return [template] * len(starts)
        joined = gather(trace.file.content, starts, size) if size else b""
        if tail is not None:
            heads = self.head.unpack_joined(joined) if size else repeat((), len(starts))
            found = self._names if tail.kind is FieldKind.NAME or is_name(tail) else self._payloads
            return found(trace.file.mapped, heads, spans, tail)
        if len(self.head.names) < LONG_HEAD:
            return [template % head for head in self.head.unpack_joined(joined)]
        known = self.known
        return [known[joined[at : at + size]] for at in range(0, len(joined), size)]

    def _names(self, mapped: Mapped, heads: Heads, spans: Spans, tail: Field) -> list[bytes | None]:
        template, size, is_string, counter = self.template, self.head.size, tail.kind is FieldKind.NAME, self.counter
        found: list[bytes | None] = []
        add, texts = found.append, _TEXTS
        for head, start, end, sent in zip(heads, *spans, strict=True):
            raw = mapped[start + size : end]
            if is_string:
                # The first NUL ends it, and the body; one that was cut is decoded with care.
                is_whole = raw.find(b"\0") == len(raw) - 1 and end - start == sent
                add(template % (*head, texts[raw[:-1]]) if is_whole else None)
            else:
                add(template % (*head, texts[raw]) if counter < 0 or head[counter] == sent - size else None)
        return found

    def _payloads(self, mapped: Mapped, heads: Heads, spans: Spans, _: Field) -> list[bytes | None]:
        template, size, counter = self.template, self.head.size, self.counter
        found: list[bytes | None] = []
        add = found.append
        for head, start, end, sent in zip(heads, *spans, strict=True):
            begin = start + size
            is_sound = counter < 0 or head[counter] == sent - size
            add(template % (*head, end - begin, hexlify(mapped[begin:end])) if is_sound else None)
        return found


@dataclass(frozen=True, slots=True)
class _Listing:
    """How to read replies that are records up to the end, each a head of integers and a name."""

    field: Field
    head: Block
    name: Field
    template: bytes

    def read(self, trace: Trace, _: Rows, spans: Spans) -> list[bytes | None]:
        """Return the listings at `spans`; of one that was cut the records that are whole."""
        mapped = trace.file.mapped
        return [self._listing(mapped[start:end], sent) for start, end, sent in zip(*spans, strict=True)]

    def _listing(self, blob: bytes, sent: int) -> bytes | None:
        size, align, template, unpack = self.head.size, self.field.align, self.template, self.head.unpack
        counter, kept, texts = self.head.names.index(self.name.size_from), len(blob), _TEXTS
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
            records.append(template % (*head, texts[blob[at + size : end]]))
            at = following
        return b'{"%b":[%b]}' % (self.field.name.encode(), b",".join(records))


def _text(raw: bytes) -> bytes:
    return orjson.dumps(escape(raw, len(raw)))


_TEXTS = Texts(_text)


def _template(names: tuple[str, ...], tail: Field | None) -> bytes:
    members = [f'"{name}":%d' for name in names]
    if tail is not None:
        members.append(f'"{tail.name}":' + ("%b" if is_name(tail) else '{"bytes":%d,"hex":"%b"}'))
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
    template = _template(head.names, tail)
    counter = head.names.index(tail.size_from) if tail is not None and tail.size_from else -1
    return _Shape(head, tail, template, counter, Texts(lambda raw: template % head.unpack(raw, 0), MAX_HEADS))


def read_bodies(trace: Trace, rows: Rows) -> list[bytes | None]:
    """Return the JSON text of each request's and reply's body in `rows`; None where it has to be decoded with care.

    A negative row stands for no record, and has none.
    """
    found: list[bytes | None] = [None] * len(rows)
    table = trace.records
    is_there, rows = rows >= 0, np.maximum(rows, 0)
    is_reply, opcodes = table["kind"][rows] == Kind.REPLY, table["opcode"][rows]
    is_plain = is_there & _is_sound(trace, rows, is_reply)
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
    for place, body in zip(chosen.tolist(), shape.read(trace, starts, spans), strict=True):
        found[place] = body
