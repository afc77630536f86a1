"""A small tree of files held in memory, with the rules a FUSE server owes to the kernel.

Refusals are OSError with the errno the kernel shall see.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import dataclass, field

from memfs import wire

BLOCK_BYTES = 512  # the unit of fuse_attr.blocks


@dataclass(slots=True)
class Node:
    """One file, directory or link."""

    nodeid: int
    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    nlookup: int = 0
    flags: int = 0  # wire.ATTR_SUBMOUNT
    rdev: int = 0
    data: bytearray = field(default_factory=bytearray)  # file content, or a link's target
    children: dict[bytes, int] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0

    @property
    def is_dir(self) -> bool:
        """Return whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    def attr(self) -> bytes:
        """Return the node as struct fuse_attr."""
        size = len(self.data)
        times = (self.atime_ns, self.mtime_ns, self.ctime_ns)
        seconds = (ns // 10**9 for ns in times)
        rest_ns = (ns % 10**9 for ns in times)
        blocks = -(-size // BLOCK_BYTES)
        owner = (self.mode, self.nlink, self.uid, self.gid, self.rdev)
        return wire.ATTR.pack(self.nodeid, size, blocks, *seconds, *rest_ns, *owner, 4096, self.flags)


class Tree:
    """The nodes of one mount, by nodeid."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self._next_nodeid = wire.ROOT_NODEID
        root = self._new(stat.S_IFDIR | 0o755, 0, 0)
        root.nlink = 2

    def _new(self, mode: int, uid: int, gid: int) -> Node:
        now_ns = time.time_ns()
        node = Node(self._next_nodeid, mode, uid, gid, atime_ns=now_ns, mtime_ns=now_ns, ctime_ns=now_ns)
        self._next_nodeid += 1
        self.nodes[node.nodeid] = node
        return node

    def node(self, nodeid: int) -> Node:
        """Return a node; ESTALE when the kernel names one that is gone."""
        node = self.nodes.get(nodeid)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def child(self, parent: int, name: bytes) -> Node:
        """Return the node called `name` in a directory; ENOENT when there is none."""
        nodeid = self.node(parent).children.get(name)
        if nodeid is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.node(nodeid)

    def create(self, parent: int, name: bytes, mode: int, uid: int = 0, gid: int = 0, content: bytes = b"") -> Node:
        """Add a node of any kind; EEXIST when the name is taken."""
        directory = self.node(parent)
        if name in directory.children:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        node = self._new(mode, uid, gid)
        node.data += content
        directory.children[name] = node.nodeid
        if node.is_dir:
            node.nlink = 2
            directory.nlink += 1
        self._touch(directory)
        return node

    def link(self, nodeid: int, parent: int, name: bytes) -> Node:
        """Give a node one more name; EEXIST when the name is taken."""
        directory, node = self.node(parent), self.node(nodeid)
        if name in directory.children:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        directory.children[name] = nodeid
        node.nlink += 1
        self._touch(directory)
        return node

    def remove(self, parent: int, name: bytes, *, directory: bool) -> None:
        """Take a name away; ENOTDIR, EISDIR or ENOTEMPTY when it is not what the caller says."""
        holder, node = self.node(parent), self.child(parent, name)
        if directory and not node.is_dir:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not directory and node.is_dir:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if node.children:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        del holder.children[name]
        node.nlink -= 2 if directory else 1
        holder.nlink -= 1 if directory else 0
        self._touch(holder)
        self._drop_if_unused(node)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0) -> None:
        """Move a name, replacing what is there; of RENAME2's flags only NOREPLACE (1) is known."""
        node, target = self.child(parent, name), self.node(new_parent)
        if flags & ~1:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        replaced = target.children.get(new_name)
        if replaced is not None and flags & 1:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if replaced is not None and replaced != node.nodeid:
            self.remove(new_parent, new_name, directory=self.node(replaced).is_dir)
        del self.node(parent).children[name]
        target.children[new_name] = node.nodeid
        if node.is_dir and parent != new_parent:
            self.node(parent).nlink -= 1
            target.nlink += 1
        self._touch(target)

    def resize(self, node: Node, size: int) -> None:
        """Cut a file or fill it with NUL up to `size` bytes."""
        del node.data[size:]
        node.data += bytes(size - len(node.data))
        self._touch(node)

    def write(self, node: Node, offset: int, payload: bytes) -> None:
        """Put bytes into a file, filling a gap before them with NUL."""
        if offset > len(node.data):
            node.data += bytes(offset - len(node.data))
        node.data[offset : offset + len(payload)] = payload
        self._touch(node)

    def forget(self, nodeid: int, nlookup: int) -> None:
        """Lower a node's lookup count and drop it when nobody has a use for it."""
        node = self.nodes.get(nodeid)
        if node is not None and nodeid != wire.ROOT_NODEID:
            node.nlookup = max(0, node.nlookup - nlookup)
            self._drop_if_unused(node)

    def _drop_if_unused(self, node: Node) -> None:
        if node.nlink <= 0 and node.nlookup <= 0:
            self.nodes.pop(node.nodeid, None)

    @staticmethod
    def _touch(node: Node) -> None:
        node.mtime_ns = node.ctime_ns = time.time_ns()


def sample_tree(*, submount: bool) -> Tree:
    """Return the tree every mount begins with: two files, a directory, a link and, if wanted, a submount."""
    tree = Tree()
    tree.create(wire.ROOT_NODEID, b"hello.txt", stat.S_IFREG | 0o644, content=b"hello from memfs\n")
    tree.create(wire.ROOT_NODEID, b"numbers.bin", stat.S_IFREG | 0o644, content=bytes(range(256)) * 256)
    directory = tree.create(wire.ROOT_NODEID, b"dir", stat.S_IFDIR | 0o755)
    tree.create(directory.nodeid, b"inner.txt", stat.S_IFREG | 0o644, content=b"inside\n")
    tree.create(wire.ROOT_NODEID, b"link", stat.S_IFLNK | 0o777, content=b"hello.txt")
    if submount:
        root = tree.create(wire.ROOT_NODEID, b"mnt1", stat.S_IFDIR | 0o755)
        root.flags = wire.ATTR_SUBMOUNT
        tree.create(root.nodeid, b"other.txt", stat.S_IFREG | 0o644, content=b"another file system\n")
    return tree
