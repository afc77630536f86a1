"""An exchange with its messages decoded: what is shown when somebody looks at one."""

from __future__ import annotations

from dataclasses import dataclass

from dissectors.message import Message
from tracer.trace.pairing import State


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request with what became of it, or a message that stands alone."""

    number: int
    request: Message | None
    reply: Message | None
    notification: Message | None
    state: State
    t_ns: int
    latency_ns: int | None  # None: not answered, or the source has no times
    queue_wait_ns: int | None  # until the server read it; None: not captured
    channel: int
    submount: int | None  # root nodeid of the submount; None: unknown
    path: bytes | None
    comm: bytes
    server_pid: int
    server_tid: int

    @property
    def service_ns(self) -> int | None:
        """How long the server took once it had read the request; None where the capture does not tell."""
        if self.latency_ns is None or self.queue_wait_ns is None:
            return None
        return max(0, self.latency_ns - self.queue_wait_ns)

    @property
    def message(self) -> Message:
        """The message that began it."""
        first = self.request or self.notification or self.reply
        assert first is not None
        return first
