"""Split virtqueues in shared memory: the three parts of a ring, and the chains of descriptors in it.

Source: sections 2.6 and 2.7 of the virtio specification. Parts: descriptors 16 bytes each {u64 address, u32 length, u16
flags, u16 next}; available ring {u16 flags, u16 idx, u16 head for each slot, u16 used_event}; used ring {u16 flags,
u16 idx, {u32 head, u32 length} for each slot, u16 avail_event}. Little-endian.

Whoever shares a ring reads it at the same time, so each number is read and written by one access of its own size, which
is what a cast memoryview does; struct would write byte by byte, and zeros first. On x86-64, loads stay in order among
themselves and so do stores: an entry stored before the index is seen before it (release), what is read after the index
is at least as new (acquire). Only a load after a store to another place needs `barrier`.
"""

from __future__ import annotations

import platform
import struct
import threading
from typing import Final, NamedTuple

from tracer.bridges.host.processor import is_strongly_ordered
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.memory import Memory
from tracer.errors import CaptureError

DESCRIPTOR: Final = struct.Struct("<QIHH")  # guest address, length, flags, next
NEXT: Final = 1
WRITE: Final = 2
INDIRECT: Final = 4
QUIET: Final = 1  # in the flags of either ring: no need to be told
MAX_SIZE: Final = 32768
MAX_CHAIN_BYTES: Final = 1 << 32
_IDX: Final = 1
_HEADS: Final = 2  # where the heads begin in the available ring, in units of 2 bytes

_lock: Final = threading.Lock()


def barrier() -> None:
    """Let no load that follows be done before a store that precedes: a lock is taken with an atomic exchange."""
    with _lock:
        pass


def refuse_weakly_ordered() -> None:
    """Raise CaptureError on a processor where plain loads and stores may overtake each other."""
    if not is_strongly_ordered():
        raise CaptureError(
            f"on {platform.machine()} rings cannot be shared from Python", "record within the guest: --bridge ebpf"
        )


def must_tell(event: int, new: int, old: int) -> bool:
    """Tell whether an index that went from `old` to `new` passed what the other side waits for (vring_need_event)."""
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF


def check_size(size: int) -> None:
    """Raise Refused when no ring can have `size` slots."""
    if not 0 < size <= MAX_SIZE or size & (size - 1):
        raise Refused(f"a ring of {size} slots: it must be a power of two up to {MAX_SIZE}")


def part_sizes(size: int) -> tuple[int, int, int]:
    """Return the bytes that descriptors, available ring and used ring take."""
    return 16 * size, 6 + 2 * size, 6 + 8 * size


class Ring:
    """One ring, seen from either side."""

    def __init__(self, size: int, descriptors: memoryview, available: memoryview, used: memoryview) -> None:
        """The parts are as long as `part_sizes` says, and aligned to 16, 2 and 4 bytes."""
        self.size, self.mask = size, size - 1
        self.descriptors = descriptors
        self._available = available.cast("H")
        self._used_head = used[:4].cast("H")
        self.entries = used[4 : 4 + 8 * size].cast("I")
        self._avail_event = used[4 + 8 * size :].cast("H")
        self._used_event_at = _HEADS + size

    @property
    def available(self) -> int:
        """How many heads the driver has put in so far, modulo 65536."""
        return self._available[_IDX]

    @available.setter
    def available(self, idx: int) -> None:
        self._available[_IDX] = idx

    @property
    def used(self) -> int:
        """How many chains the device has given back so far, modulo 65536."""
        return self._used_head[_IDX]

    @used.setter
    def used(self, idx: int) -> None:
        self._used_head[_IDX] = idx

    @property
    def used_event(self) -> int:
        """At which used entry the driver wants to be told (EVENT_IDX)."""
        return self._available[self._used_event_at]

    @used_event.setter
    def used_event(self, idx: int) -> None:
        self._available[self._used_event_at] = idx

    @property
    def avail_event(self) -> int:
        """At which available entry the device wants to be told (EVENT_IDX)."""
        return self._avail_event[0]

    @avail_event.setter
    def avail_event(self, idx: int) -> None:
        self._avail_event[0] = idx

    @property
    def driver_is_quiet(self) -> bool:
        """Whether the driver does not want to be told (without EVENT_IDX)."""
        return bool(self._available[0] & QUIET)

    @property
    def device_is_quiet(self) -> bool:
        """Whether the device does not want to be told (without EVENT_IDX)."""
        return bool(self._used_head[0] & QUIET)

    def head_at(self, idx: int) -> int:
        """Return the head in a slot of the available ring."""
        return self._available[_HEADS + (idx & self.mask)]

    def put_head(self, idx: int, head: int) -> None:
        """Store a head into a slot of the available ring."""
        self._available[_HEADS + (idx & self.mask)] = head

    def entry_at(self, idx: int) -> tuple[int, int]:
        """Return head and length in a slot of the used ring."""
        at = 2 * (idx & self.mask)
        return self.entries[at], self.entries[at + 1]

    def put_entry(self, idx: int, head: int, length: int) -> None:
        """Store head and length into a slot of the used ring."""
        at = 2 * (idx & self.mask)
        self.entries[at] = head
        self.entries[at + 1] = length

    def descriptor(self, index: int) -> bytes:
        """Return a copy of a descriptor."""
        return bytes(self.descriptors[16 * index : 16 * index + 16])


Span = tuple[int, int]  # guest address, bytes


class Chain(NamedTuple):
    """A request as the driver laid it out, copied: what the driver changes later is not seen any more."""

    head: int
    direct: list[tuple[int, bytes]]  # index and copy of each descriptor in the ring
    table: bytes  # copy of the indirect table that the last of them points to; empty when there is none
    readable: list[Span]
    writable: list[Span]


def chain_at(ring: Ring, head: int, memory: Memory) -> Chain:
    """Copy and check the chain that begins at `head`. Raises Refused when it is not one a driver may submit."""
    direct: list[tuple[int, bytes]] = []
    table, index = b"", head
    words: list[tuple[int, int, int, int]] = []
    while True:
        if index >= ring.size:
            raise Refused(f"descriptor {index} in a ring of {ring.size}")
        if len(direct) >= ring.size:
            raise Refused(f"the chain at descriptor {head} is a loop")
        copy = ring.descriptor(index)
        direct.append((index, copy))
        address, length, flags, following = DESCRIPTOR.unpack(copy)
        if flags & INDIRECT:
            if flags & NEXT:
                raise Refused(f"descriptor {index} points to a table and to another descriptor")
            table = _table(address, length, memory)
            words += _in_order(table)
            break
        words.append((address, length, flags, following))
        if not flags & NEXT:
            break
        index = following
    return Chain(head, direct, table, *_parts(words, memory))


def _table(address: int, length: int, memory: Memory) -> bytes:
    if not 0 < length <= 16 * MAX_SIZE or length % 16:
        raise Refused(f"an indirect table of {length} bytes")
    return b"".join(memory.pieces(address, length))


def _in_order(table: bytes) -> list[tuple[int, int, int, int]]:
    """Return the descriptors of an indirect table, as they follow each other."""
    entries = list(DESCRIPTOR.iter_unpack(table))
    found: list[tuple[int, int, int, int]] = []
    index = 0
    while True:
        if index >= len(entries):
            raise Refused(f"descriptor {index} in an indirect table of {len(entries)}")
        if len(found) >= len(entries):
            raise Refused("the chain in an indirect table is a loop")
        entry = entries[index]
        if entry[2] & INDIRECT:
            raise Refused("an indirect table within an indirect table")
        found.append(entry)
        if not entry[2] & NEXT:
            return found
        index = entry[3]


def _parts(words: list[tuple[int, int, int, int]], memory: Memory) -> tuple[list[Span], list[Span]]:
    readable: list[Span] = []
    writable: list[Span] = []
    total = 0
    for address, length, flags, _ in words:
        memory.check(address, length)
        total += length
        if flags & WRITE:
            writable.append((address, length))
        elif writable:
            raise Refused("a chain with bytes for the device behind bytes for the driver")
        else:
            readable.append((address, length))
    if total > MAX_CHAIN_BYTES:
        raise Refused(f"a chain of {total} bytes")
    return readable, writable


def gather(memory: Memory, spans: list[Span], limit: int) -> bytes:
    """Return a copy of the first `limit` bytes of what is in several places."""
    if len(spans) == 1 and spans[0][1] >= limit:
        return b"".join(memory.pieces(spans[0][0], limit))
    pieces: list[memoryview] = []
    for address, length in spans:
        if limit <= 0:
            break
        pieces += memory.pieces(address, min(length, limit))
        limit -= length
    return b"".join(pieces)
