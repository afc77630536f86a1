"""Recorded ids to live ones: nodes with what is owed in FORGETs on either side, handles, and what kind of file each is.

A server believes whatever number it is told, and most crash on one they never gave out: what has no live id is never
sent. Some servers' numbers are addresses that come again, so a mapping ends with the last FORGET.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dissectors.opcodes import ROOT_ID
from replays.recording import HandleKey

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
        self.types: dict[int, int] = {ROOT_ID: 0o040000}  # recorded -> S_IFMT bits, as the live server says
        self._held: dict[int, _Held] = {}
        self.handles: dict[HandleKey, tuple[int, int]] = {}  # -> live handle, live node: read on the hot path
        self._live: dict[int, int] = {}  # live node -> lookups held of it, by all recorded nodes together

    # ---- nodes -----------------------------------------------------------------------------------------------------

    def entry(self, recorded: int, live: int, mode: int = 0, *, is_learned: bool = False) -> None:
        """Both servers gave out a node for the same name: one lookup more on either side.

        When the live server has another number than before for it (names of one file that it does not know to be
        one), the newer holds: the older name may be gone.
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
            self._live[live] = self._live.get(live, 0) + 1
        self.nodes[recorded] = live
        if mode:
            self.types[recorded] = mode & 0o170000

    def recorded_only(self, recorded: int) -> None:
        """The recorded server gave out a node once more, and the live one was not asked."""
        held = self._held.get(recorded)
        if held is not None:
            held.recorded += 1

    def node(self, recorded: int) -> int | None:
        """Return the live nodeid; None when the live server never gave one."""
        return self.nodes.get(recorded)

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
        self.types.pop(recorded, None)
        for live, count in held.live.items():
            self._live[live] -= count
            if not self._live[live]:
                del self._live[live]
        return list(held.live.items())

    def is_held(self, live: int) -> bool:
        """Tell whether the live server still keeps a node for us."""
        return live == ROOT_ID or live in self._live

    def owed(self, recorded: int) -> tuple[int, int]:
        """Return the lookups held of a node: (in the recording, of the live server)."""
        held = self._held.get(recorded)
        return (held.recorded, sum(held.live.values())) if held else (0, 0)

    # ---- handles ---------------------------------------------------------------------------------------------------

    def opened(self, key: HandleKey, live_node: int, live: int) -> None:
        """Both servers opened something; `key` tells this opening from others that got the same number.

        A handle goes with the live node it was opened on, whatever the recorded number means later.
        """
        self.handles[key] = live, live_node

    def released(self, key: HandleKey) -> None:
        """The handle is let go."""
        self.handles.pop(key, None)
