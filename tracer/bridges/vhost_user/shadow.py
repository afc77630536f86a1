"""The shadow virtqueue: a ring of the tap's own that the daemon serves, in place of the guest's.

    guest's ring  -- chains, requests copied -->  shadow ring  -- kick -->  daemon
    guest's ring  <-- used entries, replies copied --  shadow ring  <-- call --  daemon

Descriptors keep their indexes and buffers stay where the guest has them, so nothing is translated; indirect tables are
copied, so that a guest cannot change them in flight. The daemon cannot see a request before it was copied, the guest
cannot see a completion before its reply was.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import Final, Protocol

from tracer.bridges.vhost_user.chains import Chain, Copier, Room, readable, writable
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.memory import SHADOW_BASE, Memory, Place
from tracer.bridges.vhost_user.vring import Ring, barrier, must_tell, part_sizes
from tracer.records import Direction, RecordFlag

MAX_QUEUES: Final = 32
SLOT_BYTES: Final = 4 << 20  # address space of a queue; memory is taken only where it is written
_AVAILABLE_AT: Final = 512 << 10  # behind 32768 descriptors
_USED_AT: Final = 640 << 10
_TABLES_AT: Final = 1 << 20
_OUT_HEADER: Final = struct.Struct("<IiQ")  # struct fuse_out_header: len, error, unique
_UNIQUE: Final = slice(8, 16)  # of struct fuse_in_header
_REQUEST, _REPLY = int(Direction.TO_SERVER), int(Direction.TO_KERNEL)


class Overhearing(Protocol):
    """Where copies of messages go."""

    @property
    def snap_bytes(self) -> int:
        """How many bytes of a message are worth copying."""
        ...

    def take(
        self, direction: int, queue: int, head: int, pieces: list[memoryview], kept: int, wire_len: int, flags: int
    ) -> None:
        """Take a message of `wire_len` bytes, of which the first `kept` are in `pieces`; they change afterwards.

        Of a request the daemon sees nothing before, of a reply the guest.
        """
        ...


class ShadowMemory:
    """A file that holds the rings of all queues, and is shown to the daemon as one more region of the guest."""

    def __init__(self) -> None:
        size = MAX_QUEUES * SLOT_BYTES
        self.fd = os.memfd_create("fusewire-rings", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, size)
            self._view = memoryview(mmap.mmap(self.fd, size))
        except BaseException:
            os.close(self.fd)
            raise
        self.place = Place(SHADOW_BASE, size, SHADOW_BASE, 0)

    def close(self) -> None:
        """Close the file; the mapping goes with the last ring."""
        os.close(self.fd)

    def slot(self, queue: int) -> Slot:
        """Return the part of a queue."""
        begin = queue * SLOT_BYTES
        return Slot(SHADOW_BASE + begin, self._view[begin : begin + SLOT_BYTES])


@dataclass(frozen=True, slots=True)
class Slot:
    """The ring of one queue, and room for indirect tables; the same addresses for the daemon in either meaning."""

    address: int
    view: memoryview

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Where descriptors, used ring and available ring are: the order of SET_VRING_ADDR."""
        return self.address, self.address + _USED_AT, self.address + _AVAILABLE_AT

    def fresh_ring(self, size: int) -> Ring:
        """Return an empty ring."""
        parts = []
        for begin, length in zip((0, _AVAILABLE_AT, _USED_AT), part_sizes(size), strict=True):
            part = self.view[begin : begin + length]
            part[:] = bytes(length)
            parts.append(part)
        return Ring(size, *parts)

    def room(self, size: int) -> Room:
        """Return the room for indirect tables of a ring with so many slots."""
        return Room(self.address + _TABLES_AT, self.view[_TABLES_AT:], size)


class Shadow:
    """One queue: what the guest made available goes to the daemon, what the daemon used goes back."""

    def __init__(
        self,
        queue: int,
        guest: Ring,
        slot: Slot,
        memory: Memory,
        overhearing: Overhearing,
        *,
        base: int,
        event_idx: bool,
    ) -> None:
        """`base` is the index of the first available entry to take, as SET_VRING_BASE says."""
        self.queue, self.guest, self.ring = queue, guest, slot.fresh_ring(guest.size)
        self.has_waiting = False  # chains wait in the guest's ring for room
        self._room = slot.room(guest.size)
        self._copier = Copier(guest, self.ring, self._room, memory)
        self._memory, self._event_idx = memory, event_idx
        self._take, self._snap_bytes = overhearing.take, overhearing.snap_bytes
        self._taken = base & 0xFFFF  # of the guest's available ring
        self._given_back = guest.used  # into the guest's used ring
        self._passed_on = 0  # into the shadow's available ring
        self._seen_used = 0  # of the shadow's used ring
        self._has_told = False
        self._pending: dict[int, Chain] = {}  # by head: those that the daemon has

    @property
    def in_flight(self) -> int:
        """How many chains the daemon has."""
        return len(self._pending)

    @property
    def has_submitted(self) -> bool:
        """Whether the guest has made chains available that are not passed on yet."""
        return self.guest.available != self._taken

    @property
    def has_completed(self) -> bool:
        """Whether the daemon has used chains that are not given back yet."""
        return self.ring.used != self._seen_used

    def want_events(self) -> None:
        """Ask either side to tell of what comes next; what came just before is seen after this."""
        if self._event_idx:
            self.guest.avail_event = self._taken
            self.ring.used_event = self._seen_used
            barrier()

    # -- from the guest to the daemon ------------------------------------------------------------------------------

    def submit(self) -> bool:
        """Pass on what the guest made available. Returns whether the daemon must be kicked; raises Refused."""
        begin = self._passed_on
        self._pass_on(self.guest.available)
        if self._passed_on == begin:
            return False
        barrier()
        if self._event_idx:
            return must_tell(self.ring.avail_event, self._passed_on, begin)
        return not self.ring.device_is_quiet

    def _pass_on(self, available: int) -> None:
        count = (available - self._taken) & 0xFFFF
        if count > self.guest.size:
            raise Refused(f"queue {self.queue} holds {count} entries, more than its {self.guest.size} slots")
        self.has_waiting = False
        heads, own_heads, mask, pending = self.guest.heads, self.ring.heads, self.guest.mask, self._pending
        copy, take, memory, snap_bytes = self._copier.copy, self._take, self._memory, self._snap_bytes
        taken, passed_on = self._taken, self._passed_on
        if not pending:
            self._room.clear()
        for _ in range(count):
            head = heads[taken & mask]
            if head in pending:
                raise Refused(f"descriptor {head} of queue {self.queue} is submitted while it is in flight")
            chain = copy(head)
            if chain is None:
                self.has_waiting = True
                break
            if wire_len := chain.shape.readable_bytes:  # else a buffer for notifications
                kept = wire_len if wire_len < snap_bytes else snap_bytes
                take(_REQUEST, self.queue, head, readable(chain, kept, memory), kept, wire_len, 0)
            pending[head] = chain
            own_heads[passed_on & mask] = head
            taken, passed_on = (taken + 1) & 0xFFFF, (passed_on + 1) & 0xFFFF
        self._taken, self._passed_on = taken, passed_on
        self.ring.available = passed_on

    # -- from the daemon to the guest ------------------------------------------------------------------------------

    def complete(self) -> bool:
        """Give back what the daemon used. Returns whether the guest must be told; raises Refused."""
        begin = self._given_back
        self._give_back(self.ring.used)
        if self._given_back == begin:
            return False
        barrier()
        return self._must_tell_guest(begin)

    def _must_tell_guest(self, begin: int) -> bool:
        if not self._event_idx:
            return not self.guest.driver_is_quiet
        had_told, self._has_told = self._has_told, True
        return not had_told or must_tell(self.guest.used_event, self._given_back, begin)

    def _give_back(self, used: int) -> None:
        count = (used - self._seen_used) & 0xFFFF
        pending = self._pending
        if count > len(pending):
            raise Refused(f"the daemon completed {count} requests of {len(pending)} in queue {self.queue}")
        entries, own_entries, mask = self.guest.entries, self.ring.entries, self.guest.mask
        given_back, seen_used = self._given_back, self._seen_used
        for _ in range(count):
            entry = own_entries[seen_used & mask]
            head = entry & 0xFFFFFFFF
            chain = pending.pop(head, None)
            if chain is None:
                raise Refused(f"the daemon completed descriptor {head} of queue {self.queue}, which is not in flight")
            self._overhear_reply(head, chain, entry >> 32)
            if chain.table:
                self._room.take_back(chain.table, chain.table_bytes)
            entries[given_back & mask] = entry
            seen_used, given_back = (seen_used + 1) & 0xFFFF, (given_back + 1) & 0xFFFF
        self._seen_used, self._given_back = seen_used, given_back
        self.guest.used = given_back

    def _overhear_reply(self, head: int, chain: Chain, length: int) -> None:
        room, flags = chain.shape.writable_bytes, 0
        if length < _OUT_HEADER.size <= room:
            length, flags = self._length_in_header(chain, room), int(RecordFlag.LENGTH_GUESSED)
        if length:
            kept = min(length, room, self._snap_bytes)
            self._take(_REPLY, self.queue, head, writable(chain, kept, self._memory), kept, length, flags)

    def _length_in_header(self, chain: Chain, room: int) -> int:
        """Return how long a reply is that the daemon gave no length, 0 when it wrote none.

        Linux up to 7.0 goes by the header alone, so such daemons work.
        """
        length, _, unique = _OUT_HEADER.unpack(b"".join(writable(chain, _OUT_HEADER.size, self._memory)))
        asked = b"".join(readable(chain, _UNIQUE.stop, self._memory))[_UNIQUE]
        return length if unique == int.from_bytes(asked, "little") and _OUT_HEADER.size <= length <= room else 0

    # -- the end ---------------------------------------------------------------------------------------------------

    def base_for_guest(self, daemon_base: int) -> int:
        """Return the guest's next available entry, when the daemon says at which of the shadow's it stopped."""
        not_taken = (self._passed_on - daemon_base) & 0xFFFF
        if not_taken > len(self._pending):
            raise Refused(f"the daemon stopped queue {self.queue} at {daemon_base}, where it never was")
        return (self._taken - not_taken) & 0xFFFF

    def unanswered(self, daemon_base: int) -> int:
        """Return how many requests the daemon took and has not completed."""
        return len(self._pending) - ((self._passed_on - daemon_base) & 0xFFFF)
