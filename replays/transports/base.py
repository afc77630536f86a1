"""What every transport offers: requests go in, answers come out, in whatever order the server gives them.

A transport carries bytes. It knows of the protocol only what it needs to tell messages apart: lengths and uniques.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """What a server sent, or the news that it took a request and will not answer it."""

    t_ns: int  # time.monotonic_ns() when it was seen
    unique: int  # of the request it answers; 0: a notification
    data: bytes  # from fuse_out_header on; empty: completed without a reply (a used ring entry of length 0)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a server ended. Servers exit with all kinds of codes when their device goes: nothing follows from them."""

    status: int | None  # as subprocess has it; None: it is not ours to end
    how: str  # "by itself", "SIGTERM", "SIGKILL"
    output: str  # the last of what it printed, escaped


class ServerGone(Exception):
    """The server closed its end, died, or broke the transport's rules; says which, in one line."""


class Transport(Protocol):
    """One conversation with one server. Never blocks but in `complete`, and there no longer than it was told."""

    @property
    def name(self) -> str:
        """How it reaches the server: "fd", "seccomp" or "vhost-user"."""
        ...

    @property
    def most_bytes(self) -> int:
        """The longest message it can carry, either way, header included."""
        ...

    def submit(self, message: bytes | bytearray, room: int, *, urgent: bool = False) -> bool:
        """Take a whole request; False when there is no place now: `complete` first, then try again.

        `room` is how many bytes the kernel would offer for the reply, header included; 0 when there will be none.
        `urgent` is for what has a queue of its own on virtiofs: FORGET, BATCH_FORGET, INTERRUPT.
        Raises ServerGone; TracerError when the message is longer than `most_bytes`.
        """
        ...

    def flush(self) -> None:
        """Let the server see what was submitted: several requests may share one wake-up."""
        ...

    def complete(self, timeout_s: float) -> list[Answer]:
        """Return what the server answered; nothing when the time is over. Raises ServerGone."""
        ...

    def close(self) -> Ending:
        """End the conversation and the server, within a few seconds; every further call but this one is an error."""
        ...
