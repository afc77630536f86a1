"""Bodies as JSON text, many at once: messages of one kind share a struct, a template and their checks.

Only what is laid out exactly as declared is read here, whole or cut inside its file content; for any other message the
caller gets None and takes the careful way (`Trace.fast_values`, then `Trace.message`). Both give the same text.
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

from dissectors.columns import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE
from dissectors.errnos import MAX_ERRNO
from dissectors.fields import Field
from dissectors.fields import Kind as FieldKind
from dissectors.layout import Context, agreed_layout, is_undecided
from dissectors.opcodes import OPS
from dissectors.steps import Block
from dissectors.text import escape, is_name
from tracer.trace.columns import BIG_ENDIAN, Array, Kind, Rows, distinct
from tracer.trace.trace import Trace

Heads = Iterator[tuple[Any, ...]]
Spans = tuple[list[int], list[int], list[int]]  # where bodies begin, where what was kept of them ends, bytes sent
EXTENSION_WORD = 36 // 4  # of fuse_in_header: its lower half is total_extlen


@dataclass(frozen=True, slots=True)
class _Shape:
    """How to read the bodies of one opcode in one direction: a head of integers, and at most one field after it."""

    head: Block
    tail: Field | None
    template: bytes

    def read(self, mapped: mmap | bytes, spans: Spans) -> list[bytes | None]:
        """Return the bodies at `spans`, of which all heads are whole; None for one that is not as declared."""
        heads, template = map(self.head.unpack, repeat(mapped), spans[0]), self.template
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


def _text(raw: bytes) -> bytes:
    return orjson.dumps(escape(raw, len(raw)))


def _payload(raw: bytes) -> bytes:
    return b'{"bytes":%d,"hex":"%b"}' % (len(raw), hexlify(raw))


@lru_cache(1024)
def _shape(code: int, is_reply: bool, context: Context) -> _Shape | None:
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
    if tail is not None and (tail.kind not in (FieldKind.NAME, FieldKind.DATA) or tail.when is not None):
        return None
    head = Block(layout.head, layout.order)
    members = [f'"{name}":%d' for name in head.names] + ([f'"{tail.name}":%b'] if tail is not None else [])
    return _Shape(head, tail, f"{{{','.join(members)}}}".encode())


def read_bodies(trace: Trace, rows: Rows) -> list[bytes | None]:
    """Return the JSON text of each request's and reply's body in `rows`; None where it has to be decoded with care."""
    found: list[bytes | None] = [None] * len(rows)
    table = trace.records
    is_reply, opcodes = table["kind"][rows] == Kind.REPLY, table["opcode"][rows]
    is_plain = _is_sound(trace, rows, is_reply)
    error = table["error"][rows]
    is_error = is_reply & (error < 0) & (error >= -MAX_ERRNO) & (table["wire_len"][rows] == REPLY_HEADER_SIZE)
    is_error &= table["mate"][rows] >= 0
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


def _read(trace: Trace, shape: _Shape, rows: Rows, chosen: Rows, found: list[bytes | None]) -> None:
    table, own = trace.records, rows[chosen]
    header = np.where(table["kind"][own] == Kind.REPLY, REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE)
    starts = table["at"][own] + header
    kept, sent = table["kept"][own] - header, table["wire_len"][own] - header
    size = shape.head.size
    fits = (kept == sent) & (sent == size) if shape.tail is None else (kept >= size) & (kept <= sent)
    if not fits.all():
        chosen, starts, kept, sent = chosen[fits], starts[fits], kept[fits], sent[fits]
    bodies = shape.read(trace.file.mapped, (starts.tolist(), (starts + kept).tolist(), sent.tolist()))
    for place, body in zip(chosen.tolist(), bodies, strict=True):
        found[place] = body
