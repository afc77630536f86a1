"""The two sides of a difference as text: errors, modes and flags by name, content by where it parts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from dissectors.errnos import error_text
from dissectors.fields import Field
from dissectors.opcodes import OPS, OPS_BY_NAME, Either
from dissectors.text import escape, is_name, payload_text, value_text
from replays.parting import Kept, Part, parting
from replays.report import Difference

READDIRPLUS = OPS_BY_NAME["READDIRPLUS"].code
MOST_NAMES = 8
CONTEXT_BYTES = 16  # shown from where two contents part
ABSENT = "absent"


def difference_texts(difference: Difference) -> tuple[str, str]:
    """Return what either side said, for a person and safe to show; empty where nothing can be said."""
    recorded, live = difference.recorded, difference.live
    if difference.rule == "names":
        return _only(recorded), _only(live)
    if difference.rule == "no-answer":
        return "an answer", "none"
    if not difference.field:
        return "", _beginning(difference)
    if isinstance(recorded, bytes) and isinstance(live, bytes):
        return _parting(difference, recorded, live)
    return _text(difference, recorded), _text(difference, live)


def difference_field(difference: Difference) -> Field | None:
    """Return the declaration of the field that differs; None where it is about the whole message."""
    # The names of a listing are compared when it ends, which a READDIR may tell where READDIRPLUS gave attributes.
    return _fields(difference.opcode).get(difference.field) or _fields(READDIRPLUS).get(difference.field)


def _beginning(difference: Difference) -> str:
    kept = difference.live_bytes
    return payload_text(kept, difference.live_size - len(kept)) if kept else ""


def _text(difference: Difference, value: Kept) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, Part):
        return _from(value.length, value.at, value.kept) if isinstance(value.kept, bytes) else f"{value.length} names"
    if difference.field == "error" and isinstance(value, int):
        return error_text(value) if value else "success"
    if difference.rule == "error" and isinstance(value, int):  # an entry that is there, or is not: LOOKUP.nodeid
        return "found" if value else "no such name"
    field = difference_field(difference)
    if field is not None:
        return value_text(field, value)
    return payload_text(value) if isinstance(value, bytes) else str(value)


def _parting(difference: Difference, recorded: bytes, live: bytes) -> tuple[str, str]:
    field = difference_field(difference)
    if field is not None and is_name(field):
        return escape(recorded), escape(live)
    at = parting(recorded, live)
    return _from(len(recorded), at, recorded[at:]), _from(len(live), at, live[at:])


def _from(length: int, at: int, piece: bytes) -> str:
    unit = "byte" if length == 1 else "bytes"
    there = f'"{escape(piece, CONTEXT_BYTES)}"' if piece else "the end"
    return f"{length} {unit}, at {at}: {there}"


def _only(names: Kept) -> str:
    count, kept = (names.length, names.kept) if isinstance(names, Part) else (0, names)
    if not isinstance(kept, list) or not kept:
        return "no other name"
    shown = [f'"{escape(name, 80)}"' for name in kept[:MOST_NAMES] if isinstance(name, bytes)]
    rest = (count or len(kept)) - MOST_NAMES
    return f"only here: {', '.join(shown)}{f' and {rest} more' if rest > 0 else ''}"


@cache
def _fields(opcode: int) -> dict[str, Field]:
    """Return the fields of an operation's replies by name, those of listed entries too."""
    op = OPS.get(opcode)
    if op is None:
        return {}
    fields = op.reply.then + op.reply.otherwise if isinstance(op.reply, Either) else op.reply
    return {field.name: field for field in _opened(fields)}


def _opened(fields: tuple[Field, ...]) -> Iterator[Field]:
    for field in fields:
        yield field
        yield from _opened(field.record)
