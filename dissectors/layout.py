"""From declared fields to the way they lie on the wire in one session.

Which fields are present depends on the minor agreed in INIT and, for SETXATTR alone, on an INIT flag. Where nothing in
a body varies, its length says the same, and is believed first: kernels and servers differ in what they shorten.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from itertools import takewhile

from dissectors.fields import Field
from dissectors.flags import init_flag
from dissectors.opcodes import NEWEST_MINOR, Op

# A capture that began after INIT: every kernel since 5.2 (2019) speaks at least 7.31 (fuse.h changelog).
ASSUMED_MINOR = 31


@dataclass(frozen=True, slots=True)
class Context:
    """What a session agreed on, as far as it is known. `minor` None: INIT was not seen."""

    minor: int | None = None
    init_flags: int | None = None
    big_endian: bool = False

    @property
    def effective_minor(self) -> int:
        """The minor to decode by."""
        return NEWEST_MINOR if self.minor is None else self.minor

    @property
    def order(self) -> str:
        """The struct module's byte order mark."""
        return ">" if self.big_endian else "<"

    def has(self, flag: str) -> bool | None:
        """Tell whether the INIT flag called `flag` was agreed on; None when INIT was not seen."""
        return None if self.init_flags is None else bool(self.init_flags & init_flag(flag))


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The fields of a body as they lie on the wire: a head of fixed size, then what varies."""

    fields: tuple[Field, ...]
    head: tuple[Field, ...]
    tail: tuple[Field, ...]
    head_size: int
    order: str

    def offsets(self) -> tuple[int, ...]:
        """Where each field of the head begins, from the start of the body."""
        starts, at = [], 0
        for field in self.head:
            starts.append(at)
            at += field.size
        return tuple(starts)

    @property
    def struct(self) -> struct.Struct:
        """The head as one struct, hidden fields included."""
        return struct.Struct(self.order + "".join(field.code for field in self.head))


@cache
def compile_layout(fields: tuple[Field, ...], minor: int, granted: frozenset[str], order: str) -> Layout:
    """Lay out `fields` for protocol 7.`minor` with the INIT flags `granted`; byte order "<" or ">"."""
    live = tuple(f for f in fields if f.since <= minor and (not f.needs or f.needs in granted))
    head = tuple(takewhile(lambda f: f.kind.is_fixed, live))
    return Layout(live, head, live[len(head) :], sum(f.size for f in head), order)


@cache
def needed_flags(fields: tuple[Field, ...]) -> frozenset[str]:
    """Return the INIT flags on which the shape of `fields` depends."""
    return frozenset(f.needs for f in fields if f.needs)


@cache
def variants(fields: tuple[Field, ...], order: str) -> tuple[Layout, ...]:
    """Return the layouts that `fields` had over the minors, newest first."""
    minors = sorted({0, NEWEST_MINOR, *(f.since for f in fields if f.since)}, reverse=True)
    layouts = [compile_layout(fields, minor, needed_flags(fields), order) for minor in minors]
    return tuple({layout.fields: layout for layout in reversed(layouts)}.values())[::-1]


def layout_for(fields: tuple[Field, ...], context: Context, body: bytes, *, short: bool = False) -> Layout:
    """Choose the layout of a whole `body`: by the session, and by its length where nothing in it varies.

    `short` allows a body to end after any field (INIT's reply).
    """
    needs = needed_flags(fields)
    granted = frozenset(flag for flag in needs if context.has(flag) or _looks_granted(flag, context, body))
    agreed = compile_layout(fields, context.effective_minor, granted, context.order)
    if agreed.tail:
        return agreed
    return _by_length(fields, agreed, len(body), short)


@cache
def _by_length(fields: tuple[Field, ...], agreed: Layout, length: int, short: bool) -> Layout:
    if length == agreed.head_size:
        return agreed
    candidates = variants(fields, agreed.order)
    if short:
        return _prefix(candidates[0], length)
    for candidate in candidates:
        if candidate.head_size == length:
            return candidate
    return candidates[0] if length > agreed.head_size else agreed


def _prefix(layout: Layout, length: int) -> Layout:
    fields: list[Field] = []
    size = 0
    for field in layout.head:
        if size + field.size > length:
            break
        size += field.size
        fields.append(field)
    if size < length <= layout.head_size:  # ends inside a field: let the decoder say so
        fields = list(layout.head[: len(fields) + 1])
    kept = tuple(fields)
    return Layout(kept, kept, (), sum(f.size for f in kept), layout.order)


def _looks_granted(flag: str, context: Context, body: bytes) -> bool:
    """Guess, INIT unseen, whether SETXATTR_EXT was agreed on: the longer form must parse, to the byte.

    The extra eight bytes are flags 0 or 1 and a zero; then come the name and exactly `size` bytes (fuse_setxattr_in).
    """
    if flag != "SETXATTR_EXT" or context.has(flag) is not None or len(body) < 16:
        return False
    size, _, setxattr_flags, padding = struct.unpack_from(context.order + "IIII", body)
    nul = body.find(b"\0", 16)
    return setxattr_flags <= 1 and padding == 0 and nul > 16 and nul + 1 + size == len(body)


def request_layout(op: Op, context: Context, body: bytes) -> Layout:
    """Choose the layout of a request's body, its extension area taken off."""
    return layout_for(op.request, context, body)
