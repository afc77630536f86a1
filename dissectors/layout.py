"""From declared fields to the way they lie on the wire in one session.

Which fields are present depends on the minor agreed in INIT and, for SETXATTR alone, on an INIT flag. Where nothing in
a body varies, its length says the same, and is believed first: kernels and servers differ in what they shorten.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import takewhile

from dissectors.fields import Field, Kind
from dissectors.flags import init_flag
from dissectors.opcodes import NEWEST_MINOR, Op


@dataclass(frozen=True, slots=True)
class Context:
    """What a session agreed on, as far as it is known. `minor` None: INIT was not seen.

    Bodies are then read as the newest kernel sends them: every kernel since 5.2 (2019) speaks at least 7.31, and no
    body without something variable in it changed its size since.
    """

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
    live = tuple(_at_minor(f, minor) for f in fields if f.since <= minor and (not f.needs or f.needs in granted))
    head = tuple(takewhile(lambda f: f.kind.is_fixed and f.when is None, live))
    return _layout(live, head, order)


def _at_minor(field: Field, minor: int) -> Field:
    return replace(field, narrow_record=()) if field.narrow_record and minor >= field.narrow_before else field


def _layout(fields: tuple[Field, ...], head: tuple[Field, ...], order: str) -> Layout:
    return Layout(fields, head, fields[len(head) :], sum(f.size for f in head), order)


@cache
def needed_flags(fields: tuple[Field, ...]) -> frozenset[str]:
    """Return the INIT flags on which the shape of `fields` depends."""
    return frozenset(f.needs for f in fields if f.needs)


def is_undecided(fields: tuple[Field, ...], context: Context) -> bool:
    """Whether only a look at each body tells how `fields` lie in it, because INIT was not seen."""
    return context.init_flags is None and bool(needed_flags(fields))


@cache
def variants(fields: tuple[Field, ...], order: str) -> tuple[Layout, ...]:
    """Return the layouts that `fields` had over the minors, newest first."""
    minors = sorted({0, NEWEST_MINOR, *(f.since for f in fields if f.since)}, reverse=True)
    layouts = [compile_layout(fields, minor, needed_flags(fields), order) for minor in minors]
    return tuple({layout.fields: layout for layout in reversed(layouts)}.values())[::-1]


def agreed_layout(fields: tuple[Field, ...], context: Context) -> Layout:
    """Return how `fields` lie on the wire by what INIT agreed on alone."""
    granted = frozenset(flag for flag in needed_flags(fields) if context.has(flag))
    return compile_layout(fields, context.effective_minor, granted, context.order)


def layout_for(fields: tuple[Field, ...], context: Context, length: int, body: bytes, *, short: bool = False) -> Layout:
    """Choose the layout of a body that had `length` bytes on the wire; `body` is what was kept of it.

    The session decides, and the length where nothing varies. `short` allows a body to end anywhere (INIT's reply).
    """
    if is_undecided(fields, context):
        granted = frozenset(flag for flag in needed_flags(fields) if _looks_granted(flag, context, length, body))
        return compile_layout(fields, context.effective_minor, granted, context.order)
    return fixed_layout(fields, context, length, short=short)


def fixed_layout(fields: tuple[Field, ...], context: Context, length: int, *, short: bool = False) -> Layout:
    """Choose the layout of a body of `length` bytes without looking into it."""
    agreed = agreed_layout(fields, context)
    if agreed.tail or length == agreed.head_size:
        return agreed
    candidates = variants(fields, agreed.order)
    if short:
        return prefix_layout(candidates[0], length)
    for candidate in candidates:
        if candidate.head_size == length:
            return candidate
    return candidates[0] if length > agreed.head_size else agreed


@lru_cache(256)
def prefix_layout(layout: Layout, length: int) -> Layout:
    """Return `layout` up to `length` bytes. Spare room may end anywhere; in an integer the decoder finds the fault."""
    kept: list[Field] = []
    left = length
    for field in layout.head:
        if left <= 0:
            break
        kept.append(replace(field, size=left) if field.kind is Kind.FIXED and field.size > left else field)
        left -= field.size
    return _layout(tuple(kept), tuple(kept), layout.order)


def _looks_granted(flag: str, context: Context, length: int, body: bytes) -> bool:
    """Guess, INIT unseen, whether SETXATTR_EXT was agreed on: the longer form must parse, to the byte.

    The extra eight bytes are flags 0 or 1 and a zero; then come the name and exactly `size` bytes (fuse_setxattr_in).
    In the shorter form the name begins there: "user." and the like. That alone decides when the body was cut.
    """
    if flag != "SETXATTR_EXT" or length < 16:
        return False
    if len(body) <= 8:
        return False
    size, _, setxattr_flags, padding = struct.unpack_from(context.order + "IIII", body[:16].ljust(16, b"\0"))
    if setxattr_flags > 1 or padding:
        return False
    nul = body.find(b"\0", 16)
    if nul < 0:
        return len(body) < length
    return nul > 16 and nul + 1 + size == length


def appends_context(op: Op, context: Context) -> bool:
    """Whether a security context may follow the names of `op` without the header saying how long it is.

    7.36 and 7.37 did that; total_extlen came with 7.38 (fuse.h changelog).
    """
    if not op.extensible or context.has("SECURITY_CTX") is False:
        return False
    return context.minor is None or 36 <= context.minor <= 37
