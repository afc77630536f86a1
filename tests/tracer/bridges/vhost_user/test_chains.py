"""Chains of descriptors, in every order that a driver may lay them out, and tables that come again."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracer.bridges.vhost_user.rings import (
    AVAIL_AT,
    BUFFERS_AT,
    DESC_AT,
    GUEST,
    HALF,
    INDIRECT,
    NEXT,
    USED_AT,
    WRITE,
    GuestMemory,
)
from tracer.bridges.vhost_user.chains import Copier, readable, writable
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.memory import Memory
from tracer.bridges.vhost_user.shadow import ShadowMemory
from tracer.bridges.vhost_user.vring import Ring, part_sizes

RING_SIZE = 16
TABLE = GUEST + BUFFERS_AT
BUFFER = TABLE + 4096


@dataclass
class Bench:
    """A guest's memory with a ring in it, and what copies its chains."""

    guest: GuestMemory
    mapped: Memory
    copier: Copier

    def point(self, head: int, entries: list[tuple[int, int, int, int]]) -> None:
        """Store an indirect table, and a descriptor that points to it."""
        table = b"".join(struct.pack("<QIHH", *entry) for entry in entries)
        self.guest.put(TABLE, table)
        self.guest.put(GUEST + DESC_AT + 16 * head, struct.pack("<QIHH", TABLE, len(table), INDIRECT, 0))


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    guest, rings = GuestMemory(), ShadowMemory()
    try:
        mapped, slot = guest.mapped(), rings.slot(1)
        places = zip((DESC_AT, AVAIL_AT, USED_AT), part_sizes(RING_SIZE), strict=True)
        ring = Ring(RING_SIZE, *(mapped.find(GUEST + at, length) for at, length in places))
        yield Bench(guest, mapped, Copier(ring, slot.fresh_ring(RING_SIZE), slot.room(RING_SIZE), mapped))
    finally:
        rings.close()
        guest.close()


@given(st.permutations(range(6)), st.integers(0, 6), st.lists(st.integers(0, 300), min_size=6, max_size=6))
def test_a_table_in_any_order_gives_the_bytes_in_the_order_of_its_chain(
    order: list[int], border: int, lengths: list[int]
) -> None:
    if 0 in order[1:]:  # a chain begins at the first descriptor of its table
        order = order[order.index(0) :] + order[: order.index(0)]
    with bench() as b:
        entries = [(0, 0, 0, 0)] * 6
        for place, (index, length) in enumerate(zip(order, lengths, strict=True)):
            is_last = place == 5
            flags = (WRITE if place >= border else 0) | (0 if is_last else NEXT)
            entries[index] = (BUFFER + 512 * place, length, flags, 0 if is_last else order[place + 1])
            b.guest.put(BUFFER + 512 * place, bytes([place + 1]) * length)
        b.point(3, entries)
        for _ in range(2):  # the second time it is known
            chain = b.copier.copy(3)
            assert chain is not None
            for pieces, places in (
                (readable(chain, 5000, b.mapped), range(border)),
                (writable(chain, 5000, b.mapped), range(border, 6)),
            ):
                assert b"".join(pieces) == b"".join(bytes([place + 1]) * lengths[place] for place in places)


def test_a_table_that_was_fine_is_looked_at_again_when_memory_has_gone() -> None:
    with bench() as b:
        b.point(0, [(GUEST + HALF + 4096, 40, 0, 0)])
        assert b.copier.copy(0) is not None
        b.mapped.remove(b.guest.places[1])
        with pytest.raises(Refused, match="not in the guest's memory"):
            b.copier.copy(0)


def test_a_chain_at_the_very_end_of_memory_is_taken_though_its_longest_part_would_not_fit_there() -> None:
    with bench() as b:
        end = GUEST + 2 * HALF
        b.point(0, [(end - 8192, 4096, NEXT, 1), (end - 16, 16, WRITE, 0)])
        chain = b.copier.copy(0)
        assert chain is not None
        assert [len(piece) for piece in readable(chain, 1 << 20, b.mapped)] == [4096]
        assert [len(piece) for piece in writable(chain, 1 << 20, b.mapped)] == [16]
