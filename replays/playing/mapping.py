"""Recorded ids to live ones: nodes with what is owed in FORGETs on either side, handles, and what kind of file each is.

A server believes whatever number it is told, and most crash on one they never gave out: what has no live id is never
sent. Some servers' numbers are addresses that come again, so a mapping ends with the last FORGET.

One file may be several nodes on either side: on the live one the newest that still has a name stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dissectors.opcodes import ROOT_ID
from replays.playing.names import LiveNames, Name
from replays.recorded.recording import HandleKey

Pairs = list[tuple[int, int]]  # live nodeid, how many lookups to give back


@dataclass(slots=True)
class _Held:
    """What a recorded node owes: to the recorded server, as far as it was seen, and to the live one by live nodeid."""

    recorded: int = 0
    live: dict[int, int] = field(default_factory=dict)
    is_learned: bool = False  # introduced before the recording began: how often is not known


class Mapper:
    """The ids of one conversation. Counts never go below zero, whatever a trace or a server says."""

    def __init__(self) -> None:
        self.nodes: dict[int, int] = {ROOT_ID: ROOT_ID}  # recorded -> live: read on the hot path
        self._types: dict[int, int] = {ROOT_ID: 0o040000}  # live node -> S_IFMT bits
        self._held: dict[int, _Held] = {}
        self.handles: dict[HandleKey, tuple[int, int]] = {}  # -> live handle, live node: read on the hot path
        self._holders: dict[int, set[int]] = {}  # live node -> the recorded ones it is held for; none is empty
        self._names = LiveNames()

    # ---- nodes -----------------------------------------------------------------------------------------------------

    def entry(
        self, recorded: int, live: int, mode: int = 0, *, name: Name | None = None, is_learned: bool = False
    ) -> None:
        """Both servers gave out a node for the same name: one lookup more on either side.

        `name` is where the live one has it. When the live server has another number than before for it (names of one
        file that it does not know to be one), the newer holds, as long as its name does.
        """
        if recorded == ROOT_ID or not recorded or not live:
            return
        held = self._held.get(recorded)
        if held is None:
            held = self._held[recorded] = _Held(is_learned=is_learned)
        if not is_learned:
            held.recorded += 1
        if live != ROOT_ID:
            held.live[live] = held.live.get(live, 0) + 1
            self._holders.setdefault(live, set()).add(recorded)
        self.nodes[recorded] = live
        if mode:
            self._types[live] = mode & 0o170000
        if name is not None:
            self.named(name, live)

    def recorded_only(self, recorded: int) -> None:
        """The recorded server gave out a node once more, and the live one was not asked."""
        held = self._held.get(recorded)
        if held is not None:
            held.recorded += 1

    def node(self, recorded: int) -> int | None:
        """Return the live nodeid; None when the live server never gave one."""
        return self.nodes.get(recorded)

    def type(self, recorded: int) -> int:
        """Return the S_IFMT bits that the live server gives what stands for a recorded node; 0: not known."""
        return self._types.get(self.nodes.get(recorded, 0), 0)

    def forget(self, recorded: int, nlookup: int) -> Pairs:
        """The recorded kernel gave lookups back; return what to give back to the live server.

        Nothing before the last one is: listings come in other portions, so the counts in between differ.
        """
        held = self._held.get(recorded)
        if held is None:
            return []
        held.recorded = max(0, held.recorded - nlookup)
        if held.recorded and not held.is_learned:
            return []
        del self._held[recorded]
        self.nodes.pop(recorded, None)
        for live in held.live:
            holders = self._holders[live]
            holders.discard(recorded)
            if not holders:
                del self._holders[live]
                self._types.pop(live, None)
                self._names.forget(live)
        return list(held.live.items())

    def is_held(self, live: int) -> bool:
        """Tell whether the live server still keeps a node for us."""
        return live == ROOT_ID or live in self._holders

    def recorded(self, live: int) -> int:
        """Return a recorded node that a live one stands for; 0 when there is none."""
        return ROOT_ID if live == ROOT_ID else next(iter(self._holders.get(live, ())), 0)

    def owed(self, recorded: int) -> tuple[int, int]:
        """Return the lookups held of a node: (in the recording, of the live server)."""
        held = self._held.get(recorded)
        return (held.recorded, sum(held.live.values())) if held else (0, 0)

    # ---- names, all of the live server -----------------------------------------------------------------------------

    def is_named(self, name: Name) -> bool:
        """Tell whether the node that a name stands for is known."""
        return name in self._names

    def named(self, name: Name, live: int) -> None:
        """The name stands for the node, and no longer for another."""
        if live not in self._holders:
            return
        self._lost(self._names.give(name, live))
        for recorded in self._holders[live]:
            if not self._names.is_named(self.nodes[recorded]):
                self.nodes[recorded] = live

    def removed(self, name: Name) -> int:
        """The name is gone; return the node it stood for, 0: not known."""
        node = self._names.take(name)
        self._lost(node)
        return node

    def moved(self, old: Name, new: Name) -> None:
        """What one name stood for has another now; what had that one lost it."""
        node = self._names.take(old)
        self._lost(self._names.give(new, node) if node else self._names.take(new))

    def exchanged(self, one: Name, other: Name) -> None:
        """Two names changed places."""
        first, second = self._names.take(one), self._names.take(other)
        for name, node in ((other, first), (one, second)):
            if node:
                self._names.give(name, node)

    def _lost(self, live: int) -> None:
        """A node lost a name: where it was the last one, the newest that has one stands for the file."""
        if not live or self._names.is_named(live):
            return
        for recorded in self._holders.get(live, ()):
            if self.nodes[recorded] == live:
                others = reversed(self._held[recorded].live)
                self.nodes[recorded] = next((other for other in others if self._names.is_named(other)), live)

    # ---- handles ---------------------------------------------------------------------------------------------------

    def opened(self, key: HandleKey, live_node: int, live: int) -> None:
        """Both servers opened something; `key` tells this opening from others that got the same number.

        A handle goes with the live node it was opened on, whatever the recorded number means later.
        """
        self.handles[key] = live, live_node

    def released(self, key: HandleKey) -> None:
        """The handle is let go."""
        self.handles.pop(key, None)
