"""What the VMM has said about each queue, and the descriptors that wake the tap, the daemon and the guest."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.memory import Memory
from tracer.bridges.vhost_user.messages import NO_FD, RING_INDEX, Message, u64_of
from tracer.bridges.vhost_user.shadow import Shadow
from tracer.bridges.vhost_user.vring import Ring, part_sizes

_EVENTFD: Final = "anon_inode:[eventfd]"
_MOST_ROUNDS: Final = 32  # of one queue, before others and the control messages have their turn
_ALIGNMENTS: Final = (16, 2, 4)


def _new_event() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


@dataclass(slots=True)
class Queue:
    """One queue of a session."""

    index: int
    size: int = 0
    base: int = 0
    addresses: tuple[int, int, int] | None = None  # of the VMM: descriptors, available ring, used ring
    kick: int = -1  # the guest rings here
    call: int = -1  # here the guest wants to be told
    kick_daemon: int = field(default_factory=_new_event)
    call_of_daemon: int = field(default_factory=_new_event)
    shadow: Shadow | None = None
    is_frozen: bool = False  # stopping: nothing more is passed on

    def guest_ring(self, memory: Memory) -> Ring:
        """Return the guest's ring. Raises Refused when the VMM has not said all about it, or nothing true."""
        if not self.size or self.addresses is None:
            raise Refused(f"queue {self.index} is started without a size or an address")
        parts = zip(self.addresses, part_sizes(self.size), _ALIGNMENTS, strict=True)
        return Ring(self.size, *(memory.find_user(*part) for part in parts))

    def tell_guest(self) -> None:
        """Ring at the guest, if it can be told."""
        _ring(self.call)

    def tell_daemon(self) -> None:
        """Ring at the daemon."""
        _ring(self.kick_daemon)

    def carry(self) -> None:
        """Carry over what there is, either way; whoever has more afterwards rings. Raises Refused."""
        shadow = self.shadow
        if shadow is None:
            return
        for _ in range(_MOST_ROUNDS):
            if shadow.has_completed and shadow.complete():
                self.tell_guest()
            if shadow.has_submitted and not self.is_frozen and shadow.submit():
                self.tell_daemon()
            shadow.want_events()
            can_go_on = shadow.has_submitted and not shadow.has_waiting and not self.is_frozen
            if not shadow.has_completed and not can_go_on:
                return
        _ring(self.call_of_daemon)  # the tap looks here again, after the others

    def stop(self) -> None:
        """Forget the rings; the VMM describes them anew before they start again."""
        self.shadow, self.is_frozen = None, False
        replaced(self.kick, -1)
        self.kick = -1

    def close(self) -> None:
        """Close all descriptors."""
        self.shadow = None
        for fd in (self.kick, self.call, self.kick_daemon, self.call_of_daemon):
            replaced(fd, -1)
        self.kick = self.call = self.kick_daemon = self.call_of_daemon = -1


def _ring(event: int) -> None:
    if event >= 0:
        try:  # contextlib.suppress takes longer than the call
            os.eventfd_write(event, 1)
        except BlockingIOError:  # the counter is full, so it was rung
            return


def quiet(event: int) -> None:
    """Take back what was rung."""
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(event)


def replaced(old: int, new: int) -> int:
    """Close a descriptor, if it is one, and return the new one."""
    if old >= 0:
        os.close(old)
    return new


def event_of(message: Message) -> int:
    """Return the queue's index in SET_VRING_KICK or CALL; at most one descriptor is with it.

    Raises Refused when it is no eventfd, or is there though the word says it is not.
    """
    word = u64_of(message)
    if bool(message.fds) == bool(word & NO_FD):
        raise Refused(f"{message.name} says {word:#x} and comes with {len(message.fds)} descriptors")
    for fd in message.fds:
        if os.fspath(Path(f"/proc/self/fd/{fd}").readlink()) != _EVENTFD:
            raise Refused(f"{message.name} comes with a descriptor that is no eventfd")
    return word & RING_INDEX
