"""The names of the language: fields of the catalog, and the prefixes that stand for a kind of message."""

from __future__ import annotations

from difflib import get_close_matches

from dissectors.catalog import CATALOG, FilterField
from dissectors.message import MessageKind
from dissectors.opcodes import NOTIFY, OPS, Notification, Op

EVERYTHING = "fuse"
MAX_NAME = 80  # a longer one resembles nothing

# "fuse.write": the exchange is a WRITE; "fuse.write.reply": it was answered without an error.
KINDS: dict[str, tuple[Op | Notification, MessageKind]] = {
    **{f"fuse.{op.name.lower()}": (op, MessageKind.REQUEST) for op in OPS.values()},
    **{f"fuse.{op.name.lower()}.reply": (op, MessageKind.REPLY) for op in OPS.values()},
    **{f"fuse.notify.{item.name.lower()}": (item, MessageKind.NOTIFICATION) for item in NOTIFY.values()},
}


def fields_below(prefix: str) -> list[FilterField]:
    """Return the fields whose names begin with `prefix` and a dot."""
    return [field for name, field in CATALOG.items() if name.startswith(prefix + ".")]


def suggestion(name: str) -> str:
    """Say which field was probably meant."""
    if len(name) > MAX_NAME:
        return "no field has so long a name"
    wanted = name.lower().strip(".")
    if wanted in CATALOG or wanted in KINDS:
        return f"did you mean {wanted}?"
    ending = [known for known in CATALOG if known.endswith("." + wanted)]
    near = ending[:3] if ending else get_close_matches(wanted, [*CATALOG, *KINDS], 1, 0.7)
    if not near:
        near = get_close_matches(f"fuse.{wanted}", CATALOG, 1, 0.75)
    if near:
        return f"did you mean {' or '.join(near)}?"
    below = fields_below(wanted.rpartition(".")[0])[:3] if "." in wanted else []
    if below and below[0].op is not None:
        return f"there are {', '.join(field.name for field in below)} ..."
    return "fields are called fuse.opcode, fuse.path, fuse.latency, fuse.write.size, proc.comm ..."
