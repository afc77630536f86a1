"""Chains of descriptors: copied from the guest's ring into the shadow's, and checked while they are.

Source: sections 2.7.5 and 2.7.5.3 of the virtio specification. A table of descriptors may lie elsewhere (an indirect
one), which is how Linux lays out every request. A descriptor is read as two words of 8 bytes.

A driver lays out the same few kinds of request over and over: what descriptors say besides addresses is looked at once
for each kind (`Shape`) and found again by its words. Only addresses differ, and those are checked together. Small
requests often come back to the very same places too, so whole tables are found again by their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.memory import Memory
from tracer.bridges.vhost_user.vring import DESCRIPTOR, INDIRECT, MAX_SIZE, NEXT, WRITE, Ring

MAX_CHAIN_BYTES: Final = 1 << 32
MOST_SHAPES: Final = 512  # kept; a driver has some dozens
LONGEST_KEPT: Final = 1024  # descriptors of a shape that is kept: Linux has 256 pages in a request
MOST_TABLES: Final = 4096  # kept, each no longer than LONGEST_TABLE
LONGEST_TABLE: Final = 256  # bytes: longer ones are full of pages, which are others each time
_LENGTH: Final = 0xFFFFFFFF  # of the second word of a descriptor
_FLAGS: Final = 0xFFFF << 32
_FLAGS_AT: Final = 32
_NEXT_AT: Final = 48
_TABLE_ALONE: Final = INDIRECT << _FLAGS_AT


class Shape(NamedTuple):
    """All that a chain's descriptors say, except where their bytes are."""

    order: tuple[int, ...] | None  # where in a table the chain's descriptors are; None: all of them, as they stand
    readable: tuple[int, ...]  # lengths
    writable: tuple[int, ...]
    readable_bytes: int
    writable_bytes: int
    longest: int


class Chain(NamedTuple):
    """A request as the driver laid it out, copied: what the driver changes later is not seen any more."""

    addresses: tuple[int, ...]  # of the guest: first what is readable, then what is writable
    shape: Shape
    base: int  # guest's address of the first byte of `view`
    view: memoryview | None  # the region that has all of it; None: several have
    table: int  # room taken for a copy of its indirect table, 0: none that must be given back
    table_bytes: int


class Room:
    """Room in the shadow for copies of indirect tables, which the device reads in place of the guest's.

    Each head has a little of its own; longer tables are given room in powers of two.
    """

    def __init__(self, address: int, view: memoryview, heads: int) -> None:
        """`view` is the room, `address` where it is for the device."""
        self._address, self._view = address, view
        self._own_bytes = len(view) // 2 // heads & -DESCRIPTOR.size
        self._shared_at = self._own_bytes * heads
        self._free: dict[int, list[int]] = {}
        self._end = self._shared_at

    def own(self, head: int, table: bytes) -> int | None:
        """Store a table where the head has its own room and return where it is for the device; None when too long."""
        length = len(table)
        if length > self._own_bytes:
            return None
        at = head * self._own_bytes
        self._view[at : at + length] = table
        return self._address + at

    def put(self, table: bytes) -> int | None:
        """Store a table and return where it is for the device; None when there is no room now."""
        size = _rounded(len(table))
        free = self._free.get(size)
        if free:
            at = free.pop()
        elif self._end + size <= len(self._view):
            at, self._end = self._end, self._end + size
        else:
            return None
        self._view[at : at + len(table)] = table
        return self._address + at

    def take_back(self, address: int, length: int) -> None:
        """Free what `put` returned."""
        self._free.setdefault(_rounded(length), []).append(address - self._address)

    def clear(self) -> None:
        """Free everything: whatever sizes were given out before, all of it is one piece again."""
        self._free.clear()
        self._end = self._shared_at


def _rounded(length: int) -> int:
    return max(64, 1 << (length - 1).bit_length())


class Copier:
    """Copies chains of one queue into the shadow's ring."""

    def __init__(self, guest: Ring, shadow: Ring, room: Room, memory: Memory) -> None:
        self._size, self._words, self._own_words = guest.size, guest.words, shadow.words
        self._room, self._memory = room, memory
        self._shapes: dict[tuple[int, ...], Shape] = {}
        self._tables: dict[bytes, Chain] = {}
        self._changes = memory.changes

    def copy(self, head: int) -> Chain | None:
        """Copy the chain that begins at `head`; None when there is no room for its table now.

        Raises Refused when it is none that a driver may submit; the device sees nothing of it then.
        """
        if head < self._size:
            at = 2 * head
            address, word = self._words[at], self._words[at + 1]
            if word & _FLAGS == _TABLE_ALONE:
                return self._copy_table(head, address, word)
        return self._copy_all(head)

    def _copy_table(self, head: int, address: int, word: int) -> Chain | None:
        """Copy a chain that is one indirect table."""
        table = self._table(address, word & _LENGTH)
        if self._changes != self._memory.changes:
            self._tables.clear()
            self._changes = self._memory.changes
        chain = self._tables.get(table)
        if chain is None:
            chain = self._chain(table)
        place = self._room.own(head, table)
        if place is None:
            place = self._room.put(table)
            if place is None:
                return None
            chain = chain._replace(table=place, table_bytes=len(table))
        at = 2 * head
        self._own_words[at], self._own_words[at + 1] = place, word
        return chain

    def _chain(self, table: bytes) -> Chain:
        """Return the chain in an indirect table."""
        words = _WORDS[len(table)](table)
        addresses, abouts = words[::2], words[1::2]
        shape = self._shapes.get(abouts)
        if shape is None:
            shape = self._learned(abouts)
        if shape.order is not None:
            addresses = tuple([addresses[index] for index in shape.order])
        chain = Chain(addresses, shape, *self._place(addresses, shape), 0, 0)
        if len(table) <= LONGEST_TABLE:
            if len(self._tables) >= MOST_TABLES:
                self._tables.clear()
            self._tables[table] = chain
        return chain

    def _copy_all(self, head: int) -> Chain | None:
        """Copy a chain that has descriptors in the ring."""
        direct, table = self._walked(head)
        words = [word for _, *pair in direct for word in pair]
        if table:
            words[-2:] = _in_order(table)
        shape = _shape(tuple(words[1::2]), None)
        addresses = tuple(words[::2])
        base, view = self._place(addresses, shape)
        place = 0
        if table:
            found = self._room.put(table)
            if found is None:
                return None
            place = found
        for index, address, word in direct:
            self._own_words[2 * index], self._own_words[2 * index + 1] = address, word
        if table:
            self._own_words[2 * direct[-1][0]] = place
        return Chain(addresses, shape, base, view, place, len(table))

    def _walked(self, head: int) -> tuple[list[tuple[int, int, int]], bytes]:
        """Return index and words of each descriptor in the ring, and the table that the last of them points to."""
        direct: list[tuple[int, int, int]] = []
        index = head
        while True:
            if index >= self._size:
                raise Refused(f"descriptor {index} in a ring of {self._size}")
            if len(direct) >= self._size:
                raise Refused(f"the chain at descriptor {head} is a loop")
            address, word = self._words[2 * index], self._words[2 * index + 1]
            direct.append((index, address, word))
            flags = word >> _FLAGS_AT & 0xFFFF
            if flags & INDIRECT:
                if flags & NEXT:
                    raise Refused(f"descriptor {index} points to a table and to another descriptor")
                return direct, self._table(address, word & _LENGTH)
            if not flags & NEXT:
                return direct, b""
            index = word >> _NEXT_AT

    def _table(self, address: int, length: int) -> bytes:
        if not 0 < length <= DESCRIPTOR.size * MAX_SIZE or length % DESCRIPTOR.size:
            raise Refused(f"an indirect table of {length} bytes")
        region = self._memory.covering(address, address + length)
        if region is None:
            return b"".join(self._memory.pieces(address, length))
        begin = address - region.begin
        return bytes(region.view[begin : begin + length])

    def _learned(self, abouts: tuple[int, ...]) -> Shape:
        order = _order(abouts)
        shape = _shape(tuple([abouts[index] for index in order]), order)
        if len(self._shapes) >= MOST_SHAPES:
            self._shapes.clear()
        if len(abouts) <= LONGEST_KEPT:
            self._shapes[abouts] = shape
        return shape

    def _place(self, addresses: tuple[int, ...], shape: Shape) -> tuple[int, memoryview | None]:
        """Return the region that has all of a chain, and where it begins; raises Refused when something is nowhere."""
        region = self._memory.covering(min(addresses), max(addresses) + shape.longest)
        if region is not None:
            return region.begin, region.view
        for address, length in zip(addresses, shape.readable + shape.writable, strict=True):
            self._memory.pieces(address, length)
        return 0, None


class _Words(dict[int, Callable[[bytes], tuple[int, ...]]]):
    """What takes so many bytes apart into words of 8."""

    def __missing__(self, length: int) -> Callable[[bytes], tuple[int, ...]]:
        found = self[length] = struct.Struct(f"<{length // 8}Q").unpack
        return found


_WORDS: Final = _Words()


def _order(abouts: tuple[int, ...]) -> tuple[int, ...]:
    """Return where in a table the descriptors of its chain are, one after the other."""
    found: list[int] = []
    index = 0
    while True:
        if index >= len(abouts):
            raise Refused(f"descriptor {index} in an indirect table of {len(abouts)}")
        if len(found) >= len(abouts):
            raise Refused("the chain in an indirect table is a loop")
        flags = abouts[index] >> _FLAGS_AT & 0xFFFF
        if flags & INDIRECT:
            raise Refused("an indirect table within an indirect table")
        found.append(index)
        if not flags & NEXT:
            return tuple(found)
        index = abouts[index] >> _NEXT_AT


def _in_order(table: bytes) -> list[int]:
    """Return the words of a table's chain, as they follow each other."""
    words = _WORDS[len(table)](table)
    return [word for index in _order(words[1::2]) for word in words[2 * index : 2 * index + 2]]


def _shape(abouts: tuple[int, ...], order: tuple[int, ...] | None) -> Shape:
    """Return what the second words of a chain's descriptors say. `abouts` are in the order of the chain."""
    lengths = [word & _LENGTH for word in abouts]
    is_writable = [bool(word >> _FLAGS_AT & WRITE) for word in abouts]
    border = is_writable.index(True) if True in is_writable else len(abouts)
    if not all(is_writable[border:]):
        raise Refused("a chain with bytes for the device behind bytes for the driver")
    if sum(lengths) > MAX_CHAIN_BYTES:
        raise Refused(f"a chain of {sum(lengths)} bytes")
    readable, writable = tuple(lengths[:border]), tuple(lengths[border:])
    if order == tuple(range(len(abouts))):
        order = None
    return Shape(order, readable, writable, sum(readable), sum(writable), max(lengths))


def readable(chain: Chain, limit: int, memory: Memory) -> list[memoryview]:
    """Return where the first `limit` bytes that a chain has for the device are."""
    return _pieces(chain, 0, chain.shape.readable, limit, memory)


def writable(chain: Chain, limit: int, memory: Memory) -> list[memoryview]:
    """Return where the first `limit` bytes that a chain has for the driver are."""
    return _pieces(chain, len(chain.shape.readable), chain.shape.writable, limit, memory)


def _pieces(chain: Chain, first: int, lengths: tuple[int, ...], limit: int, memory: Memory) -> list[memoryview]:
    found: list[memoryview] = []
    base, view, addresses = chain.base, chain.view, chain.addresses
    for length in lengths:
        if limit <= 0:
            break
        if length > limit:
            length = limit
        address = addresses[first]
        if view is None:
            found += memory.pieces(address, length)
        else:
            found.append(view[address - base : address - base + length])
        first += 1
        limit -= length
    return found
