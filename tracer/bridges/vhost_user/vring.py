"""Split virtqueues in shared memory: the three parts of a ring, seen from either side.

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
from typing import Final

from tracer.bridges.host.processor import is_strongly_ordered
from tracer.bridges.vhost_user.failures import Refused
from tracer.errors import CaptureError

DESCRIPTOR: Final = struct.Struct("<QIHH")  # address, length, flags, next
NEXT: Final = 1
WRITE: Final = 2
INDIRECT: Final = 4
QUIET: Final = 1  # in the flags of either ring: no need to be told
MAX_SIZE: Final = 32768
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
        self.words = descriptors.cast("Q")  # two a descriptor: its address, then length, flags and next
        self._available = available.cast("H")
        self.heads = self._available[_HEADS : _HEADS + size]  # the slots of the available ring
        self._used_head = used[:4].cast("H")
        self.entries = used[4 : 4 + 8 * size].cast("Q")  # the slots of the used ring: head, length << 32
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
