"""Where in a message the numbers lie that replay reads or changes, worked out from the roles in the declaration."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import NamedTuple

from dissectors.fields import Field, Role
from dissectors.layout import Context, Layout, agreed_layout, fixed_layout
from dissectors.opcodes import OPS, OPS_BY_NAME, Either, NodeIs, Op
from dissectors.structs import IN_HEADER, OUT_HEADER, REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE

NOWHERE = -1
LONGEST_LINK = 4095  # bytes of a link's target: a page without the NUL (fuse_readlink_page())


def _header_offset(fields: tuple[Field, ...], name: str) -> int:
    at = 0
    for field in fields:
        if field.name == name:
            return at
        at += field.size
    raise KeyError(name)


OPCODE_AT, UNIQUE_AT, NODE_AT, UID_AT, EXTENSION_AT = (
    _header_offset(IN_HEADER.fields, name) for name in ("opcode", "unique", "nodeid", "uid", "total_extlen")
)
ERROR_AT, ANSWER_UNIQUE_AT = (_header_offset(OUT_HEADER.fields, name) for name in ("error", "unique"))


class Manner(Enum):
    """How a request is played."""

    ORDINARY = 0
    INIT = 1
    FORGET = 2
    INTERRUPT = 3
    LISTING = 4
    RETRIEVED = 5  # the kernel's answer to a notification: sent when the live server asks
    DAX = 6  # needs memory that only a kernel can map


class Condition(NamedTuple):
    """`(the integer at `at` & mask) == equals`."""

    at: int
    size: int
    mask: int
    equals: int

    def holds(self, message: bytes | bytearray, order: str) -> bool:
        """Tell whether a request meets it."""
        (value,) = struct.unpack_from(order + ("I" if self.size == 4 else "Q"), message, self.at)
        return bool(value & self.mask == self.equals)


class HandleSite(NamedTuple):
    """Where a handle lies, and where the node it was opened on is named."""

    at: int
    node_at: int
    valid: Condition | None  # it means something only then


@dataclass(frozen=True, slots=True)
class RequestSites:
    """Where a request says ids. Offsets are from its header on; NOWHERE where it has none."""

    op: Op
    manner: Manner
    nodes: tuple[int, ...]
    handles: tuple[HandleSite, ...]
    cookie_at: int
    size_at: int  # how much it wants to read, or brings
    offset_at: int  # where in the file
    head_size: int  # header and fixed fields


@dataclass(frozen=True, slots=True)
class ReplySites:
    """Where a reply gives out ids. Offsets are from its header on; NOWHERE where it has none."""

    node_at: int
    mode_at: int
    handle_at: int


@cache
def request_sites(op: Op, context: Context) -> RequestSites:
    """Return where `op`'s requests say ids. No layout moves a fixed field: a shorter one only ends before it."""
    layout = agreed_layout(op.request, context)
    at = {field.name: REQUEST_HEADER_SIZE + place for field, place in zip(layout.head, layout.offsets(), strict=True)}
    by_role = {role: [f for f in layout.head if f.role is role] for role in Role}
    header = () if op.node is NodeIs.NONE else (NODE_AT,)
    handles = tuple(
        HandleSite(at[field.name], at[field.of] if field.of else NODE_AT, _condition(field, layout, at))
        for field in by_role[Role.HANDLE]
    )
    return RequestSites(
        op,
        manner(op),
        (*header, *(at[field.name] for field in by_role[Role.NODE])),
        handles,
        at[by_role[Role.COOKIE][0].name] if by_role[Role.COOKIE] else NOWHERE,
        at.get("size", NOWHERE),
        at.get("offset", NOWHERE),
        REQUEST_HEADER_SIZE + layout.head_size,
    )


def _condition(field: Field, layout: Layout, at: dict[str, int]) -> Condition | None:
    if field.valid is None:
        return None
    flags = next(item for item in layout.head if item.name == field.valid.field)
    return Condition(at[flags.name], flags.size, field.valid.mask, field.valid.equals)


@cache
def manner(op: Op) -> Manner:
    """Return how `op`'s requests are played, by what their fields are."""
    fields = [*op.request, *(member for field in op.request for member in field.record)]
    roles = {field.role for field in fields}
    if Role.NLOOKUP in roles:
        return Manner.FORGET
    if Role.UNIQUE_REF in roles:
        return Manner.INTERRUPT
    if Role.COOKIE in roles:
        return Manner.LISTING
    return _SESSION.get(op.code, Manner.ORDINARY)


_SESSION = {
    OPS_BY_NAME["INIT"].code: Manner.INIT,
    OPS_BY_NAME["NOTIFY_REPLY"].code: Manner.RETRIEVED,
    OPS_BY_NAME["SETUPMAPPING"].code: Manner.DAX,
    OPS_BY_NAME["REMOVEMAPPING"].code: Manner.DAX,
}


@lru_cache(1024)
def reply_sites(op: Op, context: Context, length: int) -> ReplySites:
    """Return where a successful reply of `length` bytes to `op` gives out ids."""
    if isinstance(op.reply, Either):
        return ReplySites(NOWHERE, NOWHERE, NOWHERE)
    layout = fixed_layout(op.reply, context, length - REPLY_HEADER_SIZE, short=op.short_reply)
    node = mode = handle = NOWHERE
    for field, place in zip(layout.head, layout.offsets(), strict=True):
        at = REPLY_HEADER_SIZE + place
        if at + field.size > length:
            break
        if field.role is Role.NEW_NODE:
            node = at
        elif field.role is Role.NEW_HANDLE:
            handle = at
        elif field.name == "attr.mode":
            mode = at
    return ReplySites(node, mode if node != NOWHERE else NOWHERE, handle)


@cache
def gives_ids(op: Op) -> bool:
    """Whether a reply to `op` gives out a node or a handle, listings aside."""
    fields = () if isinstance(op.reply, Either) else op.reply
    return any(field.role in (Role.NEW_NODE, Role.NEW_HANDLE) for field in fields)


def sites_by_opcode(context: Context) -> dict[int, RequestSites]:
    """Return the sites of every opcode."""
    return {code: request_sites(op, context) for code, op in OPS.items()}


@cache
def room_fields(op: Op, context: Context) -> tuple[tuple[int, str], ...]:
    """Return the fixed length of each shape of `op`'s reply, and the field of the request that bounds the rest."""
    shapes = (op.reply.then, op.reply.otherwise) if isinstance(op.reply, Either) else (op.reply,)
    return tuple(_room(shape, context) for shape in shapes)


def _room(fields: tuple[Field, ...], context: Context) -> tuple[int, str]:
    layout = agreed_layout(fields, context)
    bound = next((field.room_from for field in layout.tail if field.room_from), "")
    spare = LONGEST_LINK if layout.tail and not bound else 0
    return REPLY_HEADER_SIZE + layout.head_size + spare, bound
