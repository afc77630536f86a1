"""Names in bodies, found where they lie: nothing else of the message is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct

from dissectors.catalog import FilterField
from dissectors.columns import body_fields
from dissectors.fields import MAX_ELEMENTS, Field
from dissectors.fields import Kind as FieldKind
from dissectors.layout import Context, agreed_layout, is_undecided
from dissectors.message import MessageKind
from dissectors.opcodes import OPS, Op
from tracer.filters.messages import Messages, follower, messages_of, place_of, sessions, spans
from tracer.filters.sources import NAME_COST, VALUE_COST
from tracer.trace.columns import Rows
from tracer.trace.trace import Trace

# ---- names that follow the fixed part ----


@dataclass(frozen=True, slots=True)
class FirstName:
    """The name that comes right after the fixed part of requests: found by its NUL, nothing else is read."""

    ops: tuple[Op, ...]
    cost: int = NAME_COST
    repeats: bool = True

    def pairs(self, trace: Trace, numbers: Rows) -> Iterator[tuple[int, bytes]]:
        """Yield (place, value)."""
        found: list[tuple[int, bytes]] = []
        for op in self.ops:
            messages = messages_of(trace, numbers, op, MessageKind.REQUEST)
            for places, context in sessions(trace, messages.rows):
                found += self._names(trace, messages.only(places), op, context)
        if len(self.ops) > 1:
            found.sort()
        return iter(found)

    def _names(self, trace: Trace, messages: Messages, op: Op, context: Context) -> Iterator[tuple[int, bytes]]:
        at = spans(trace, messages.rows, MessageKind.REQUEST)
        starts, ends = at.starts + agreed_layout(op.request, context).head_size, at.starts + at.kept
        if is_undecided(op.request, context):
            yield from self._decoded(trace, messages, op)
            return
        content, find = trace.file.mapped, trace.file.mapped.find
        for place, start, end in zip(messages.where.tolist(), starts.tolist(), ends.tolist(), strict=True):
            if start <= end:
                nul = find(b"\0", start, end)
                yield place, content[start : end if nul < 0 else nul]

    def _decoded(self, trace: Trace, messages: Messages, op: Op) -> Iterator[tuple[int, bytes]]:
        name = first_name(op)
        for place, row in zip(messages.where.tolist(), messages.rows.tolist(), strict=True):
            value = trace.values(row).get(name)
            if isinstance(value, bytes):
                yield place, value


def first_name(op: Op) -> str:
    """Return the name of the field that `FirstName` finds, empty when the fixed part is not followed by a name."""
    following = next((field for field in op.request if not field.kind.is_fixed), None)
    return following.name if following is not None and following.kind is FieldKind.NAME else ""


NAMED_OPS = tuple(op for op in OPS.values() if first_name(op))


# ---- names of directory entries ----


@dataclass(frozen=True, slots=True)
class EntryNames:
    """The names in records of which each is a fixed head and as many bytes as the head says: directory entries."""

    field: FilterField
    cost: int = VALUE_COST - 1
    repeats: bool = True

    def pairs(self, trace: Trace, numbers: Rows) -> Iterator[tuple[int, bytes]]:
        """Yield (place, name), stepping from name to name."""
        op, kind = place_of(self.field)
        messages, follow = messages_of(trace, numbers, op, kind), follower(self.field.field_path)
        content = trace.file.mapped
        for places, context in sessions(trace, messages.rows):
            part = messages.only(places)
            at = spans(trace, part.rows, kind)
            step = _entry_step(self.field, context.order)
            starts, kept, wire = at.starts.tolist(), at.kept.tolist(), at.wire.tolist()
            for place, row, start, have, sent in zip(
                part.where.tolist(), part.rows.tolist(), starts, kept, wire, strict=True
            ):
                names = step(content[start : start + have]) if have == sent else None
                found = follow(trace.message(row).values) if names is None else names
                for name in found:
                    if isinstance(name, bytes):
                        yield place, name


def _entry_step(field: FilterField, order: str) -> Callable[[bytes], list[bytes] | None]:
    """Return what finds the names in a body; it gives None for one that is not made of whole records."""
    records = entries_of(field)
    assert records is not None
    *head, name = records.record
    offsets = dict(zip((one.name for one in head), accumulate((one.size for one in head), initial=0), strict=False))
    size, align = sum(one.size for one in head), records.align
    length_at, length_of = offsets[name.size_from], Struct(f"{order}I").unpack_from

    def step(body: bytes) -> list[bytes] | None:
        found: list[bytes] = []
        at, end = 0, len(body)
        while at < end:
            if at + size > end or len(found) == MAX_ELEMENTS:
                return None
            (length,) = length_of(body, at + length_at)
            stop = at + size + length
            if stop > end:
                return None
            found.append(body[at + size : stop])
            at = stop + -(stop - at) % align
        return found if at == end else None

    return step


def entries_of(field: FilterField) -> Field | None:
    """Return the records whose name `field` is, if they are a fixed head with a u32 length, and a name at the end."""
    op, kind = place_of(field)
    fields = body_fields(op, kind)
    if len(fields) != 1 or fields[0].kind is not FieldKind.RECORDS or fields[0].count_from:
        return None
    *head, last = fields[0].record
    lengths = [one for one in head if one.name == last.size_from and one.kind is FieldKind.U32]
    fixed = all(one.kind.is_fixed and one.when is None and not one.since and not one.needs for one in head)
    is_name = last is field.field and last.kind is FieldKind.DATA
    return fields[0] if is_name and fixed and lengths else None
