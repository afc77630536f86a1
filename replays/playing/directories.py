"""Listings: places in them are the server's own numbers, and so is how many names come at once.

A listing is followed on both sides by name: what the recorded server said and what the live one says, over all
portions. A reader that goes on where it stopped goes on where the live listing stopped; one that seeks goes to the
place of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from replays.recorded.recording import Entry

DOTS = (b".", b"..")
MOST_PORTIONS = 65536  # read on for the end of a listing: a server may never end it


class Match(NamedTuple):
    """A name for which both servers gave out a node."""

    name: bytes
    recorded: int
    live: int
    mode: int


@dataclass(slots=True)
class _Side:
    """One server's listing, as far as it was read."""

    names: dict[bytes, Entry] = field(default_factory=dict)
    places: dict[int, bytes] = field(default_factory=dict)  # cookie -> name it follows
    cookies: dict[bytes, int] = field(default_factory=dict)
    last: int = 0  # cookie of the last entry read
    has_ended: bool = False
    unmatched: dict[bytes, list[Entry]] = field(default_factory=dict)  # nodes that wait for the other side's

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.names[entry.name] = entry
            self.places[entry.cookie] = entry.name
            self.cookies[entry.name] = entry.cookie
            self.last = entry.cookie
            if entry.node and entry.name not in DOTS:
                self.unmatched.setdefault(entry.name, []).append(entry)


class Listing:
    """One open directory, read on both sides."""

    def __init__(self) -> None:
        self.recorded, self.live = _Side(), _Side()
        self.was_compared = False
        self.was_cut = False  # names of the recorded one are missing

    def go_to(self, cookie: int) -> int | None:
        """Return where the live listing goes on when the recorded one went on at `cookie`; None when unknown."""
        if cookie == 0:
            if self.recorded.last:
                self._begin_again()
            return 0
        if cookie == self.recorded.last:
            return self.live.last
        if self.was_cut and cookie not in self.recorded.places:
            return self.live.last  # of an entry that was not kept: nearly always the last
        name = self.recorded.places.get(cookie)
        return None if name is None else self.live.cookies.get(name)

    def _begin_again(self) -> None:
        """rewinddir(3): what is listed from now on is another listing, but nodes stay counted."""
        before = self.recorded, self.live
        self.recorded, self.live = _Side(unmatched=before[0].unmatched), _Side(unmatched=before[1].unmatched)
        self.was_compared = False

    def heard(self, recorded: list[Entry], *, is_whole: bool) -> None:
        """Take in what the recorded server listed; an empty portion is the end."""
        self.recorded.add(recorded)
        self.was_cut = self.was_cut or not is_whole
        self.recorded.has_ended = self.recorded.has_ended or (is_whole and not recorded)

    def listed(self, live: list[Entry]) -> None:
        """Take in what the live server listed."""
        self.live.add(live)
        self.live.has_ended = self.live.has_ended or not live

    def matches(self) -> Iterator[Match]:
        """Yield the nodes that both gave out for one name, each once; they are matched from then on."""
        for name in list(self.recorded.unmatched.keys() & self.live.unmatched.keys()):
            ours, theirs = self.recorded.unmatched[name], self.live.unmatched[name]
            while ours and theirs:
                live = theirs.pop()
                yield Match(name, ours.pop().node, live.node, live.mode)
            for side in (self.recorded, self.live):
                if not side.unmatched[name]:
                    del side.unmatched[name]

    def missing(self) -> list[Entry]:
        """Return what the recorded server gave out and the live one did not, yet."""
        return [entry for entries in self.recorded.unmatched.values() for entry in entries]

    def found_otherwise(self, name: bytes) -> None:
        """The live node of a name was looked up."""
        self.recorded.unmatched.pop(name, None)

    def unclaimed(self) -> list[tuple[int, int]]:
        """Return (live node, lookups) that the recorded server did not give out, each once."""
        counts: dict[int, int] = {}
        for entries in self.live.unmatched.values():
            for entry in entries:
                counts[entry.node] = counts.get(entry.node, 0) + 1
        self.live.unmatched.clear()
        return list(counts.items())

    @property
    def is_comparable(self) -> bool:
        """Whether both listings were read to their end, and not compared yet."""
        return self.recorded.has_ended and self.live.has_ended and not (self.was_compared or self.was_cut)
