"""A kernel that asks a model server this and that, several things at once, and writes down what was said."""

from __future__ import annotations

import random
import struct

from tests.replays.model import (
    CREATE,
    DIRECTORY,
    FLUSH,
    GETATTR,
    LINK,
    LOOKUP,
    MKDIR,
    OPEN,
    OPENDIR,
    READ,
    READDIR,
    READDIRPLUS,
    RELEASE,
    RELEASEDIR,
    ROOT,
    UNLINK,
    WRITE,
    ModelServer,
)
from tests.tracer.dialogue import Dialogue

MOST_AT_ONCE = 6


class RecordedKernel:
    """Asks only what a kernel may: of nodes it holds and of handles that are open."""

    def __init__(self, seed: int, *, follows_paths: bool = False) -> None:
        self._random = random.Random(seed)
        self.server = ModelServer(base=5000, follows_paths=follows_paths)
        self.dialogue = Dialogue()
        self.nodes: dict[int, tuple[int, int]] = {ROOT: (DIRECTORY, 1)}  # node -> mode, lookups
        self._handles: list[tuple[int, int, bool, list[int]]] = []  # fh, node, is directory, last cookie
        self._waiting: list[tuple[int, bytes, int, int, object]] = []

    def run(self, count: int) -> Dialogue:
        """Ask `count` things after INIT."""
        self._ask(26, 0, struct.pack("<IIII11I", 7, 45, 131072, 1 << 30 | 1 << 13 | 1 << 22, *[0] * 11))
        self._hear()
        for _ in range(count):
            self._next()
            while len(self._waiting) > self._random.randrange(MOST_AT_ONCE):
                self._hear()
        while self._waiting:
            self._hear()
        return self.dialogue

    def _ask(self, opcode: int, node: int, body: bytes, about: object = None) -> None:
        unique = self.dialogue.ask(opcode, node, body)
        request = struct.pack("<IIQQIIIHH", 40 + len(body), opcode, unique, node, 1000, 1000, 100, 0, 0) + body
        reply = self.server.answer(request)
        if reply is not None:
            self._waiting.append((unique, reply, opcode, node, about))

    def _hear(self) -> None:
        unique, reply, opcode, node, about = self._waiting.pop(self._random.randrange(len(self._waiting)))
        error = struct.unpack_from("<i", reply, 4)[0]
        self.dialogue.answer(unique, reply[16:], error)
        if error:
            return
        if opcode in (LOOKUP, MKDIR, CREATE, LINK):
            self._got(reply[16:])
        if opcode in (OPEN, OPENDIR, CREATE):
            fh_at = 16 + 128 if opcode == CREATE else 16
            owner = struct.unpack_from("<Q", reply, 16)[0] if opcode == CREATE else node
            self._handles.append((struct.unpack_from("<Q", reply, fh_at)[0], owner, opcode == OPENDIR, [0]))
        if opcode in (READDIR, READDIRPLUS):
            self._listed(reply[16:], opcode == READDIRPLUS, about)

    def _got(self, entry: bytes) -> None:
        node, mode = struct.unpack_from("<Q", entry)[0], struct.unpack_from("<I", entry, 40 + 60)[0]
        self.nodes[node] = (mode, self.nodes.get(node, (mode, 0))[1] + 1)

    def _listed(self, body: bytes, plus: bool, last: object) -> None:
        at, head = 0, 128 if plus else 0
        while at < len(body):
            if plus:
                self._got(body[at:])
            _, cookie, length, _ = struct.unpack_from("<QQII", body, at + head)
            assert isinstance(last, list)
            last[0] = cookie
            at += (head + 24 + length + 7) // 8 * 8

    def _next(self) -> None:
        busy = {node for _, _, _, node, _ in self._waiting} | {node for _, node, _, _ in self._handles}
        pick = self._random.random()
        directory = self._random.choice([node for node, (mode, _) in self.nodes.items() if mode == DIRECTORY])
        node = self._random.choice(list(self.nodes))
        name = self._random.choice((b"one", b"two", b"dir", b"d2", b"no"))
        if pick < 0.3:
            self._ask(LOOKUP, directory, name + b"\0")
        elif pick < 0.4:
            self._ask(GETATTR, node, struct.pack("<IIQ", 0, 0, 0))
        elif pick < 0.5:
            is_directory = self.nodes[node][0] == DIRECTORY
            self._ask(OPENDIR if is_directory else OPEN, node, struct.pack("<II", 0, 0))
        elif pick < 0.55:
            self._ask(MKDIR, directory, struct.pack("<II", 0o755, 0) + b"d3\0")
        elif pick < 0.6:
            self._ask(CREATE, directory, struct.pack("<IIII", 0o102, 0o100644, 0, 0) + b"new\0")
        elif pick < 0.63:
            self._ask(UNLINK, directory, b"new\0")
        elif pick < 0.9 and self._handles:
            self._use_handle()
        else:
            idle = [n for n in self.nodes if n not in busy and n != ROOT and not self._may_come(n)]
            if idle:
                self._forget(self._random.sample(idle, min(len(idle), self._random.choice((1, 1, 3)))))

    def _may_come(self, node: int) -> bool:
        """Whether an answer under way gives the node out once more: a kernel would hold it then."""
        return any(struct.pack("<Q", node) in reply for _, reply, *_ in self._waiting)

    def _use_handle(self) -> None:
        number = self._random.randrange(len(self._handles))
        fh, node, is_directory, last = self._handles[number]
        in_use = any(waiting[4] is last for waiting in self._waiting)
        if in_use:
            return
        if self._random.random() < 0.3:
            del self._handles[number]
            self._ask(RELEASEDIR if is_directory else RELEASE, node, struct.pack("<QIIQ", fh, 0, 0, 0))
        elif is_directory:
            opcode = self._random.choice((READDIR, READDIRPLUS))
            self._ask(opcode, node, struct.pack("<QQIIQII", fh, last[0], 4096, 0, 0, 0, 0), last)
        else:
            opcode = self._random.choice((READ, WRITE, FLUSH, GETATTR))
            bodies = {
                READ: struct.pack("<QQIIQII", fh, 0, 100, 0, 0, 0, 0),
                WRITE: struct.pack("<QQIIQII", fh, 0, 3, 0, 0, 0, 0) + b"abc",
                FLUSH: struct.pack("<QIIQ", fh, 0, 0, 0),
                GETATTR: struct.pack("<IIQ", 1, 0, fh),
            }
            self._ask(opcode, node, bodies[opcode], last)

    def _forget(self, nodes: list[int]) -> None:
        pairs = [(node, self.nodes.pop(node)[1]) for node in nodes]
        if len(pairs) == 1:
            self._ask(2, pairs[0][0], struct.pack("<Q", pairs[0][1]))
        else:
            packed = b"".join(struct.pack("<QQ", *pair) for pair in pairs)
            self._ask(42, 0, struct.pack("<II", len(pairs), 0) + packed)
