"""A kernel whose callers give files several names, move and remove them, and go by those that are left."""

from __future__ import annotations

import struct

from tests.replays.model import CREATE, DIRECTORY, GETATTR, LINK, LOOKUP, OPEN, RELEASE, RENAME, ROOT, UNLINK
from tests.replays.recorded_kernel import RecordedKernel
from tests.tracer.dialogue import Dialogue

NAMES = (b"a", b"b", b"c", b"e")
Name = tuple[int, bytes]


class LinkingKernel(RecordedKernel):
    """Locks what a kernel locks: one change at a time of a name, and of the file that it stands for."""

    def run(self, count: int) -> Dialogue:
        """Ask `count` things, then let go of everything."""
        super().run(count)
        for fh, node, _, _ in self._handles:
            self._ask(RELEASE, node, struct.pack("<QIIQ", fh, 0, 0, 0))
        while self._waiting:
            self._hear()
        self._handles.clear()
        self._forget([node for node in self.nodes if node != ROOT])
        return self.dialogue

    def _next(self) -> None:
        pick = self._random.random()
        name, other = (self._some_name() for _ in range(2))
        file, target = (self.server.names.get(each, 0) for each in (name, other))
        idle = [node for node in self.nodes if self._is_named(node) and self.nodes[node][0] != DIRECTORY]
        node = self._random.choice(idle) if idle else 0
        if pick < 0.05:
            self._change((ROOT, b"dir"), 0, LOOKUP, b"dir\0")
        elif pick < 0.2:
            self._change(name, file, LOOKUP, name[1] + b"\0")
        elif pick < 0.25 and not file:
            self._change(name, file, CREATE, struct.pack("<IIII", 0o102, 0o100644, 0, 0) + name[1] + b"\0")
        elif pick < 0.4 and node and not file:
            self._change(name, node, LINK, struct.pack("<Q", node) + name[1] + b"\0")
        elif pick < 0.5 and file:
            self._change(name, file, UNLINK, name[1] + b"\0")
        elif pick < 0.6 and file and file != target and not self._is_locked(other, target):
            body = struct.pack("<Q", other[0]) + name[1] + b"\0" + other[1] + b"\0"
            self._change(name, file, RENAME, body, other, target)
        elif pick < 0.7 and node:
            self._ask(OPEN, node, struct.pack("<II", 0, 0))
        elif pick < 0.8 and node:
            self._ask(GETATTR, node, struct.pack("<IIQ", 0, 0, 0))
        elif pick < 0.9 and self._handles:
            self._use_handle()
        elif idle and not self._waiting:
            held = {node for _, node, _, _ in self._handles}
            if node not in held:
                self._forget([node])

    def _some_name(self) -> Name:
        directories = [node for node, (mode, _) in self.nodes.items() if mode == DIRECTORY]
        return self._random.choice(directories), self._random.choice(NAMES)

    def _change(
        self, name: Name, file: int, opcode: int, body: bytes, other: Name | None = None, target: int = 0
    ) -> None:
        if not self._is_locked(name, file):
            self._ask(opcode, name[0], body, {name, file, other, target} - {None, 0})

    def _locks(self) -> set[object]:
        return {each for *_, about in self._waiting if isinstance(about, set) for each in about}

    def _is_locked(self, name: Name, file: int) -> bool:
        return not self._locks().isdisjoint({name, file})

    def _is_named(self, node: int) -> bool:
        locks = self._locks()
        return any(child == node and name not in locks for name, child in self.server.names.items())
