"""The guest's memory, as the VMM shares it: regions of files, mapped here too.

Every address comes from a guest or a VMM, so each is looked up and checked; nothing outside the regions is touched.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.messages import MAX_FDS, REGION, SINGLE_REGION, TABLE, Message

MAX_REGIONS: Final = 512  # rust-vmm's daemons offer 509
SHADOW_BASE: Final = 1 << 56  # beyond what any processor of today addresses, so no region of a guest is there


@dataclass(frozen=True, slots=True)
class Place:
    """Where a region is: for the guest, for the VMM, and in its file. Bytes."""

    guest: int
    size: int
    user: int
    offset: int


class Region:
    """A region, mapped. Slices that others hold keep the mapping alive when it is removed."""

    def __init__(self, place: Place, fd: int) -> None:
        """`place` has been checked. Raises Refused when it cannot be mapped; the descriptor stays the caller's."""
        begin = place.offset & ~(mmap.ALLOCATIONGRANULARITY - 1)
        try:
            mapped = mmap.mmap(fd, place.offset - begin + place.size, mmap.MAP_SHARED, _ACCESS, offset=begin)
        except (OSError, ValueError, OverflowError) as error:
            raise Refused(f"memory at {place.guest:#x} cannot be mapped: {error}") from None
        self.place = place
        self.begin, self.end = place.guest, place.guest + place.size
        self.view = memoryview(mapped)[place.offset - begin :]


_ACCESS: Final = mmap.PROT_READ | mmap.PROT_WRITE
_PAGE: Final = 4096


def _check(place: Place) -> None:
    if place.size < _PAGE:
        raise Refused(f"memory at {place.guest:#x} has {place.size} bytes, less than a page")
    if place.guest + place.size > SHADOW_BASE or place.user + place.size > SHADOW_BASE:
        raise Refused(f"memory of {place.size:#x} bytes at {place.guest:#x} ends beyond what can be addressed")
    if place.offset + place.size >= 1 << 63:
        raise Refused(f"memory at {place.guest:#x} is beyond the end of any file")


def single_region(message: Message) -> Place:
    """Return the region that ADD_MEM_REG or REM_MEM_REG names."""
    return Place(*SINGLE_REGION.unpack(message.payload)[1:])


def table(message: Message) -> list[Place]:
    """Return the regions of SET_MEM_TABLE. Raises Refused when their number does not fit bytes or descriptors."""
    count, _ = TABLE.unpack_from(message.payload)
    if not 0 < count <= MAX_FDS or len(message.payload) != TABLE.size + count * REGION.size:
        raise Refused(f"SET_MEM_TABLE of {count} regions with {len(message.payload)} bytes")
    if len(message.fds) != count:
        raise Refused(f"SET_MEM_TABLE of {count} regions with {len(message.fds)} descriptors")
    return [Place(*words) for words in REGION.iter_unpack(message.payload[TABLE.size :])]


def table_with(message: Message, place: Place, fd: int) -> Message:
    """Return SET_MEM_TABLE with one more region at its end."""
    count, padding = TABLE.unpack_from(message.payload)
    payload = TABLE.pack(count + 1, padding) + message.payload[TABLE.size :]
    more = REGION.pack(place.guest, place.size, place.user, place.offset)
    message.fds.append(os.dup(fd))
    return message.with_payload(payload + more)


class Memory:
    """All regions of one guest."""

    def __init__(self) -> None:
        self.changes = 0  # how often regions came or went: who keeps what was found must look again after each
        self._regions: list[Region] = []
        self._begins: list[int] = []
        self._last: Region | None = None  # where something was last found: the next is most often there too

    def __len__(self) -> int:
        return len(self._regions)

    def replace(self, places: list[Place], fds: list[int]) -> None:
        """Take a whole table instead of what is there. Raises Refused when regions overlap or cannot be mapped."""
        new = Memory()
        for place, fd in zip(places, fds, strict=True):
            new.add(place, fd)
        self._set(new._regions)

    def add(self, place: Place, fd: int) -> None:
        """Take one more region. Raises Refused when it overlaps another, or cannot be mapped."""
        if len(self._regions) >= MAX_REGIONS:
            raise Refused(f"more than {MAX_REGIONS} regions of memory")
        _check(place)
        for other in (region.place for region in self._regions):
            if _overlap(place.guest, other.guest, place, other) or _overlap(place.user, other.user, place, other):
                raise Refused(f"memory at {place.guest:#x} overlaps that at {other.guest:#x}")
        self._set([*self._regions, Region(place, fd)])

    def remove(self, place: Place) -> None:
        """Forget a region. Raises Refused when there is none of this place."""
        rest = [region for region in self._regions if not _is_same(region.place, place)]
        if len(rest) == len(self._regions):
            raise Refused(f"no memory at {place.guest:#x} to remove")
        self._set(rest)

    def _set(self, regions: list[Region]) -> None:
        self._regions = sorted(regions, key=lambda region: region.place.guest)
        self._begins = [region.place.guest for region in self._regions]
        self._last = None
        self.changes += 1

    def find(self, address: int, size: int) -> memoryview:
        """Return `size` bytes at a guest's address. Raises Refused unless one region holds them all."""
        if (region := self.covering(address, address + size)) is None:
            raise Refused(f"{size} bytes at {address:#x} are not in the guest's memory")
        return region.view[address - region.begin : address - region.begin + size]

    def covering(self, begin: int, end: int) -> Region | None:
        """Return the region that has all from one guest's address to before another, None when no single one has."""
        last = self._last
        if last is not None and last.begin <= begin and end <= last.end:
            return last
        index = bisect_right(self._begins, begin) - 1
        if index < 0 or end > self._regions[index].end:
            return None
        self._last = self._regions[index]
        return self._last

    def pieces(self, address: int, size: int) -> list[memoryview]:
        """Return `size` bytes at a guest's address, cut where regions meet. Raises Refused when some are nowhere."""
        found, end = [], address + size
        while address < end:
            index = bisect_right(self._begins, address) - 1
            region = self._regions[index] if index >= 0 else None
            if region is None or address >= region.end:
                raise Refused(f"{end - address} bytes at {address:#x} are not in the guest's memory")
            begin = address - region.begin
            piece = region.view[begin : begin + end - address]
            found.append(piece)
            address += len(piece)
        return found

    def find_user(self, address: int, size: int, align: int) -> memoryview:
        """Return `size` bytes at an address of the VMM. Raises Refused unless aligned, and in one region."""
        for region in self._regions:
            begin = address - region.place.user
            if begin >= 0 and begin + size <= region.place.size:
                if (begin + region.place.offset) % align:
                    raise Refused(f"a part of a ring at {address:#x} is not aligned to {align} bytes")
                return region.view[begin : begin + size]
        raise Refused(f"a ring of {size} bytes at {address:#x} is not in the memory that the VMM shares")


def _overlap(one: int, two: int, place: Place, other: Place) -> bool:
    return one < two + other.size and two < one + place.size


def _is_same(one: Place, two: Place) -> bool:
    return (one.guest, one.size, one.user) == (two.guest, two.size, two.user)
