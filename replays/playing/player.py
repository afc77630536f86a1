"""One step: what to ask for it, and what its answer means. Knows no transport and no clock."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable

from dissectors.opcodes import OPS, OPS_BY_NAME, Enosys
from replays.judging.blame import Blame
from replays.playing.fallbacks import Fallbacks
from replays.playing.judge import Judge
from replays.playing.learning import find_handle, find_node
from replays.playing.listing import READDIRPLUS, list_directory
from replays.playing.naming import ENDERS, Naming
from replays.playing.session import Session
from replays.playing.splitting import read_in_parts, write_in_parts
from replays.playing.talk import U32, U64, Ask, Talk, error_of
from replays.playing.translate import UnmappedHandle, UnmappedNode, forget_messages
from replays.reasons import Skip, SkipStep
from replays.recorded.recording import Step
from replays.recorded.sites import NODE_AT, NOWHERE, Manner, gives_ids, manner, reply_sites
from replays.report import NONE

READ, WRITE, LOOKUP = (OPS_BY_NAME[name].code for name in ("READ", "WRITE", "LOOKUP"))
GIVERS = frozenset(op.code for op in OPS.values() if gives_ids(op))
OPENERS = frozenset(op.code for op in OPS.values() if op.enosys is Enosys.OPENED)
RELEASES = frozenset(op.code for op in OPS.values() if op.releases)
SPECIAL = OPENERS | RELEASES | ENDERS | {READ, WRITE}
ENDING = RELEASES | {op.code for op in OPS.values() if manner(op) is Manner.FORGET}  # what they name is gone
MOST_IDS = 8  # that one request names, with room to spare
HARMLESS = frozenset(
    {Skip.STILL_HELD, Skip.NOTHING_HELD, Skip.ANSWERED, Skip.FALLBACK, Skip.NEVER_AGAIN, Skip.RETRIEVED, Skip.RESENT}
    | {Skip.INIT_AGAIN, Skip.NO_INTERRUPT}
)


class Player:
    """Plays steps of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._recording, self._translator, self._mapper = session.recording, session.translator, session.mapper
        self._mapped = session.recording.trace.file.mapped
        self._is_same = session.comparator.is_same
        self._rooms = session.translator.rooms
        self._blame = Blame(session.recording)
        self._fallbacks = Fallbacks(session)
        self._naming = Naming(session)
        self.judge = Judge(session, self._blame)
        self.interrupted: set[int] = set()  # numbers of steps that an INTERRUPT named while they were under way
        self._opening: dict[int, int] = {}  # step -> the live node it opens
        self.skips: defaultdict[Skip, array[int]] = defaultdict(lambda: array("q"))  # recorded exchanges
        self.sent = self.answered = self.compared = self.same = 0
        ways: dict[Manner, Callable[[Step], Ask | Talk]] = {Manner.LISTING: self._list}
        self._ways = {code: ways.get(s.manner, self._ask) for code, s in session.translator.sites.items()}
        self._forgets = {code for code, s in session.translator.sites.items() if s.manner is Manner.FORGET}

    # ---- before ----------------------------------------------------------------------------------------------------

    def begin(self, step: Step) -> Ask | Talk | list[bytearray]:
        """Return what to ask for a step: one request, several in turn, or some that are never answered.

        Raises SkipStep.
        """
        if step.refusal:
            raise SkipStep(Skip[step.refusal])
        if self._session.silenced and self._session.is_silenced(step.opcode):
            self._stand_in(step)
        if step.opcode in self._forgets:
            return self._forget(step)
        return self._ways[step.opcode](step)

    def skip(self, step: Step, reason: Skip) -> None:
        """Take note of a step that is not played."""
        self.skips[reason].append(step.exchange)
        if reason not in HARMLESS:
            self._blame.trouble(step)

    def _stand_in(self, step: Step) -> None:
        """Do what a kernel does instead of asking again after ENOSYS, where that needs no request."""
        op = OPS[step.opcode]
        if op.enosys is Enosys.INSTEAD or op.code == READDIRPLUS:
            return
        for given in self._recording.given(step):
            live = self._mapper.node(given.handle[0]) if given.handle is not None else None
            if live is not None:
                self._mapper.opened(step.number, live, 0)
        for key in step.handles if op.releases else ():
            self._mapper.released(key)
        raise SkipStep(Skip.NEVER_AGAIN)

    def _ask(self, step: Step) -> Ask | Talk:
        if self._fallbacks.is_done(step):
            raise SkipStep(Skip.FALLBACK)
        try:
            message = self._translator.message(step)
        except (UnmappedNode, UnmappedHandle) as unmapped:
            return self._learning(step, unmapped)
        return self._whole_or_split(step, message)

    def _whole_or_split(self, step: Step, message: bytearray) -> Ask | Talk:
        """Return a step's own request, or its parts where this server takes less at a time."""
        self.sent += 1
        if step.opcode not in SPECIAL:
            return Ask(message, self._rooms[step.opcode](message))
        if step.opcode in RELEASES:
            self._let_go(step)
        if step.opcode in ENDERS:
            self._naming.asked(step)
        if step.opcode in OPENERS:
            (self._opening[step.number],) = U64.unpack_from(message, NODE_AT)
        if step.opcode in (READ, WRITE):
            agreement, sites = self._session.agreement, self._translator.sites[step.opcode]
            most = agreement.max_read if step.opcode == READ else agreement.max_write
            if U32.unpack_from(message, sites.size_at)[0] > most:
                text = f"requests of more than {most} bytes"
                self._session.notes.add("splitting", text, opcode=step.opcode, exchange=step.exchange)
                return (read_in_parts if step.opcode == READ else write_in_parts)(message, sites, most)
        return Ask(message, self._rooms[step.opcode](message))

    def _list(self, step: Step) -> Ask | Talk:
        try:
            message = self._translator.message(step)
        except (UnmappedNode, UnmappedHandle) as unmapped:
            return self._learning(step, unmapped)
        self.sent += 1
        return list_directory(self._session, step, message, self.judge.listings)

    def _learning(self, step: Step, unmapped: UnmappedNode | UnmappedHandle) -> Talk:
        """Learn the ids a step names, then play it."""
        session = self._session
        like = self._translator.encoded(step)
        for _ in range(MOST_IDS):
            if not session.learns or session.agreement.context.big_endian:
                break
            if isinstance(unmapped, UnmappedHandle):
                yield from find_handle(session, step, like, unmapped.node, unmapped.key)
            else:
                yield from find_node(session, step, like, unmapped.node)
            try:
                message = self._translator.message(step)
            except (UnmappedNode, UnmappedHandle) as another:
                unmapped = another
                continue
            if self._translator.sites[step.opcode].manner is Manner.LISTING:
                self.sent += 1
                return (yield from list_directory(session, step, message, self.judge.listings))
            asked = self._whole_or_split(step, message)
            return (yield asked) if isinstance(asked, Ask) else (yield from asked)
        raise SkipStep(Skip.UNKNOWN_HANDLE if isinstance(unmapped, UnmappedHandle) else Skip.UNKNOWN_NODE)

    def _forget(self, step: Step) -> list[bytearray]:
        pairs = []
        was_held = False
        for node, lookups in self._recording.forgotten(step):
            was_held = was_held or self._mapper.owed(node) != (0, 0)
            pairs += self._mapper.forget(node, lookups)
            self._session.not_there.discard(node)
            if self._mapper.node(node) is None:
                self._blame.forgotten(node)
        if not pairs:
            raise SkipStep(Skip.STILL_HELD if was_held else Skip.NOTHING_HELD)
        self.sent += 1
        return self.giving_back(pairs, self._translator.encoded(step))

    def giving_back(self, pairs: list[tuple[int, int]], like: bytes | bytearray) -> list[bytearray]:
        """Return what gives lookups back to the live server."""
        return forget_messages(pairs, like, self._session.agreement.context.effective_minor)

    # ---- after -----------------------------------------------------------------------------------------------------

    def ended(self, step: Step, reply: bytes, live_exchange: int, message: bytearray | None) -> Talk | None:
        """Take in a step's answer; return how to go on where a kernel would: `message` is what was asked at once."""
        self.answered += 1
        recorded = self._mapped[step.reply_at : step.reply_end] if step.reply_at != NOWHERE else b""
        if step.opcode in GIVERS:
            self._learn(step, recorded, reply)
        elif step.opcode in ENDERS:
            self._naming.answered(step, reply)
        is_whole = len(recorded) == step.reply_wire_len
        if recorded and is_whole and self._is_same(step.opcode, recorded, reply):
            self.compared += 1
            self.same += 1
            return None
        return self._look_closer(step, recorded, reply, live_exchange, message)

    def _look_closer(
        self, step: Step, recorded: bytes, reply: bytes, live_exchange: int, message: bytearray | None
    ) -> Talk | None:
        op = OPS[step.opcode]
        if error_of(reply):
            instead = self._fallbacks.instead(step, message, reply) if message is not None else None
            if instead is not None:
                self.answered -= 1
                return instead
            if error_of(reply) == -38 and op.sticky_enosys:
                self._session.silenced.add(op.code)
        if not recorded:
            return None
        self.compared += 1
        if self._fallbacks.note(step, reply):
            text = "RENAME2 did what the recorded caller then did with RENAME"
            self._session.notes.add("rename-fallback", text, opcode=op.code, exchange=step.exchange)
            self._blame.trouble(step)
            if not self._session.comparator.rules.counts("rename-fallback"):
                self.same += 1
                return None
        if self._translator.sites[step.opcode].manner is Manner.LISTING and not error_of(reply):
            self.same += not self._recording.error(step) or self.judge.answers(step, reply, live_exchange)
            return None
        interrupted = step.number in self.interrupted
        self.same += self.judge.answers(step, reply, live_exchange, interrupted=interrupted)
        return None

    def _learn(self, step: Step, recorded: bytes, reply: bytes) -> None:
        """Map the node and the handle that both replies give out; note what one of them alone gives."""
        op, mapper = OPS[step.opcode], self._mapper
        given = self._recording.gift(op, step) if recorded and not self._recording.error(step) else None
        if error_of(reply):
            if error_of(reply) == -38 and op.enosys is Enosys.OPENED and given is not None and given.handle is not None:
                mapper.opened(step.number, self._opening.pop(step.number, 0), 0)
            return
        sites = reply_sites(op, self._session.agreement.context, len(reply))
        node = U64.unpack_from(reply, sites.node_at)[0] if sites.node_at != NOWHERE else 0
        if node:
            mode = U32.unpack_from(reply, sites.mode_at)[0] if sites.mode_at != NOWHERE else 0
            if given is not None and given.node:
                mapper.entry(given.node, node, mode, name=self._naming.given(step))
            else:
                self._session.give_back(node)
        opened_on = self._opening.pop(step.number, 0) or node
        if opened_on and sites.handle_at != NOWHERE and given is not None and given.handle is not None:
            mapper.opened(step.number, opened_on, U64.unpack_from(reply, sites.handle_at)[0])

    def _let_go(self, step: Step) -> None:
        """Let go of the handle, and of nodes that its listing gave out to nobody.

        When it is asked, not when it is answered: the server may give the number out again before it answers.
        """
        for key in step.handles:
            self._mapper.released(key)
            listing = self._session.listings.pop(key, None)
            if listing is None:
                continue
            if not listing.was_compared:
                self._session.notes.add("unread", "directories", opcode=step.opcode, exchange=step.exchange)
            for node, lookups in listing.unclaimed():
                self._session.give_back(node, lookups)

    def unanswered(self, step: Step) -> None:
        """The live server took a step and will not answer it."""
        if step.reply_at != NOWHERE:
            self.judge.broken(step, "no-answer", b"", NONE)
