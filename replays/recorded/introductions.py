"""Which answer introduced each id that a request names: numbers come again, and may seem to be used too early.

strace tells when calls of two threads return, each by its own words: a request may seem to have been read before the
answer that named its node was written. Such a request waits for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

from dissectors.opcodes import OPS
from replays.recorded.recording import Given, Handle, HandleKey, Recording, Step
from replays.recorded.sites import NOWHERE, Manner, gives_ids, manner

_Giver = tuple[int, int]  # turn of the answer, number of its step
_LISTINGS = frozenset(op.code for op in OPS.values() if manner(op) is Manner.LISTING)
_RELEASES = frozenset(op.code for op in OPS.values() if op.releases)


def givens(recording: Recording, step: Step) -> Iterator[Given]:
    """Yield the ids a step's reply gives out, without a look at replies that give none."""
    op = OPS.get(step.opcode)
    if op is not None and (gives_ids(op) or step.opcode in _LISTINGS):
        yield from recording.given(step)


def introduced(recording: Recording, steps: Sequence[Step], uses: Sequence[tuple[int, ...]]) -> list[Step]:
    """Return the steps, each waiting for the ids it names, and with the step that opened each of its handles.

    `uses` are the nodes each names.
    """
    nodes: dict[int, list[_Giver]] = defaultdict(list)
    handles: dict[Handle, list[_Giver]] = defaultdict(list)  # those that are open
    for step in sorted((s for s in steps if s.turn != NOWHERE), key=lambda s: s.turn):
        for given in givens(recording, step):
            if given.node:
                nodes[given.node].append((step.turn, step.number))
            if given.handle:
                handles[given.handle].append((step.turn, step.number))
    found = []
    for step, used in zip(steps, uses, strict=True):
        after = step.after
        for node in used:
            after = max(after, _wait_for(nodes.get(node), step))
        keys: list[HandleKey] = []
        for handle in recording.handles(step):
            turn, key = _opener(handles.get(handle), step)
            keys.append(handle if key is None else key)
            after = max(after, turn + 1)
        found.append(step._replace(after=after, handles=tuple(keys)) if keys or after > step.after else step)
    return found


def _wait_for(givers: list[_Giver] | None, step: Step) -> int:
    """Return how many answers must have come so that an id is there; 0 when it is there or nobody gives it."""
    if not givers or givers[0][0] < step.after:
        return 0
    turn, number = givers[bisect_left(givers, (step.after, 0))]
    return turn + 1 if number < step.number else 0


def _opener(givers: list[_Giver] | None, step: Step) -> tuple[int, int | None]:
    """Return the turn and number of the step that opened a handle; (NOWHERE, None) when the recording has none.

    A server may give one number to several opens of a file: the newest is used, the oldest let go first.
    """
    if not givers:
        return NOWHERE, None
    is_release = step.opcode in _RELEASES
    known = bisect_left(givers, (step.after, 0))
    if not known and givers[0][1] > step.number:
        return NOWHERE, None
    place = 0 if is_release or not known else known - 1
    turn, number = givers.pop(place) if is_release else givers[place]
    return turn, number
