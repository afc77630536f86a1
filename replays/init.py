"""INIT: what is offered to the live server, and what both agree on.

Offered is what the recorded kernel offered, less what only a kernel can do, changed as the user wishes: an older minor
or fewer features show how a server gets on with an older or poorer kernel.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dissectors.fast import reply_values
from dissectors.flags import INIT_FLAG_NAMES, init_flag
from dissectors.layout import Context
from dissectors.message import Value
from dissectors.opcodes import NEWEST_MINOR, OPS_BY_NAME
from dissectors.reference import build_request
from dissectors.structs import REPLY_HEADER_SIZE
from tracer.errors import TracerError

INIT = OPS_BY_NAME["INIT"]
MAJOR = 7
PAGE = 4096
LEAST_PAGES = 32  # in one message, where MAX_PAGES was not agreed on (FUSE_DEFAULT_MAX_PAGES_PER_REQ)
HEADERS = 4096  # beside the data of a WRITE or READ: a page, as kernel and servers reckon
DEFAULT_READAHEAD = 128 << 10
EXT_SINCE = 36  # flags2 and the longer INIT

# What only a kernel can do: open backing files, run a ring, map memory.
NEEDS_KERNEL = sum(
    init_flag(name)
    for name in ("PASSTHROUGH", "OVER_IO_URING", "HAS_IO_URING_BUFPOOL", "MAP_ALIGNMENT", "HAS_INODE_DAX")
)
# What every kernel of the last years offers: for a recording that began without INIT.
USUAL = sum(
    init_flag(name)
    for name in INIT_FLAG_NAMES[:31]
    if name not in ("MAP_ALIGNMENT", "SUBMOUNTS", "INIT_EXT", "WRITEBACK_CACHE")
)


@dataclass(frozen=True, slots=True)
class InitEdit:
    """How to change the INIT that is offered."""

    minor: int | None = None
    max_readahead: int | None = None
    add: int = 0  # 64-bit flag words
    remove: int = 0

    @classmethod
    def parse(cls, text: str) -> InitEdit:
        """Read "minor=31,flags-=READDIRPLUS,flags+=SUBMOUNTS,max_readahead=65536"; TracerError when it is not that."""
        edit = cls()
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, sign, value = _parted(part)
            match name + sign:
                case "minor=":
                    edit = replace(edit, minor=_number(part, value, NEWEST_MINOR))
                case "max_readahead=":
                    edit = replace(edit, max_readahead=_number(part, value, 0xFFFF_FFFF))
                case "flags-=":
                    edit = replace(edit, remove=edit.remove | _flag(value))
                case "flags+=":
                    edit = replace(edit, add=edit.add | _flag(value))
                case _:
                    raise TracerError(
                        f"--init does not know {part!r}", "use minor=N, max_readahead=N, flags-=X, flags+=X"
                    )
        if edit.add & NEEDS_KERNEL:
            raise TracerError(
                "--init cannot add what needs a kernel", "PASSTHROUGH, OVER_IO_URING and DAX cannot be replayed"
            )
        return edit


def _parted(part: str) -> tuple[str, str, str]:
    name, equals, value = part.partition("=")
    sign = name[-1:] if name[-1:] in ("+", "-") else ""
    return name.removesuffix(sign).strip() if sign else name.strip(), sign + equals, value.strip()


def _number(part: str, value: str, most: int) -> int:
    try:
        number = int(value, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise TracerError(f"--init: {part!r} needs a number from 0 to {most}", "for example minor=31")
    return number


def _flag(name: str) -> int:
    upper = name.upper()
    for candidate in (upper, f"DO_{upper}"):
        if candidate in INIT_FLAG_NAMES:
            return init_flag(candidate)
    near = difflib.get_close_matches(upper, INIT_FLAG_NAMES, 1)
    raise TracerError(
        f"--init: there is no INIT flag {name!r}", f"did you mean {near[0]}?" if near else "see docs/GLOSSARY.md"
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """What the kernel's part says in INIT."""

    minor: int
    max_readahead: int
    flags: int  # all 64

    def message(self) -> bytes:
        """Return the request, its unique still 0, in this machine's byte order of the protocol (little-endian)."""
        flags = self.flags
        values: dict[str, Value] = {"major": MAJOR, "minor": self.minor}
        if self.minor >= 6:
            values |= {"max_readahead": self.max_readahead, "flags": flags & 0xFFFF_FFFF}
        if self.minor >= EXT_SINCE:
            values |= {"flags2": flags >> 32}
        return build_request({}, INIT, values, Context(self.minor))


def offer(recorded: Mapping[str, Value], known: Context, edit: InitEdit) -> Offer:
    """Return what to offer; `recorded` are the values of the recorded INIT, empty when there is none."""
    if recorded:
        minor = _integer(recorded, "minor")
        flags = _integer(recorded, "flags") | _integer(recorded, "flags2") << 32
        readahead = _integer(recorded, "max_readahead")
    else:
        minor, readahead = known.effective_minor, DEFAULT_READAHEAD
        flags = USUAL if known.init_flags is None else known.init_flags
    if edit.minor is not None:
        minor = edit.minor
    flags = (flags | edit.add) & ~(edit.remove | NEEDS_KERNEL)
    if minor < EXT_SINCE:
        flags &= 0xFFFF_FFFF & ~init_flag("INIT_EXT")
    elif flags >> 32:
        flags |= init_flag("INIT_EXT")
    return Offer(min(minor, NEWEST_MINOR), readahead if edit.max_readahead is None else edit.max_readahead, flags)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What INIT came to: how messages are laid out from then on, and how long they may be."""

    context: Context
    max_write: int
    max_read: int
    offered: int
    accepted: int  # 64-bit flag words
    values: Mapping[str, Value]

    def has(self, flag: str) -> bool:
        """Tell whether both want a feature."""
        return bool(self.context.has(flag))


def agreed(offered: Offer, reply: bytes, most_bytes: int) -> Agreement:
    """Read the answer to INIT; TracerError when there is nothing to agree on. `most_bytes`: of the transport."""
    context = Context(offered.minor)
    values = reply_values(reply, 0, len(reply), context, INIT)
    error = -int.from_bytes(reply[4:8], "little", signed=True) if len(reply) >= REPLY_HEADER_SIZE else 0
    if not values or error:
        what = f"error {error}" if error else f"{len(reply)} bytes that are no answer"
        raise TracerError(
            f"the server refused INIT of 7.{offered.minor}: {what}", "offer it another kernel: --init minor=31"
        )
    if _integer(values, "major") != MAJOR:
        raise TracerError(
            f"the server speaks {_integer(values, 'major')}.x of the protocol, not 7.x", "it is no FUSE server"
        )
    minor = min(offered.minor, _integer(values, "minor"))
    accepted = (_integer(values, "flags") | _integer(values, "flags2") << 32) & offered.flags
    pages = _integer(values, "max_pages") if accepted & init_flag("MAX_PAGES") else LEAST_PAGES
    room = max(PAGE, min(max(1, pages) * PAGE, most_bytes - HEADERS))
    max_write = max(PAGE, _integer(values, "max_write")) if minor >= 5 else PAGE
    return Agreement(Context(minor, accepted), min(max_write, room), room, offered.flags, accepted, values)


def _integer(values: Mapping[str, Value], name: str) -> int:
    value = values.get(name, 0)
    return value if isinstance(value, int) else 0
