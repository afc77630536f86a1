"""An exchange with its messages decoded: what is shown when somebody looks at one."""

from __future__ import annotations

from dataclasses import dataclass

from dissectors.message import Message
from tracer.trace.pairing import State
from tracer.trace.times import Timing


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request with what became of it, or a message that stands alone."""

    number: int
    request: Message | None
    reply: Message | None
    notification: Message | None
    timing: Timing
    t_ns: int
    channel: int
    submount: int | None  # root nodeid of the submount; None: unknown
    path: bytes | None
    comm: bytes
    server_pid: int
    server_tid: int

    @property
    def state(self) -> State:
        """How it stands."""
        return self.timing.state

    @property
    def latency_ns(self) -> int | None:
        """From the request to the reply; None: not answered, or the source has no times."""
        return self.timing.latency_ns

    @property
    def message(self) -> Message:
        """The message that began it."""
        first = self.request or self.notification or self.reply
        assert first is not None
        return first
