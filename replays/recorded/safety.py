"""What is never sent, whoever recorded it: a trace is a file from somewhere, and servers believe their kernel.

Measured: LOOKUP of "../x" left the root of four servers; an unknown node or handle ends most of them.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping

from dissectors.fields import Kind, Role
from dissectors.message import Value
from dissectors.opcodes import OPS_BY_NAME, NodeIs, Op
from replays.reasons import Skip

LONGEST_NAME = 4095  # bytes: FUSE_NAME_MAX of 6.15
MOST_READ = 16 << 20  # bytes in one request, a power of two above max_pages_limit's default of 1 MiB
O_TRUNC = 0o1000
FATTR_MODE, FATTR_SIZE = 0x1, 0x8
OPEN, OPENDIR, SETATTR, TMPFILE = (OPS_BY_NAME[name] for name in ("OPEN", "OPENDIR", "SETATTR", "TMPFILE"))
NAMELESS = b"/"  # what the kernel calls a file without a name (slash_name, vfs_tmpfile); servers do not look at it


def is_safe_name(name: bytes) -> bool:
    """Tell whether a kernel could say this name of something in a directory."""
    return bool(name) and name not in (b".", b"..") and not {0x2F, 0} & set(name) and len(name) <= LONGEST_NAME


def refusal(op: Op, values: Mapping[str, Value], *, allow_writes: bool) -> Skip | None:
    """Return why a request must not be played whatever the live server says, None when it may be."""
    if not allow_writes and changes(op, values):
        return Skip.WRITES
    for field in op.request:
        value = values.get(field.name)
        if op is TMPFILE and value == NAMELESS:
            continue
        if field.kind is Kind.NAME and not (isinstance(value, bytes) and _is_speakable(field.role, value)):
            return Skip.HOSTILE_NAME if isinstance(value, bytes) else Skip.MALFORMED
    if any(isinstance(size := values.get(name), int) and size > MOST_READ for name in ("size", "out_size")):
        return None if op is SETATTR else Skip.HOSTILE_SIZE
    return None


def _is_speakable(role: Role | None, value: bytes) -> bool:
    return is_safe_name(value) if role is Role.NAME else bool(value) and b"\0" not in value


def changes(op: Op, values: Mapping[str, Value]) -> bool:
    """Tell whether a request changes what the server stores: OPEN does with O_TRUNC (ATOMIC_O_TRUNC)."""
    flags = values.get("flags", 0)
    return op.mutates or (op is OPEN and isinstance(flags, int) and bool(flags & O_TRUNC))


def unlikely(op: Op, file_type: int, values: Mapping[str, Value]) -> Skip | None:
    """Return why no kernel would ask `op` of a node that is, on the live server, of `file_type` (S_IFMT bits).

    A server that follows a link when it opens by path would be led out of its directory.
    """
    if op.node is NodeIs.PARENT or op is OPENDIR:
        return Skip.NOT_A_DIRECTORY if file_type and file_type != stat.S_IFDIR else None
    if op is OPEN:
        return Skip.NOT_A_FILE if file_type in (stat.S_IFLNK, stat.S_IFDIR) else None
    if op is SETATTR and file_type == stat.S_IFLNK:
        valid = values.get("valid", 0)
        if isinstance(valid, int) and valid & (FATTR_MODE | FATTR_SIZE):
            return Skip.NOT_A_FILE
    return None
