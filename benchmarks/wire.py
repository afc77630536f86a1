"""Messages as bytes, fast: structs compiled from the declarations, bodies of files kept ready."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from dissectors.fields import Field
from dissectors.flags import ATTR_SUBMOUNT
from dissectors.layout import Context, Layout, agreed_layout
from dissectors.opcodes import NEWEST_MINOR, OPS_BY_NAME, ROOT_ID, Either
from dissectors.structs import IN_HEADER, OUT_HEADER

MINOR = 45
INIT_FLAGS = 0x73FFFFFB
CONTEXT = Context(MINOR, INIT_FLAGS)
IN_SIZE, OUT_SIZE = 40, 16
S_IFDIR, S_IFREG = 0o040755, 0o100644
SECONDS_VALID = 1
FIRST_SECOND = 1_760_000_000  # the trace begins here, so that two runs write the same

assert MINOR <= NEWEST_MINOR


def layout(fields: tuple[Field, ...]) -> Layout:
    return agreed_layout(fields, CONTEXT)


def body(fields: tuple[Field, ...], **values: int) -> bytes:
    """Pack the head of `fields`; what is not given is 0. Dots of a name are written as two underscores."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    head = layout(fields).head
    missing = named.keys() - {one.name for one in head}
    assert not missing, missing
    empty = {one.name: b"" for one in head if not one.kind.is_integer}
    return layout(fields).struct.pack(*[named.get(one.name, empty.get(one.name, 0)) for one in head])


def code(name: str) -> int:
    return OPS_BY_NAME[name].code


def request_struct(name: str) -> struct.Struct:
    return layout(OPS_BY_NAME[name].request).struct


def reply_fields(name: str) -> tuple[Field, ...]:
    reply = OPS_BY_NAME[name].reply
    return reply.then if isinstance(reply, Either) else reply


in_header = struct.Struct("<" + "".join(one.code for one in IN_HEADER.fields)).pack
out_header = struct.Struct("<" + "".join(one.code for one in OUT_HEADER.fields)).pack


@dataclass(slots=True, eq=False)
class File:
    """A node of the server's tree. `nodeid` is 0 while the kernel does not hold it."""

    name: bytes
    parent: File | None
    is_dir: bool = False
    is_submount: bool = False
    size: int = 0
    nodeid: int = 0
    users: int = 0  # tasks at work on it: not to be forgotten
    nlookup: int = 0
    files: list[File] = field(default_factory=list)
    entry: bytes = b""  # fuse_entry_out
    attributes: bytes = b""  # fuse_attr_out

    def settle(self, nodeid: int) -> None:
        """Take a nodeid, and keep the replies that tell of this node ready."""
        self.nodeid = nodeid
        attr = {
            "attr__ino": nodeid + 1000,
            "attr__size": self.size,
            "attr__blocks": -(-self.size // 512),
            "attr__atime": FIRST_SECOND - 3600,
            "attr__mtime": FIRST_SECOND - 7200,
            "attr__ctime": FIRST_SECOND - 7200,
            "attr__mtimensec": 123_456_789,
            "attr__mode": S_IFDIR if self.is_dir else S_IFREG,
            "attr__nlink": 2 if self.is_dir else 1,
            "attr__uid": 1000,
            "attr__gid": 1000,
            "attr__blksize": 4096,
        }
        self.attributes = body(reply_fields("GETATTR"), attr_valid=SECONDS_VALID, **attr)
        self.entry = body(
            reply_fields("LOOKUP"),
            nodeid=nodeid,
            entry_valid=SECONDS_VALID,
            attr_valid=SECONDS_VALID,
            attr__flags=ATTR_SUBMOUNT if self.is_submount else 0,
            **attr,
        )


def tree(submounts: int, dirs: int, files: int, sizes: list[int]) -> tuple[File, list[File]]:
    """Return the root and every directory of a tree with `dirs` directories in the mount and in each submount."""
    root = File(b"", None, is_dir=True)
    root.settle(ROOT_ID)
    every = [root]
    for number in range(submounts + 1):
        top = root if not number else _child(root, b"mnt%d" % number, is_dir=True, is_submount=True)
        every += [top] * bool(number)
        place = top
        for n in range(dirs):
            place = _child(place if n % 4 else top, b"dir-%03d" % n, is_dir=True)
            every.append(place)
            for m in range(files):
                _child(place, b"report-%04d.txt" % m, size=sizes[(n * files + m) % len(sizes)])
    return root, every


def _child(parent: File, name: bytes, *, is_dir: bool = False, is_submount: bool = False, size: int = 0) -> File:
    child = File(name, parent, is_dir, is_submount, size)
    parent.files.append(child)
    return child
