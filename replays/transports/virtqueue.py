"""The driver's side of a virtqueue in memory of our own: requests go in, used entries come out.

A request has a slot: two descriptors that lie side by side and never move, one for what the server reads and one of
exactly the bytes it may write, as the kernel would have it; servers take more room for a larger question.

    slot 0: descriptor 0 -> request, descriptor 1 -> reply      slot 1: descriptors 2 and 3      ...

Only the server writes into the memory beside us, and it may write anything anywhere. So nothing is read back but the
used ring and the reply, each is checked, and all else that is known of a request is kept elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from typing import Final, NamedTuple

from replays.transports.base import Answer, ServerGone
from tracer.bridges.framing import OUT_HEADER, OUT_HEADER_SIZE
from tracer.bridges.vhost_user.vring import DESCRIPTOR, NEXT, WRITE, Ring, barrier, must_tell, part_sizes

SLOT_DESCRIPTORS: Final = 2
_PAGE: Final = 4096
_AVAILABLE_AT: Final = 0x4000  # behind 1024 descriptors, the most that virtiofsd takes
_USED_AT: Final = 0x5000
_RINGS_BYTES: Final = 0x8000
_GUEST_BASE: Final = 1 << 32
_USER_BASE: Final = 7 << 44
_DATA_IN_REQUEST: Final = 80  # fuse_in_header and fuse_write_in
_HEADER: Final = OUT_HEADER["little"]
_NOBODY: Final = 0x8000  # an event so far off that it is never what a server passes next
_NEXT_SHIFT: Final = 16


class SharedMemory:
    """What would be a guest's memory: one file that the server maps too, of which neither can change the size."""

    def __init__(self, size: int) -> None:
        """`size` is in bytes; memory is taken only where something is written."""
        self.size, self.guest_address, self.user_address = size, _GUEST_BASE, _USER_BASE
        self.fd = os.memfd_create("fusewire-guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            # a file that shrinks under a mapping ends whoever reads there, by SIGBUS
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._view = memoryview(mmap.mmap(self.fd, size))
        except BaseException:
            os.close(self.fd)
            raise

    def part(self, begin: int, size: int) -> Part:
        """Return `size` bytes from `begin` on, with the addresses the server knows them by."""
        return Part(self._view[begin : begin + size], self.guest_address + begin, self.user_address + begin)

    def close(self) -> None:
        """Close the file; the mapping goes with the last queue."""
        os.close(self.fd)


class Part(NamedTuple):
    """A part of the memory: rings are named to a server by user addresses, buffers by guest addresses."""

    view: memoryview
    guest_address: int
    user_address: int


class RingAddresses(NamedTuple):
    """In the order of SET_VRING_ADDR."""

    descriptors: int
    used: int
    available: int


def _area_bytes(most_bytes: int) -> int:
    """Return what a buffer takes: whole pages, and one more in which its headers end."""
    return _PAGE - most_bytes // -_PAGE * _PAGE


def queue_bytes(slots: int, most_bytes: int) -> int:
    """Return how much memory a queue takes whose messages have at most `most_bytes` either way."""
    return _RINGS_BYTES + slots * 2 * _area_bytes(most_bytes)


class DriverQueue:
    """One queue. `slots` is a power of two, and at most 512."""

    def __init__(self, index: int, part: Part, slots: int, most_bytes: int, *, event_idx: bool) -> None:
        """`part` holds zeros, and as many bytes as `queue_bytes` says."""
        self.index, self.size = index, slots * SLOT_DESCRIPTORS
        self.addresses = RingAddresses(*(part.user_address + at for at in (0, _USED_AT, _AVAILABLE_AT)))
        self.kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.kick_count = 0  # wake-ups that were sent
        self._view, self._event_idx = part.view, event_idx
        begins = zip((0, _AVAILABLE_AT, _USED_AT), part_sizes(self.size), strict=True)
        self._ring = Ring(self.size, *(part.view[at : at + size] for at, size in begins))
        self._words = part.view[: 16 * self.size].cast("I")  # descriptors: address in two words, length, flags and next
        self._request_at, self._reply_at = self._lay_out(part, slots, _area_bytes(most_bytes))
        self._free = list(range(slots))
        self._rooms: list[int] = [-1] * slots  # of the reply; -1: not in flight
        self._uniques = [0] * slots
        self._put = self._told = self._seen = 0  # indexes modulo 65536: made available, kicked for, taken back

    def _lay_out(self, part: Part, slots: int, area: int) -> tuple[list[int], list[int]]:
        """Write the descriptors, and return where requests and replies begin.

        Data of a WRITE and of a reply to READ begin on a page, as those of the kernel do: a server may use O_DIRECT.
        """
        requests = [_RINGS_BYTES + 2 * slot * area + _PAGE - _DATA_IN_REQUEST for slot in range(slots)]
        replies = [_RINGS_BYTES + (2 * slot + 1) * area + _PAGE - OUT_HEADER_SIZE for slot in range(slots)]
        for slot, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            head = slot * SLOT_DESCRIPTORS
            pair = DESCRIPTOR.pack(part.guest_address + request, 0, NEXT, head + 1)
            pair += DESCRIPTOR.pack(part.guest_address + reply, 0, WRITE, 0)
            part.view[16 * head : 16 * head + 32] = pair
        return requests, replies

    def close(self) -> None:
        """Close the descriptor that wakes the server."""
        os.close(self.kick)

    @property
    def in_flight(self) -> int:
        """How many requests the server has."""
        return len(self._rooms) - len(self._free)

    def submit(self, message: bytes | bytearray, room: int, unique: int) -> bool:
        """Make a request available; False when no slot is free. Neither is longer than the queue was made for."""
        if not self._free:
            return False
        slot = self._free.pop()  # the one used last: it is in the cache
        begin, head, words = self._request_at[slot], slot * SLOT_DESCRIPTORS, self._words
        self._view[begin : begin + len(message)] = message
        at = 4 * head
        words[at + 2] = len(message)
        if room:
            words[at + 3] = NEXT | (head + 1) << _NEXT_SHIFT
            words[at + 6] = room
        else:
            words[at + 3] = 0
        self._rooms[slot], self._uniques[slot] = room, unique
        self._ring.heads[self._put & self._ring.mask] = head
        self._put = (self._put + 1) & 0xFFFF
        self._ring.available = self._put
        return True

    def flush(self) -> None:
        """Wake the server, unless it says that it looks by itself."""
        if self._put == self._told:
            return
        barrier()
        old, self._told = self._told, self._put
        ring = self._ring
        if must_tell(ring.avail_event, self._put, old) if self._event_idx else not ring.device_is_quiet:
            self.kick_count += 1
            with contextlib.suppress(BlockingIOError):  # the counter is full, so it was woken
                os.eventfd_write(self.kick, 1)

    def want_call(self) -> None:
        """Ask to be told of the next completion. One may have come just before: `collect` once more, then wait."""
        if self._event_idx:
            self._ring.used_event = self._seen

    def want_no_call(self) -> None:
        """Ask not to be told: telling costs the server a system call."""
        if self._event_idx:
            self._ring.used_event = (self._seen + _NOBODY) & 0xFFFF

    def collect(self, answers: list[Answer], t_ns: int) -> int:
        """Append what the server answered, and return how many requests it is done with. Raises ServerGone."""
        ring = self._ring
        count = (ring.used - self._seen) & 0xFFFF
        if count > len(self._rooms) - len(self._free):
            raise ServerGone(f"the server gave back {count} requests of queue {self.index}, it has {self.in_flight}")
        for _ in range(count):
            entry = ring.entries[self._seen & ring.mask]
            head, length = entry & 0xFFFFFFFF, entry >> 32
            self._seen = (self._seen + 1) & 0xFFFF
            slot, rest = divmod(head, SLOT_DESCRIPTORS)
            if rest or slot >= len(self._rooms) or (room := self._rooms[slot]) < 0:
                raise ServerGone(
                    f"the server gave back descriptor {head} of queue {self.index}, which it does not have"
                )
            if room:
                answers.append(Answer(t_ns, self._uniques[slot], self._reply(slot, room, length)))
            self._rooms[slot] = -1
            self._free.append(slot)
        return count

    def _reply(self, slot: int, room: int, length: int) -> bytes:
        """Return a copy of a reply, checked as the kernel does since Linux 7.1 (virtio_fs_verify_response)."""
        if length < OUT_HEADER_SIZE:
            length = self._length_in_header(slot, room)
            if not length:
                return b""
        unique = self._uniques[slot]
        if length > room:
            raise ServerGone(f"the server wrote {length} bytes to answer request {unique}, which has room for {room}")
        begin = self._reply_at[slot]
        data = bytes(self._view[begin : begin + length])
        said, _, answered = _HEADER.unpack_from(data)
        if answered != unique:
            raise ServerGone(f"the server answered request {answered} in the place of request {unique}")
        if said != length:
            raise ServerGone(f"the server wrote {length} bytes to answer request {unique}, and says they are {said}")
        return data

    def _length_in_header(self, slot: int, room: int) -> int:
        """Return how long a reply is that the server gave no length, 0 when it wrote none.

        Linux up to 7.0 goes by the header alone, so such servers work.
        """
        begin = self._reply_at[slot]
        length, _, unique = _HEADER.unpack(bytes(self._view[begin : begin + OUT_HEADER_SIZE]))
        return int(length) if unique == self._uniques[slot] and OUT_HEADER_SIZE <= length <= room else 0
