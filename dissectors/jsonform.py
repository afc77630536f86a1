"""Messages as JSON: plain dictionaries of str, int and lists, safe for any encoder that takes 64-bit integers.

Names are escaped text (see `dissectors.text.escape`), file content is {"bytes": length, "hex": content}. Numbers stay
numbers, flags too. `message_json` says beside them what they are called and where they lie: see `fields_json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from dissectors.errnos import error_text
from dissectors.fields import Field, Kind, Show
from dissectors.message import Message, MessageKind, Node, Value
from dissectors.opcodes import Either, Notification, Op
from dissectors.text import escape, is_name, short_formatter

Json = Any  # what json.dumps takes; a recursive type says less than it costs
Encoder = Callable[[Any], Json]

NAMED_FORMS = frozenset({Show.MODE, Show.OCTAL, Show.DEVICE, Show.SECONDS})  # in which a number says more as text


def payload_json(raw: bytes) -> dict[str, Json]:
    """Return file content in its JSON form."""
    return {"bytes": len(raw), "hex": raw.hex()}


def values_json(op: Op | Notification | None, values: Mapping[str, Value], *, reply: bool = False) -> dict[str, Json]:
    """Return the values of a body, as the fast path gives them, in their JSON form. `reply`: of the reply's body."""
    special = _reply_encoders(op) if reply and isinstance(op, Op) else _encoders(op)
    if not special:
        return dict(values)
    return {name: special[name](value) if name in special else value for name, value in values.items()}


def message_json(message: Message) -> dict[str, Json]:
    """Return everything about a message: header, body, extension area, problems, and `fields_json` of it."""
    found: dict[str, Json] = {"kind": message.kind.value, "opcode": message.opcode, "name": message.name}
    if message.kind is MessageKind.REPLY:
        found["error"] = error_text(message.error)
    found["header"] = {node.name: node.value for node in message.header if not _is_hidden(node)}
    found["body"] = {node.name: _node_json(node) for node in message.body if not _is_hidden(node)}
    if message.extension:
        found["extension"] = [{"extension": node.name, **_children_json(node)} for node in message.extension]
    found["fields"] = fields_json(message)
    if message.problems:
        found["problems"] = [
            {"at": problem.at, "severity": problem.severity.value, "text": problem.text} for problem in message.problems
        ]
    found["length"] = message.wire_len
    if message.lost_bytes:
        found["lost_bytes"] = message.lost_bytes
    return found


def fields_json(message: Message) -> list[dict[str, Json]]:
    """Return the fields of a message one after another, as they lie in it; padding is left out.

    Each is {"part": "header", "body" or "extension", "name": as in the detail tree ("entries[0].attr.mode"), "at" and
    "size": bytes from the message's start, "value", "text"}. `value` is left out of file content, which is long and in
    the body already. `text` is there where the number has a name: flags and enumerations (bits without a name follow in
    hexadecimal), the opcode, the error, a mode as ls prints it, a umask in octal, a device, a time in UTC.
    """
    header_texts = _header_texts(message)
    parts = (("header", message.header), ("body", message.body), ("extension", message.extension))
    found: list[dict[str, Json]] = []
    for part, nodes in parts:
        for name, node in _leaves(nodes, ""):
            row: dict[str, Json] = {"part": part, "name": name, "at": node.start, "size": node.end - node.start}
            value = _node_json(node)
            if not isinstance(value, dict):
                row["value"] = value
            text = header_texts[name] if part == "header" and name in header_texts else _name_text(node)
            if text is not None:
                row["text"] = text
            found.append(row)
    return found


def _header_texts(message: Message) -> dict[str, str]:
    """Return the names of numbers that only the whole message tells."""
    if message.kind is MessageKind.REQUEST:
        return {"opcode": message.name}
    return {"error": message.name if message.kind is MessageKind.NOTIFICATION else error_text(message.error)}


def _leaves(nodes: Sequence[Node], path: str) -> Iterator[tuple[str, Node]]:
    """Yield the shown nodes that have nothing below them, each with its whole name."""
    for node in nodes:
        if _is_hidden(node):
            continue
        if node.children:
            # The records of a list bear its name already, and have no value of their own.
            yield from _leaves(node.children, path if node.value is not None else f"{path}{node.name}.")
        else:
            yield path + node.name, node


def _name_text(node: Node) -> str | None:
    """Return the text of a number that has a name or a form of its own; None of any other value."""
    field = node.field
    if field is None or not isinstance(node.value, int):
        return None
    if field.names is None and field.show not in NAMED_FORMS:
        return None
    return short_formatter(field)(node.value)


def _is_hidden(node: Node) -> bool:
    return node.name == "_pad" or (node.field is not None and node.field.hidden)


def _node_json(node: Node) -> Json:
    if node.value is None:
        return _children_json(node)
    if node.field is None:
        return payload_json(node.value) if isinstance(node.value, bytes) else node.value
    encode = _encoder(node.field)
    return encode(node.value) if encode is not None else node.value


def _children_json(node: Node) -> dict[str, Json]:
    return {child.name: _node_json(child) for child in node.children if not _is_hidden(child)}


@cache
def _encoders(op: Op | Notification | None) -> dict[str, Encoder]:
    if op is None:
        return {"body": payload_json}
    return _special(op.request if isinstance(op, Op) else op.payload)


@cache
def _reply_encoders(op: Op) -> dict[str, Encoder]:
    fields = op.reply.then + op.reply.otherwise if isinstance(op.reply, Either) else op.reply
    return _special(fields)


def _special(fields: Sequence[Field]) -> dict[str, Encoder]:
    """Return the encoders of the fields that are not what JSON has already."""
    return {field.name: encode for field in fields if (encode := _encoder(field)) is not None}


@cache
def _encoder(field: Field) -> Encoder | None:
    if field.kind is Kind.RECORDS:
        return _records_encoder(field)
    if field.kind is Kind.STRINGS:
        return lambda parts: [escape(part) for part in parts]
    if field.kind is Kind.NAME or is_name(field):
        return _name_json
    if field.kind in (Kind.DATA, Kind.FIXED):
        return payload_json
    return None


def _name_json(raw: bytes) -> str:
    return escape(raw, len(raw))


def _records_encoder(field: Field) -> Encoder:
    special = _special(field.record)
    shown = frozenset(member.name for member in field.record if not member.hidden)

    def encode(records: Sequence[Mapping[str, Value]]) -> Json:
        return [
            {
                name: special[name](value) if name in special else value
                for name, value in record.items()
                if name in shown
            }
            for record in records
        ]

    return encode
