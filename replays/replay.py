"""The whole of a replay: `replay(trace, transport, options)` plays a recorded kernel and says what differs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from dissectors.message import Value
from dissectors.opcodes import op_name
from replays.init import Agreement, Offer, agreed, offer
from replays.judging.compare import Comparator
from replays.judging.notes import Notes
from replays.judging.rules import RuleSet
from replays.options import Order, ReplayOptions
from replays.playing.encoding import Encoder
from replays.playing.engine import Engine
from replays.playing.livetrace import LiveTrace, as_pairs
from replays.playing.mapping import Mapper
from replays.playing.pacing import Pace
from replays.playing.session import Session
from replays.playing.talk import U64
from replays.playing.translate import Translator
from replays.reasons import Skip
from replays.recorded.dependencies import waits
from replays.recorded.plan import Plan, make_plan
from replays.recorded.recording import Step
from replays.recorded.schedule import Needs, Schedule, Turns, one_by_one
from replays.recorded.sites import NOWHERE, UNIQUE_AT
from replays.report import NONE, Counts, Latency, ReplayReport
from replays.transports.base import ServerGone, Transport
from tracer.errors import TracerError
from tracer.records import ChannelInfo, RecordFlag
from tracer.trace.trace import Trace

FIRST_UNIQUE = 2  # of INIT on a fresh connection
INIT_ROOM = 16 + 64  # a reply header and the newest fuse_init_out


def replay(
    trace: Trace, transport: Transport, options: ReplayOptions | None = None, plan: Plan | None = None
) -> ReplayReport:
    """Play one channel of `trace` on `transport`, and compare every answer. `plan` is what `plan_for` gave, if made.

    Always ends the server. TracerError when nothing can be played, or the server does not come to terms in INIT;
    whatever happens after that is in the report.
    """
    options = options or ReplayOptions()
    try:
        rules = RuleSet(options.ignore, strict=options.strict)
        plan = plan or plan_for(trace, options)
        report = _Replay(plan, transport, options, rules).run()
    finally:
        ending = transport.close()
    return replace(report, ending=ending)


def plan_for(trace: Trace, options: ReplayOptions) -> Plan:
    """Read what will be played from a trace."""
    return make_plan(
        trace,
        options.channel,
        allow_writes=options.allow_writes,
        zero_fill=options.zero_fill,
    )


class _Replay:
    """One replay, from INIT to the report."""

    def __init__(self, plan: Plan, transport: Transport, options: ReplayOptions, rules: RuleSet) -> None:
        self._plan, self._transport, self._options, self._rules = plan, transport, options, rules
        recorded = plan.recording.trace.channels[plan.recording.channel]
        info = ChannelInfo(f"replay of {recorded.name} ({transport.name})", recorded.kind, clock="realtime")
        self._live = LiveTrace(options.live, info)
        self._init_exchange = NONE

    def run(self) -> ReplayReport:
        offered = offer(self._recorded_init(), self._plan.recording.context, self._options.init)
        agreement = self._agree(offered)
        session = self._session(agreement)
        steps = [step for step in self._plan.steps if step.number != self._plan.init]
        pace = self._pace(steps)
        engine = Engine(session, self._transport, self._schedule(), self._options, self._live, pace, FIRST_UNIQUE)
        begin_ns = time.monotonic_ns()
        stopped = engine.run()
        duration_ns = time.monotonic_ns() - begin_ns
        self._live.flush()
        return self._report(session, engine, offered, agreement, pace, stopped, duration_ns)

    def _recorded_init(self) -> Mapping[str, Value]:
        if self._plan.init == NOWHERE:
            return {}
        return self._plan.recording.values(self._plan.steps[self._plan.init])

    def _agree(self, offered: Offer) -> Agreement:
        """Say INIT and wait for the answer."""
        message = bytearray(offered.message())
        U64.pack_into(message, UNIQUE_AT, FIRST_UNIQUE)
        exchange = NONE if self._plan.init == NOWHERE else self._plan.steps[self._plan.init].exchange
        self._init_exchange = self._live.asked(time.monotonic_ns(), message, exchange)
        try:
            self._transport.submit(message, INIT_ROOM)
            self._transport.flush()
            deadline_ns = time.monotonic_ns() + int(self._options.timeout_s * 1e9)
            while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
                for answer in self._transport.complete(left_ns / 1e9):
                    if answer.unique == FIRST_UNIQUE:
                        self._live.answered(answer.t_ns, answer.data)
                        return agreed(offered, answer.data, self._transport.most_bytes)
        except ServerGone as gone:
            raise TracerError(str(gone), "run it by hand with the same words to see what it says") from gone
        raise TracerError(
            f"the server did not answer INIT within {self._options.timeout_s:g} s", "give it longer: --timeout SECONDS"
        )

    def _session(self, agreement: Agreement) -> Session:
        options, recording = self._options, self._plan.recording
        mapper = Mapper()
        encoder = Encoder(recording.context, agreement.context, options.uids, options.gids)
        session = Session(
            self._plan,
            agreement,
            mapper,
            Translator(recording, mapper, encoder, agreement.context),
            Comparator(recording.context, agreement.context, self._rules, options.uids, options.gids),
            Notes(),
            options.learn,
        )
        if options.zero_fill and any(step.end - step.at < step.wire_len for step in self._plan.steps):
            session.is_zero_filled = True
            session.notes.add("zero-fill", "requests whose data was cut brought zeros")
        return session

    def _schedule(self) -> Schedule:
        """Return what hands the steps out."""
        plan = self._plan
        schedule: Schedule
        if self._options.order is Order.DEPENDENCIES:
            schedule = Needs(plan.steps, *waits(plan))
        else:
            is_serial = self._options.order is Order.SERIAL
            schedule = Turns(one_by_one(plan.steps) if is_serial else plan.steps, plan.answer_count)
        if plan.init != NOWHERE:  # is done
            schedule.take()
            schedule.done(plan.steps[plan.init])
        return schedule

    def _pace(self, steps: Sequence[Step]) -> Pace | None:
        speed = self._options.speed
        if speed is None or not steps:
            return None
        if not speed > 0:
            raise TracerError(f"--speed {speed:g} is no speed", "1 is as recorded, 2 twice as fast")
        flags = self._plan.recording.trace.records["flags"]
        if int(flags[steps[0].row]) & RecordFlag.TIME_UNKNOWN:
            raise TracerError("the recording has no times, so its pace is not known", "leave --speed away")
        return Pace(speed, steps[0].t_ns)

    def _report(
        self,
        session: Session,
        engine: Engine,
        offered: Offer,
        agreement: Agreement,
        pace: Pace | None,
        stopped: str,
        duration_ns: int,
    ) -> ReplayReport:
        player, judge = engine.player, engine.player.judge
        has_init = self._plan.init != NOWHERE
        pairs = list(engine.pairs)
        if has_init:
            pairs.append((self._plan.steps[self._plan.init].exchange, self._init_exchange))
        skipped = {reason.name: len(exchanges) for reason, exchanges in player.skips.items()}
        not_reached = len(self._plan.steps) - has_init - player.sent - sum(skipped.values())
        if not_reached > 0:
            skipped[Skip.NOT_REACHED.name] = not_reached
        times = [step.t_ns for step in self._plan.steps]
        return ReplayReport(
            self._transport.name,
            self._options.order.value,
            Counts(
                len(self._plan.steps),
                player.sent + has_init,
                player.answered + has_init,
                player.compared,
                player.same,
                MappingProxyType(skipped),
                MappingProxyType({op_name(code): count for code, count in session.added.items()}),
                MappingProxyType(dict(engine.notifications.counts)),
            ),
            tuple(judge.differences),
            session.notes.all(),
            latencies(engine),
            pace.error() if pace is not None else None,
            offered,
            agreement,
            duration_ns,
            max(times) - min(times),
            as_pairs(pairs),
            stopped,
            engine.server_failed,
            unkept=judge.unkept,
            skips=MappingProxyType({reason.name: exchanges for reason, exchanges in player.skips.items()}),
        )


def latencies(engine: Engine) -> tuple[Latency, ...]:
    """Return the times of requests that were sent as they were recorded, by opcode."""
    opcodes, recorded, live = (np.array(column) for column in (engine.opcodes, engine.recorded_ns, engine.live_ns))
    found = []
    for opcode in np.unique(opcodes).tolist():
        own = opcodes == opcode
        known = recorded[own][recorded[own] >= 0]
        before = np.percentile(known, (50, 99)).astype(int).tolist() if len(known) else [NONE, NONE]
        now = np.percentile(live[own], (50, 99)).astype(int).tolist()
        found.append(Latency(opcode, int(own.sum()), *before, *now))
    return tuple(found)
