"""What every nodeid was called, and in which submount it lay, at any point of the trace.

The protocol names a node only when it is looked up, made, listed by READDIRPLUS or renamed; everything else says a
number. A binding (parent, name, submount) holds from the record that brought it until the next one for that node.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from dissectors.opcodes import ROOT_ID

MAX_DEPTH = 4096  # a path of that many names is a loop of a hostile server


class Held(Enum):
    """What a binding says of its node."""

    NAMED = 0
    REMOVED = 1  # it had this name until then; open handles keep it alive
    FORGOTTEN = 2  # the kernel gave it back: the number may come again for something else


class Binding(NamedTuple):
    """Where a node was from record `row` on. A tuple because a trace has very many: it is made three times as fast."""

    row: int
    parent: int
    name: bytes
    submount: int  # nodeid of the submount's root
    held: Held = Held.NAMED


@dataclass(slots=True)
class NodeHistory:
    """One node over time. `nlookup` is what the kernel owes in FORGETs, as far as it was seen."""

    bindings: list[Binding] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    nlookup: int = 0

    def add(self, binding: Binding) -> None:
        """Append a binding."""
        self.bindings.append(binding)
        self.rows.append(binding.row)

    def at(self, row: int) -> Binding | None:
        """Return what held at record `row`."""
        if self.rows and self.rows[-1] <= row:  # as it is for whoever asks in the order of the trace
            return self.bindings[-1]
        index = bisect_right(self.rows, row) - 1
        return self.bindings[index] if index >= 0 else None

    @property
    def last(self) -> Binding | None:
        """What holds at the end."""
        return self.bindings[-1] if self.bindings else None

    def current(self) -> Iterator[int]:
        """Yield the places in `bindings` that may still hold, newest first: none from before it lost its names."""
        for index in range(len(self.bindings) - 1, -1, -1):
            if self.bindings[index].held is Held.FORGOTTEN:
                return
            yield index
            if self.bindings[index].held is Held.REMOVED:
                return


class Names:
    """The nodes of one channel. Events must come in the order of the trace."""

    def __init__(self) -> None:
        self._nodes: dict[int, NodeHistory] = {}
        self._children: dict[tuple[int, bytes], int] = {}
        self.submounts: dict[int, int] = {ROOT_ID: 0}  # root nodeid -> row that told
        self.has_news = False  # a submount was told that changes what was said of earlier records
        self._is_settled = True  # and of nodes
        self.parents: set[int] = set()  # nodes that had others in them
        self.changed_rows: list[int] = []  # where nodes got places, in order,
        self.changed_nodes: list[int] = []  # and which

    def entry(
        self, row: int, parent: int, name: bytes, nodeid: int, is_submount: bool, *, is_listed: bool = True
    ) -> None:
        """A reply gave `nodeid` for `name` in `parent`: the kernel now holds one lookup more.

        A file made without a name is not listed: nothing takes its place, and it takes none. An empty name was cut
        off by the capture.
        """
        node = self._nodes.get(nodeid)
        if node is None:
            node = self._nodes[nodeid] = NodeHistory()
        node.nlookup += 1
        if node.bindings and not is_submount:
            # Nearly every entry says again what held last.
            held = node.bindings[-1]
            is_same = held.name == name and held.parent == parent and held.held is Held.NAMED
            if is_same and self._children.get((parent, name)) == nodeid and held.submount == self._latest(parent):
                return
        if nodeid == ROOT_ID or name in (b".", b".."):
            return
        if is_submount and nodeid not in self.submounts:
            self.submounts[nodeid] = row
            if len(self.submounts) == 2:
                self.has_news = True
                self._inherit_anew()  # at once: later there is more to say anew
        submount = nodeid if is_submount else self._inherited(row, nodeid, parent, node.last)
        last = node.last
        is_listed = is_listed and name != b""
        known = self._children.get((parent, name)) if is_listed else None
        if (
            (known == nodeid or not name)
            and last is not None
            and last.held is Held.NAMED
            and (last.parent, name or last.name, last.submount) == (parent, last.name, submount)
        ):
            return
        if known is not None and known != nodeid:
            self._lose(row, known, parent, name)
        if is_listed:
            self._children[parent, name] = nodeid
        self._place(nodeid, Binding(row, parent, name, submount))

    def _latest(self, nodeid: int) -> int:
        """Return the submount the node lies in as far as the trace was followed; 0 when that is unknown."""
        if nodeid == ROOT_ID or len(self.submounts) == 1:
            return ROOT_ID
        node = self._nodes.get(nodeid)
        return node.bindings[-1].submount if node is not None and node.bindings else 0

    def _place(self, nodeid: int, binding: Binding) -> None:
        self._nodes[nodeid].add(binding)
        self.parents.add(binding.parent)
        self.changed_rows.append(binding.row)
        self.changed_nodes.append(nodeid)

    def superblock(self, row: int, nodeid: int) -> None:
        """SYNCFS is addressed to the root of a superblock, so `nodeid` is one (fuse_sync_fs()).

        If nobody announced it, it has been one all the time: since the capture began, or since the number was given.
        """
        node = self._nodes.setdefault(nodeid, NodeHistory())
        last = node.last
        if nodeid in (0, ROOT_ID) or (last is not None and last.submount == nodeid):
            return
        self.has_news, self._is_settled = True, False
        self.submounts.setdefault(nodeid, row)
        if last is None:
            node.add(Binding(0, 0, b"", nodeid))
        elif last.held is Held.FORGOTTEN:
            self._place(nodeid, Binding(row, 0, b"", nodeid))
        for index in node.current():
            node.bindings[index] = node.bindings[index]._replace(submount=nodeid)

    def settle(self) -> None:
        """Say anew in which submount each node lay, where a submount was told late."""
        self.has_news = False
        if not self._is_settled:
            self._inherit_anew()

    def _inherit_anew(self) -> None:
        """Give each node the submount of its parent again, in the order in which they were told."""
        self._is_settled = True
        order = sorted(
            (binding.row, nodeid, index)
            for nodeid, node in self._nodes.items()
            for index, binding in enumerate(node.bindings)
        )
        for row, nodeid, index in order:
            bindings = self._nodes[nodeid].bindings
            binding = bindings[index]
            if binding.submount != nodeid:
                submount = self._inherited(row, nodeid, binding.parent, bindings[index - 1] if index else None)
                if binding.submount != submount:
                    bindings[index] = binding._replace(submount=submount)

    def removed(self, row: int, parent: int, name: bytes) -> None:
        """UNLINK or RMDIR took `name` out of `parent`."""
        nodeid = self._children.pop((parent, name), None)
        if nodeid is not None:
            self._lose(row, nodeid, parent, name)

    def renamed(self, row: int, old: tuple[int, bytes], new: tuple[int, bytes], exchange: bool) -> None:
        """RENAME moved a name; with `exchange` both names stay and swap their nodes."""
        moved, replaced = self._children.pop(old, None), self._children.pop(new, None)
        if replaced is not None and exchange:
            self._children[old] = replaced
            self._bind(row, replaced, old)
        elif replaced is not None and replaced != moved:
            self._lose(row, replaced, *new)
        if moved is not None:
            if new[1]:
                self._children[new] = moved
            self._bind(row, moved, new)

    def forgotten(self, row: int, nodeid: int, nlookup: int) -> None:
        """The kernel gave back lookups; a node without any is gone. Counts seen only in part end it as well."""
        node = self._nodes.get(nodeid)
        if node is None or nodeid == ROOT_ID:
            return
        node.nlookup = max(0, node.nlookup - nlookup)
        last = node.last
        if node.nlookup or last is None or last.held is Held.FORGOTTEN:
            return
        for index in node.current():
            place = (node.bindings[index].parent, node.bindings[index].name)
            if self._children.get(place) == nodeid:
                del self._children[place]
        # From the next record on: the FORGET itself is still about the node of that name.
        self._bind(row + 1, nodeid, (last.parent, last.name), Held.FORGOTTEN)

    def submount(self, nodeid: int, row: int) -> int:
        """Return the root nodeid of the submount that `nodeid` lay in at `row`; 0 when that is unknown."""
        if nodeid == ROOT_ID or len(self.submounts) == 1:
            return ROOT_ID
        node = self._nodes.get(nodeid)
        binding = node.at(row) if node else None
        return binding.submount if binding else 0

    def _inherited(self, row: int, nodeid: int, parent: int, last: Binding | None) -> int:
        """Return where a node lies that record `row` put into `parent`: where that lay before, since no record brings
        both; if nobody knows, where the node was.
        """
        before = last.submount if last is not None and last.held is not Held.FORGOTTEN else 0
        return self.submount(parent, row - 1) or (before if before != nodeid else 0)

    def steady_from(self, nodeid: int) -> tuple[int, bool]:
        """Return the record from which on the node never changed its submount, and whether it had no other before."""
        node = self._nodes.get(nodeid)
        if node is None or not node.bindings:
            return 0, True
        index = len(node.bindings) - 1
        submount = node.bindings[index].submount
        while index and node.bindings[index - 1].submount == submount:
            index -= 1
        return node.bindings[index].row, not index

    def path(self, nodeid: int, row: int, directories: dict[int, bytes] | None = None) -> bytes | None:
        """Return the path from the mount's root as it was at `row`; None when a part of it is unknown.

        `directories` are paths of nodes that hold at `row`, without a slash at the end; the parent's is added.
        """
        known = {} if directories is None else directories
        parts: list[bytes] = []  # the last first
        parent, removed = 0, False
        for _ in range(MAX_DEPTH):
            above = b"" if nodeid == ROOT_ID else known.get(nodeid)
            if above is not None:
                if not parts:
                    return above or b"/"
                above = b"/".join((above, *reversed(parts[1:])))
                if not removed:
                    known[parent] = above
                path = above + b"/" + parts[0]
                return path + b" (deleted)" if removed else path
            node = self._nodes.get(nodeid)
            binding = node.at(row) if node else None
            if binding is None or binding.held is Held.FORGOTTEN or not binding.name:
                return None
            removed = removed or binding.held is Held.REMOVED
            parts.append(binding.name)
            nodeid = binding.parent
            parent = parent if len(parts) > 1 else nodeid
        return None

    def last_path(self, nodeid: int, row: int) -> bytes | None:
        """Return the path at `row`; of a node that the kernel gave back before, the one it had until then."""
        node = self._nodes.get(nodeid)
        binding = node.at(row) if node else None
        return self.path(nodeid, binding.row - 1 if binding and binding.held is Held.FORGOTTEN else row)

    def place(self, nodeid: int, row: int) -> Binding | None:
        """Return where a node was at `row`; where it was first seen, when no record told before that."""
        node = self._nodes.get(nodeid)
        if node is None or not node.bindings:
            return None
        return node.at(row) or node.bindings[0]

    def nlookup(self, nodeid: int) -> int:
        """Return the lookups the kernel holds at the end, as far as they were seen."""
        node = self._nodes.get(nodeid)
        return node.nlookup if node else 0

    def _bind(self, row: int, nodeid: int, place: tuple[int, bytes], held: Held = Held.NAMED) -> None:
        node = self._nodes.setdefault(nodeid, NodeHistory())
        last = node.last
        is_root = last is not None and last.submount == nodeid
        submount = nodeid if is_root else self._inherited(row, nodeid, place[0], last)
        self._place(nodeid, Binding(row, *place, submount, held))

    def _lose(self, row: int, nodeid: int, parent: int, name: bytes) -> None:
        """Note that the node is no longer `name`; a node with another hard link is shown under that one again."""
        node = self._nodes[nodeid]
        last = node.last
        if last is None or (last.parent, last.name) != (parent, name):
            return
        for index in node.current():
            place = (node.bindings[index].parent, node.bindings[index].name)
            if place != (parent, name) and self._children.get(place) == nodeid:
                self._bind(row, nodeid, place)
                return
        self._bind(row, nodeid, (parent, name), Held.REMOVED)
