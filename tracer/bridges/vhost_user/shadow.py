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

from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.memory import SHADOW_BASE, Memory, Place
from tracer.bridges.vhost_user.vring import (
    DESCRIPTOR,
    INDIRECT,
    Ring,
    Span,
    barrier,
    chain_at,
    gather,
    must_tell,
    part_sizes,
)

MAX_QUEUES: Final = 32
SLOT_BYTES: Final = 4 << 20  # address space of a queue; memory is taken only where it is written
_AVAILABLE_AT: Final = 512 << 10  # behind 32768 descriptors
_USED_AT: Final = 640 << 10
_TABLES_AT: Final = 1 << 20
_TABLE_BYTES: Final = SLOT_BYTES - _TABLES_AT  # room for indirect tables: one of 32768 descriptors takes 512 KiB
_OUT_HEADER: Final = struct.Struct("<IiQ")  # struct fuse_out_header: len, error, unique
_UNIQUE: Final = slice(8, 16)  # of struct fuse_in_header


class Overhearing(Protocol):
    """Where copies of messages go."""

    @property
    def snap_bytes(self) -> int:
        """How many bytes of a message are worth copying."""
        ...

    def request(self, queue: int, head: int, data: bytes, wire_len: int) -> None:
        """Take what the guest asks, before the daemon can see it."""
        ...

    def reply(self, queue: int, head: int, data: bytes, wire_len: int, *, guessed: bool) -> None:
        """Take what the daemon answers, before the guest can see it; `guessed`: the length is the header's word."""
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


class Tables:
    """Room for the copies of indirect tables, given out in powers of two."""

    def __init__(self, slot: Slot) -> None:
        self._address, self._view = slot.address + _TABLES_AT, slot.view[_TABLES_AT:]
        self._free: dict[int, list[int]] = {}
        self._end = 0

    def put(self, table: bytes) -> int | None:
        """Store a table and return where it is for the daemon; None when there is no room now."""
        room = _room(len(table))
        free = self._free.get(room)
        if free:
            at = free.pop()
        elif self._end + room <= _TABLE_BYTES:
            at, self._end = self._end, self._end + room
        else:
            return None
        self._view[at : at + len(table)] = table
        return self._address + at

    def take_back(self, address: int, length: int) -> None:
        """Free the room of a table."""
        self._free.setdefault(_room(length), []).append(address - self._address)

    def clear(self) -> None:
        """Free everything: whatever sizes were given out before, all of it is one piece again."""
        self._free.clear()
        self._end = 0


def _room(length: int) -> int:
    return max(64, 1 << (length - 1).bit_length())


@dataclass(slots=True)
class _Pending:
    """A chain that the daemon has."""

    writable: list[Span]
    unique: bytes
    table: int  # address of the copy, 0: none
    table_bytes: int


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
        self._tables = Tables(slot)
        self._memory, self._overhearing, self._event_idx = memory, overhearing, event_idx
        self._taken = base & 0xFFFF  # of the guest's available ring
        self._given_back = guest.used  # into the guest's used ring
        self._passed_on = 0  # into the shadow's available ring
        self._seen_used = 0  # of the shadow's used ring
        self._has_told = False
        self._pending: dict[int, _Pending] = {}

    @property
    def in_flight(self) -> int:
        """How many chains the daemon has."""
        return len(self._pending)

    # -- from the guest to the daemon ------------------------------------------------------------------------------

    def submit(self) -> bool:
        """Pass on what the guest made available. Returns whether the daemon must be kicked; raises Refused."""
        guest, begin = self.guest, self._passed_on
        while True:
            self._pass_on(guest.available)
            if not self._event_idx or self.has_waiting:
                break
            guest.avail_event = self._taken
            barrier()
            if guest.available == self._taken:
                break
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
        for _ in range(count):
            head = self.guest.head_at(self._taken)
            if head in self._pending:
                raise Refused(f"descriptor {head} of queue {self.queue} is submitted while it is in flight")
            if not self._copy(head):
                self.has_waiting = True
                break
            self.ring.put_head(self._passed_on, head)
            self._taken = (self._taken + 1) & 0xFFFF
            self._passed_on = (self._passed_on + 1) & 0xFFFF
        self.ring.available = self._passed_on

    def _copy(self, head: int) -> bool:
        """Copy a chain into the shadow, and what it asks into the trace. False when there is no room for its table."""
        chain = chain_at(self.guest, head, self._memory)
        address = 0
        if chain.table:
            if not self._pending:
                self._tables.clear()
            found = self._tables.put(chain.table)
            if found is None:
                return False
            address = found
        for index, copy in chain.direct:
            self.ring.descriptors[16 * index : 16 * index + 16] = copy
        if address:
            index = chain.direct[-1][0]
            pointer = DESCRIPTOR.pack(address, len(chain.table), INDIRECT, 0)
            self.ring.descriptors[16 * index : 16 * index + 16] = pointer
        unique = self._overhear_request(head, chain.readable)
        self._pending[head] = _Pending(chain.writable, unique, address, len(chain.table))
        return True

    def _overhear_request(self, head: int, readable: list[Span]) -> bytes:
        wire_len = sum([length for _, length in readable])
        if not wire_len:  # a buffer for notifications
            return b""
        overhearing = self._overhearing
        data = gather(self._memory, readable, min(wire_len, overhearing.snap_bytes))
        overhearing.request(self.queue, head, data, wire_len)
        return data[_UNIQUE]

    # -- from the daemon to the guest ------------------------------------------------------------------------------

    def complete(self) -> bool:
        """Give back what the daemon used. Returns whether the guest must be told; raises Refused."""
        ring, begin = self.ring, self._given_back
        while True:
            self._give_back(ring.used)
            if not self._event_idx:
                break
            ring.used_event = self._seen_used
            barrier()
            if ring.used == self._seen_used:
                break
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
        if count > len(self._pending):
            raise Refused(f"the daemon completed {count} requests of {len(self._pending)} in queue {self.queue}")
        for _ in range(count):
            head, length = self.ring.entry_at(self._seen_used)
            pending = self._pending.pop(head, None)
            if pending is None:
                raise Refused(f"the daemon completed descriptor {head} of queue {self.queue}, which is not in flight")
            self._overhear_reply(head, pending, length)
            if pending.table:
                self._tables.take_back(pending.table, pending.table_bytes)
            self.guest.put_entry(self._given_back, head, length)
            self._seen_used = (self._seen_used + 1) & 0xFFFF
            self._given_back = (self._given_back + 1) & 0xFFFF
        self.guest.used = self._given_back

    def _overhear_reply(self, head: int, pending: _Pending, length: int) -> None:
        room = sum([size for _, size in pending.writable])
        guessed = False
        if length < _OUT_HEADER.size <= room:
            length = self._length_in_header(pending, room)
            guessed = length > 0
        if length:
            overhearing = self._overhearing
            data = gather(self._memory, pending.writable, min(length, room, overhearing.snap_bytes))
            overhearing.reply(self.queue, head, data, length, guessed=guessed)

    def _length_in_header(self, pending: _Pending, room: int) -> int:
        """Return how long a reply is that the daemon gave no length, 0 when it wrote none.

        Linux up to 7.0 goes by the header alone, so such daemons work.
        """
        length, _, _ = _OUT_HEADER.unpack(header := gather(self._memory, pending.writable, _OUT_HEADER.size))
        return length if header[8:] == pending.unique and _OUT_HEADER.size <= length <= room else 0

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
