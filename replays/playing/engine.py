"""Plays a plan on a transport: sends what may go, takes what comes, until nothing is left.

One thread, no blocking but in `Transport.complete`. What a step means is `player`'s; here are uniques, times and order.
"""

from __future__ import annotations

import struct
import time
from array import array
from collections import deque
from typing import NamedTuple

from dissectors.errnos import MAX_ERRNO
from dissectors.flags import UNIQUE_RESEND
from dissectors.opcodes import OPS_BY_NAME, op_name
from dissectors.structs import REPLY_HEADER_SIZE
from replays.options import ReplayOptions
from replays.playing.livetrace import LiveTrace
from replays.playing.notifications import Notifications
from replays.playing.pacing import CLOSE_NS, Pace
from replays.playing.player import ENDING, Player
from replays.playing.session import Session
from replays.playing.talk import U32, U64, Ask, Talk, reply_of
from replays.reasons import Skip, SkipStep
from replays.recorded.recording import Step
from replays.recorded.schedule import Schedule
from replays.recorded.sites import NOWHERE, OPCODE_AT, UNIQUE_AT, Manner
from replays.report import NONE
from replays.transports.base import Answer, ServerGone, Transport
from tracer.output.style import counted

DESTROY = OPS_BY_NAME["DESTROY"].code
IO_ERROR = reply_of(b"", -5)  # what a caller gets for a reply that the kernel refuses
_HEADER = struct.Struct("<IiQ")
_NEVER_NS = 1 << 62


class _Sent(NamedTuple):
    """A request under way."""

    step: Step
    talk: Talk | None
    message: bytearray
    room: int
    sent_ns: int
    live_exchange: int


class Engine:
    """Plays one plan. The session's INIT is done; `first_unique` is the next to use."""

    def __init__(
        self,
        session: Session,
        transport: Transport,
        schedule: Schedule,
        options: ReplayOptions,
        live: LiveTrace,
        pace: Pace | None,
        first_unique: int,
    ) -> None:
        self._session, self._transport, self._schedule, self._options = session, transport, schedule, options
        self._live, self._pace, self._unique = live, pace, first_unique
        self.player = Player(session)
        self.notifications = Notifications(session)
        self._under_way: dict[int, _Sent] = {}
        self._unawaited = 0  # of those under way: the recording has no answer to them either
        self._held_back: list[Step] = []  # would end what a request under way uses
        self._unsent: deque[tuple[bytearray, int, bool]] = deque()  # the transport had no place for these
        self._resent: set[int] = set()  # uniques; a server may have had both when it answers, and answers both
        self._interrupts = {code for code, s in session.recording.sites.items() if s.manner is Manner.INTERRUPT}
        self._live_uniques: dict[int, int] | None = (  # recorded -> live, of requests under way
            {} if any(step.opcode in self._interrupts for step in session.plan.steps) else None
        )
        self.server_failed = False
        self.pairs: list[tuple[int, int]] = []
        self.opcodes, self.recorded_ns, self.live_ns = array("q"), array("q"), array("q")

    # ---- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Play everything; return why it stopped early, empty when it did not."""
        try:
            return self._run()
        except ServerGone as gone:
            self.server_failed = True
            for sent in self._under_way.values():
                if sent.step.turn != NOWHERE:
                    self.player.judge.broken(sent.step, "no-answer", b"", sent.live_exchange)
            return str(gone)

    def _run(self) -> str:
        timeout_ns, transport = int(self._options.timeout_s * 1e9), self._transport
        last_ns = time.monotonic_ns()
        limit_s = self._options.limit_s
        end_ns = _NEVER_NS if limit_s is None else last_ns + int(limit_s * 1e9)
        if self._pace is not None:
            self._pace.start(last_ns)
        while True:
            due_ns = self._send_ready()
            transport.flush()
            if not self._schedule.left and not self._is_anybody_awaited():
                return ""
            answers = transport.complete(self._patience_s(due_ns, last_ns + timeout_ns, end_ns))
            for answer in answers:
                self._take(answer)
            now_ns = time.monotonic_ns()
            if answers or (due_ns is not None and not self._under_way):
                last_ns = now_ns
            elif now_ns - last_ns > timeout_ns:
                return self._timed_out()
            if now_ns > end_ns:
                return f"not done within {limit_s:g} s"
            if self._has_enough():
                return f"ended after {counted(self.player.judge.first_count, 'difference')}"

    def _send_ready(self) -> int | None:
        """Start every step that may go now; return when the next is due, None when it waits for an answer."""
        while self._unsent:
            if not self._transport.submit(*self._unsent[0][:2], urgent=self._unsent[0][2]):
                return None
            self._unsent.popleft()
        schedule, pace, under_way, window = self._schedule, self._pace, self._under_way, self._options.window
        while len(under_way) - self._unawaited < window and not self._unsent:
            step = schedule.ready()
            if step is None:
                return None
            if pace is not None:
                due_ns = pace.due_ns(step)
                now_ns = time.monotonic_ns()
                if now_ns < due_ns:
                    return due_ns
                pace.went(step, now_ns)
            schedule.take()
            self._begin(step)
        return None

    def _patience_s(self, due_ns: int | None, deadline_ns: int, end_ns: int) -> float:
        now_ns = time.monotonic_ns()
        if due_ns is not None:
            return max(0.0, (min(due_ns, end_ns) - now_ns - CLOSE_NS) / 1e9)
        return max(0.001, (min(deadline_ns, end_ns) - now_ns) / 1e9)

    def _is_anybody_awaited(self) -> bool:
        """Whether an answer is still to come that came in the recording, or that a talk waits for."""
        return bool(self._unsent) or any(
            sent.talk is not None or sent.step.turn != NOWHERE for sent in self._under_way.values()
        )

    def _has_enough(self) -> bool:
        most = self._options.max_differences
        return most is not None and self.player.judge.first_count >= most

    def _timed_out(self) -> str:
        self.server_failed = True
        waiting = [sent.step for sent in self._under_way.values()]
        for sent in self._under_way.values():
            if sent.step.turn != NOWHERE:
                self.player.judge.broken(sent.step, "no-answer", b"", sent.live_exchange)
        names = ", ".join(f"{op_name(step.opcode)} (exchange {step.exchange})" for step in waiting[:4])
        return f"no answer for {self._options.timeout_s:g} s to {names or 'anything'}"

    # ---- asking ----------------------------------------------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        if step.opcode in ENDING and self._is_in_use(step):
            self._held_back.append(step)
            return
        try:
            if step.opcode in self._interrupts:
                self._interrupt(step)
                return
            asked = self.player.begin(step)
            if isinstance(asked, Ask):
                self._send(step, None, asked.message, asked.room)
            elif isinstance(asked, list):
                self._send_unanswered(asked, step)
                self._schedule.done(step)
            else:
                self._go_on(step, asked, None, NONE)
        except SkipStep as skipped:
            self._skip(step, skipped.reason)

    def _is_in_use(self, step: Step) -> bool:
        """Tell whether a request under way uses what a RELEASE or FORGET ends: no kernel sends it then.

        A recording that is torn does not say so, and servers use memory that they have freed.
        """
        recording = self._session.recording
        handles, nodes = set(step.handles), set(recording.nodes(step)) if not step.handles else set()
        return any(
            not handles.isdisjoint(sent.step.handles) or (nodes and not nodes.isdisjoint(recording.nodes(sent.step)))
            for sent in self._under_way.values()
        )

    def _skip(self, step: Step, reason: Skip) -> None:
        self.player.skip(step, reason)
        self._schedule.done(step)

    def _go_on(self, step: Step, talk: Talk, reply: bytes | None, live_exchange: int) -> None:
        """Let a talk ask its next question, or end the step with what it came to."""
        try:
            asked = next(talk) if reply is None else talk.send(reply)
        except StopIteration as ended:
            self._end(step, ended.value, live_exchange, None)
        except SkipStep as skipped:
            self._skip(step, skipped.reason)
        else:
            self._send(step, talk, asked.message, asked.room)

    def _send(self, step: Step, talk: Talk | None, message: bytearray, room: int) -> None:
        self._unique = unique = self._unique + 2
        U64.pack_into(message, UNIQUE_AT, unique)
        if self._options.edit is not None:
            edited = self._edited(message)
            if edited is None:
                if talk is not None:
                    talk.close()
                self._skip(step, Skip.EDITED_AWAY)
                return
            message, room = edited, self._room_after_edit(edited, room)
        if step.turn == NOWHERE:
            self._unawaited += 1
        sent_ns = time.monotonic_ns()  # before it is sent: a server may answer while it is
        live_exchange = self._live.asked(sent_ns, message, step.exchange)
        self.pairs.append((step.exchange, live_exchange))
        self._under_way[unique] = _Sent(step, talk, message, room, sent_ns, live_exchange)
        if self._live_uniques is not None:
            self._live_uniques[step.unique] = unique
        if self._unsent or not self._transport.submit(message, room):
            self._unsent.append((message, room, False))

    def _send_unanswered(self, messages: list[bytearray], step: Step | None) -> None:
        """Send what is never answered, and waits behind nothing."""
        for original in messages:
            self._unique += 2
            U64.pack_into(original, UNIQUE_AT, self._unique)
            message = self._edited(original)
            if message is None:
                continue
            exchange = NONE if step is None else step.exchange
            live_exchange = self._live.asked(time.monotonic_ns(), message, exchange)
            if step is not None:
                self.pairs.append((exchange, live_exchange))
            self._submit_urgent(message)

    def _submit_urgent(self, message: bytearray) -> None:
        if self._unsent or not self._transport.submit(message, 0, urgent=True):
            self._unsent.append((message, 0, True))

    def _interrupt(self, step: Step) -> None:
        """Interrupt what is still under way. virtiofs has no INTERRUPT (virtio_fs_fiq_ops)."""
        if step.refusal:
            raise SkipStep(Skip[step.refusal])
        if self._transport.name == "vhost-user":
            raise SkipStep(Skip.NO_INTERRUPT)
        recording = self._session.recording
        target_at = recording.sites[step.opcode].head_size - U64.size
        assert self._live_uniques is not None
        target = self._live_uniques.get(recording.number(step, target_at))
        under_way = self._under_way.get(target) if target is not None else None
        if target is None or under_way is None:
            raise SkipStep(Skip.ANSWERED)
        original = self._session.translator.encoded(step)
        U64.pack_into(original, UNIQUE_AT, target | 1)
        U64.pack_into(original, target_at, target)
        message = self._edited(original)
        if message is None:
            raise SkipStep(Skip.EDITED_AWAY)
        self.player.interrupted.add(under_way.step.number)
        self.player.sent += 1
        live_exchange = self._live.asked(time.monotonic_ns(), message, step.exchange)
        self.pairs.append((step.exchange, live_exchange))
        self._submit_urgent(message)
        self._schedule.done(step)

    def _edited(self, message: bytearray) -> bytearray | None:
        """Let the user's edit change a message; None when it dropped it. Its unique stays ours."""
        if self._options.edit is None:
            return message
        edited = self._options.edit(bytes(message), self._session.agreement.context)
        if edited is None or len(edited) < UNIQUE_AT + U64.size:
            return None
        changed = bytearray(edited)
        changed[UNIQUE_AT : UNIQUE_AT + U64.size] = message[UNIQUE_AT : UNIQUE_AT + U64.size]
        return changed

    def _room_after_edit(self, message: bytearray, before: int) -> int:
        """Return the room for the reply to a message that may ask for more, or less, than it did."""
        sites = self._session.translator.sites.get(U32.unpack_from(message, OPCODE_AT)[0])
        if not before or sites is None or len(message) < sites.head_size:
            return before
        return self._session.translator.room(message, sites.op.code)

    # ---- answers ---------------------------------------------------------------------------------------------------

    def _take(self, answer: Answer) -> None:
        t_ns, unique, data = answer
        sent = self._under_way.pop(unique, None) or self._under_way.pop(unique & ~UNIQUE_RESEND, None)
        if sent is None:
            self._unasked(t_ns, unique, data)
            return
        step, talk, message, _, sent_ns, live_exchange = sent
        if step.turn == NOWHERE:
            self._unawaited -= 1
        if self._live_uniques is not None:
            self._live_uniques.pop(step.unique, None)
        if not data:
            self._unanswered(step, talk)
            return
        self._live.answered(t_ns, data)
        if not _is_sound(data):
            self.player.judge.broken(step, "malformed", data, live_exchange)
            data = IO_ERROR
        if talk is not None:
            self._go_on(step, talk, data, live_exchange)
        else:
            self.opcodes.append(step.opcode)
            self.recorded_ns.append(step.latency_ns)
            self.live_ns.append(t_ns - sent_ns)
            self._end(step, data, live_exchange, message)
        if self._session.surplus:
            self._give_back(message)
        if self._held_back:
            steps, self._held_back = self._held_back, []
            for held in steps:
                self._begin(held)

    def _end(self, step: Step, reply: bytes, live_exchange: int, message: bytearray | None) -> None:
        instead = self.player.ended(step, reply, live_exchange, message)
        if instead is None:
            self._schedule.done(step)
        else:
            self._go_on(step, instead, None, live_exchange)

    def _unanswered(self, step: Step, talk: Talk | None) -> None:
        """A used ring entry of length 0: the request is done, and nothing was said (DESTROY in one virtiofsd)."""
        if talk is not None:
            talk.close()
        if step.opcode != DESTROY:
            self.player.unanswered(step)
        self._schedule.done(step)

    def _give_back(self, like: bytearray) -> None:
        pairs, self._session.surplus = self._session.surplus, []
        self._send_unanswered(self.player.giving_back(pairs, like), None)

    def _unasked(self, t_ns: int, unique: int, data: bytes) -> None:
        """Take a notification in, an answer to an INTERRUPT, or something that no kernel would take."""
        live_exchange = self._live.unasked(t_ns, data)
        if unique:
            if not unique & 1 and unique & ~UNIQUE_RESEND not in self._resent:
                self.player.judge.broken(None, "unasked", data, live_exchange)
            return
        if self.notifications.is_resend(data):
            self._resend()
        answer = self.notifications.heard(data)
        if answer is not None:
            self._live.asked(time.monotonic_ns(), answer)
            self._submit_urgent(answer)

    def _resend(self) -> None:
        """Ask again for everything under way, with the bit that says so (NOTIFY_RESEND, 7.40).

        Unlike a kernel, which knows what the server has read, we may ask twice for what it reads only now.
        """
        unsent = {id(message) for message, _, _ in self._unsent}
        for unique, sent in self._under_way.items():
            if id(sent.message) in unsent:
                continue
            self._resent.add(unique)
            U64.pack_into(sent.message, UNIQUE_AT, unique | UNIQUE_RESEND)
            self._unsent.append((sent.message, sent.room, False))


def _is_sound(data: bytes) -> bool:
    """Tell whether the kernel would take the reply (fuse_dev_do_write)."""
    if len(data) < REPLY_HEADER_SIZE:
        return False
    length, error, _ = _HEADER.unpack_from(data)
    return bool(length == len(data) and -MAX_ERRNO <= error <= 0 and (not error or length == REPLY_HEADER_SIZE))
