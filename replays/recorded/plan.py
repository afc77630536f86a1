"""A trace to steps: what was asked, in which order, and what each waits for. Knows nothing of the live server."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dissectors.fields import Kind as FieldKind
from dissectors.fields import Role
from dissectors.flags import UNIQUE_RESEND
from dissectors.opcodes import OPS, OPS_BY_NAME, Op
from replays.reasons import Skip
from replays.recorded.introductions import introduced
from replays.recorded.recording import Recording, Step
from replays.recorded.safety import OPEN, refusal
from replays.recorded.sites import NOWHERE, Manner, manner
from tracer.errors import TracerError
from tracer.records import ChannelKind, RecordFlag
from tracer.trace.columns import Array, Kind
from tracer.trace.trace import Trace

INIT = OPS_BY_NAME["INIT"].code


@dataclass(frozen=True, slots=True)
class Plan:
    """All of one channel, in the order it was said."""

    recording: Recording
    steps: tuple[Step, ...]
    init: int  # 0, the step that is INIT; NOWHERE: the recording began later
    answer_count: int  # how many answers steps may have to wait for
    last_use: dict[int, int]  # node -> the last step, FORGETs aside, that names it

    def is_needed(self, node: int, after: int) -> bool:
        """Tell whether a step after the one of number `after` names the node."""
        return self.last_use.get(node, NOWHERE) > after


def make_plan(
    trace: Trace,
    channel: int | None = None,
    *,
    allow_writes: bool = False,
    zero_fill: bool = False,
) -> Plan:
    """Read a plan from a trace; TracerError when there is nothing in it that can be played.

    Turns are those of the recording; `schedule.one_by_one` and `dependencies.waits` make other orders of them.
    """
    channel = _chosen(trace, channel)
    rows = _request_rows(trace, channel)
    recording = Recording(trace, channel, trace.context(int(rows[0])))
    steps = _steps(trace, rows)
    uses = [() if step.refusal else tuple(recording.nodes(step)) for step in steps]
    steps = introduced(recording, steps, uses)
    steps = [_judged(recording, step, allow_writes=allow_writes, zero_fill=zero_fill) for step in steps]
    init = 0 if steps[0].opcode == INIT else NOWHERE
    steps = [step._replace(refusal=Skip.INIT_AGAIN.name) if _is_later_init(step) else step for step in steps]
    _check(recording, steps, zero_fill=zero_fill)
    answers = sum(step.turn != NOWHERE for step in steps)
    return Plan(recording, tuple(steps), init, answers, _last_uses(steps, uses))


def _is_later_init(step: Step) -> bool:
    return step.opcode == INIT and step.number > 0


def _chosen(trace: Trace, channel: int | None) -> int:
    table = trace.records
    asked = [int(c) for c in np.unique(table["channel"][table["kind"] == Kind.REQUEST])]
    if not asked:
        raise TracerError(
            "the trace holds no request that could be played", "record one: fusewire record -o FILE -- SERVER"
        )
    if channel is None and len(asked) > 1:
        names = ", ".join(f"{number} ({trace.channels[number].name})" for number in asked[:8])
        raise TracerError(f"the trace holds {len(asked)} mounts: {names}", "choose one by its number: --channel N")
    if channel is not None and channel not in asked:
        raise TracerError(f"the trace holds no request of a mount number {channel}", f"it has {asked}")
    found = asked[0] if channel is None else channel
    if trace.channels[found].kind is ChannelKind.CUSE:
        raise TracerError("this is a character device (CUSE)", "only filesystems are replayed")
    return found


def _request_rows(trace: Trace, channel: int) -> Array:
    table = trace.records
    return np.flatnonzero((table["kind"] == Kind.REQUEST) & (table["channel"] == channel))


def _steps(trace: Trace, rows: Array) -> list[Step]:
    table = trace.records
    mates = table["mate"][rows].astype(np.int64)
    mates[mates >= 0] = np.where(_is_the_servers(trace, mates[mates >= 0]), mates[mates >= 0], -1)
    _give_to_the_first(table["unique"][rows], mates)
    answered = np.sort(mates[mates >= 0])
    turns = np.where(mates >= 0, np.searchsorted(answered, mates), NOWHERE)
    afters = np.searchsorted(answered, rows)
    exchanges = np.searchsorted(trace.first_rows, rows)
    latencies = trace.latencies_ns(exchanges)
    columns = [table[name] for name in ("opcode", "unique", "t_ns", "at", "kept", "wire_len")]
    own = [column[rows].tolist() for column in columns]
    of_reply = [np.where(mates >= 0, column[np.maximum(mates, 0)], NOWHERE).tolist() for column in columns[3:]]
    steps = []
    for number, (
        row,
        exchange,
        opcode,
        unique,
        t_ns,
        at,
        kept,
        wire,
        r_at,
        r_kept,
        r_wire,
        latency,
        turn,
        after,
    ) in enumerate(
        zip(
            rows.tolist(),
            exchanges.tolist(),
            *own,
            *of_reply,
            latencies.tolist(),
            turns.tolist(),
            afters.tolist(),
            strict=True,
        )
    ):
        end, r_end = at + kept, r_at + r_kept if r_at != NOWHERE else NOWHERE
        steps.append(
            Step(number, exchange, row, opcode, unique, t_ns, at, end, wire, r_at, r_end, r_wire, latency, turn, after)
        )
    return steps


def _give_to_the_first(uniques: Array, mates: Array) -> None:
    """Let the answer to a request that was sent again (RESEND) be that of the first: only the first is played."""
    for copy in np.flatnonzero(uniques >= UNIQUE_RESEND).tolist():
        firsts = np.flatnonzero(uniques[:copy] == uniques[copy] & ~np.uint64(UNIQUE_RESEND))
        if len(firsts) and mates[firsts[-1]] < 0:
            mates[firsts[-1]], mates[copy] = mates[copy], -1


def _is_the_servers(trace: Trace, replies: Array) -> Array:
    """Tell which replies a server sent: the kernel's own end of a request is no answer of anybody."""
    found: Array = (trace.records["flags"][replies] & RecordFlag.ABORTED) == 0
    return found


def _last_uses(steps: list[Step], uses: list[tuple[int, ...]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for step, used in zip(steps, uses, strict=True):
        op = OPS.get(step.opcode)
        if op is not None and manner(op) is not Manner.FORGET:
            for node in used:
                found[node] = step.number
    return found


# ---- what is not played ----------------------------------------------------------------------------------------------


def _judged(recording: Recording, step: Step, *, allow_writes: bool, zero_fill: bool) -> Step:
    reason = _refusal(recording, step, allow_writes=allow_writes, zero_fill=zero_fill)
    return step if reason is None else step._replace(refusal=reason.name)


def _refusal(recording: Recording, step: Step, *, allow_writes: bool, zero_fill: bool) -> Skip | None:
    op = OPS.get(step.opcode)
    if op is None:
        return Skip.UNKNOWN_OPCODE
    if step.unique & UNIQUE_RESEND:
        return Skip.RESENT
    by_manner = {Manner.DAX: Skip.DAX, Manner.RETRIEVED: Skip.RETRIEVED}.get(manner(op))
    if by_manner is not None:
        return by_manner
    if op.mutates and not allow_writes:
        return Skip.WRITES
    if step.end - step.at < step.wire_len and not (zero_fill and _is_only_payload_cut(recording, step, op)):
        return Skip.CUT
    if not recording.is_sound(step):
        return Skip.MALFORMED
    if not (op.mutates or op is OPEN or any(field.kind is FieldKind.NAME for field in op.request) or _reads(op)):
        return None
    values = recording.values(step)
    return refusal(op, values, allow_writes=allow_writes)


def _reads(op: Op) -> bool:
    return any(field.name in ("size", "out_size") for field in op.request)


def _brings_data(op: Op) -> bool:
    return bool(op.request) and op.request[-1].role is Role.PAYLOAD


def _is_only_payload_cut(recording: Recording, step: Step, op: Op) -> bool:
    """Whether all that is missing of a request are bytes of a file or of an attribute; a part of a name is another."""
    head = recording.sites[step.opcode].head_size
    name_count = sum(field.kind is FieldKind.NAME for field in op.request)
    kept = recording.request(step)
    return _brings_data(op) and len(kept) >= head and kept.count(0, head) >= name_count


def _check(recording: Recording, steps: list[Step], *, zero_fill: bool) -> None:
    cut = sum(step.refusal == Skip.CUT.name and _brings_data(OPS[step.opcode]) for step in steps)
    if cut and not zero_fill:
        raise TracerError(
            f"{cut} requests of the recording lost data they brought: what would be written is not known",
            "record with --snap all, or play zeros instead: --zero-fill (then file contents mean nothing)",
        )
    if all(step.refusal for step in steps):
        reasons = sorted({Skip[step.refusal].value for step in steps})
        raise TracerError(f"no request of the recording can be played: {'; '.join(reasons)}", "record another one")
