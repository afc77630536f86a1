"""The guest's memory: what is inside is found, what is not is refused."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from tests.tracer.bridges.vhost_user.rings import GUEST, HALF, SIZE, USER, GuestMemory
from tracer.bridges.vhost_user import memory
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.memory import Memory, Place
from tracer.bridges.vhost_user.messages import VERSION, Message, Request


@pytest.fixture
def guest() -> Iterator[GuestMemory]:
    made = GuestMemory()
    yield made
    made.close()


def test_bytes_are_those_of_the_file_at_the_regions_offset_and_go_over_borders(guest: GuestMemory) -> None:
    mapped = guest.mapped()
    guest.put(GUEST + HALF - 3, b"abcdef")
    assert bytes(mapped.find(GUEST + HALF, 3)) == b"def"
    assert b"".join(mapped.pieces(GUEST + HALF - 3, 6)) == b"abcdef"
    assert bytes(mapped.find_user(USER + 2 * SIZE, 3, 1)) == b"def"
    with pytest.raises(Refused):
        mapped.find(GUEST + HALF - 3, 6)


@pytest.mark.parametrize(("address", "size"), [(GUEST - 1, 1), (GUEST + SIZE, 1), (GUEST, SIZE + 1), (0, 1 << 40)])
def test_what_is_outside_is_refused(guest: GuestMemory, address: int, size: int) -> None:
    mapped = guest.mapped()
    for look in (mapped.find, mapped.pieces):
        with pytest.raises(Refused, match="not in the guest's memory"):
            look(address, size)
    assert mapped.covering(address, address + size) is None


def test_a_ring_that_is_not_aligned_or_not_shared_is_refused(guest: GuestMemory) -> None:
    mapped = guest.mapped()
    with pytest.raises(Refused, match="not aligned to 16"):
        mapped.find_user(USER + 8, 64, 16)
    with pytest.raises(Refused, match="not in the memory"):
        mapped.find_user(USER + HALF - 8, 64, 16)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (Place(GUEST + 4096, 4096, 0, 0), "overlaps"),
        (Place(0, GUEST + 1, 0, 0), "overlaps"),
        (Place(1 << 40, 4096, USER, 0), "overlaps"),
        (Place(1 << 40, 0, 0, 0), "less than a page"),
        (Place(1 << 40, SIZE + 4096, 0, 0), "cannot be mapped"),
        (Place(1 << 40, 4096, 0, SIZE), "cannot be mapped"),
        (Place(1 << 40, 1 << 62, 0, 0), "beyond"),
        (Place((1 << 64) - 4096, 4096, 0, 0), "beyond"),
        (Place(1 << 40, 4096, 0, (1 << 64) - 4096), "beyond the end of any file"),
    ],
)
def test_a_region_that_cannot_be_is_refused_and_the_others_stay(guest: GuestMemory, place: Place, reason: str) -> None:
    mapped = guest.mapped()
    with pytest.raises(Refused, match=reason):
        mapped.add(place, guest.fd)
    assert len(mapped) == 2


def test_a_removed_region_is_gone_and_may_come_back(guest: GuestMemory) -> None:
    mapped = guest.mapped()
    held = mapped.find(GUEST, 4)
    mapped.remove(guest.places[0])
    with pytest.raises(Refused):
        mapped.find(GUEST, 4)
    with pytest.raises(Refused, match="to remove"):
        mapped.remove(guest.places[0])
    guest.put(GUEST, b"held")
    assert bytes(held) == b"held"
    mapped.add(guest.places[0], guest.fd)
    assert bytes(mapped.find(GUEST, 4)) == b"held"


def test_a_table_is_shown_to_the_daemon_with_one_region_more(guest: GuestMemory) -> None:
    regions = b"".join(struct.pack("=QQQQ", p.guest, p.size, p.user, p.offset) for p in guest.places)
    message = Message(
        Request.SET_MEM_TABLE, VERSION, struct.pack("=II", 2, 0) + regions, [os.dup(guest.fd) for _ in "ab"]
    )
    assert memory.table(message) == guest.places
    mapped = Memory()
    mapped.replace(memory.table(message), message.fds)
    more = memory.table_with(message, Place(1 << 56, 4096, 1 << 56, 0), guest.fd)
    assert memory.table(more) == [*guest.places, Place(1 << 56, 4096, 1 << 56, 0)]
    more.close()
    assert not message.fds


@pytest.mark.parametrize(("count", "given", "fds"), [(0, 0, 0), (2, 1, 2), (1, 1, 0), (1, 1, 2), (4000000000, 1, 1)])
def test_a_table_whose_numbers_do_not_fit_is_refused(count: int, given: int, fds: int) -> None:
    message = Message(Request.SET_MEM_TABLE, VERSION, struct.pack("=II", count, 0) + bytes(32 * given), [0] * fds)
    with pytest.raises(Refused, match="SET_MEM_TABLE of"):
        memory.table(message)
