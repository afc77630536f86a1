"""A server in this process that dies of what real ones die of: an id it did not give out, or one that was given back.

Any name is there: those that begin with "d" are directories. Numbers are given out again as soon as they are free, as
addresses are. Answers come in the order its `shuffle` chooses. Packed with struct alone, as the dialogues are.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from replays.transports.base import Answer, Ending

LOOKUP, FORGET, GETATTR, READLINK, MKDIR, UNLINK = 1, 2, 3, 5, 9, 10
RENAME, LINK, OPEN, READ, WRITE, RELEASE, FLUSH, INIT = 12, 13, 14, 15, 16, 18, 25, 26
OPENDIR, READDIR, RELEASEDIR, CREATE, INTERRUPT, BATCH_FORGET, READDIRPLUS = 27, 28, 29, 35, 36, 42, 44
DIRECTORY, REGULAR = 0o040755, 0o100644
EIO, ENOENT, ENOSYS = -5, -2, -38
ROOT = 1


class Died(AssertionError):
    """What a real server would have died of."""


@dataclass
class Node:
    """One file: its names are not followed, its lookups are."""

    name: tuple[int, bytes]
    mode: int
    lookups: int = 0


@dataclass
class ModelServer:
    """The server itself: bytes in, bytes out."""

    base: int = 100  # the first node's number; handles begin beyond a thousand of it
    enosys: frozenset[int] = frozenset()  # opcodes it does not know
    max_write: int = 4096
    follows_paths: bool = False  # each name is a node of its own, and nothing is reached by one without a name
    flags: int = 0x40000000 | 1 << 13 | 1 << 22  # INIT_EXT, DO_READDIRPLUS, MAX_PAGES
    nodes: dict[int, Node] = field(default_factory=lambda: {ROOT: Node((0, b""), DIRECTORY, 1)})
    names: dict[tuple[int, bytes], int] = field(default_factory=dict)
    handles: dict[int, int] = field(default_factory=dict)  # fh -> node
    free_nodes: list[int] = field(default_factory=list)
    free_handles: list[int] = field(default_factory=list)
    asked: list[tuple[int, int, bytes]] = field(default_factory=list)  # opcode, node, body

    def answer(self, request: bytes) -> bytes | None:
        """Answer a request, None for what has no answer."""
        length, opcode, unique, node, *_ = struct.unpack_from("<IIQQIIIHH", request)
        assert length == len(request)
        body = request[40:]
        self.asked.append((opcode, node, body))
        if opcode in self.enosys:
            return struct.pack("<IiQ", 16, ENOSYS, unique)
        if opcode == INTERRUPT:
            return None
        if opcode in (FORGET, BATCH_FORGET):
            self._forget(opcode, node, body)
            return None
        if opcode not in (INIT,):
            self._check_node(node)
        if not self._is_reached(opcode, node, body):
            return struct.pack("<IiQ", 16, ENOENT, unique)
        error, reply = self._replies[opcode](self, node, body)
        return struct.pack("<IiQ", 16 + len(reply), error, unique) + reply

    def _check_node(self, node: int) -> Node:
        if node not in self.nodes:
            raise Died(f"node {node} was not given out, or given back")
        return self.nodes[node]

    def _is_reached(self, opcode: int, node: int, body: bytes) -> bool:
        by_handle = opcode == GETATTR and body[:1] == b"\1"
        if opcode == LINK:
            (node,) = struct.unpack_from("<Q", body)
            self._check_node(node)
        by_node = opcode in (GETATTR, OPEN, LINK) and not by_handle and node != ROOT
        return not (self.follows_paths and by_node) or node in self.names.values()

    def _check_handle(self, fh: int, node: int) -> None:
        if self.handles.get(fh) != node:
            raise Died(f"handle {fh} is not open, or not of node {node}")

    def _forget(self, opcode: int, node: int, body: bytes) -> None:
        pairs = [(node, struct.unpack("<Q", body)[0])] if opcode == FORGET else struct.iter_unpack("<QQ", body[8:])
        for number, count in pairs:
            held = self._check_node(number)
            held.lookups -= count
            if held.lookups < 0:
                raise Died(f"node {number} was given back more often than given out")
            if not held.lookups and number != ROOT:
                del self.nodes[number]
                self.free_nodes.append(number)
                self.names = {name: child for name, child in self.names.items() if child != number}

    def _entry(self, parent: int, name: bytes, mode: int | None = None) -> bytes:
        key = (parent, name)
        number = self.names.get(key)
        if number is None:
            number = self.free_nodes.pop() if self.free_nodes else self.base + len(self.nodes)
            while number in self.nodes:
                number += 1
            self.names[key] = number
            self.nodes[number] = Node(key, mode or (DIRECTORY if name.startswith(b"d") else REGULAR))
        node = self.nodes[number]
        node.lookups += 1
        return struct.pack("<QQQQII", number, 0, 1, 1, 0, 0) + self._attr(number, node.mode)

    def _attr(self, number: int, mode: int) -> bytes:
        return struct.pack("<6Q10I", number, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _lookup(self, node: int, body: bytes) -> tuple[int, bytes]:
        name = body[:-1]
        if not name or name in (b".", b"..") or b"/" in name:
            raise Died(f"led out of the root by {name!r}")
        if self.nodes[node].mode != DIRECTORY:
            raise Died("a file is no directory")
        return (ENOENT, b"") if name.startswith(b"no") else (0, self._entry(node, name))

    def _getattr(self, node: int, body: bytes) -> tuple[int, bytes]:
        if body[:1] == b"\1":
            self._check_handle(struct.unpack_from("<Q", body, 8)[0], node)
        return 0, struct.pack("<QII", 1, 0, 0) + self._attr(node, self.nodes[node].mode)

    def _make(self, node: int, body: bytes) -> tuple[int, bytes]:
        name = body[8:-1]
        self.names.pop((node, name), None)
        return 0, self._entry(node, name, DIRECTORY)

    def _unlink(self, node: int, body: bytes) -> tuple[int, bytes]:
        return (0, b"") if self.names.pop((node, body[:-1]), None) else (ENOENT, b"")

    def _link(self, node: int, body: bytes) -> tuple[int, bytes]:
        name = (node, body[8:-1])
        self.names.pop(name, None)
        if not self.follows_paths:
            (self.names[name],) = struct.unpack_from("<Q", body)
        return 0, self._entry(*name, REGULAR)

    def _rename(self, node: int, body: bytes) -> tuple[int, bytes]:
        (newdir,) = struct.unpack_from("<Q", body)
        self._check_node(newdir)
        old, new, _ = body[8:].split(b"\0")
        child = self.names.pop((node, old), None)
        if child is None:
            return ENOENT, b""
        self.names[newdir, new] = child
        return 0, b""

    def _open(self, node: int, body: bytes) -> tuple[int, bytes]:
        fh = self.free_handles.pop() if self.free_handles else self.base + 1000 + len(self.handles)
        while fh in self.handles:
            fh += 1
        self.handles[fh] = node
        return 0, struct.pack("<QII", fh, 0, 0)

    def _create(self, node: int, body: bytes) -> tuple[int, bytes]:
        name = body[16:-1]
        self.names.pop((node, name), None)
        entry = self._entry(node, name, REGULAR)
        return 0, entry + self._open(self.names[node, name], b"")[1]

    def _use(self, node: int, body: bytes) -> tuple[int, bytes]:
        self._check_handle(struct.unpack_from("<Q", body)[0], node)
        return 0, b""

    def _write(self, node: int, body: bytes) -> tuple[int, bytes]:
        fh, _, size = struct.unpack_from("<QQI", body)
        self._check_handle(fh, node)
        assert size <= self.max_write
        return 0, struct.pack("<II", size, 0)

    def _release(self, node: int, body: bytes) -> tuple[int, bytes]:
        fh = struct.unpack_from("<Q", body)[0]
        self._check_handle(fh, node)
        del self.handles[fh]
        self.free_handles.append(fh)
        return 0, b""

    def _list(self, node: int, body: bytes, plus: bool) -> tuple[int, bytes]:
        fh, offset, size = struct.unpack_from("<QQI", body)
        self._check_handle(fh, node)
        names = (b"one", b"two", b"dir")
        start = offset - self.base if offset else 0
        assert 0 <= start <= len(names), "a cookie that was never given"
        found = b""
        for place, name in enumerate(names[start : start + 2], start + 1):
            if len(found) + 128 * plus + 24 + 8 > size:
                break
            head = self._entry(node, name) if plus else b""
            record = head + struct.pack("<QQII", 7, self.base + place, len(name), 4 if name == b"dir" else 8) + name
            found += record.ljust((len(record) + 7) // 8 * 8, b"\0")
        return 0, found

    def _init(self, node: int, body: bytes) -> tuple[int, bytes]:
        return 0, struct.pack("<IIIIHHIIHHII", 7, 45, 131072, self.flags, 12, 9, self.max_write, 1, 1, 0, 0, 0) + bytes(
            24
        )

    _replies: dict[int, Callable[..., tuple[int, bytes]]] = field(
        default_factory=lambda: {
            LOOKUP: ModelServer._lookup,
            GETATTR: ModelServer._getattr,
            MKDIR: ModelServer._make,
            UNLINK: ModelServer._unlink,
            RENAME: ModelServer._rename,
            LINK: ModelServer._link,
            OPEN: ModelServer._open,
            OPENDIR: ModelServer._open,
            CREATE: ModelServer._create,
            READ: ModelServer._use,
            WRITE: ModelServer._write,
            FLUSH: ModelServer._use,
            RELEASE: ModelServer._release,
            RELEASEDIR: ModelServer._release,
            READDIR: lambda s, node, body: s._list(node, body, False),
            READDIRPLUS: lambda s, node, body: s._list(node, body, True),
            INIT: ModelServer._init,
        }
    )


@dataclass
class ModelTransport:
    """Reaches a model. It answers at once; which answer is seen next, `shuffle` chooses."""

    server: ModelServer
    shuffle: Callable[[int], int] = lambda count: 0
    name: str = "model"
    most_bytes: int = 1 << 20
    holds_back: Callable[[bytes], bool] = lambda request: False  # requests that are not answered
    answers: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    says: list[bytes] = field(default_factory=list)  # notifications that come with the next answer
    is_closed: bool = False

    def submit(self, message: bytes | bytearray, room: int, *, urgent: bool = False) -> bool:
        request = bytes(message)
        self.sent.append(request)
        if not self.holds_back(request):
            reply = self.server.answer(request)
            if reply is not None:
                assert len(reply) <= room, (request, reply, room)
                self.answers.append(reply)
        return True

    def flush(self) -> None:
        pass

    def complete(self, timeout_s: float) -> list[Answer]:
        told, self.says = self.says, []
        found = [Answer(time.monotonic_ns(), 0, data) for data in told]
        if self.answers:
            data = self.answers.pop(self.shuffle(len(self.answers)))
            found.append(Answer(time.monotonic_ns(), struct.unpack_from("<Q", data, 8)[0], data))
        return found

    def close(self) -> Ending:
        self.is_closed = True
        return Ending(0, "by itself", "")
