"""A message while it is still being put together."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.bridges.strace.channels import Stream
from tracer.records import BridgeKind, Direction, RawRecord


@dataclass(slots=True)
class Draft:
    """What is known so far of one message; becomes a RawRecord when no later line can add to it."""

    t_ns: int
    stream: Stream
    tid: int
    direction: Direction
    data: bytes
    wire_len: int
    flags: int = 0
    result: int = 0
    comm: bytes = b""
    must_prove: bool = False  # the log names no device: only the bytes, once known, can tell that this is a message
    waits_for_time: bool = False  # the log has no -T: the next line's time is nearer the truth than this call's start

    def record(self, bridge: BridgeKind) -> RawRecord:
        """Return the finished record."""
        stream = self.stream
        return RawRecord(
            self.t_ns,
            stream.channel,
            self.direction,
            self.data,
            self.wire_len,
            bridge,
            self.flags | stream.flags,
            stream.server_pid,
            self.tid,
            self.comm,
            0,
            0,
            self.result,
        )
