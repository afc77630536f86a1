"""Bytes to a Message. Total: any bytes give a message, with a Problem for whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping

from dissectors.errnos import MAX_ERRNO
from dissectors.extensions import read_extensions
from dissectors.fields import Field, When
from dissectors.layout import Context, Layout, appends_context, fixed_layout, is_undecided, layout_for
from dissectors.message import Message, MessageKind, Node, Problem, Severity, Value
from dissectors.opcodes import NOTIFY, OPS, Answer, Either, Notification, Op
from dissectors.structs import IN_HEADER, OUT_HEADER, REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE
from dissectors.walk import Walk


def decode_request(content: bytes, wire_len: int, context: Context, number: int = 0) -> Message:
    """Decode what a kernel sent to a server. `wire_len` is how long it was before any cut."""
    problems: list[Problem] = []
    wire_len = max(wire_len, len(content))
    header = tuple(Walk(content, 0, wire_len, context.order, problems).fields(IN_HEADER.fields))
    values = _integers(header)
    op = OPS.get(values.get("opcode", -1))
    _check_length(values, wire_len, problems)
    body: list[Node] = []
    extension: list[Node] = []
    if len(header) == len(IN_HEADER.fields):
        body, extension = _request_body(content, wire_len, context, op, values, problems)
    return Message(
        number,
        MessageKind.REQUEST,
        context,
        op,
        values.get("opcode", -1),
        values.get("unique", 0),
        values.get("nodeid", 0),
        0,
        content,
        wire_len,
        header,
        tuple(body),
        tuple(extension),
        _all_problems(content, wire_len, problems),
    )


def _request_body(
    content: bytes,
    wire_len: int,
    context: Context,
    op: Op | None,
    header: Mapping[str, int],
    problems: list[Problem],
) -> tuple[list[Node], list[Node]]:
    extension_size = 8 * header.get("total_extlen", 0)
    if extension_size > wire_len - REQUEST_HEADER_SIZE:
        problems.append(Problem(36, f"extension area of {extension_size} bytes in a message of {wire_len}"))
        extension_size = 0
    end = wire_len - extension_size
    if op is None:
        problems.append(Problem(4, f"unknown opcode {header.get('opcode', -1)}"))
        return [_raw("body", content, REQUEST_HEADER_SIZE, end)], []
    if extension_size and not op.extensible:
        problems.append(Problem(36, f"{op.name} has no extension area"))
    walk = Walk(content, REQUEST_HEADER_SIZE, end, context.order, problems)
    nodes = walk.fields(_request_layout(content, end, context, op).fields)
    start = end
    if walk.at < end and not walk.is_broken and not extension_size and appends_context(op, context):
        start = walk.at
    else:
        _trailing(walk)
    return nodes, read_extensions(content, start, wire_len, context.order, problems)


def _request_layout(content: bytes, end: int, context: Context, op: Op) -> Layout:
    length = end - REQUEST_HEADER_SIZE
    if is_undecided(op.request, context):
        return layout_for(op.request, context, length, content[REQUEST_HEADER_SIZE:end])
    return fixed_layout(op.request, context, length)


def decode_reply(
    content: bytes,
    wire_len: int,
    context: Context,
    request: Message | None,
    number: int = 0,
    opcode: int | None = None,
) -> Message:
    """Decode what a server answered. A reply does not carry its opcode: `request` or `opcode` gives it."""
    problems: list[Problem] = []
    wire_len = max(wire_len, len(content))
    header = tuple(Walk(content, 0, wire_len, context.order, problems).fields(OUT_HEADER.fields))
    values = _integers(header)
    _check_length(values, wire_len, problems)
    if request is not None:
        opcode = request.opcode
    op = OPS.get(opcode) if opcode is not None else None
    error = values.get("error", 0)
    body: list[Node] = []
    if len(header) == len(OUT_HEADER.fields):
        body = _reply_body(content, wire_len, context, op, request, error, problems)
    return Message(
        number,
        MessageKind.REPLY,
        context,
        op,
        -1 if opcode is None else opcode,
        values.get("unique", 0),
        request.nodeid if request is not None else 0,
        error,
        content,
        wire_len,
        header,
        tuple(body),
        (),
        _all_problems(content, wire_len, problems),
    )


def _reply_body(
    content: bytes,
    wire_len: int,
    context: Context,
    op: Op | None,
    request: Message | None,
    error: int,
    problems: list[Problem],
) -> list[Node]:
    if error > 0 or error < -MAX_ERRNO:
        problems.append(Problem(4, f"error {error} is not 0 or a negative errno: the kernel refuses it"))
    if error:
        if wire_len > REPLY_HEADER_SIZE:
            problems.append(Problem(REPLY_HEADER_SIZE, "an error reply must have no body: the caller gets EIO"))
            return [_raw("body", content, REPLY_HEADER_SIZE, wire_len)]
        return []
    if op is None:
        return [_raw("body", content, REPLY_HEADER_SIZE, wire_len)] if wire_len > REPLY_HEADER_SIZE else []
    if op.answer is Answer.NEVER:
        problems.append(Problem(0, f"{op.name} must not be answered"))
    fields = _reply_fields(op, request)
    if fields is None:
        problems.append(Problem(REPLY_HEADER_SIZE, "its shape depends on the request, which is missing", Severity.NOTE))
        return [_raw("body", content, REPLY_HEADER_SIZE, wire_len)]
    walk = Walk(content, REPLY_HEADER_SIZE, wire_len, context.order, problems)
    layout = fixed_layout(fields, context, wire_len - REPLY_HEADER_SIZE, short=op.short_reply)
    nodes = walk.fields(layout.fields)
    _trailing(walk)
    return nodes


def reply_fields(op: Op, request_value: Mapping[str, Value]) -> tuple[Field, ...] | None:
    """Return the fields of a successful reply; None when they depend on a request value that is not known."""
    if not isinstance(op.reply, Either):
        return op.reply
    value = request_value.get(_request_field(op.reply.when))
    if not isinstance(value, int):
        return None
    return op.reply.then if op.reply.when.holds(value) else op.reply.otherwise


def _request_field(when: When) -> str:
    return when.field.removeprefix("request.")


def _reply_fields(op: Op, request: Message | None) -> tuple[Field, ...] | None:
    return reply_fields(op, request.values if request is not None else {})


def decode_notification(content: bytes, wire_len: int, context: Context, number: int = 0) -> Message:
    """Decode what a server sent unasked: an out header with unique 0 and the notification's code as error."""
    problems: list[Problem] = []
    wire_len = max(wire_len, len(content))
    header = tuple(Walk(content, 0, wire_len, context.order, problems).fields(OUT_HEADER.fields))
    values = _integers(header)
    _check_length(values, wire_len, problems)
    code = values.get("error", -1)
    notification: Notification | None = NOTIFY.get(code)
    body: list[Node] = []
    if len(header) == len(OUT_HEADER.fields):
        body = _notification_body(content, wire_len, context, notification, code, problems)
    return Message(
        number,
        MessageKind.NOTIFICATION,
        context,
        notification,
        code,
        0,
        0,
        0,
        content,
        wire_len,
        header,
        tuple(body),
        (),
        _all_problems(content, wire_len, problems),
    )


def _notification_body(
    content: bytes,
    wire_len: int,
    context: Context,
    notification: Notification | None,
    code: int,
    problems: list[Problem],
) -> list[Node]:
    if notification is None:
        problems.append(Problem(4, f"unknown notification {code}"))
        return [_raw("body", content, REPLY_HEADER_SIZE, wire_len)]
    walk = Walk(content, REPLY_HEADER_SIZE, wire_len, context.order, problems)
    nodes = walk.fields(fixed_layout(notification.payload, context, wire_len - REPLY_HEADER_SIZE).fields)
    _trailing(walk)
    return nodes


def _integers(nodes: tuple[Node, ...]) -> dict[str, int]:
    return {node.name: node.value for node in nodes if isinstance(node.value, int)}


def _check_length(header: Mapping[str, int], wire_len: int, problems: list[Problem]) -> None:
    said = header.get("len")
    if said is not None and said != wire_len:
        problems.append(Problem(0, f"the header says {said} bytes, {wire_len} were sent"))


def _all_problems(content: bytes, wire_len: int, problems: list[Problem]) -> tuple[Problem, ...]:
    """Return the problems, among them that the capture cut the message, wherever that was."""
    kept = len(content)
    if kept < wire_len and not any(problem.at == kept and problem.severity is Severity.NOTE for problem in problems):
        problems.append(Problem(kept, f"the capture kept {kept} bytes of {wire_len}", Severity.NOTE))
    return tuple(problems)


def _raw(name: str, content: bytes, start: int, end: int) -> Node:
    end = max(start, min(end, len(content)))
    return Node(name, content[start:end], start, end)


def _trailing(walk: Walk) -> None:
    if walk.at < walk.end and not walk.is_broken:
        text = f"{walk.end - walk.at} bytes more than this message is known to have"
        walk.problems.append(Problem(walk.at, text))
