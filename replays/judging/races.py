"""Requests that ran at the same time in the recording: of two that touch one thing, either may have come first."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.opcodes import OPS
from replays.judging.blame import Thing, results_of, things_of
from replays.recorded.plan import Plan
from replays.recorded.recording import Step
from replays.recorded.sites import NOWHERE

NEARBY = 512  # steps before and after that are looked at: more are hardly under way at once


def changed_beside(plan: Plan, step: Step) -> bool:
    """Tell whether something that a step is about was changed while it was under way."""
    step = plan.steps[step.number]  # with the turns it had in the recording, whatever order it is played in
    mine = set(_touched(plan, step))
    return any(
        OPS[other.opcode].mutates and not mine.isdisjoint(_touched(plan, other))
        for other in _beside(plan, step)
        if other.opcode in OPS
    )


def _touched(plan: Plan, step: Step) -> Iterator[Thing]:
    yield from things_of(plan.recording, step)
    yield from results_of(plan.recording, step)


def _beside(plan: Plan, step: Step) -> Iterator[Step]:
    """Yield the steps that were under way at the same time, by what came before what in the recording.

    One whose answer has a later turn than the answers this one waited for was not answered when it went out.
    """
    first = max(0, step.number - NEARBY)
    for other in plan.steps[first : step.number]:
        if other.turn == NOWHERE or other.turn >= step.after:
            yield other
    for other in plan.steps[step.number + 1 : step.number + 1 + NEARBY]:
        if step.turn == NOWHERE or other.after <= step.turn:
            yield other
