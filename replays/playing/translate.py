"""A recorded request to the one that is sent: live ids in the place of recorded ones, and the room for its reply."""

from __future__ import annotations

import struct
from collections.abc import Callable

from dissectors.layout import Context, agreed_layout
from dissectors.opcodes import OPS, OPS_BY_NAME, ROOT_ID, Either, NodeIs, Op
from dissectors.structs import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE
from replays.playing.encoding import Encoder, Refused
from replays.playing.mapping import Mapper, Pairs
from replays.playing.talk import U32, U64, request_like
from replays.reasons import Skip, SkipStep
from replays.recorded.recording import HandleKey, Recording, Step
from replays.recorded.safety import OPEN, OPENDIR, SETATTR, unlikely
from replays.recorded.sites import NOWHERE, Manner, RequestSites, manner, room_fields, sites_by_opcode
from tracer.trace.pairing import NEVER_ANSWERED

FORGET, BATCH_FORGET = OPS_BY_NAME["FORGET"].code, OPS_BY_NAME["BATCH_FORGET"].code
BATCH_SINCE = OPS_BY_NAME["BATCH_FORGET"].since


class UnmappedNode(Exception):
    """A request names a node the live server did not give out."""

    def __init__(self, node: int) -> None:
        super().__init__(node)
        self.node = node


class UnmappedHandle(Exception):
    """A request names a handle the live server did not open."""

    def __init__(self, node: int, key: HandleKey) -> None:
        super().__init__(node, key)
        self.node, self.key = node, key


class Translator:
    """Translates the requests of one recording for one live session."""

    def __init__(self, recording: Recording, mapper: Mapper, encoder: Encoder, live: Context) -> None:
        self._mapped = recording.trace.file.mapped
        self._recording, self._mapper, self._encoder = recording, mapper, encoder
        self._copied = encoder.copied
        self.sites = sites_by_opcode(live)
        self.rooms = {op.code: _room_of(op, live) for op in OPS.values()}
        self._needs_type = {
            op.code for op in OPS.values() if op.node is NodeIs.PARENT or op in (OPEN, OPENDIR, SETATTR)
        }

    def message(self, step: Step) -> bytearray:
        """Return the request to send, but for its unique.

        Raises UnmappedNode, UnmappedHandle; SkipStep when no kernel would ask that of such a node here.
        """
        if step.opcode in self._copied and step.end - step.at == step.wire_len:
            message = bytearray(self._mapped[step.at : step.end])
        else:
            message = self.encoded(step)
        sites = self.sites[step.opcode]
        if step.opcode in self._needs_type:
            self._check_type(step, sites.op)
        self._put_ids(step, message, sites)
        return message

    def encoded(self, step: Step) -> bytearray:
        """Return a request as the live session lays it out, with the recorded ids. SkipStep when it is malformed."""
        try:
            return self._encoder.live(OPS[step.opcode], self._recording.whole_request(step))
        except Refused:
            raise SkipStep(Skip.MALFORMED) from None

    def _put_ids(self, step: Step, message: bytearray, sites: RequestSites) -> None:
        unpack, pack = U64.unpack_from, U64.pack_into
        length = len(message)
        nodes = self._mapper.nodes
        opened_on = self._put_handles(step, message, sites) if step.handles else ()
        for at in sites.nodes:
            if at in opened_on:
                continue
            if at + 8 > length:
                raise SkipStep(Skip.MALFORMED)
            (node,) = unpack(message, at)
            if node != ROOT_ID:
                if node not in nodes:
                    raise UnmappedNode(node)
                pack(message, at, nodes[node])

    def _put_handles(self, step: Step, message: bytearray, sites: RequestSites) -> list[int]:
        """Put live handles and the nodes they were opened on; return where those nodes are."""
        keys, mapper, done = iter(step.handles), self._mapper, []
        found = []
        for at, node_at, valid in sites.handles:
            if at + 8 <= len(message) and (valid is None or valid.holds(message, "<")):
                key = next(keys)
                live = mapper.handles.get(key)
                if live is None or not mapper.is_held(live[1]):
                    (node,) = U64.unpack_from(message, node_at)
                    raise UnmappedHandle(node, key) if node in mapper.nodes else UnmappedNode(node)
                found.append((at, node_at, live))
                done.append(node_at)
        for at, node_at, (handle, opened_on) in found:  # all or none: what is not open is learnt by the recorded ids
            U64.pack_into(message, at, handle)
            U64.pack_into(message, node_at, opened_on)
        return done

    def _check_type(self, step: Step, op: Op) -> None:
        file_type = self._mapper.type(self._recording.node(step))
        values = self._recording.values(step) if op is SETATTR and file_type else {}
        reason = unlikely(op, file_type, values)
        if reason is not None:
            raise SkipStep(reason)

    def room(self, message: bytearray, opcode: int) -> int:
        """Return how many bytes the kernel would offer for the reply."""
        return self.rooms[opcode](message)


def _room_of(op: Op, context: Context) -> Callable[[bytearray], int]:
    """Return what works out the room for a reply from its request: exactly what a kernel would offer.

    virtiofsd reads as much as fits, whatever was asked for, when it is offered more.
    """
    if op.code in NEVER_ANSWERED:
        return lambda message: 0
    sizes = _offsets(op, context)
    shapes = [(base, sizes.get(bound, NOWHERE)) for base, bound in room_fields(op, context)]
    if not isinstance(op.reply, Either):
        base, bound_at = shapes[0]
        if manner(op) is Manner.INIT:
            return lambda message: REPLY_HEADER_SIZE + 64  # fuse_init_out, whatever is agreed on
        if bound_at == NOWHERE:
            return lambda message: base
        return lambda message: base + int(U32.unpack_from(message, bound_at)[0])
    when = op.reply.when
    asked_at = sizes[when.field.removeprefix("request.")]
    (first, _), (second, bound_at) = shapes

    def either(message: bytearray) -> int:
        (asked,) = U32.unpack_from(message, asked_at)
        return first if when.holds(asked) else second + int(U32.unpack_from(message, bound_at)[0])

    return either


def _offsets(op: Op, context: Context) -> dict[str, int]:
    layout = agreed_layout(op.request, context)
    return {field.name: REQUEST_HEADER_SIZE + at for field, at in zip(layout.head, layout.offsets(), strict=True)}


def forget_messages(pairs: Pairs, like: bytes | bytearray, minor: int) -> list[bytearray]:
    """Return what gives lookups back, for the caller of `like`: one message where there is BATCH_FORGET (7.16)."""
    if len(pairs) > 1 and minor >= BATCH_SINCE:
        body = struct.pack("<II", len(pairs), 0) + b"".join(struct.pack("<QQ", *pair) for pair in pairs)
        return [request_like(like, BATCH_FORGET, 0, body)]
    return [request_like(like, FORGET, node, U64.pack(count)) for node, count in pairs]
