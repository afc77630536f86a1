"""What a step does to names on the live server: it gives, moves or ends one, and nobody goes by one that is gone."""

from __future__ import annotations

from dissectors.message import Value
from dissectors.opcodes import OPS, OPS_BY_NAME, NodeIs
from replays.playing.names import Name
from replays.playing.session import Session
from replays.playing.talk import error_of
from replays.recorded.recording import Step
from replays.recorded.sites import gives_ids

TMPFILE = OPS_BY_NAME["TMPFILE"].code  # what it makes has no name
ENDERS = frozenset(op.code for op in OPS.values() if op.node is NodeIs.PARENT and op.mutates and not gives_ids(op))
EXCHANGE = 2  # RENAME_EXCHANGE


class Naming:
    """Follows the names of one session."""

    def __init__(self, session: Session) -> None:
        self._recording, self._mapper = session.recording, session.mapper
        self._mapped = session.recording.trace.file.mapped
        self._ending: dict[int, tuple[Name, int]] = {}  # step under way -> the name it ends, the node that had it

    def given(self, step: Step) -> Name | None:
        """Return the name that a step's answer gives a node for; None: it has none, or nowhere to be."""
        if OPS[step.opcode].node is not NodeIs.PARENT or step.opcode == TMPFILE:
            return None
        begin = step.at + self._recording.sites[step.opcode].head_size
        name = self._mapped[begin : step.end].partition(b"\0")[0]  # every operation that makes one says it first
        return self._name(self._recording.node(step), name)

    def asked(self, step: Step) -> None:
        """One of ENDERS is sent: what is asked beside it goes by other names already."""
        name = self._ended(step)
        node = self._mapper.removed(name) if name is not None else 0
        if name is not None and node:
            self._ending[step.number] = name, node

    def answered(self, step: Step, reply: bytes) -> None:
        """One of ENDERS was answered: where it was refused, the name is still there."""
        ending = self._ending.pop(step.number, None)
        if error_of(reply):
            if ending is not None:
                self._mapper.named(*ending)
            return
        old, new, is_exchange = self._moved(step)
        if old is not None and new is not None:
            (self._mapper.exchanged if is_exchange else self._mapper.moved)(old, new)

    def _ended(self, step: Step) -> Name | None:
        """Return the name that a step takes from what has it: the one it removes, or moves another to."""
        values = self._recording.values(step)
        if "name" in values:
            return self._name(self._recording.node(step), values["name"])
        _, new, is_exchange = self._moved(step)
        return None if is_exchange else new

    def _moved(self, step: Step) -> tuple[Name | None, Name | None, bool]:
        """Return the name before, the one after, and whether they change places."""
        values, directory = self._recording.values(step), self._recording.node(step)
        flags = values.get("flags", 0)
        old = self._name(directory, values.get("oldname"))
        new = self._name(values.get("newdir"), values.get("newname"))
        return old, new, isinstance(flags, int) and bool(flags & EXCHANGE)

    def _name(self, directory: Value | None, name: Value | None) -> Name | None:
        live = self._mapper.node(directory) if isinstance(directory, int) else None
        return (live, name) if live is not None and isinstance(name, bytes) else None
