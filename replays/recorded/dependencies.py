"""What each request really needs: ids, names in one directory, overlapping parts of a file.

Of two requests that touch one thing, the later waits for the earlier if the earlier had its answer before the later
was asked: what ran side by side in the recording may do so again. So no unlock waits for a lock that waits for it.
But a RELEASE waits for all that use its handle, and a FORGET for all that name its node: a kernel sends it after their
answers, though by strace's clocks it may have been read before the last of them was written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from dissectors.fields import Kind as FieldKind
from dissectors.fields import Role
from dissectors.opcodes import OPS, OPS_BY_NAME, NodeIs, Op
from replays.recorded.introductions import givens
from replays.recorded.plan import Plan
from replays.recorded.recording import Recording, Step
from replays.recorded.safety import changes
from replays.recorded.sites import NOWHERE, Manner, manner

EVERYTHING = (0, 1 << 64)
READ, WRITE, SYNCFS, DESTROY, FLUSH, FSYNC = (
    OPS_BY_NAME[name].code for name in ("READ", "WRITE", "SYNCFS", "DESTROY", "FLUSH", "FSYNC")
)
LOCKS = frozenset(OPS_BY_NAME[name].code for name in ("GETLK", "SETLK", "SETLKW"))
BARRIERS = frozenset({SYNCFS, DESTROY})  # about everything there is
WRITES_BACK = frozenset({FLUSH, FSYNC, OPS_BY_NAME["FSYNCDIR"].code})
MOST_PARTS = 128  # accesses of parts of a file that are told apart; beyond that each counts as of all of it

Thing = tuple[object, ...]


class Touch(NamedTuple):
    """A step touches a thing, or a part of it: alone, or beside others that do not change it either."""

    thing: Thing
    alone: bool
    part: tuple[int, int] = EVERYTHING
    ends: bool = False  # the thing is gone then, so nobody may still use it


@dataclass(slots=True)
class _Accesses:
    """Who touched a thing, as far as somebody may have to wait for them."""

    beside: list[Step] = field(default_factory=list)  # touched all of it, beside others
    others: list[tuple[Step, bool, int, int]] = field(default_factory=list)  # step, alone, from, to
    owners: list[Step] = field(default_factory=list)  # had all of it alone, and may still be under way

    def touched(self, step: Step, touch: Touch, settled: int) -> list[int]:
        """Return the earlier steps that this one must not overtake; `settled` answers are there for all that follow."""
        self._forget(settled)
        if len(self.others) >= MOST_PARTS or (touch.alone and len(self.beside) >= MOST_PARTS):
            touch = touch._replace(part=EVERYTHING)
        begin, end = touch.part
        found = list(self.beside) if touch.alone else []
        found += [
            other
            for other, alone, start, stop in self.others
            if (alone or touch.alone) and start < end and begin < stop
        ]
        is_whole = touch.part == EVERYTHING
        if touch.alone and is_whole:
            self.owners.append(step)
        if touch.alone or not is_whole:
            self.others.append((step, touch.alone, *touch.part))
        else:
            self.beside.append(step)
        return [
            other.number for other in found if other.number != step.number and (touch.ends or _came_before(other, step))
        ]

    def _forget(self, settled: int) -> None:
        """Forget those before an owner that everybody who follows waits for: it has waited for them."""
        for owner in [owner for owner in self.owners if owner.turn < settled]:
            self.owners.remove(owner)
            self.beside = [other for other in self.beside if not _came_before(other, owner)]
            self.others = [item for item in self.others if item[0] is owner or not _came_before(item[0], owner)]


def waits(plan: Plan) -> tuple[list[tuple[int, ...]], list[int]]:
    """Return for each step the earlier steps that must be done, and the one that must have begun (NOWHERE: none)."""
    recording = plan.recording
    found: list[tuple[int, ...]] = []
    starts: list[int] = []
    accesses: dict[Thing, _Accesses] = defaultdict(_Accesses)
    since: list[int] = []  # steps since the last barrier
    barrier = NOWHERE
    touches = _Touches(recording)
    settled = _settled(plan.steps)
    by_unique: dict[int, int] = {}
    for step in plan.steps:
        starts.append(_target(recording, step, by_unique))
        by_unique[step.unique] = step.number
        if step.refusal:
            found.append(())
            continue
        needed = {barrier} if barrier != NOWHERE else set()
        if step.number == plan.init or step.opcode in BARRIERS:
            needed.update(other for other in since if _came_before(plan.steps[other], step))
            since = [other for other in since if not _came_before(plan.steps[other], step)]
            barrier = step.number
        for touch in touches.of(step):
            needed.update(accesses[touch.thing].touched(step, touch, settled[step.number]))
        since.append(step.number)
        needed.discard(step.number)
        found.append(tuple(sorted(needed)))
    return found, starts


def _came_before(other: Step, step: Step) -> bool:
    """Tell whether `other` was done when `step` was asked."""
    return other.turn == NOWHERE or other.turn < step.after


def _settled(steps: Sequence[Step]) -> list[int]:
    """Return for each step how many answers were there when it and all that follow were asked."""
    found = list(accumulate(reversed([step.after for step in steps]), min))
    return found[::-1]


def _target(recording: Recording, step: Step, by_unique: dict[int, int]) -> int:
    sites = recording.sites.get(step.opcode)
    if sites is None or sites.manner is not Manner.INTERRUPT:
        return NOWHERE
    return by_unique.get(recording.number(step, sites.head_size - 8), NOWHERE)


class _Touches:
    """Says what each step touches, in the order of the recording: which node a name was is followed on the way."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._children: dict[tuple[int, bytes], int] = {}
        self._known: dict[int, int] = {}  # node -> turn of the first answer that gave it

    def of(self, step: Step) -> Iterator[Touch]:
        """Yield what a step touches."""
        op = OPS[step.opcode]
        kind = manner(op)
        if kind is Manner.FORGET:
            for node, _ in self._recording.forgotten(step):
                yield Touch(("id", node), True, ends=True)
                self._known.pop(node, None)
            return
        if kind is Manner.INTERRUPT:
            return
        for node in self._recording.nodes(step):
            yield Touch(("id", node), False)
        for key in step.handles:
            yield Touch(("handle", key), op.releases or kind is Manner.LISTING, ends=op.releases)
        yield from self._given(op, step)
        if op.node is NodeIs.PARENT:
            yield from self._names(op, step)
        elif kind is Manner.LISTING:
            yield Touch(("listing", self._recording.node(step)), True)
        elif op.node is NodeIs.NODE:
            yield from self._content(op, step)

    def _given(self, op: Op, step: Step) -> Iterator[Touch]:
        """Whoever uses an id waits for the replies that may have given it first; its attributes are read."""
        for given in givens(self._recording, step):
            if given.node:
                known = self._known.get(given.node)
                yield Touch(("id", given.node), op.mutates or known is None or known >= step.after)
                self._known[given.node] = step.turn if known is None else min(known, step.turn)
                yield Touch(("content", given.node), op.mutates)
                if given.name:
                    self._children[self._recording.node(step), given.name] = given.node
            if given.handle:
                yield Touch(("handle", step.number), True)

    def _names(self, op: Op, step: Step) -> Iterator[Touch]:
        """Names in a directory: those that change it run side by side, but not beside a listing of it."""
        recording = self._recording
        parent, values = recording.node(step), recording.values(step)
        newdir = values.get("newdir", parent)
        given = next((item.node for item in givens(recording, step)), 0)
        for item in op.request:
            name = values.get(item.name)
            if item.kind is not FieldKind.NAME or item.role is not Role.NAME or not isinstance(name, bytes):
                continue
            directory = newdir if item.name == "newname" and isinstance(newdir, int) else parent
            yield Touch(("name", directory, name), op.mutates)
            child = self._children.get((directory, name))
            if op.mutates:
                yield Touch(("listing", directory), False)
                if child is not None:  # RMDIR and RENAME look whether it is empty
                    yield Touch(("content", child), True)
                    yield Touch(("listing", child), True)
            if given:
                self._children[directory, name] = given
        for at in recording.sites[op.code].nodes[1:]:
            yield Touch(("content", recording.number(step, at)), op.mutates)

    def _content(self, op: Op, step: Step) -> Iterator[Touch]:
        recording, values = self._recording, self._recording.values(step)
        node = recording.node(step)
        if op.code in LOCKS:
            yield Touch(("lock", node), True)
            return
        offset, size = values.get("offset"), values.get("size")
        part = EVERYTHING
        if op.code in (READ, WRITE) and isinstance(offset, int) and isinstance(size, int):
            part = (offset, offset + size)
        yield Touch(("content", node), changes(op, values) or op.code in WRITES_BACK, part)
        for at in recording.sites[op.code].nodes[1:]:
            yield Touch(("content", recording.number(step, at)), op.mutates)
