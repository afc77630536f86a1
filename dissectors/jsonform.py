"""Messages as JSON: plain dictionaries of str, int and lists, safe for any encoder that takes 64-bit integers.

Names are escaped text (see `dissectors.text.escape`), file content is {"bytes": length, "hex": content}. Numbers stay
numbers, flags too; the opcode and the error also come by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from dissectors.errnos import error_text
from dissectors.fields import Field, Kind
from dissectors.message import Message, MessageKind, Node, Value
from dissectors.opcodes import Either, Notification, Op
from dissectors.text import escape, is_name

Json = Any  # what json.dumps takes; a recursive type says less than it costs
Encoder = Callable[[Any], Json]


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
    """Return everything about a message: header, body, extension area and problems."""
    found: dict[str, Json] = {"kind": message.kind.value, "opcode": message.opcode, "name": message.name}
    if message.kind is MessageKind.REPLY:
        found["error"] = error_text(message.error)
    found["header"] = {node.name: node.value for node in message.header if not _is_hidden(node)}
    found["body"] = {node.name: _node_json(node) for node in message.body if not _is_hidden(node)}
    if message.extension:
        found["extension"] = [{"extension": node.name, **_children_json(node)} for node in message.extension]
    if message.problems:
        found["problems"] = [
            {"at": problem.at, "severity": problem.severity.value, "text": problem.text} for problem in message.problems
        ]
    found["length"] = message.wire_len
    if message.lost_bytes:
        found["lost_bytes"] = message.lost_bytes
    return found


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
