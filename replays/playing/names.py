"""Names on the live server: which node each stands for, as far as its answers tell.

A file of several names may be several nodes there: where nodes follow paths (libfuse's high-level API: bindfs,
unionfs-fuse) each name is one of its own, and one that lost its name reaches nothing, though the file has others.
"""

from __future__ import annotations

Name = tuple[int, bytes]  # live directory, name in it


class LiveNames:
    """Names by node, and nodes by name."""

    def __init__(self) -> None:
        self._nodes: dict[Name, int] = {}
        self._names: dict[int, set[Name]] = {}  # none is empty

    def __contains__(self, name: Name) -> bool:
        return name in self._nodes

    def is_named(self, node: int) -> bool:
        """Tell whether a name is known that still stands for the node."""
        return node in self._names

    def give(self, name: Name, node: int) -> int:
        """From now on the name stands for the node; return the other one it stood for, 0: none."""
        if self._nodes.get(name) == node:
            return 0
        before = self.take(name)
        self._nodes[name] = node
        self._names.setdefault(node, set()).add(name)
        return before

    def take(self, name: Name) -> int:
        """The name is gone; return the node it stood for, 0: none that is known."""
        node = self._nodes.pop(name, 0)
        if node:
            names = self._names[node]
            names.discard(name)
            if not names:
                del self._names[node]
        return node

    def forget(self, node: int) -> None:
        """The node was given back: its number may come again for another file."""
        for name in self._names.pop(node, ()):
            del self._nodes[name]
