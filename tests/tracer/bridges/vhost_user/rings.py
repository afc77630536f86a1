"""Both ends of a virtqueue in real shared memory: a driver as in a guest, and a device as in a daemon.

They are written apart from the tap, with struct on the mapped bytes, so that no mistake of one is shared by the other.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tracer.bridges.vhost_user.memory import Memory, Place
from tracer.records import Direction, RecordFlag

GUEST, USER = 0x100000, 0x7F0000000000
SIZE = 2 << 20
HALF = SIZE // 2
DESC_AT, AVAIL_AT, USED_AT = 0, 0x8000, 0x10000
ROOM = 0x4000  # of a request's buffers and table
BUFFERS_AT = HALF - 8 * ROOM - 1024  # those of the ninth descriptor go over the border of both regions
NEXT, WRITE, INDIRECT = 1, 2, 4
OUT_HEADER = struct.Struct("<IiQ")


_LOCK = threading.Lock()


def barrier() -> None:
    """Let no load that follows be done before a store that precedes."""
    with _LOCK:
        pass


def passed(event: int, new: int, old: int) -> bool:
    """Tell whether one of the indexes from `old` to before `new` is `event`."""
    return any((old + step) % 65536 == event for step in range((new - old) % 65536))


def request_bytes(unique: int, body: bytes = b"") -> bytes:
    return struct.pack("<IIQQIIIHH", 40 + len(body), 15, unique, 1, 0, 0, 0, 0, 0) + body


def reply_bytes(unique: int, body: bytes = b"") -> bytes:
    return OUT_HEADER.pack(16 + len(body), 0, unique) + body


class GuestMemory:
    """A guest's memory in a file: two regions, which meet for the guest and lie apart for the VMM."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, SIZE)
        self.bytes = mmap.mmap(self.fd, SIZE)
        self.places = [Place(GUEST, HALF, USER, 0), Place(GUEST + HALF, HALF, USER + 2 * SIZE, HALF)]

    def mapped(self) -> Memory:
        memory = Memory()
        for place in self.places:
            memory.add(place, self.fd)
        return memory

    def close(self) -> None:
        os.close(self.fd)

    def at(self, address: int, length: int) -> bytes:
        return self.bytes[address - GUEST : address - GUEST + length]

    def put(self, address: int, data: bytes) -> None:
        self.bytes[address - GUEST : address - GUEST + len(data)] = data


@dataclass
class Driver:
    """The guest's side of a ring; each lane of a memory has room for another one of up to 16 slots."""

    memory: GuestMemory
    size: int
    event_idx: bool = True
    available: int = 0
    seen: int = 0
    free: list[int] = field(default_factory=list)
    in_flight: dict[int, tuple[list[int], int, int]] = field(default_factory=dict)
    lane: int = 0

    def __post_init__(self) -> None:
        self.free = list(range(self.size))
        self.ring_at = GUEST + 0x20000 * self.lane
        self.buffers_at = GUEST + BUFFERS_AT + 16 * ROOM * self.lane

    @property
    def user_addresses(self) -> tuple[int, int, int]:
        at = self.ring_at - GUEST + USER
        return at + DESC_AT, at + AVAIL_AT, at + USED_AT

    def descriptor(self, index: int, address: int, length: int, flags: int, following: int = 0) -> None:
        self.memory.put(self.ring_at + DESC_AT + 16 * index, struct.pack("<QIHH", address, length, flags, following))

    def make_available(self, head: int) -> None:
        at = self.ring_at + AVAIL_AT
        self.memory.put(at + 4 + 2 * (self.available % self.size), struct.pack("<H", head))
        self.available = (self.available + 1) % 65536
        self.memory.put(at + 2, struct.pack("<H", self.available))

    def submit(self, request: bytes, room: int, *, indirect: bool, cut: int) -> int | None:
        """Ask something, in three descriptors or a table of them; None when the ring is full."""
        wanted = 1 if indirect else 3
        if len(self.free) < wanted:
            return None
        own = [self.free.pop() for _ in range(wanted)]
        base = self.buffers_at + own[0] * ROOM
        cut = min(cut, len(request))
        self.memory.put(base, request)
        reply_at = base + len(request)
        parts = [(base, cut, 0), (base + cut, len(request) - cut, 0), (reply_at, room, WRITE)]
        if indirect:
            table = b"".join(
                struct.pack("<QIHH", *part[:2], part[2] | (NEXT if i < 2 else 0), i + 1) for i, part in enumerate(parts)
            )
            self.memory.put(base + ROOM - 64, table)
            self.descriptor(own[0], base + ROOM - 64, len(table), INDIRECT)
        else:
            for i, (address, length, flags) in enumerate(parts):
                following = own[i + 1] if i < 2 else 0
                self.descriptor(own[i], address, length, flags | (NEXT if i < 2 else 0), following)
        self.in_flight[own[0]] = (own, reply_at, room)
        self.make_available(own[0])
        return own[0]

    def must_kick(self, old: int) -> bool:
        """Tell whether the device wants to hear of what became available since `old`."""
        barrier()
        at = self.ring_at + USED_AT
        if not self.event_idx:
            return self.memory.at(at, 1) == b"\0"
        (event,) = struct.unpack("<H", self.memory.at(at + 4 + 8 * self.size, 2))
        return passed(event, self.available, old)

    def collect(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield head, length and bytes of each completion."""
        at = self.ring_at + USED_AT
        while True:
            if self.event_idx:
                self.memory.put(self.ring_at + AVAIL_AT + 4 + 2 * self.size, struct.pack("<H", self.seen))
                barrier()
            (used,) = struct.unpack("<H", self.memory.at(at + 2, 2))
            if used == self.seen:
                return
            head, length = struct.unpack("<II", self.memory.at(at + 4 + 8 * (self.seen % self.size), 8))
            self.seen = (self.seen + 1) % 65536
            own, reply_at, room = self.in_flight.pop(head)
            data = self.memory.at(reply_at, min(length, room))
            self.free += own
            yield head, length, data


@dataclass
class Device:
    """The daemon's side of a ring, which knows memory by a function that reads and one that writes."""

    size: int
    parts: tuple[int, int, int]  # descriptors, available ring, used ring
    read: Callable[[int, int], bytes]
    write: Callable[[int, bytes], None]
    event_idx: bool = True
    taken: int = 0
    used: int = 0

    def take(self) -> tuple[int, bytes, list[tuple[int, int]]] | None:
        """Return head, request and room for the reply of the next chain, if there is one."""
        (available,) = struct.unpack("<H", self.read(self.parts[1] + 2, 2))
        if self.event_idx:
            self.write(self.parts[2] + 4 + 8 * self.size, struct.pack("<H", self.taken))
            barrier()
            (available,) = struct.unpack("<H", self.read(self.parts[1] + 2, 2))
        if available == self.taken:
            return None
        (head,) = struct.unpack("<H", self.read(self.parts[1] + 4 + 2 * (self.taken % self.size), 2))
        self.taken = (self.taken + 1) % 65536
        table, index, request, room = self.parts[0], head, b"", []
        while True:
            address, length, flags, following = struct.unpack("<QIHH", self.read(table + 16 * index, 16))
            if flags & INDIRECT:
                table, index = address, 0
                continue
            if flags & WRITE:
                room.append((address, length))
            else:
                request += self.read(address, length)
            if not flags & NEXT:
                return head, request, room
            index = following

    def must_call(self, old: int) -> bool:
        """Tell whether the driver wants to hear of what was used since `old`."""
        barrier()
        if not self.event_idx:
            return self.read(self.parts[1], 1) == b"\0"
        (event,) = struct.unpack("<H", self.read(self.parts[1] + 4 + 2 * self.size, 2))
        return passed(event, self.used, old)

    def complete(self, head: int, room: list[tuple[int, int]], reply: bytes, length: int | None = None) -> None:
        rest = reply
        for address, size in room:
            self.write(address, rest[:size])
            rest = rest[size:]
        entry = struct.pack("<II", head, len(reply) if length is None else length)
        self.write(self.parts[2] + 4 + 8 * (self.used % self.size), entry)
        self.used = (self.used + 1) % 65536
        self.write(self.parts[2] + 2, struct.pack("<H", self.used))


@dataclass
class Overheard:
    """Keeps what the tap copied."""

    snap_bytes: int = 1 << 32
    requests: list[tuple[int, int, bytes, int]] = field(default_factory=list)
    replies: list[tuple[int, int, bytes, int]] = field(default_factory=list)
    guessed: int = 0

    def take(
        self, direction: int, queue: int, head: int, pieces: list[memoryview], kept: int, wire_len: int, flags: int
    ) -> None:
        data = b"".join(pieces)
        assert len(data) == kept
        messages = self.requests if direction == Direction.TO_SERVER else self.replies
        messages.append((queue, head, data, wire_len))
        self.guessed += bool(flags & RecordFlag.LENGTH_GUESSED)
