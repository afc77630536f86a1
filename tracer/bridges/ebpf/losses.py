"""Finds out what is missing: each CPU numbers its events, those that found no room in the ring too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracer.records import Gap


class Losses:
    """Counts the numbers that never came, CPU by CPU."""

    def __init__(self, clock_offset_ns: int) -> None:
        self._offset_ns = clock_offset_ns
        self._newest_ns = 0
        self._cpus: dict[int, _Cpu] = {}

    @property
    def reported(self) -> int:
        """How many events all gaps so far amount to."""
        return sum(cpu.reported for cpu in self._cpus.values())

    def found(self, events: npt.NDArray[np.void]) -> list[Gap]:
        """Return what is missing before or between these events: one gap a CPU at most, at the first event after it."""
        gaps: list[Gap] = []
        if not len(events):
            return gaps
        cpus = events["cpu"]
        present = np.flatnonzero(np.bincount(cpus)).tolist()
        self._newest_ns = int(events["t_ns"][-1]) + self._offset_ns
        for number in present:
            cpu = self._cpus.setdefault(number, _Cpu())
            chosen = events[cpus == number] if len(present) > 1 else events
            after = cpu.add(chosen["seq"])
            if after is not None:
                gaps.append(self._gap(cpu, number, int(chosen["t_ns"][after]) + self._offset_ns))
        return gaps

    def at_end(self, made: npt.NDArray[np.uint64] | None) -> list[Gap]:
        """Return what is missing after the last event of each CPU, of `made` events in all."""
        gaps = []
        for number, count in enumerate([] if made is None else made.tolist()):
            cpu = self._cpus.setdefault(number, _Cpu())
            cpu.next_seq = max(cpu.next_seq, count)
            if cpu.missing > cpu.reported:
                gaps.append(self._gap(cpu, number, self._newest_ns))
        return gaps

    def _gap(self, cpu: _Cpu, number: int, t_ns: int) -> Gap:
        count = cpu.missing - cpu.reported
        cpu.reported = cpu.missing
        return Gap(t_ns, -1, count, f"the ring buffer was full (CPU {number})")


class _Cpu:
    """The numbers of one CPU, which begin at 0."""

    def __init__(self) -> None:
        self.next_seq = 0  # not wrapped at 2**32
        self.seen = 0
        self.reported = 0

    @property
    def missing(self) -> int:
        return self.next_seq - self.seen

    def add(self, seq: npt.NDArray[np.uint32]) -> int | None:
        """Count numbers; return which of them is the first after a gap, None when there is none.

        An event can overtake another one of its CPU: what came late was reported missing, and is taken off the next
        gap.
        """
        ahead = (seq - np.uint32(self.next_seq & 0xFFFF_FFFF)).view(np.int32).astype(np.int64)
        self.seen += len(seq)
        first = self.next_seq
        self.next_seq = max(first, first + int(ahead.max()) + 1)
        if self.missing <= self.reported:
            return None
        is_after = np.diff(ahead, prepend=-1) > 1
        return int(is_after.argmax())
