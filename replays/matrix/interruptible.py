"""A conversation that another thread may end: looks up now and then, however long it may wait."""

from __future__ import annotations

from threading import Event
from typing import Final

from replays.transports.base import Answer, Ending, ServerGone, Transport

_LOOK_S: Final = 0.2


class Interruptible:
    """A transport that says its server is gone once `stop` is set."""

    def __init__(self, transport: Transport, stop: Event) -> None:
        self._transport, self._stop = transport, stop
        self.name: Final = transport.name
        self.most_bytes: Final = transport.most_bytes

    def submit(self, message: bytes | bytearray, room: int, *, urgent: bool = False) -> bool:
        """Take a whole request; see Transport."""
        return self._transport.submit(message, room, urgent=urgent)

    def flush(self) -> None:
        """Let the server see what was submitted."""
        self._transport.flush()

    def complete(self, timeout_s: float) -> list[Answer]:
        """Return what the server answered; nothing after a moment, too."""
        if self._stop.is_set():
            raise ServerGone("interrupted")
        return self._transport.complete(min(timeout_s, _LOOK_S))

    def close(self) -> Ending:
        """End the conversation and the server."""
        return self._transport.close()
