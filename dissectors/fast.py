"""The struct fast path: values of a whole, well-formed message, for rows on screen and for batch output.

It refuses (None) whatever is odd; `dissectors.decode` then says what is wrong. Messages are read where they lie, in
`bytes`, a `memoryview` or an `mmap`: [start, end) is a message with its header. Padding is left out.

`wire_len` is how long the message was when it was sent, if longer than what was kept. Of a cut message the values are
complete but for the bytes of its data; one cut before that is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import repeat
from mmap import mmap
from typing import Any

from dissectors.errnos import MAX_ERRNO
from dissectors.fields import Field
from dissectors.layout import Context, Layout, agreed_layout, appends_context, fixed_layout, is_undecided, layout_for
from dissectors.message import Value
from dissectors.opcodes import NOTIFY, OPS, Answer, Either, Op
from dissectors.steps import Block, Step, compile_steps
from dissectors.structs import IN_HEADER, REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE

Buffer = bytes | bytearray | memoryview | mmap
Values = dict[str, Value]

REQUEST_LEAD, REPLY_LEAD = "I32xH2x", "Ii8x"  # len and total_extlen of a request, len and error of a reply


def request_values(buffer: Buffer, start: int, end: int, context: Context, op: Op, wire_len: int = 0) -> Values | None:
    """Return the body's values of the request at [start, end); None when it has to be decoded with care."""
    return reader(context).request(buffer, start, end, op.code, wire_len)


def reply_values(
    buffer: Buffer,
    start: int,
    end: int,
    context: Context,
    op: Op,
    request: Mapping[str, Value] | None = None,
    wire_len: int = 0,
) -> Values | None:
    """Return the body's values of the reply to `op` at [start, end); {} for an error reply.

    `request` is what `request_values` gave: the shape of GETXATTR's and LISTXATTR's answer depends on it.
    """
    return reader(context).reply(buffer, start, end, op.code, request, wire_len)


def notification_values(
    buffer: Buffer, start: int, end: int, context: Context, code: int, wire_len: int = 0
) -> Values | None:
    """Return the values of the notification `code` at [start, end); None when it has to be decoded with care."""
    return reader(context).notification(buffer, start, end, code, wire_len)


class _Whole:
    """Reads messages of one layout: header words and head in one struct call, then a step for each field after."""

    __slots__ = ("head", "steps")

    def __init__(self, layout: Layout, lead: str) -> None:
        self.head = Block(layout.head, layout.order, lead)
        self.steps: tuple[Step, ...] = compile_steps(layout.tail, layout.order)


class _Plan:
    """How to read the bodies of one opcode in one direction in one session: by length, or one way for all."""

    __slots__ = ("_by_length", "_context", "_fields", "_header_size", "_lead", "_short", "_undecided", "only")

    def __init__(self, fields: tuple[Field, ...], context: Context, lead: str, short: bool = False) -> None:
        self._fields, self._context, self._lead, self._short = fields, context, lead, short
        self._header_size = REQUEST_HEADER_SIZE if lead == REQUEST_LEAD else REPLY_HEADER_SIZE
        self._by_length: dict[int, _Whole | None] = {}
        self._undecided = is_undecided(fields, context)
        layout = agreed_layout(fields, context)
        self.only = _Whole(layout, lead) if layout.tail and not self._undecided else None

    def by_length(self, length: int) -> _Whole | None:
        """Return the reader for messages of `length` bytes whose fields are all fixed."""
        try:
            return self._by_length[length]
        except KeyError:
            pass
        layout = fixed_layout(self._fields, self._context, length - self._header_size, short=self._short)
        found = _Whole(layout, self._lead) if layout.head_size == length - self._header_size else None
        if len(self._by_length) < 1024:  # a hostile trace has bodies of every length
            self._by_length[length] = found
        return found

    def reader(self, buffer: Buffer, start: int, end: int, length: int) -> _Whole | None:
        """Return the reader for the message at [start, end), `length` bytes long when it was sent."""
        if self._undecided:
            body = bytes(buffer[start + self._header_size : end])
            return _whole(layout_for(self._fields, self._context, length - self._header_size, body), self._lead)
        return self.only or self.by_length(length)


@lru_cache(256)
def _whole(layout: Layout, lead: str) -> _Whole:
    return _Whole(layout, lead)


class Reader:
    """The fast path for one session; see the functions of this module."""

    __slots__ = ("_context", "_notifications", "_replies", "_requests")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._requests: dict[int, tuple[_Plan, Op]] = {
            op.code: (_Plan(op.request, context, REQUEST_LEAD), op) for op in OPS.values()
        }
        self._replies: dict[int, _Plan | tuple[Either, _Plan, _Plan]] = {
            op.code: _reply_plan(op, context) for op in OPS.values() if op.answer is not Answer.NEVER
        }
        self._notifications = {code: _Plan(item.payload, context, REPLY_LEAD) for code, item in NOTIFY.items()}

    def request(self, buffer: Buffer, start: int, end: int, opcode: int, wire_len: int = 0) -> Values | None:
        """Return the values of a request; see `request_values`."""
        found = self._requests.get(opcode)
        if found is None:
            return None
        plan, op = found
        length = wire_len or end - start
        whole = plan.reader(buffer, start, end, length)
        if whole is None:
            return None
        head = whole.head
        if start + head.size > end:
            return None
        numbers = head.unpack(buffer, start)
        if numbers[0] != length:
            return None
        values: Values = dict(zip(head.names, numbers[2:], strict=False))
        extension_size = 8 * numbers[1]
        if extension_size and not op.extensible:
            return None
        body_size = length - head.size - extension_size
        if not whole.steps and not op.extensible:
            return values if not body_size else None
        rest = _tail(whole, buffer, start, end, body_size, values)
        if rest == 0 or (rest > 0 and not extension_size and appends_context(op, self._context)):
            return values
        return None

    def reply(
        self,
        buffer: Buffer,
        start: int,
        end: int,
        opcode: int,
        request: Mapping[str, Value] | None = None,
        wire_len: int = 0,
    ) -> Values | None:
        """Return the values of a reply; see `reply_values`."""
        plan = self._replies.get(opcode)
        if isinstance(plan, tuple):
            plan = _chosen(plan, request)
        length = wire_len or end - start
        if length == REPLY_HEADER_SIZE and opcode in self._replies and self._is_error(buffer, start, end):
            return {}
        if plan is None:
            return None
        return _out_values(plan, buffer, start, end, length, 0)

    def _is_error(self, buffer: Buffer, start: int, end: int) -> bool:
        if start + REPLY_HEADER_SIZE > end:
            return False
        length, error = _OUT_WORDS[self._context.big_endian].unpack_from(buffer, start)
        return bool(length == REPLY_HEADER_SIZE and -MAX_ERRNO <= error < 0)

    def notification(self, buffer: Buffer, start: int, end: int, code: int, wire_len: int = 0) -> Values | None:
        """Return the values of a notification; see `notification_values`."""
        plan = self._notifications.get(code)
        return None if plan is None else _out_values(plan, buffer, start, end, wire_len or end - start, code)


_OUT_WORDS = {False: struct.Struct("<Ii"), True: struct.Struct(">Ii")}


@lru_cache(64)
def reader(context: Context) -> Reader:
    """Return the fast path for the session `context`; keep it when reading many messages of one session."""
    return Reader(context)


def _reply_plan(op: Op, context: Context) -> _Plan | tuple[Either, _Plan, _Plan]:
    if isinstance(op.reply, Either):
        return op.reply, _Plan(op.reply.then, context, REPLY_LEAD), _Plan(op.reply.otherwise, context, REPLY_LEAD)
    return _Plan(op.reply, context, REPLY_LEAD, op.short_reply)


def _chosen(plan: tuple[Either, _Plan, _Plan], request: Mapping[str, Value] | None) -> _Plan | None:
    either, then, otherwise = plan
    value = (request or {}).get(either.when.field.removeprefix("request."))
    if not isinstance(value, int):
        return None
    return then if either.when.holds(value) else otherwise


def _out_values(plan: _Plan, buffer: Buffer, start: int, end: int, length: int, code: int) -> Values | None:
    whole = plan.reader(buffer, start, end, length)
    if whole is None:
        return None
    head = whole.head
    if start + head.size > end:
        return None
    numbers = head.unpack(buffer, start)
    if numbers[0] != length or numbers[1] != code:
        return None
    values: Values = dict(zip(head.names, numbers[2:], strict=False))
    if not whole.steps:
        return values if head.size == length else None
    return None if _tail(whole, buffer, start, end, length - head.size, values) else values


def _tail(whole: _Whole, buffer: Buffer, start: int, end: int, size: int, values: Values) -> int:
    """Read what follows the head, `size` bytes when sent; return how many are left over, or -1 for refused."""
    if size < 0:
        return -1
    tail = start + whole.head.size
    blob = bytes(buffer[tail : min(end, tail + size)])
    at = 0
    for step in whole.steps:
        at = step(blob, at, size, values)
        if at < 0:
            return -1
    return size - at


# ---- many messages at once ----


class HeadReader:
    """Header and fixed arguments of one kind of message as one struct; `names` are those of the tuple's values."""

    __slots__ = ("_unpack", "_unpack_joined", "names", "size")

    def __init__(self, fields: Iterable[Field], order: str) -> None:
        block = Block(list(fields), order)
        self.names, self.size = block.names, block.size
        self._unpack, self._unpack_joined = block.unpack, block.unpack_joined

    def unpack(self, buffer: Buffer, starts: Iterable[int]) -> Iterator[tuple[Any, ...]]:
        """Yield header and head of each message that begins in `starts`; all must be at least `size` bytes long."""
        return map(self._unpack, repeat(buffer), starts)

    def unpack_joined(self, joined: bytes) -> Iterator[tuple[Any, ...]]:
        """Yield header and head of messages of which the first `size` bytes lie one after another.

        Twice as fast as `unpack`; `dissectors.columns.gather` joins them.
        """
        return self._unpack_joined(joined)


def request_head(op: Op, context: Context) -> HeadReader:
    """Return the reader for header and head of `op`'s requests as this session lays them out."""
    layout = agreed_layout(op.request, context)
    return HeadReader(IN_HEADER.fields + layout.head, context.order)
