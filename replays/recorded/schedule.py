"""Which step may go next: by turns, as the answers came in the recording, or as soon as what it needs is there."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Protocol

from dissectors.opcodes import OPERATIONS
from replays.recorded.recording import Step
from replays.recorded.sites import NOWHERE

WAITING = frozenset(op.code for op in OPERATIONS if op.waits)


class Schedule(Protocol):
    """Hands out steps. A step that needs no answer, and one that is skipped, is done when it is taken."""

    def ready(self) -> Step | None:
        """Return the next step that may go now, None when one must be done first, or none is left."""
        ...

    def take(self) -> None:
        """Take the step that `ready` returned."""
        ...

    def done(self, step: Step) -> None:
        """Take note that a step has its answer, or will have none."""
        ...

    @property
    def left(self) -> int:
        """How many steps were not taken yet."""
        ...


class Turns:
    """Steps go in the order of the recording, each when every answer that came before it has come."""

    def __init__(self, steps: Sequence[Step], answer_count: int) -> None:
        self._steps = steps
        self._next = 0
        self._come = bytearray(answer_count + 1)
        self._complete = 0  # answers that have come without a hole

    def ready(self) -> Step | None:
        """Return the next step, if its turn has come."""
        if self._next < len(self._steps):
            step = self._steps[self._next]
            if step.after <= self._complete:
                return step
        return None

    def take(self) -> None:
        """Go on to the next."""
        self._next += 1

    def done(self, step: Step) -> None:
        """Count an answer."""
        turn = step.turn
        if turn == NOWHERE:
            return
        come = self._come
        come[turn] = 1
        if turn == self._complete:
            while come[turn]:
                turn += 1
            self._complete = turn

    @property
    def left(self) -> int:
        """How many steps were not taken yet."""
        return len(self._steps) - self._next


def one_by_one(steps: Sequence[Step]) -> list[Step]:
    """Number the answers by their requests, and let each request wait for all before it.

    But nothing waits for a lock before the recording has it: it may be a later request that makes it free.
    """
    found: list[Step] = []
    waiting: list[Step] = []
    answers = 0
    for step in steps:
        for lock in [lock for lock in waiting if lock.turn < step.after]:
            waiting.remove(lock)
            found[lock.number] = lock._replace(turn=answers, after=found[lock.number].after)
            answers += 1
        found.append(step._replace(turn=answers, after=answers))
        if step.turn == NOWHERE:
            found[-1] = step._replace(after=answers)
        elif step.opcode in WAITING:
            waiting.append(step)
        else:
            answers += 1
    for turn, lock in enumerate(waiting, answers):
        found[lock.number] = found[lock.number]._replace(turn=turn)
    return found


class Needs:
    """Steps go as soon as all they wait for are done; of those that may, the earliest first."""

    def __init__(self, steps: Sequence[Step], waits: Sequence[tuple[int, ...]], starts: Sequence[int]) -> None:
        """`waits` are numbers of earlier steps that must be done; `starts[n]` one that must have begun, or NOWHERE."""
        self._steps = steps
        self._missing = [len(needed) for needed in waits]
        self._followers: list[list[int]] = [[] for _ in steps]
        self._begun_followers: dict[int, list[int]] = {}
        for number, needed in enumerate(waits):
            for other in needed:
                self._followers[other].append(number)
            if starts[number] != NOWHERE:
                self._missing[number] += 1
                self._begun_followers.setdefault(starts[number], []).append(number)
        self._ready = [number for number, count in enumerate(self._missing) if not count]
        heapify(self._ready)
        self._taken = 0

    def ready(self) -> Step | None:
        """Return the earliest step that may go."""
        return self._steps[self._ready[0]] if self._ready else None

    def take(self) -> None:
        """Take it."""
        number = heappop(self._ready)
        self._taken += 1
        self._release(self._begun_followers.pop(number, ()))

    def done(self, step: Step) -> None:
        """Let those go that waited for it."""
        self._release(self._followers[step.number])
        self._followers[step.number] = []

    def _release(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._missing[number] -= 1
            if not self._missing[number]:
                heappush(self._ready, number)

    @property
    def left(self) -> int:
        """How many steps were not taken yet."""
        return len(self._steps) - self._taken
