"""Which differences follow from an earlier one: of the same node, name, handle or listing.

A request that was not played counts as a cause too: what it would have made is missing afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.fields import Kind, Role
from dissectors.opcodes import OPS, ROOT_ID, NodeIs, Op
from replays.recorded.recording import Recording, Step
from replays.recorded.sites import Manner, manner

Thing = tuple[str, int, int | bytes]  # kind, node, and what of it


class Blame:
    """The first cause of trouble with each thing."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._first: dict[Thing, int] = {}

    def cause(self, step: Step) -> int | None:
        """Return the exchange that was the first trouble with what a step is about; None when there was none."""
        if not self._first:
            return None
        return min(
            (self._first[thing] for thing in things_of(self._recording, step) if thing in self._first), default=None
        )

    def trouble(self, step: Step) -> None:
        """Take note that a step was not played, or was answered otherwise."""
        cause = self.cause(step)
        exchange = step.exchange if cause is None else cause
        for thing in (*things_of(self._recording, step), *results_of(self._recording, step)):
            self._first.setdefault(thing, exchange)

    def forgotten(self, node: int) -> None:
        """The kernel let go of a node: its number may come again for something else."""
        if self._first:
            for thing in [thing for thing in self._first if thing[1] == node]:
                del self._first[thing]


def things_of(recording: Recording, step: Step) -> Iterator[Thing]:
    """Yield what a request is about."""
    op = OPS.get(step.opcode)
    if op is None:
        return
    node = recording.node(step)
    if op.node is NodeIs.PARENT:
        yield from _names(recording, op, step, node)
    elif op.node is NodeIs.NODE and node not in (0, ROOT_ID):
        yield "node", node, 0
    if manner(op) is Manner.LISTING:
        yield "listing", node, 0
    for handle in recording.handles(step):
        yield "handle", handle[0], handle[1]
    for other in recording.nodes(step):
        if other != node:
            yield "node", other, 0


def _names(recording: Recording, op: Op, step: Step, node: int) -> Iterator[Thing]:
    values = recording.values(step)
    target = values.get("newdir", node)
    for field in op.request:
        value = values.get(field.name)
        if field.kind is Kind.NAME and field.role is Role.NAME and isinstance(value, bytes):
            yield "name", target if field.name == "newname" and isinstance(target, int) else node, value


def results_of(recording: Recording, step: Step) -> Iterator[Thing]:
    """Yield what came of a step in the recording, and the listing that it would have changed."""
    for given in recording.given(step):
        if given.node:
            yield "node", given.node, 0
        if given.handle:
            yield "handle", given.handle[0], given.handle[1]
    op = OPS.get(step.opcode)
    if op is not None and op.node is NodeIs.PARENT and op.mutates:
        yield "listing", recording.node(step), 0
