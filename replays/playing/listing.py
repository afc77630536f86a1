"""Plays READDIR and READDIRPLUS: as many portions as it takes, and a LOOKUP for each node that is needed besides."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable

from dissectors.fast import reader
from dissectors.opcodes import OPS, OPS_BY_NAME
from replays.playing.directories import MOST_PORTIONS, Listing
from replays.playing.learning import look_up
from replays.playing.session import Session
from replays.playing.talk import U32, U64, Ask, Talk, error_of
from replays.reasons import Skip, SkipStep
from replays.recorded.recording import Entry, Step, entries_of
from replays.recorded.safety import is_safe_name
from replays.recorded.sites import OPCODE_AT

READDIR, READDIRPLUS = OPS_BY_NAME["READDIR"].code, OPS_BY_NAME["READDIRPLUS"].code
Compared = Callable[[Step, Listing], None]


def list_directory(session: Session, step: Step, message: bytearray, compare: Compared) -> Talk:
    """Ask for the next portion; when the recorded listing ended there, go on to the live one's end and compare."""
    recording = session.recording
    listing = session.listing(step.handles[0])
    sites = session.translator.sites[step.opcode]
    cookie = listing.go_to(recording.number(step, sites.cookie_at))
    if cookie is None:
        raise SkipStep(Skip.UNKNOWN_COOKIE)
    opcode = _opcode(session, step)
    reply = yield from _portion(session, listing, message, cookie, opcode)
    if error_of(reply) == -errno.ENOSYS and opcode == READDIRPLUS:
        session.silenced.add(READDIRPLUS)
        opcode = _opcode(session, step)
        reply = yield from _portion(session, listing, message, cookie, opcode)
    if recording.error(step) == 0:
        recorded = recording.entries(step)
        listing.heard(recorded, is_whole=step.reply_wire_len == step.reply_end - step.reply_at)
    for _ in range(MOST_PORTIONS):
        if not listing.recorded.has_ended or listing.live.has_ended or error_of(reply):
            break
        session.added[opcode] += 1
        reply = yield from _portion(session, listing, message, listing.live.last, opcode)
    yield from _claim(session, step, message, listing)
    if listing.is_comparable:
        compare(step, listing)
        listing.was_compared = True
    return reply


def _opcode(session: Session, step: Step) -> int:
    """Return what is sent for a READDIRPLUS: a kernel sends none to a server that did not agree on it."""
    if step.opcode != READDIRPLUS or (session.agreement.has("DO_READDIRPLUS") and READDIRPLUS not in session.silenced):
        return step.opcode
    session.notes.add("no-readdirplus", "READDIR was sent for READDIRPLUS", opcode=step.opcode, exchange=step.exchange)
    return READDIR


def _portion(session: Session, listing: Listing, message: bytearray, cookie: int, opcode: int) -> Talk:
    sites = session.translator.sites[opcode]
    asked = bytearray(message)
    U64.pack_into(asked, sites.cookie_at, cookie)
    U32.pack_into(asked, OPCODE_AT, opcode)
    (size,) = U32.unpack_from(asked, sites.size_at)
    U32.pack_into(asked, sites.size_at, min(size, session.agreement.max_read))  # how much comes at once means nothing
    reply = yield Ask(asked, session.translator.room(asked, opcode))
    if error_of(reply) == 0:
        listing.listed(live_entries(session, opcode, reply))
    return reply


def live_entries(session: Session, opcode: int, reply: bytes) -> list[Entry]:
    """Return what a live listing's reply holds; nothing of a malformed one."""
    values = reader(session.agreement.context).reply(reply, 0, len(reply), OPS[opcode].code)
    return entries_of(values or {})


def _claim(session: Session, step: Step, message: bytearray, listing: Listing) -> Talk:
    """Map the nodes both gave out, and look those up that the live listing did not give and a later step needs."""
    mapper = session.mapper
    directory = mapper.node(session.recording.node(step))
    for match in listing.matches():
        name = None if directory is None else (directory, match.name)
        mapper.entry(match.recorded, match.live, match.mode, name=name)
    reply = b""
    for entry in listing.missing():
        is_mapped = mapper.node(entry.node) is not None
        is_found = False
        if directory is not None and _is_wanted(session, step, entry, directory):
            reply = yield from look_up(session, message, directory, entry.name, entry.node)
            is_found = error_of(reply) == 0
        if is_mapped and not is_found:
            mapper.recorded_only(entry.node)
        listing.found_otherwise(entry.name)
    return reply


def _is_wanted(session: Session, step: Step, entry: Entry, directory: int) -> bool:
    """Tell whether a name has to be looked up: for the node, or as another way to it when the one known is gone."""
    mapper = session.mapper
    links = entry.values.get("attr.nlink", 1)
    has_others = isinstance(links, int) and links > 1 and not stat.S_ISDIR(entry.mode)
    is_new = mapper.node(entry.node) is None or (has_others and not mapper.is_named((directory, entry.name)))
    return is_new and session.plan.is_needed(entry.node, step.number) and is_safe_name(entry.name)
