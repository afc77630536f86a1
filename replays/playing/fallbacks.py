"""What a kernel, or the usual caller, does when a server lacks an operation: the second way instead of the first.

RENAME2 with flags that is refused makes mv(1) go on with RENAME; CREATE answered ENOSYS makes the kernel send MKNOD and
OPEN (fuse_atomic_open()).
"""

from __future__ import annotations

import errno
import struct

from dissectors.opcodes import OPS_BY_NAME
from dissectors.structs import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE
from replays.playing.learning import NOT_FOR_OPEN
from replays.playing.session import Session
from replays.playing.talk import U64, Ask, Talk, error_of, reply_of, request_like
from replays.recorded.recording import Step
from replays.recorded.sites import NODE_AT

RENAME, RENAME2 = OPS_BY_NAME["RENAME"].code, OPS_BY_NAME["RENAME2"].code
CREATE, MKNOD, OPEN = (OPS_BY_NAME[name].code for name in ("CREATE", "MKNOD", "OPEN"))
NOREPLACE = 1
LACKING = (-errno.EINVAL, -errno.ENOSYS)
_RENAME2_IN, _CREATE_IN, _MKNOD_IN = struct.Struct("<QII"), struct.Struct("<IIII"), struct.Struct("<IIII")

Renamed = tuple[int, object, object, object]


class Fallbacks:
    """Second ways, on either side."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._done: set[Renamed] = set()  # renames that the live server did the first way

    def instead(self, step: Step, message: bytearray, reply: bytes) -> Talk | None:
        """Return how to go on after the live server refused a step, None when a kernel would not."""
        error = error_of(reply)
        if step.opcode == CREATE and error == -errno.ENOSYS:
            return self._mknod_and_open(step, message)
        if step.opcode == RENAME2 and error in LACKING and self._session.recording.error(step) == 0:
            _, flags, _ = _RENAME2_IN.unpack_from(message, REQUEST_HEADER_SIZE)
            return self._rename(step, message) if flags in (0, NOREPLACE) else None
        return None

    def note(self, step: Step, reply: bytes) -> bool:
        """Tell whether the live server did at once what the recorded caller then did the second way."""
        if step.opcode != RENAME2 or error_of(reply) or self._session.recording.error(step) not in LACKING:
            return False
        self._done.add(self._renamed(step))
        return True

    def is_done(self, step: Step) -> bool:
        """Tell whether a step is a second way that the live server needs no more."""
        if step.opcode != RENAME or not self._done:
            return False
        renamed = self._renamed(step)
        is_done = renamed in self._done
        self._done.discard(renamed)
        return is_done

    def _renamed(self, step: Step) -> Renamed:
        values = self._session.recording.values(step)
        return self._session.recording.node(step), values.get("newdir"), values.get("oldname"), values.get("newname")

    def _rename(self, step: Step, message: bytearray) -> Talk:
        self._session.notes.add(
            "rename-fallback", "RENAME was sent after RENAME2 was refused", opcode=RENAME2, exchange=step.exchange
        )
        self._session.added[RENAME] += 1
        names = message[REQUEST_HEADER_SIZE + _RENAME2_IN.size :]
        (newdir,) = U64.unpack_from(message, REQUEST_HEADER_SIZE)
        (node,) = U64.unpack_from(message, NODE_AT)
        reply = yield Ask(request_like(message, RENAME, node, U64.pack(newdir) + names), REPLY_HEADER_SIZE)
        return reply

    def _mknod_and_open(self, step: Step, message: bytearray) -> Talk:
        session = self._session
        session.silenced.add(CREATE)
        flags, mode, umask, _ = _CREATE_IN.unpack_from(message, REQUEST_HEADER_SIZE)
        name = message[REQUEST_HEADER_SIZE + _CREATE_IN.size :].partition(b"\0")[0] + b"\0"
        (parent,) = U64.unpack_from(message, NODE_AT)
        made = request_like(message, MKNOD, parent, _MKNOD_IN.pack(mode, 0, umask, 0) + name)
        session.added[MKNOD] += 1
        entry = yield Ask(made, session.translator.room(made, MKNOD))
        if error_of(entry) or len(entry) < REPLY_HEADER_SIZE + 8:
            return entry
        (node,) = U64.unpack_from(entry, REPLY_HEADER_SIZE)
        opening = request_like(message, OPEN, node, struct.pack("<II", flags & ~NOT_FOR_OPEN, 0))
        session.added[OPEN] += 1
        opened = yield Ask(opening, session.translator.room(opening, OPEN))
        if error_of(opened):
            session.give_back(node)
            return opened
        return reply_of(entry[REPLY_HEADER_SIZE:] + opened[REPLY_HEADER_SIZE:])
