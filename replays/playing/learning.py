"""Ids that a recording does not introduce: it began late, or its server gave no ids where this one does.

A node is looked up along its path, as far as other records tell it; a file is opened with the flags that READ and
WRITE repeat.
"""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.fast import reader
from dissectors.opcodes import OPS, OPS_BY_NAME, ROOT_ID
from replays.playing.session import Session
from replays.playing.talk import U32, U64, Ask, Talk, error_of, request_like
from replays.reasons import Skip, SkipStep
from replays.recorded.recording import HandleKey, Step
from replays.recorded.safety import O_TRUNC, is_safe_name, unlikely
from replays.recorded.sites import Manner, manner, reply_sites
from tracer.trace.names import MAX_DEPTH

LOOKUP, OPEN, OPENDIR = (OPS_BY_NAME[name] for name in ("LOOKUP", "OPEN", "OPENDIR"))
O_CREAT, O_EXCL, O_NOCTTY = 0o100, 0o200, 0o400
NOT_FOR_OPEN = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC  # what no kernel sends, and what changes a file


def look_up(session: Session, like: bytes | bytearray, parent: int, name: bytes, recorded: int) -> Talk:
    """Look a name up in the live node `parent`, for the recorded node it is."""
    message = request_like(like, LOOKUP.code, parent, name + b"\0")
    session.added[LOOKUP.code] += 1
    reply = yield Ask(message, session.translator.room(message, LOOKUP.code))
    if error_of(reply) == 0:
        node, mode = _entry(session, reply)
        session.mapper.entry(recorded, node, mode, name=(parent, name))
    return reply


def _entry(session: Session, reply: bytes) -> tuple[int, int]:
    sites = reply_sites(LOOKUP, session.agreement.context, len(reply))
    if len(reply) < max(sites.node_at, sites.mode_at) + 8:
        return 0, 0
    mode = U32.unpack_from(reply, sites.mode_at)[0] if sites.mode_at >= 0 else 0
    return U64.unpack_from(reply, sites.node_at)[0], mode


def find_node(session: Session, step: Step, like: bytes | bytearray, node: int) -> Talk:
    """Look a node up by its path, a directory after the other; SkipStep when the path is not known or not there."""
    if node in session.not_there:
        raise SkipStep(Skip.UNKNOWN_NODE)
    reply = b""
    for parent, name, child in _way(session, step, node):
        live = session.mapper.node(parent)
        if live is None or not is_safe_name(name):
            raise SkipStep(Skip.UNKNOWN_NODE)
        if unlikely(LOOKUP, session.mapper.type(parent), {}) is not None:
            raise SkipStep(Skip.NOT_A_DIRECTORY)
        message = request_like(like, LOOKUP.code, live, name + b"\0")
        session.added[LOOKUP.code] += 1
        reply = yield Ask(message, session.translator.room(message, LOOKUP.code))
        found, mode = _entry(session, reply) if error_of(reply) == 0 else (0, 0)
        if not found:
            session.not_there.add(node)
            raise SkipStep(Skip.UNKNOWN_NODE)
        session.mapper.entry(child, found, mode, name=(live, name), is_learned=True)
    session.notes.add("learned", "nodes were looked up by their paths", exchange=step.exchange)
    return reply


def _way(session: Session, step: Step, node: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (parent, name, node) from the first directory that is not mapped down to `node`."""
    recording = session.recording
    names = recording.trace.names(recording.channel)
    way: list[tuple[int, bytes, int]] = []
    while node != ROOT_ID and session.mapper.node(node) is None:
        place = names.place(node, step.row)
        if place is None or not place.name or len(way) >= MAX_DEPTH:
            raise SkipStep(Skip.UNKNOWN_NODE)
        way.append((place.parent, place.name, node))
        node = place.parent
    yield from reversed(way)


def find_handle(session: Session, step: Step, like: bytes | bytearray, node: int, key: HandleKey) -> Talk:
    """Open a node whose handle the recording does not introduce; SkipStep when it does not tell how."""
    values = session.recording.values(step)
    flags, op = values.get("flags"), OPENDIR if manner(OPS[step.opcode]) is Manner.LISTING else OPEN
    live = session.mapper.node(node)
    if live is None or not isinstance(flags, int) or "size" not in values:
        raise SkipStep(Skip.UNKNOWN_HANDLE)
    if unlikely(op, session.mapper.type(node), {}) is not None:
        raise SkipStep(Skip.NOT_A_FILE)
    message = request_like(like, op.code, live, U32.pack(flags & ~NOT_FOR_OPEN) + U32.pack(0))
    session.added[op.code] += 1
    reply = yield Ask(message, session.translator.room(message, op.code))
    opened = reader(session.agreement.context).reply(reply, 0, len(reply), op.code)
    fh = (opened or {}).get("fh")
    if not isinstance(fh, int):
        raise SkipStep(Skip.UNKNOWN_HANDLE)
    session.mapper.opened(key, live, fh)
    session.notes.add("learned", "files were opened with the flags of their READ or WRITE", exchange=step.exchange)
    return reply
