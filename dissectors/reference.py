"""The reference parser and builder: construct, compiled from the declaration. Exact, strict and slow.

It accepts only messages without a fault, keeps their padding, and builds every message it accepts byte for byte.
Elsewhere it serves to make messages, and in tests as the oracle of the faster readers.
"""

from __future__ import annotations

import struct as struct_module
from collections.abc import Mapping
from dataclasses import dataclass, field

import construct

from dissectors.constructs import Refused, body_construct, header_construct, plain, with_derived
from dissectors.errnos import MAX_ERRNO
from dissectors.fields import Field, Role
from dissectors.layout import (
    Context,
    Layout,
    agreed_layout,
    appends_context,
    fixed_layout,
    layout_for,
    prefix_layout,
    variants,
)
from dissectors.message import Value
from dissectors.opcodes import NOTIFY, OPS, Answer, Either, Notification, Op
from dissectors.structs import IN_HEADER, OUT_HEADER, REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE

__all__ = [
    "Parsed",
    "Refused",
    "build_notification",
    "build_reply",
    "build_request",
    "parse_notification",
    "parse_reply",
    "parse_request",
]

Values = dict[str, Value]

_DERIVED = (Role.LENGTH, Role.COUNT)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A message without a fault: its header, its values with padding, and its extension area as it is."""

    header: dict[str, int]
    op: Op | Notification
    values: Values = field(default_factory=dict)
    extension: bytes = b""


# ---- bytes to values ----


def parse_request(content: bytes, context: Context) -> Parsed:
    """Parse a whole request. Refused when anything about it is odd, an unknown opcode too."""
    header = _parse_header(content, IN_HEADER.fields, REQUEST_HEADER_SIZE, context)
    op = OPS.get(header["opcode"])
    if op is None:
        raise Refused(f"unknown opcode {header['opcode']}")
    extension_size = 8 * header["total_extlen"]
    if extension_size and not op.extensible:
        raise Refused(f"{op.name} has no extension area")
    if extension_size > len(content) - REQUEST_HEADER_SIZE:
        raise Refused("the extension area is longer than the message")
    body = content[REQUEST_HEADER_SIZE : len(content) - extension_size]
    layout = layout_for(op.request, context, len(body), body)
    values, used = _parse_body(body, layout)
    if used < len(body) and (extension_size or not appends_context(op, context)):
        raise Refused(f"{len(body) - used} bytes too many")
    return Parsed(header, op, values, content[REQUEST_HEADER_SIZE + used :])


def parse_reply(content: bytes, context: Context, op: Op, request_values: Mapping[str, Value] | None = None) -> Parsed:
    """Parse a whole reply to `op`. The shape of two replies depends on `request_values`."""
    header = _parse_header(content, OUT_HEADER.fields, REPLY_HEADER_SIZE, context)
    error = header["error"]
    if op.answer is Answer.NEVER:
        raise Refused(f"{op.name} is never answered")
    if error:
        if not -MAX_ERRNO <= error < 0 or len(content) > REPLY_HEADER_SIZE:
            raise Refused("an error reply is a header with a negative errno")
        return Parsed(header, op)
    body = content[REPLY_HEADER_SIZE:]
    layout = fixed_layout(_reply_fields(op, request_values), context, len(body), short=op.short_reply)
    return Parsed(header, op, _parse_whole(body, layout))


def parse_notification(content: bytes, context: Context) -> Parsed:
    """Parse a whole notification."""
    header = _parse_header(content, OUT_HEADER.fields, REPLY_HEADER_SIZE, context)
    notification = NOTIFY.get(header["error"])
    if notification is None:
        raise Refused(f"unknown notification {header['error']}")
    body = content[REPLY_HEADER_SIZE:]
    return Parsed(header, notification, _parse_whole(body, fixed_layout(notification.payload, context, len(body))))


def _parse_header(content: bytes, fields: tuple[Field, ...], size: int, context: Context) -> dict[str, int]:
    if len(content) < size:
        raise Refused(f"{len(content)} bytes are no header")
    header: dict[str, int] = plain(header_construct(fields, context.order).parse(content))
    if header["len"] != len(content):
        raise Refused(f"the header says {header['len']} bytes, there are {len(content)}")
    return header


def _parse_body(body: bytes, layout: Layout) -> tuple[Values, int]:
    try:
        parsed = body_construct(layout.fields, layout.order).parse(body)
    except (construct.ConstructError, struct_module.error, OverflowError, MemoryError) as error:
        raise Refused(str(error)) from error
    values: Values = plain(parsed)
    return values, parsed["_used"]


def _parse_whole(body: bytes, layout: Layout) -> Values:
    values, used = _parse_body(body, layout)
    if used != len(body):
        raise Refused(f"{len(body) - used} bytes too many")
    return values


def _reply_fields(op: Op, request_values: Mapping[str, Value] | None) -> tuple[Field, ...]:
    if not isinstance(op.reply, Either):
        return op.reply
    value = (request_values or {}).get(op.reply.when.field.removeprefix("request."))
    if not isinstance(value, int):
        raise Refused(f"the reply to {op.name} depends on the request")
    return op.reply.then if op.reply.when.holds(value) else op.reply.otherwise


# ---- values to bytes ----


def build_request(
    header: Mapping[str, int], op: Op, values: Mapping[str, Value], context: Context, extension: bytes = b""
) -> bytes:
    """Build a request. Lengths, counts and padding may be left out of `values`, and all but `unique` of `header`.

    `len` and `opcode` are worked out, whatever `header` says; `total_extlen` too, but a 0 there stays: it is how 7.36
    and 7.37 append an extension area.
    """
    body = _build_body(op.request, values, context)
    words = {**dict.fromkeys((f.name for f in IN_HEADER.fields), 0), **header, "opcode": op.code}
    if header.get("total_extlen", 0 if _has_no_extlen(context) else 1):
        if len(extension) % 8:
            raise Refused(f"an extension area of {len(extension)} bytes: it must be a multiple of 8")
        words["total_extlen"] = len(extension) // 8
    words["len"] = REQUEST_HEADER_SIZE + len(body) + len(extension)
    return _build_header(IN_HEADER.fields, words, context) + body + extension


def _has_no_extlen(context: Context) -> bool:
    return context.minor is not None and context.minor < 38  # fuse.h changelog: total_extlen came with 7.38


def build_reply(
    unique: int,
    op: Op,
    values: Mapping[str, Value],
    context: Context,
    request_values: Mapping[str, Value] | None = None,
    error: int = 0,
) -> bytes:
    """Build the reply to `op`, or with a negative `error` the error reply, which has no body."""
    body = b"" if error else _build_body(_reply_fields(op, request_values), values, context, op.short_reply)
    words = {"len": REPLY_HEADER_SIZE + len(body), "error": error, "unique": unique}
    return _build_header(OUT_HEADER.fields, words, context) + body


def build_notification(notification: Notification, values: Mapping[str, Value], context: Context) -> bytes:
    """Build a notification."""
    body = _build_body(notification.payload, values, context)
    words = {"len": REPLY_HEADER_SIZE + len(body), "error": notification.code, "unique": 0}
    return _build_header(OUT_HEADER.fields, words, context) + body


def _build_header(fields: tuple[Field, ...], words: Mapping[str, int], context: Context) -> bytes:
    try:
        built: bytes = header_construct(fields, context.order).build(dict(words))
    except (construct.ConstructError, KeyError) as error:
        raise Refused(str(error)) from error
    return built


def _build_body(fields: tuple[Field, ...], values: Mapping[str, Value], context: Context, short: bool = False) -> bytes:
    layout = _layout_with(fields, values, context, short)
    try:
        complete = with_derived(layout.fields, values)
        built: bytes = body_construct(layout.fields, layout.order).build(complete)
    except (construct.ConstructError, struct_module.error, KeyError, TypeError) as error:
        raise Refused(str(error)) from error
    return built


def _layout_with(fields: tuple[Field, ...], values: Mapping[str, Value], context: Context, short: bool) -> Layout:
    """Return the layout that has exactly the fields of which there are values, the session's own first."""
    if short:
        return _short_layout(variants(fields, context.order)[0], values)
    candidates = (agreed_layout(fields, context), *variants(fields, context.order))
    for layout in candidates:
        names = {item.name for item in layout.fields}
        needed = {item.name for item in layout.fields if not (item.hidden or item.when or item.role in _DERIVED)}
        if needed <= set(values) <= names | {"_used"}:
            return layout
    known = {item.name for item in candidates[0].fields}
    missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
    raise Refused(f"no layout has these values: missing {missing}, unknown {unknown}")


def _short_layout(newest: Layout, values: Mapping[str, Value]) -> Layout:
    size = 0
    for offset, item in zip(newest.offsets(), newest.head, strict=True):
        if item.name in values:
            value = values[item.name]
            size = offset + (len(value) if isinstance(value, bytes) else item.size)
    return prefix_layout(newest, size)
