"""Looks closely at what is not the same at first sight, and writes down what counts: which rule, and whose fault."""

from __future__ import annotations

from collections.abc import Iterable

from dissectors.errnos import ERRNO
from dissectors.fields import Kind
from dissectors.message import Value
from dissectors.opcodes import OPS, NodeIs, Op
from dissectors.structs import REPLY_HEADER_SIZE
from replays.judging.blame import Blame
from replays.judging.compare import Answered, Found
from replays.judging.races import changed_beside
from replays.judging.rules import RULES
from replays.parting import Keeper
from replays.playing.directories import DOTS, Listing
from replays.playing.session import Session
from replays.recorded.recording import Entry, Step
from replays.report import MOST_BYTES, NONE, Difference

MOST_DIFFERENCES = 100_000  # kept; all are counted
RACING = frozenset(
    {"error", "size", "data", "links", "names", "permissions", "owner", "entry-type", "target"}
    | {"attribute-names", "attribute-value"}
)


class Judge:
    """Compares whole answers, and keeps the differences in the order they were met."""

    def __init__(self, session: Session, blame: Blame) -> None:
        self._session, self._blame = session, blame
        self.differences: list[Difference] = []
        self._keeper = Keeper()
        self.unkept = 0  # differences beyond those
        self.first_count = 0  # of differences that follow from no other
        self.differing = 0  # requests

    # ---- answers ---------------------------------------------------------------------------------------------------

    def answers(self, step: Step, reply: bytes, live_exchange: int, *, interrupted: bool = False) -> bool:
        """Compare a step's two answers with care; tell whether they mean the same."""
        op = OPS[step.opcode]
        recording, comparator = self._session.recording, self._session.comparator
        asked = recording.values(step)
        is_whole = step.reply_end - step.reply_at == step.reply_wire_len
        if not is_whole:
            self._session.notes.add(
                "cut", "answers were cut by the capture", opcode=step.opcode, exchange=step.exchange
            )
        recorded = Answered(recording.error(step) or 0, recording.reply_values(step), is_whole)
        live = comparator.answered(op, reply, asked)
        found = list(comparator.differences(op, recorded, live))
        if not is_whole and not (recorded.error or live.error) and _is_data(op) and step.reply_wire_len != len(reply):
            before, now = step.reply_wire_len - REPLY_HEADER_SIZE, len(reply) - REPLY_HEADER_SIZE
            found.append(Found("length", "len", before, now, comparator.rules.counts("length")))
        if self._session.is_zero_filled:
            found = [self._meaningless(item) for item in found]
        if interrupted:
            found = [item._replace(rule="interrupted", counts=comparator.rules.counts("interrupted")) for item in found]
        return self._judged(step, op, found, reply, live_exchange)

    def _meaningless(self, item: Found) -> Found:
        """File contents say nothing when zeros were written for what was not recorded."""
        if item.rule != "data":
            return item
        return item._replace(rule="zero-fill", counts=self._session.comparator.rules.counts("zero-fill"))

    def _judged(self, step: Step, op: Op, found: Iterable[Found], now: bytes, live_exchange: int) -> bool:
        counting = []
        for item in found:
            if item.counts:
                counting.append(item)
            elif item.rule in ("enosys", "negative-entry", "interrupted", "rename-fallback"):
                text = f"recorded {_error_text(item.recorded)}, live {_error_text(item.live)}"
                self._session.notes.add(item.rule, text, opcode=op.code, exchange=step.exchange)
        counting = self._without_races(step, op, counting)
        if not counting:
            return True
        follower_of = self._blame.cause(step)
        for item in counting:
            self._add(step, item, now, live_exchange, follower_of)
        self._blame.trouble(step)
        self.differing += 1
        return False

    def _without_races(self, step: Step, op: Op, found: list[Found]) -> list[Found]:
        """Leave out what may be chance: the thing was changed by a request that was under way beside this one."""
        rules = self._session.comparator.rules
        racing = [item for item in found if item.rule in RACING]
        if not racing or rules.counts("race") or not changed_beside(self._session.plan, step):
            return found
        for item in racing:
            self._session.notes.add("race", f"{item.rule} differs", opcode=op.code, exchange=step.exchange)
        return [item for item in found if item.rule not in RACING]

    # ---- listings --------------------------------------------------------------------------------------------------

    def listings(self, step: Step, listing: Listing) -> None:
        """Compare the names of an open directory, read to its end on both sides."""
        op, rules = OPS[step.opcode], self._session.comparator.rules
        ours, theirs = dict(listing.recorded.names), dict(listing.live.names)
        if not rules.counts("dots"):
            for dot in DOTS:
                ours.pop(dot, None)
                theirs.pop(dot, None)
        found: list[Found] = []
        if rules.counts("names") and ours.keys() != theirs.keys():
            only = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
            found.append(Found("names", "entries", list(only[0]), list(only[1]), True))
        for name in sorted(ours.keys() & theirs.keys()):
            items = map(self._with_unknown_types, self._entries(op, ours[name], theirs[name]))
            found += (item._replace(entry=name) for item in items)
        self._judged(step, op, found, b"", NONE)

    def _entries(self, op: Op, ours: Entry, theirs: Entry) -> Iterable[Found]:
        comparator = self._session.comparator
        if bool(ours.node) == bool(theirs.node) and ours.values.keys() == theirs.values.keys():
            if ours.node or ours.name not in DOTS:
                values = ours.values if ours.node else {"dirent.type": ours.type, "type": ours.type}
                yield from comparator.fields(
                    op, values, {name: theirs.values.get(name, theirs.type) for name in values}
                )
        elif ours.type != theirs.type and comparator.rules.counts("entry-type"):
            yield Found("entry-type", "type", ours.type, theirs.type, True)

    def _with_unknown_types(self, item: Found) -> Found:
        if item.rule == "entry-type" and not (item.recorded and item.live):
            counts = self._session.comparator.rules.counts("unknown-entry-type")
            return item._replace(rule="unknown-entry-type", counts=counts)
        return item

    # ---- everything else -------------------------------------------------------------------------------------------

    def broken(self, step: Step | None, rule: str, reply: bytes, live_exchange: int) -> None:
        """The server broke the protocol, or did not answer."""
        rules = self._session.comparator.rules
        if not rules.counts(rule):
            return
        if step is None:
            if self._is_full(None):
                return
            self.differences.append(
                Difference(
                    NONE,
                    live_exchange,
                    NONE,
                    None,
                    rule,
                    RULES[rule].reason,
                    "",
                    None,
                    None,
                    reply[:MOST_BYTES],
                    len(reply),
                    None,
                )
            )
            return
        found = [Found(rule, "", None, None, True)]
        self._judged(step, OPS[step.opcode], found, reply, live_exchange)

    def _add(self, step: Step, item: Found, now: bytes, live_exchange: int, follower_of: int | None) -> None:
        if self._is_full(follower_of):
            return
        self.differences.append(
            Difference(
                step.exchange,
                live_exchange,
                step.opcode,
                self._path(step, item.entry),
                item.rule,
                RULES[item.rule].reason,
                item.field,
                *self._keeper.kept(item.recorded, item.live),
                b"" if item.field else now[:MOST_BYTES],
                len(now),
                follower_of,
            )
        )

    def _path(self, step: Step, entry: bytes) -> bytes | None:
        """Return the path of what differs: of the name in a directory, where the request or a listing says one."""
        recording = self._session.recording
        path, name = recording.trace.path(step.row), entry
        if not name and OPS[step.opcode].node is NodeIs.PARENT:
            values = recording.values(step)
            said = values.get("name", values.get("oldname"))
            name = said if isinstance(said, bytes) else b""
        return path.rstrip(b"/") + b"/" + name if path is not None and name else path

    def _is_full(self, follower_of: int | None) -> bool:
        """Count a difference; tell whether too many are kept for one more."""
        self.first_count += follower_of is None
        if len(self.differences) < MOST_DIFFERENCES:
            return False
        self.unkept += 1
        return True


def _is_data(op: Op) -> bool:
    """Whether a reply is nothing but bytes, so that its length alone says how many."""
    return isinstance(op.reply, tuple) and len(op.reply) == 1 and op.reply[0].kind is Kind.DATA


def _error_text(value: Value | None) -> str:
    if not isinstance(value, int) or value >= 0:
        return "success"
    return ERRNO.get(-value, f"error {value}")
