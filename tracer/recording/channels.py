"""The channels of a recording with what INIT agreed on: what a file that begins in the middle has to say first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracer.recording.batches import BIG_INIT, inits, replies
from tracer.records import ChannelInfo, RawRecord

INIT_BEFORE = "INIT came before this file begins; minor and flags are those it agreed on"


class ChannelList:
    """Every channel met so far, by number. Looks at no record but INIT: one comparison for each of the others."""

    def __init__(self) -> None:
        self._infos: list[ChannelInfo] = []
        self._asked: dict[tuple[int, bytes], RawRecord] = {}  # INITs that wait for their reply, by channel and unique
        self._agreed: dict[int, tuple[int, int, int]] = {}  # by channel: when INIT was asked, minor, flags

    def __len__(self) -> int:
        return len(self._infos)

    def add(self, info: ChannelInfo) -> None:
        """Take note of a channel."""
        self._infos.append(info)

    def look(self, batch: Sequence[RawRecord]) -> None:
        """Find INIT and its reply among records, given in their order."""
        for record in inits(batch):
            self._asked[record.channel, record.data[8:16]] = record
        if not self._asked:
            return
        for record in replies(batch):
            asked = self._asked.pop((record.channel, record.data[8:16]), None)
            if asked is not None:
                self._agree(asked, record)
                if not self._asked:
                    return

    def _agree(self, asked: RawRecord, answered: RawRecord) -> None:
        from dissectors.decode import decode_reply, decode_request
        from dissectors.layout import Context
        from tracer.trace.sessions import read_agreement

        context = Context(None, None, asked.data[4:8] == BIG_INIT)
        request = decode_request(asked.data, asked.wire_len, context)
        reply = decode_reply(answered.data, answered.wire_len, context, request)
        agreement = read_agreement(request, reply, answered.t_ns)
        if not agreement.error and agreement.minor:
            self._agreed[answered.channel] = asked.t_ns, agreement.minor, agreement.accepted

    def described(self, begin_ns: int) -> list[ChannelInfo]:
        """Return the channels for a file that begins at `begin_ns`, with what an INIT before that agreed on."""
        return [self._described(number, info, begin_ns) for number, info in enumerate(self._infos)]

    def _described(self, number: int, info: ChannelInfo, begin_ns: int) -> ChannelInfo:
        asked_ns, minor, flags = self._agreed.get(number, (begin_ns, 0, 0))
        if asked_ns >= begin_ns:
            return info
        return replace(info, minor=minor, init_flags=flags, notes=(*info.notes, INIT_BEFORE))
