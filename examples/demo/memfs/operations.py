"""What the server does for each request: header and body in, errno and body out."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from typing import NamedTuple, Protocol

from memfs import wire
from memfs.tree import Node, Tree
from memfs.wire import Op

NEVER = -1.0  # delay_s of a request that is not answered


class Wishes(Protocol):
    """The options that change an answer; see session.Options."""

    syncfs: str
    write_delay_s: float
    max_write: int
    writeback_cache: bool
    readdirplus: bool
    cache_s: float
    minor: int


class Request(NamedTuple):
    """A request's header fields an answer depends on."""

    opcode: int
    nodeid: int
    uid: int
    gid: int


class Operations:
    """Answers requests out of a tree. Safe to call from several threads."""

    def __init__(self, tree: Tree, options: Wishes) -> None:
        self.tree = tree
        self._options = options
        self._lock = threading.Lock()
        self._next_fh = 1
        self._listings: dict[int, list[tuple[bytes, int]]] = {}
        self._valid = divmod(int(options.cache_s * 10**9), 10**9)
        self._table = {op: getattr(self, op.name.lower()) for op in Op if hasattr(self, op.name.lower())}

    def delay_s(self, opcode: int) -> float:
        """Return how long to hold a request back in seconds, or NEVER."""
        if opcode == Op.WRITE:
            return self._options.write_delay_s
        if opcode == Op.SYNCFS and self._options.syncfs == "never":
            return NEVER
        if opcode == Op.SYNCFS and self._options.syncfs not in ("ok", "enosys", "eio"):
            return float(self._options.syncfs)
        return 0.0

    def answer(self, message: bytes) -> tuple[int, bytes]:
        """Return errno (0: none) and the reply's body for one whole request."""
        _, opcode, _, nodeid, uid, gid, *_ = wire.IN_HEADER.unpack_from(message)
        operation = self._table.get(opcode)
        if operation is None:
            return errno.ENOSYS, b""
        try:
            with self._lock:
                return 0, operation(Request(opcode, nodeid, uid, gid), message[wire.IN_HEADER.size :])
        except OSError as refusal:
            return refusal.errno or errno.EIO, b""

    # The session.

    def init(self, request: Request, body: bytes) -> bytes:
        major, minor, readahead_bytes, offered = wire.INIT_IN.unpack_from(body)
        if major != wire.KERNEL_MAJOR:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        wanted = wire.ASYNC_READ | wire.BIG_WRITES | wire.PARALLEL_DIROPS | wire.MAX_PAGES
        if self._options.readdirplus:
            wanted |= wire.DO_READDIRPLUS | wire.READDIRPLUS_AUTO
        if self._options.writeback_cache:
            wanted |= wire.WRITEBACK_CACHE
        minor = min(minor, self._options.minor)
        max_pages = max(1, self._options.max_write // 4096)
        head = (major, minor, readahead_bytes, offered & wanted, 12, 9, self._options.max_write, 1)
        reply = wire.INIT_OUT.pack(*head, max_pages, 0, 0, 0, 0)
        return reply if minor >= 23 else reply[: wire.INIT_OUT_BEFORE_7_23_BYTES]

    def destroy(self, request: Request, body: bytes) -> bytes:
        return b""

    def syncfs(self, request: Request, body: bytes) -> bytes:
        refusal = {"enosys": errno.ENOSYS, "eio": errno.EIO}.get(self._options.syncfs)
        if refusal is not None:
            raise OSError(refusal, os.strerror(refusal))
        return b""

    def statfs(self, request: Request, body: bytes) -> bytes:
        return wire.KSTATFS.pack(1 << 20, 1 << 19, 1 << 19, 1 << 16, 1 << 15, 4096, 255, 4096, 0)

    def forget(self, request: Request, body: bytes) -> bytes:
        self.tree.forget(request.nodeid, *wire.FORGET_IN.unpack_from(body))
        return b""

    def batch_forget(self, request: Request, body: bytes) -> bytes:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(body)
        for number in range(count):
            at = wire.BATCH_FORGET_IN.size + number * wire.FORGET_ONE.size
            self.tree.forget(*wire.FORGET_ONE.unpack_from(body, at))
        return b""

    def interrupt(self, request: Request, body: bytes) -> bytes:
        return b""  # the request it names is answered in its own time

    def notify_reply(self, request: Request, body: bytes) -> bytes:
        return b""

    # Names.

    def lookup(self, request: Request, body: bytes) -> bytes:
        return self._entry(self.tree.child(request.nodeid, wire.name_of(body)))

    def mknod(self, request: Request, body: bytes) -> bytes:
        mode, rdev, _, _ = wire.MKNOD_IN.unpack_from(body)
        node = self._create(request, body[wire.MKNOD_IN.size :], mode)
        node.rdev = rdev
        return self._entry(node)

    def mkdir(self, request: Request, body: bytes) -> bytes:
        mode, _ = wire.MKDIR_IN.unpack_from(body)
        return self._entry(self._create(request, body[wire.MKDIR_IN.size :], stat.S_IFDIR | mode))

    def create(self, request: Request, body: bytes) -> bytes:
        mode = wire.CREATE_IN.unpack_from(body)[1]
        node = self._create(request, body[wire.CREATE_IN.size :], mode)
        return self._entry(node) + wire.OPEN_OUT.pack(self._new_fh(), 0, 0)

    def symlink(self, request: Request, body: bytes) -> bytes:
        name, target = wire.two_names_of(body)
        node = self.tree.create(request.nodeid, name, stat.S_IFLNK | 0o777, request.uid, request.gid, content=target)
        return self._entry(node)

    def link(self, request: Request, body: bytes) -> bytes:
        (nodeid,) = wire.LINK_IN.unpack_from(body)
        return self._entry(self.tree.link(nodeid, request.nodeid, wire.name_of(body[wire.LINK_IN.size :])))

    def unlink(self, request: Request, body: bytes) -> bytes:
        self.tree.remove(request.nodeid, wire.name_of(body), directory=False)
        return b""

    def rmdir(self, request: Request, body: bytes) -> bytes:
        self.tree.remove(request.nodeid, wire.name_of(body), directory=True)
        return b""

    def rename(self, request: Request, body: bytes) -> bytes:
        (new_parent,) = wire.RENAME_IN.unpack_from(body)
        name, new_name = wire.two_names_of(body[wire.RENAME_IN.size :])
        self.tree.rename(request.nodeid, name, new_parent, new_name)
        return b""

    def rename2(self, request: Request, body: bytes) -> bytes:
        new_parent, flags, _ = wire.RENAME2_IN.unpack_from(body)
        name, new_name = wire.two_names_of(body[wire.RENAME2_IN.size :])
        self.tree.rename(request.nodeid, name, new_parent, new_name, flags)
        return b""

    # Attributes.

    def getattr(self, request: Request, body: bytes) -> bytes:
        return wire.ATTR_OUT.pack(*self._valid, 0) + self.tree.node(request.nodeid).attr()

    def setattr(self, request: Request, body: bytes) -> bytes:
        node = self.tree.node(request.nodeid)
        fields = wire.SETATTR_IN.unpack_from(body)
        valid, size, atime, mtime, ctime = fields[0], fields[3], *fields[5:8]
        atime_rest, mtime_rest, ctime_rest, mode, _, uid, gid = fields[8:15]
        if valid & wire.FATTR_SIZE:
            self.tree.resize(node, size)
        if valid & wire.FATTR_MODE:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        node.uid = uid if valid & wire.FATTR_UID else node.uid
        node.gid = gid if valid & wire.FATTR_GID else node.gid
        now_ns = time.time_ns()
        if valid & wire.FATTR_ATIME:
            node.atime_ns = now_ns if valid & wire.FATTR_ATIME_NOW else atime * 10**9 + atime_rest
        if valid & wire.FATTR_MTIME:
            node.mtime_ns = now_ns if valid & wire.FATTR_MTIME_NOW else mtime * 10**9 + mtime_rest
        node.ctime_ns = ctime * 10**9 + ctime_rest if valid & wire.FATTR_CTIME else now_ns
        return self.getattr(request, b"")

    def access(self, request: Request, body: bytes) -> bytes:
        self.tree.node(request.nodeid)
        return b""

    def setxattr(self, request: Request, body: bytes) -> bytes:
        size, flags = wire.XATTR_SIZE.unpack_from(body)
        name = wire.name_of(body[wire.XATTR_SIZE.size :])
        xattrs = self.tree.node(request.nodeid).xattrs
        if flags & os.XATTR_CREATE and name in xattrs:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if flags & os.XATTR_REPLACE and name not in xattrs:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        at = wire.XATTR_SIZE.size + len(name) + 1
        xattrs[name] = body[at : at + size]
        return b""

    def getxattr(self, request: Request, body: bytes) -> bytes:
        value = self.tree.node(request.nodeid).xattrs.get(wire.name_of(body[wire.XATTR_SIZE.size :]))
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return self._xattr_reply(value, body)

    def listxattr(self, request: Request, body: bytes) -> bytes:
        names = b"".join(name + b"\0" for name in self.tree.node(request.nodeid).xattrs)
        return self._xattr_reply(names, body)

    def removexattr(self, request: Request, body: bytes) -> bytes:
        if self.tree.node(request.nodeid).xattrs.pop(wire.name_of(body), None) is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return b""

    # Files.

    def open(self, request: Request, body: bytes) -> bytes:
        self.tree.node(request.nodeid)
        return wire.OPEN_OUT.pack(self._new_fh(), 0, 0)

    def read(self, request: Request, body: bytes) -> bytes:
        _, offset, size, *_ = wire.IO_IN.unpack_from(body)
        return bytes(self.tree.node(request.nodeid).data[offset : offset + size])

    def write(self, request: Request, body: bytes) -> bytes:
        _, offset, size, *_ = wire.IO_IN.unpack_from(body)
        payload = body[wire.IO_IN.size : wire.IO_IN.size + size]
        self.tree.write(self.tree.node(request.nodeid), offset, payload)
        return wire.WRITE_OUT.pack(len(payload), 0)

    def readlink(self, request: Request, body: bytes) -> bytes:
        return bytes(self.tree.node(request.nodeid).data)

    def flush(self, request: Request, body: bytes) -> bytes:
        return b""

    release = fsync = fsyncdir = flush

    # Directories.

    def opendir(self, request: Request, body: bytes) -> bytes:
        directory = self.tree.node(request.nodeid)
        fh = self._new_fh()
        own = [(b".", directory.nodeid), (b"..", wire.ROOT_NODEID)]
        self._listings[fh] = own + list(directory.children.items())
        return wire.OPEN_OUT.pack(fh, 0, 0)

    def releasedir(self, request: Request, body: bytes) -> bytes:
        self._listings.pop(*wire.FH.unpack_from(body), None)
        return b""

    def readdir(self, request: Request, body: bytes) -> bytes:
        fh, cookie, size, *_ = wire.IO_IN.unpack_from(body)
        records = b""
        for at, (name, nodeid) in enumerate(self._listings.get(fh, [])[cookie:], start=cookie + 1):
            node = self.tree.nodes.get(nodeid)
            if node is None:
                continue
            plain = wire.DIRENT.pack(nodeid, at, len(name), stat.S_IFMT(node.mode) >> 12) + name
            prefix_bytes = self._entry_bytes if request.opcode == Op.READDIRPLUS else 0
            if len(records) + prefix_bytes + len(wire.padded(plain)) > size:
                break
            if request.opcode == Op.READDIRPLUS:
                plain = self._plus(name, node) + plain
            records += wire.padded(plain)
        return records

    readdirplus = readdir

    # Pieces of replies.

    _entry_bytes = wire.ENTRY_OUT.size + wire.ATTR.size

    def _entry(self, node: Node) -> bytes:
        node.nlookup += 1
        (seconds, rest_ns) = self._valid
        return wire.ENTRY_OUT.pack(node.nodeid, 0, seconds, seconds, rest_ns, rest_ns) + node.attr()

    def _plus(self, name: bytes, node: Node) -> bytes:
        return bytes(self._entry_bytes) if name in (b".", b"..") else self._entry(node)

    def _create(self, request: Request, rest: bytes, mode: int) -> Node:
        return self.tree.create(request.nodeid, wire.name_of(rest), mode, request.uid, request.gid)

    def _new_fh(self) -> int:
        self._next_fh += 1
        return self._next_fh

    @staticmethod
    def _xattr_reply(value: bytes, body: bytes) -> bytes:
        (room_bytes, _) = wire.XATTR_SIZE.unpack_from(body)
        if room_bytes == 0:
            return wire.XATTR_SIZE.pack(len(value), 0)
        if len(value) > room_bytes:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        return value
