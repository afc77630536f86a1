"""What is said to every real server: a whole little session, from INIT to DESTROY, by hand-built messages.

Also a program, so that it can be run as another user: it reads one JSON object from stdin, an `Order`, and prints a
`Heard` as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import asdict, dataclass

from examples.demo import mounts
from replays.transports import launcher
from tests.replays.transports.kernel import MEBIBYTE, ROOT, Kernel

HELLO = b"hello from memfs\n"  # of tests.servers.base.seed
CONTENT = bytes(range(251)) * (MEBIBYTE // 251 + 1)
READ_BYTES = 128 << 10  # go-fuse refuses longer READs


@dataclass(frozen=True)
class Order:
    """Which server to start and how to reach it."""

    argv: list[str]
    transport: str
    writable: bool


@dataclass
class Heard:
    """What the server said, as far as it can be compared between servers."""

    uid: int
    transport: str
    how: str
    minor: int = 0
    max_write: int = 0
    hello: str = ""
    names: tuple[str, ...] = ()
    listed_by: str = ""
    namelen: int = 0
    written_bytes: int = 0
    read_back: bool = False
    destroyed: bool = False
    mounted: tuple[str, ...] = ()  # while it served: by nobody's wish
    ended: str = ""


def converse(order: Order) -> Heard:
    """Start the server, talk to it, end it."""
    launched = launcher.launch(order.argv, order.transport)
    heard = Heard(os.getuid(), launched.transport.name, launched.how)
    try:
        _talk(Kernel(launched.transport), heard, order.writable)
        places = [mount.mount_point for mount in mounts.fuse_mounts()]
        heard.mounted = tuple(place for place in places if place in order.argv or "fusewire-mount-" in place)
    finally:
        heard.ended = launched.transport.close().how
    return heard


def _talk(kernel: Kernel, heard: Heard, writable: bool) -> None:
    begun = kernel.begin()
    heard.minor = kernel.context.minor or 0
    heard.max_write = min(int(str(begun.values["max_write"])), MEBIBYTE)
    kernel.number("GETATTR", "attr.mode", getattr_flags=0, dummy=0, fh=0)
    found = kernel.ask("LOOKUP", ROOT, name=b"hello.txt")
    if found.error == -errno.ENOENT:  # a server whose files cannot be laid out beforehand
        _, handle = _created(kernel, b"hello.txt", HELLO, heard.max_write)
    node = kernel.number("LOOKUP", "nodeid", ROOT, name=b"hello.txt")
    size = kernel.number("GETATTR", "attr.size", node, getattr_flags=0, dummy=0, fh=0)
    handle = kernel.number("OPEN", "fh", node, flags=os.O_RDONLY, open_flags=0)
    heard.hello = _data(kernel, node, handle, 4096).decode()
    assert len(heard.hello) == size
    _release(kernel, "RELEASE", node, handle)
    heard.names = _listed(kernel, heard)
    heard.namelen = kernel.number("STATFS", "namelen")
    if writable:
        _write_and_read_back(kernel, heard)
    kernel.tell("FORGET", node, nlookup=1)
    heard.destroyed = kernel.ask("DESTROY", 0).error in (0, -errno.ENOSYS)


def _write_and_read_back(kernel: Kernel, heard: Heard) -> None:
    content = CONTENT[:MEBIBYTE]
    node, handle = _created(kernel, b"big.bin", content, heard.max_write)
    heard.written_bytes = kernel.number("GETATTR", "attr.size", node, getattr_flags=0, dummy=0, fh=0)
    handle = kernel.number("OPEN", "fh", node, flags=os.O_RDONLY, open_flags=0)
    heard.read_back = _data(kernel, node, handle, MEBIBYTE) == content
    _release(kernel, "RELEASE", node, handle)


def _created(kernel: Kernel, name: bytes, content: bytes, max_write: int) -> tuple[int, int]:
    """Create a file and write it in as few requests as the server allows; return node and (released) handle."""
    made = kernel.ask("CREATE", ROOT, flags=os.O_RDWR | os.O_CREAT, mode=0o100644, umask=0o22, open_flags=0, name=name)
    assert made.error == 0, made
    node, handle = int(str(made.values["nodeid"])), int(str(made.values["fh"]))
    for offset in range(0, len(content), max_write):
        piece = content[offset : offset + max_write]
        io = {"fh": handle, "offset": offset, "write_flags": 0, "lock_owner": 0, "flags": os.O_RDWR}
        assert kernel.number("WRITE", "size", node, None, **io, size=len(piece), data=piece) == len(piece)
    kernel.ask("FLUSH", node, fh=handle, unused=0, padding=0, lock_owner=0)
    _release(kernel, "RELEASE", node, handle)
    return node, handle


def _data(kernel: Kernel, node: int, handle: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        answer = kernel.read(node, handle, len(content), min(READ_BYTES, size))
        assert answer.error == 0, answer
        piece = answer.values["data"]
        assert isinstance(piece, bytes)
        content += piece
        if not piece:
            break
    return content


def _listed(kernel: Kernel, heard: Heard) -> tuple[str, ...]:
    """List the root by READDIRPLUS, by READDIR where that is not known."""
    handle = kernel.number("OPENDIR", "fh", ROOT, flags=os.O_RDONLY | os.O_DIRECTORY, open_flags=0)
    heard.listed_by = "READDIRPLUS"
    answer = kernel.read(ROOT, handle, 0, 4096, heard.listed_by)
    if answer.error == -errno.ENOSYS:
        heard.listed_by = "READDIR"
        answer = kernel.read(ROOT, handle, 0, 4096, heard.listed_by)
    assert answer.error == 0, answer
    entries = answer.values["entries"]
    assert isinstance(entries, list)
    _release(kernel, "RELEASEDIR", ROOT, handle)
    names = {entry.get("name", entry.get("dirent.name")) for entry in entries if isinstance(entry, dict)} - {
        b".",
        b"..",
    }
    return tuple(sorted(name.decode() for name in names if isinstance(name, bytes)))


def _release(kernel: Kernel, name: str, node: int, handle: int) -> None:
    kernel.ask(name, node, fh=handle, flags=0, release_flags=0, lock_owner=0)


def main() -> None:
    """Do what stdin says."""
    json.dump(asdict(converse(Order(**json.load(sys.stdin)))), sys.stdout)


if __name__ == "__main__":
    main()
