"""Paths of many records, each worked out once for as long as nothing on it moved."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from dissectors.text import escape
from tracer.trace.names import Names


class Paths:
    """Reads paths, fastest in the order of the trace."""

    def __init__(self, names: dict[int, Names]) -> None:
        self._names = names
        self._channels: dict[int, _Channel] = {}

    def text(self, channel: int, nodeid: int, row: int) -> str | None:
        """Return the path at `row`, escaped; None when it is not known."""
        return self.texts([channel], [nodeid], [row])[0]

    def texts(self, channels: Iterable[int], nodeids: Iterable[int], rows: Iterable[int]) -> list[str | None]:
        """Return the path of each node at its record, escaped; None for those not known, and for nodeid 0."""
        found: list[str | None] = []
        add = found.append
        current, paths = -1, _Channel(Names())
        for channel, nodeid, row in zip(channels, nodeids, rows, strict=True):
            if channel != current:
                current, paths = channel, self._channel(channel)
            if not paths.since <= row < paths.until:
                paths.move_to(row)
            if not nodeid:
                add(None)
            elif nodeid in paths.known:
                add(paths.known[nodeid])
            else:
                add(paths.work_out(nodeid, row))
        return found

    def _channel(self, channel: int) -> _Channel:
        found = self._channels.get(channel)
        if found is None:
            names = self._names.get(channel)
            if names is None:
                return _Channel(Names())  # may be met later: not kept
            found = self._channels[channel] = _Channel(names)
        return found


class _Channel:
    """The paths of one channel that hold between two records at which something moved: from `since` to `until`."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._next = 0  # the first of names.changed_rows that lies ahead
        self.since, self.until = 0, 0
        self.known: dict[int, str | None] = {}
        self._directories: dict[int, bytes] = {}  # every one has others in it: a change of it ends all that is known

    def work_out(self, nodeid: int, row: int) -> str | None:
        """Work out a path and keep it."""
        path = self._names.path(nodeid, row, self._directories)
        text = self.known[nodeid] = None if path is None else escape(path)
        return text

    def move_to(self, row: int) -> None:
        """Forget what does not hold at `row`: on the way there a few paths, on a way back all."""
        rows, nodes = self._names.changed_rows, self._names.changed_nodes
        if row < self.since or not self.known:  # nothing to forget one by one: there at once
            self._clear()
            self._next = bisect_right(rows, row)
        while self._next < len(rows) and rows[self._next] <= row:
            self._forget(nodes[self._next])
            self._next += 1
        self.since = rows[self._next - 1] if self._next else 0
        # What was appended to the trace since then lies ahead as well: ask again at every record behind the last.
        self.until = rows[self._next] if self._next < len(rows) else row + 1

    def _clear(self) -> None:
        self.known.clear()
        self._directories.clear()

    def _forget(self, nodeid: int) -> None:
        """Forget what a change of one node's place may have changed."""
        if nodeid in self._names.parents:
            self._clear()
        else:
            self.known.pop(nodeid, None)
