"""fuse.path of very many exchanges: a node's path is worked out once for each stretch in which nothing above it moved.

Gives what `Names.path` gives. Between two moves of one node thousands of others move, so a path is kept with the rows
it holds for: those in which each node on the way up kept its binding.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dissectors.opcodes import ROOT_ID
from tracer.filters.sources import PATH_COST
from tracer.trace.columns import Rows
from tracer.trace.names import MAX_DEPTH, Binding, Held, Names, NodeHistory
from tracer.trace.trace import Trace

FOR_EVER = 1 << 62
LONGEST_KEPT, MOST_KEPT = 1 << 14, 1 << 28  # bytes: of one path, of all; a server may invent any depth


@dataclass(frozen=True, slots=True)
class Path:
    """The path of the exchange's node as it was when it began; none where it is not known."""

    cost: int = PATH_COST

    def groups(self, trace: Trace, numbers: Rows) -> Iterator[tuple[Rows, bytes]]:
        """Yield (places, path): for each node, and each stretch in which its path stayed the same."""
        trace.advance_state()
        first = trace.first_rows[numbers].astype(np.int64)
        channels = trace.records["channel"][first]
        for channel in np.flatnonzero(np.bincount(channels)).tolist():
            places = np.flatnonzero(channels == channel)
            yield from _of_channel(trace, channel, first, places)


def _of_channel(trace: Trace, channel: int, first: Rows, places: Rows) -> Iterator[tuple[Rows, bytes]]:
    nodeids = trace.records["nodeid"][first[places]]
    order = np.lexsort((first[places], nodeids))
    places, nodeids = places[order], nodeids[order]
    rows = first[places]
    begins = np.flatnonzero(np.diff(nodeids, prepend=nodeids[:1] + np.uint64(1)))
    stretches = Stretches(trace.names(channel))
    for nodeid, begin, end in zip(
        nodeids[begins].tolist(), begins.tolist(), [*begins[1:].tolist(), len(rows)], strict=True
    ):
        while begin < end and nodeid:
            path, until = stretches.path(nodeid, int(rows[begin]))
            stop = end if rows[end - 1] < until else begin + int(np.searchsorted(rows[begin:end], until))
            if path is not None:
                yield places[begin:stop], path
            begin = stop


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A node's path in the rows [begin, end), without a mark for being removed; None: not known."""

    begin: int
    end: int
    path: bytes | None
    depth: int = 0
    removed: bool = False


_ROOT = _Stretch(0, FOR_EVER, b"/")


class Stretches:
    """The paths of one channel. Nothing may be added to `names` while it is in use."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._nodes = names._nodes  # a path alone does not say how long it holds; bindings do
        self._known: dict[int, _Stretch] = {}
        self._known_bytes = 0

    def path(self, nodeid: int, row: int) -> tuple[bytes | None, int]:
        """Return the path at `row`, None when a part of it is unknown, and the row at which it may change."""
        stretch = self._at(nodeid, row) or self._find(nodeid, row)
        if stretch is None:
            return self._names.path(nodeid, row), row + 1
        if stretch.path is not None and stretch.removed:
            return stretch.path + b" (deleted)", stretch.end
        return stretch.path, stretch.end

    def _at(self, nodeid: int, row: int) -> _Stretch | None:
        if nodeid == ROOT_ID:
            return _ROOT
        known = self._known.get(nodeid)
        return known if known is not None and known.begin <= row < known.end else None

    def _find(self, nodeid: int, row: int) -> _Stretch | None:
        """Walk up to what is known at `row`, then note every node on the way down. None: too long to be kept."""
        way: list[tuple[int, int, int, Binding]] = []
        above = None
        while above is None and len(way) < MAX_DEPTH:
            begin, end, binding = _binding(self._nodes.get(nodeid), row)
            if binding is None or binding.held is Held.FORGOTTEN or not binding.name:
                above = self._note(nodeid, _Stretch(begin, end, None))
                break
            way.append((nodeid, begin, end, binding))
            nodeid = binding.parent
            above = self._at(nodeid, row)
        if above is None or len(above.path or b"") + sum(len(step[3].name) + 1 for step in way) > LONGEST_KEPT:
            return None
        for nodeid, begin, end, binding in reversed(way):
            above = self._note(nodeid, _below(above, begin, end, binding))
        return above

    def _note(self, nodeid: int, stretch: _Stretch) -> _Stretch:
        self._known_bytes += len(stretch.path or b"")
        if self._known_bytes > MOST_KEPT:
            self._known.clear()
            self._known_bytes = 0
        self._known[nodeid] = stretch
        return stretch


def _binding(node: NodeHistory | None, row: int) -> tuple[int, int, Binding | None]:
    """Return from which row to which a node had the binding it has at `row`."""
    if node is None:
        return 0, FOR_EVER, None
    index = bisect_right(node.rows, row)
    end = node.rows[index] if index < len(node.rows) else FOR_EVER
    return (node.rows[index - 1], end, node.bindings[index - 1]) if index else (0, end, None)


def _below(above: _Stretch, begin: int, end: int, binding: Binding) -> _Stretch:
    begin, end = max(begin, above.begin), min(end, above.end)
    depth = above.depth + 1
    if above.path is None or depth >= MAX_DEPTH:
        return _Stretch(begin, end, None)
    path = above.path + binding.name if above.path == b"/" else above.path + b"/" + binding.name
    return _Stretch(begin, end, path, depth, above.removed or binding.held is Held.REMOVED)
