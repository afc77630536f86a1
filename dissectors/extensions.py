"""The extension area at the end of CREATE, MKDIR, MKNOD, SYMLINK and TMPFILE (7.36, with its own length since 7.38).

Records of two u32, size and X. X up to 31 is a count of security labels, a larger X the type of an extension
(fuse.h: "FUSE extension header ... type must not clash with nr_secctx").
"""

from __future__ import annotations

import struct

from dissectors import structs_session as s
from dissectors.fields import Field, body, data, integers, records, u32
from dissectors.message import Node, Problem, Severity
from dissectors.walk import Walk

MAX_SECCTX = 31
EXT_GROUPS = 32
MAX_EXTENSIONS = 1024  # Linux sends two at most; an area of 512 KiB has room for 65,536

SECURITY_CONTEXT = body(
    s.SECCTX_HEADER,
    records("labels", "security labels", *s.SECCTX_RECORD, count_from="nr_secctx", align=8),
)
GROUPS = body(
    s.EXT_HEADER,
    s.SUPP_GROUPS,
    integers("groups", "supplementary groups", u32("gid", "group"), count_from="nr_groups"),
    data("_pad", "", role=None),
)
UNKNOWN_EXTENSION = body(s.EXT_HEADER, data("data", "content"))


def shape(kind: int) -> tuple[str, tuple[Field, ...]]:
    """Return the name and the fields of an extension record whose second word is `kind`."""
    if kind <= MAX_SECCTX:
        return "security_context", SECURITY_CONTEXT
    if kind == EXT_GROUPS:
        return "supplementary_groups", GROUPS
    return f"extension_{kind}", UNKNOWN_EXTENSION


def read_extensions(content: bytes, start: int, end: int, order: str, problems: list[Problem]) -> list[Node]:
    """Read the records between `start` and `end`; whatever is wrong goes to `problems`."""
    nodes: list[Node] = []
    at = start
    while at < end and at < len(content):
        if len(nodes) == MAX_EXTENSIONS:
            problems.append(Problem(at, f"only the first {MAX_EXTENSIONS} extensions are shown", Severity.NOTE))
            break
        if at + 8 > end:
            problems.append(Problem(at, f"an extension needs 8 bytes, {end - at} are left"))
            break
        if at + 8 > len(content):  # cut before the word that says what it is
            children = Walk(content, at, end, order, problems).fields(s.EXT_HEADER.fields)
            nodes.append(Node("extension", None, at, len(content), None, tuple(children)))
            break
        size, kind = struct.unpack_from(order + "II", content, at)
        if size < 8 or at + size > end:
            problems.append(Problem(at, f"extension of {size} bytes, {end - at} are left"))
            break
        name, fields = shape(kind)
        walk = Walk(content, at, at + size, order, problems)
        children = walk.fields(fields)
        if walk.at < at + size and not walk.is_broken:
            problems.append(Problem(walk.at, f"{name} has {at + size - walk.at} bytes more than known"))
        nodes.append(Node(name, None, at, min(at + size, len(content)), None, tuple(children)))
        at += size
    return nodes
