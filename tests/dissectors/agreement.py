"""What it means that the decoders agree: the same visible values, or all of them find fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dissectors import fast, reference
from dissectors.columns import body_fields, column
from dissectors.decode import decode_notification, decode_reply, decode_request
from dissectors.fields import Field, Kind
from dissectors.layout import Context
from dissectors.message import Message, MessageKind
from dissectors.opcodes import Either, Notification, Op
from dissectors.reference import Parsed, Refused


def all_fields(op: Op | Notification, kind: MessageKind) -> tuple[Field, ...]:
    if isinstance(op, Notification):
        return op.payload
    if kind is MessageKind.REQUEST:
        return op.request
    return op.reply.then + op.reply.otherwise if isinstance(op.reply, Either) else op.reply


def visible(fields: tuple[Field, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` without padding, in records too."""
    shown = {field.name: field for field in fields if not field.hidden}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in shown:
            records = shown[name].kind is Kind.RECORDS
            found[name] = [visible(shown[name].record, record) for record in value] if records else value
    return found


def assert_request_agrees(data: bytes, context: Context) -> Parsed | None:
    message = decode_request(data, len(data), context)
    try:
        parsed = reference.parse_request(data, context)
    except Refused:
        parsed = None
    quick = fast.reader(context).request(data, 0, len(data), message.opcode) if len(data) >= 40 else None
    _assert_same(message, parsed, quick)
    if parsed is not None:
        built = reference.build_request(parsed.header, parsed.op, parsed.values, context, parsed.extension)
        assert built == data
        _assert_columns(data, 40, len(data) - 40 - len(parsed.extension), parsed, MessageKind.REQUEST, context)
    return parsed


def assert_reply_agrees(data: bytes, context: Context, request: Message) -> Parsed | None:
    op = request.op
    assert isinstance(op, Op)
    message = decode_reply(data, len(data), context, request)
    try:
        parsed = reference.parse_reply(data, context, op, request.values)
    except Refused:
        parsed = None
    quick = fast.reply_values(data, 0, len(data), context, op, request.values)
    _assert_same(message, parsed, quick)
    if parsed is not None:
        unique, error = parsed.header["unique"], parsed.header["error"]
        assert reference.build_reply(unique, op, parsed.values, context, request.values, error) == data
        if not error and not (isinstance(op.reply, Either) and "size" not in parsed.values):
            _assert_columns(data, 16, len(data) - 16, parsed, MessageKind.REPLY, context)
    return parsed


def assert_notification_agrees(data: bytes, context: Context) -> Parsed | None:
    message = decode_notification(data, len(data), context)
    try:
        parsed = reference.parse_notification(data, context)
    except Refused:
        parsed = None
    _assert_same(message, parsed, fast.notification_values(data, 0, len(data), context, message.opcode))
    if parsed is not None:
        assert isinstance(parsed.op, Notification)
        built = reference.build_notification(parsed.op, parsed.values, context)
        assert built[:8] + data[8:16] + built[16:] == data  # the kernel tells a notification by its unique of 0
        _assert_columns(data, 16, len(data) - 16, parsed, MessageKind.NOTIFICATION, context)
    return parsed


def _assert_same(message: Message, parsed: Parsed | None, quick: dict[str, Any] | None) -> None:
    if parsed is None:
        assert quick is None
        assert message.problems
        return
    fields = all_fields(parsed.op, message.kind)
    assert quick == visible(fields, parsed.values)
    assert quick == visible(fields, message.values)
    extension_at = len(message.data) - len(parsed.extension)
    assert [problem for problem in message.problems if problem.at < extension_at] == []


def _assert_columns(data: bytes, start: int, length: int, parsed: Parsed, kind: MessageKind, context: Context) -> None:
    """Assert that numpy gathers each integer of the head, and nothing for fields that are not there."""
    buffer = np.frombuffer(b"\xee" * 3 + data, np.uint8)
    starts, lengths = np.array([start + 3], np.int64), np.array([length], np.int64)
    for field in body_fields(parsed.op, kind):
        if not field.kind.is_integer or field.hidden:
            continue
        mask, values = column(buffer, starts, lengths, lengths, parsed.op, kind, context, field.name)
        assert mask[0] == (field.name in parsed.values), field.name
        assert not mask[0] or values[0] == parsed.values[field.name], field.name
