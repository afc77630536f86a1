"""Events of the running kernel, one by one: for tests of the programs, not of the bridge that is built on them."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from tracer.bridges.ebpf import objects
from tracer.bridges.ebpf.event import EVENT, EVENT_BYTES, Flag, Kind
from tracer.bridges.ebpf.failures import LoadFailure
from tracer.bridges.ebpf.programs import Config, Programs
from tracer.bridges.ebpf.ring import Ring

IN_HEADER = struct.Struct("<IIQQIIIHH")


class Event(NamedTuple):
    """One event; `data` are the FUSE bytes that were kept."""

    t_ns: int
    req: int
    unique: int
    connection: int
    s_dev: int
    wire_len: int
    kind: Kind
    flags: Flag
    cpu: int
    seq: int
    tgid: int
    tid: int
    comm: bytes
    error: int
    queue: int
    data: bytes

    @property
    def opcode(self) -> int:
        """Of SEND and READ."""
        return int(IN_HEADER.unpack_from(self.data)[1])

    @property
    def is_whole(self) -> bool:
        return len(self.data) == self.wire_len


class Capture:
    """Programs at work, and all they told so far."""

    def __init__(self, programs: Programs, ring: Ring) -> None:
        self.programs, self.ring = programs, ring
        self._events: list[Event] = []

    def events(self, *kinds: Kind) -> list[Event]:
        """Return all events so far, by time; of some kinds only, if any are named."""
        while self.ring.pending():
            drained = self.ring.drain()
            content = memoryview(drained.content)
            self._events += (_event(content[at : at + size]) for at, size in zip(drained.at, drained.size, strict=True))
        self._events.sort(key=lambda event: event.t_ns)
        return [event for event in self._events if not kinds or event.kind in kinds]

    def await_event(self, kind: Kind, opcode: int, timeout_s: float = 10) -> Event:
        """Wait for a SEND or a READ with an opcode and return the first; TimeoutError when it does not come."""
        deadline = time.monotonic() + timeout_s
        while not (found := [event for event in self.events(kind) if event.opcode == opcode]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {kind.name} with opcode {opcode} after {timeout_s} s")
        return found[0]

    def counted(self, name: str) -> int:
        """Return one of the counters, over all CPUs."""
        return int(self.programs.counters()[name].sum())


@contextlib.contextmanager
def capturing(config: Config, ring_bytes: int = 64 << 20, **options: bool) -> Iterator[Capture]:
    """Load and attach; skips with the true reason where this kernel or this user may not."""
    with contextlib.ExitStack() as stack:
        try:
            programs = stack.enter_context(Programs.load(config, ring_bytes, **options))
        except LoadFailure as failure:
            pytest.skip(str(failure))
        ring = Ring(programs.ring_fd, programs.ring_bytes)
        stack.callback(ring.close)
        yield Capture(programs, ring)


def why_not_built() -> str | None:
    """Return why there is no object to test."""
    return None if objects.OBJECT.exists() else "the eBPF programs were not built: there was no clang"


def _event(record: memoryview) -> Event:
    from_kernel = dict(zip(EVENT.names or (), np.frombuffer(record[:EVENT_BYTES], EVENT)[0].item(), strict=True))
    kept = from_kernel.pop("kept")
    assert from_kernel.pop("reserved") == 0
    from_kernel["kind"], from_kernel["flags"] = Kind(from_kernel["kind"]), Flag(from_kernel["flags"])
    assert len(record) >= EVENT_BYTES + kept
    return Event(**from_kernel, data=bytes(record[EVENT_BYTES : EVENT_BYTES + kept]))
