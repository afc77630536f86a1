"""fuse.path of very many exchanges: worked out once for each stretch of the trace in which no node moved."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from tracer.filters.sources import PATH_COST
from tracer.trace.columns import Rows
from tracer.trace.names import Names
from tracer.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class Path:
    """The path of the exchange's node as it was when it began; none where it is not known."""

    cost: int = PATH_COST
    repeats: bool = True

    def pairs(self, trace: Trace, numbers: Rows) -> Iterator[tuple[int, bytes]]:
        """Yield (place, value)."""
        trace.advance_state()
        first = trace.first_rows[numbers]
        channels, nodeids = trace.records["channel"][first].tolist(), trace.records["nodeid"][first].tolist()
        known: dict[int, _Known] = {}
        for place, (row, channel, nodeid) in enumerate(zip(first.tolist(), channels, nodeids, strict=True)):
            if not nodeid:
                continue
            of_channel = known.get(channel)
            if of_channel is None:
                of_channel = known[channel] = _Known(trace.names(channel))
            path = of_channel.path(nodeid, row)
            if path is not None:
                yield place, path


class _Known:
    """The paths of one channel that are known in one stretch between two moves. Rows must ascend to be fast."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._paths: dict[int, bytes] = {}
        self._from, self._to = 0, -1

    def path(self, nodeid: int, row: int) -> bytes | None:
        if not self._from <= row < self._to:
            self._begin_stretch(row)
        found = self._paths.get(nodeid)
        if found is None:
            found = self._names.path(nodeid, row)
            if found is not None:  # an unknown one may be named at any row
                self._paths[nodeid] = found
        return found

    def _begin_stretch(self, row: int) -> None:
        turns = self._names.turns
        at = bisect_right(turns, row)
        self._from = turns[at - 1] if at else 0
        self._to = turns[at] if at < len(turns) else 1 << 62
        self._paths.clear()
