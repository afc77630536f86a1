"""One live session: everything that is known of the server's side, shared by all that play a step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dissectors.opcodes import OPS_BY_NAME
from replays.init import Agreement
from replays.judging.compare import Comparator
from replays.judging.notes import Notes
from replays.playing.directories import Listing
from replays.playing.mapping import Mapper, Pairs
from replays.playing.translate import Translator
from replays.recorded.plan import Plan
from replays.recorded.recording import HandleKey, Recording

# The operation whose ENOSYS means that handles are not let go either (fc->no_open, fc->no_opendir).
OPENED_BY = {
    OPS_BY_NAME[release].code: OPS_BY_NAME[opened].code
    for release, opened in (("RELEASE", "OPEN"), ("RELEASEDIR", "OPENDIR"))
}


@dataclass(slots=True)
class Session:
    """What the ways of playing a step work on."""

    plan: Plan
    agreement: Agreement
    mapper: Mapper
    translator: Translator
    comparator: Comparator
    notes: Notes
    learns: bool = True
    is_zero_filled: bool = False  # zeros were written for data that was not recorded
    listings: dict[HandleKey, Listing] = field(default_factory=dict)
    silenced: set[int] = field(default_factory=set)  # opcodes that were answered ENOSYS once and for all
    not_there: set[int] = field(default_factory=set)  # recorded nodes that were looked up by their path in vain
    surplus: Pairs = field(default_factory=list)  # (live node, lookups) that nobody in the recording holds
    added: Counter[int] = field(default_factory=Counter)  # opcode -> requests that the recording has not

    @property
    def recording(self) -> Recording:
        """Return the recorded side."""
        return self.plan.recording

    def listing(self, key: HandleKey) -> Listing:
        """Return what is known of an open directory's listing."""
        found = self.listings.get(key)
        if found is None:
            found = self.listings[key] = Listing()
        return found

    def give_back(self, node: int, lookups: int = 1) -> None:
        """Note that the live server gave out a node that the recording does not hold."""
        if node > 1 and lookups > 0:
            self.surplus.append((node, lookups))

    def is_silenced(self, opcode: int) -> bool:
        """Tell whether no kernel would ask that any more."""
        return opcode in self.silenced or OPENED_BY.get(opcode) in self.silenced
