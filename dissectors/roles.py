"""What each integer, name and payload means to somebody who plays a trace again, by opcode and direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType

from dissectors.fields import Field, Kind, Role
from dissectors.message import MessageKind
from dissectors.opcodes import NOTIFY, OPS, Either, NodeIs, Op

HEADER_NODE = "header.nodeid"


RoleTable = Mapping[tuple[int, MessageKind], Mapping[Role, tuple[str, ...]]]


@cache
def role_table() -> RoleTable:
    """Return the fields that have each role: (opcode or notification code, kind of message) -> role -> field paths.

    "header.nodeid" stands for the header's; a field of records is "entries[].nodeid", an element of a run "nodeids[]".
    """
    table: dict[tuple[int, MessageKind], Mapping[Role, tuple[str, ...]]] = {}
    for op in OPS.values():
        header = [(Role.NODE, HEADER_NODE)] if op.node is not NodeIs.NONE else []
        table[op.code, MessageKind.REQUEST] = _by_role([*header, *_roles(op.request)])
        table[op.code, MessageKind.REPLY] = _by_role([*_roles(_reply_fields(op))])
    for code, notification in NOTIFY.items():
        table[code, MessageKind.NOTIFICATION] = _by_role([*_roles(notification.payload)])
    return MappingProxyType(table)


def _reply_fields(op: Op) -> tuple[Field, ...]:
    return op.reply.then + op.reply.otherwise if isinstance(op.reply, Either) else op.reply


def _roles(fields: tuple[Field, ...], path: str = "") -> Iterator[tuple[Role, str]]:
    for field in fields:
        if field.kind is Kind.RECORDS:
            yield from _roles(field.record, f"{path}{field.name}[].")
        elif field.role is not None:
            yield field.role, path + field.name + ("[]" if field.kind is Kind.INTEGERS else "")


def _by_role(pairs: list[tuple[Role, str]]) -> Mapping[Role, tuple[str, ...]]:
    found: dict[Role, tuple[str, ...]] = {}
    for role, path in pairs:
        found[role] = (*found.get(role, ()), path)
    return MappingProxyType(found)
