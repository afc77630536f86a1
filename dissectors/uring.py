"""FUSE over io_uring (7.42): puts messages together from the ring's areas, so that the ordinary decoder reads them.

A ring entry has a header area of 288 bytes (fuse_uring_req_header) and a payload area. Of a request, the per-operation
struct lies in the header area and everything after it in the payload; of a reply, the whole body is in the payload
(fs/fuse/dev_uring.c).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dissectors import structs_session as s
from dissectors.fields import Field
from dissectors.flags import URING_CMD
from dissectors.layout import Context, agreed_layout
from dissectors.message import Node, Problem
from dissectors.opcodes import OPS
from dissectors.structs import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE
from dissectors.walk import Walk

HEADER_AREA_SIZE = 288
OP_HEADER_AT, OP_HEADER_SIZE = 128, 128
ENTRY_AT, ENTRY_SIZE = 256, 32
COMMAND_SIZE = 40
ADD_BUFPOOL = 4


@dataclass(frozen=True, slots=True)
class Joined:
    """A message as it would have been on /dev/fuse. `wire_len` is longer than `data` when payload was not kept."""

    data: bytes
    wire_len: int


@dataclass(frozen=True, slots=True)
class Command:
    """A decoded fuse_uring_cmd_req: what a server tells the ring with IORING_OP_URING_CMD."""

    name: str
    nodes: tuple[Node, ...]
    problems: tuple[Problem, ...]


def join_request(area: bytes, payload: bytes, context: Context) -> Joined | None:
    """Return the request in a header area and its payload; None when the area is not whole."""
    if len(area) < HEADER_AREA_SIZE:
        return None
    payload_size = _payload_size(area, context)
    length, opcode = struct.unpack_from(context.order + "II", area)
    size = length - REQUEST_HEADER_SIZE - payload_size
    if not 0 <= size <= OP_HEADER_SIZE:
        size = op_header_size(opcode, context)
    data = area[:REQUEST_HEADER_SIZE] + area[OP_HEADER_AT : OP_HEADER_AT + size] + payload[:payload_size]
    return Joined(data, REQUEST_HEADER_SIZE + size + payload_size)


def join_reply(area: bytes, payload: bytes, context: Context) -> Joined | None:
    """Return the reply in a header area and its payload; None when the area is not whole.

    The kernel takes the length from the ring entry and ignores the header's own, so that one is put right here.
    """
    if len(area) < HEADER_AREA_SIZE:
        return None
    (error,) = struct.unpack_from(context.order + "i", area, 4)
    payload_size = 0 if error else _payload_size(area, context)
    wire_len = REPLY_HEADER_SIZE + payload_size
    length = struct.pack(context.order + "I", min(wire_len, 0xFFFF_FFFF))
    return Joined(length + area[4:REPLY_HEADER_SIZE] + payload[:payload_size], wire_len)


def op_header_size(opcode: int, context: Context) -> int:
    """Return how many bytes of a request are in the header area: its first argument, if that is a struct."""
    op = OPS.get(opcode)
    if op is None or op.ring_payload_only:
        return 0
    return agreed_layout(op.request, context).head_size


def decode_entry(area: bytes, context: Context) -> tuple[Node, ...]:
    """Return the fields of fuse_uring_ent_in_out at the end of a header area, as far as they are there."""
    walk = Walk(area, ENTRY_AT, HEADER_AREA_SIZE, context.order, [])
    return tuple(walk.fields(s.URING_ENT_IN_OUT.fields))


def _payload_size(area: bytes, context: Context) -> int:
    (size,) = struct.unpack_from(context.order + "I", area, ENTRY_AT + 16)
    return int(size)


def decode_command(cmd_op: int, content: bytes, context: Context) -> Command:
    """Decode the command area of an SQE: 24 bytes up to 7.45, 40 since, and what follows means nothing."""
    fields = _command_fields(cmd_op, len(content))
    problems: list[Problem] = []
    walk = Walk(content, 0, len(content), context.order, problems)
    return Command(URING_CMD.text(cmd_op), tuple(walk.fields(fields)), tuple(problems))


def _command_fields(cmd_op: int, length: int) -> tuple[Field, ...]:
    if length < COMMAND_SIZE:
        return s.URING_CMD_REQ.fields[:4]
    return s.URING_CMD_REQ.fields if cmd_op == ADD_BUFPOOL else s.URING_CMD_REQ_ENTRY.fields
