"""What the live server says unasked. RETRIEVE and RESEND want something done; the others are counted.

There is no page cache here. RETRIEVE is answered with what the recorded kernel had for the same place, else with
nothing, which is what a kernel says that has nothing cached.
"""

from __future__ import annotations

import struct
from collections import Counter

from dissectors.fast import reader
from dissectors.opcodes import NOTIFY, OPS_BY_NAME, notify_name
from dissectors.structs import REPLY_HEADER_SIZE
from replays.playing.session import Session
from replays.playing.talk import I32, U64, request_like
from replays.recorded.sites import UNIQUE_AT, Manner, manner

RETRIEVE = next(item.code for item in NOTIFY.values() if item.name == "RETRIEVE")
RESEND = next(item.code for item in NOTIFY.values() if item.name == "RESEND")
NOTIFY_REPLY = OPS_BY_NAME["NOTIFY_REPLY"].code
_RETRIEVED = struct.Struct("<QQIIQQ")  # fuse_notify_retrieve_in
MOST = 1 << 20  # bytes of one answer


class Notifications:
    """Counts notifications and answers those that want it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cached: dict[tuple[int, int], bytes] | None = None
        self.counts: Counter[str] = Counter()

    def heard(self, data: bytes) -> bytearray | None:
        """Take a notification in; return the message that answers it, its unique in it."""
        code = int(I32.unpack_from(data, 4)[0])
        self.counts[notify_name(code)] += 1
        if code != RETRIEVE:
            return None
        values = reader(self._session.agreement.context).notification(data, 0, len(data), code) or {}
        unique, node, offset, size = (values.get(name) for name in ("notify_unique", "nodeid", "offset", "size"))
        if not (
            isinstance(unique, int) and isinstance(node, int) and isinstance(offset, int) and isinstance(size, int)
        ):
            return None
        return self._answer(unique, node, offset, min(size, MOST, self._session.agreement.max_write))

    def is_resend(self, data: bytes) -> bool:
        """Tell whether the server wants every unanswered request again."""
        return len(data) >= REPLY_HEADER_SIZE and int(I32.unpack_from(data, 4)[0]) == RESEND

    def _answer(self, unique: int, node: int, offset: int, size: int) -> bytearray:
        known = self._known().get((self._session.mapper.recorded(node), offset), b"")[:size]
        body = _RETRIEVED.pack(0, offset, len(known), 0, 0, 0) + known
        message = request_like(bytes(40), NOTIFY_REPLY, node, body)
        U64.pack_into(message, UNIQUE_AT, unique)
        return message

    def _known(self) -> dict[tuple[int, int], bytes]:
        if self._cached is None:
            self._cached = {}
            recording = self._session.recording
            for step in self._session.plan.steps:
                sites = recording.sites.get(step.opcode)
                if sites is not None and manner(sites.op) is Manner.RETRIEVED:
                    values = recording.values(step)
                    offset, data = values.get("offset"), values.get("data")
                    if isinstance(offset, int) and isinstance(data, bytes):
                        self._cached[recording.node(step), offset] = data
        return self._cached
