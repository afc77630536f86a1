"""Runs work several times and takes the median: processor time and wall time, of this process or of a command."""

from __future__ import annotations

import gc
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

PACE_TURNS = 500_000


@dataclass(frozen=True, slots=True)
class Times:
    """What some runs took, in seconds, and the most memory a command held."""

    cpu: tuple[float, ...]
    wall: tuple[float, ...]
    pace: tuple[float, ...]  # what a fixed loop took right before each run: other programs slow the processor down
    peak_bytes: int = 0

    @property
    def cpu_s(self) -> float:
        """The median of processor time, user and system."""
        return median(self.cpu)

    @property
    def wall_s(self) -> float:
        """The median of wall time."""
        return median(self.wall)

    @property
    def pace_s(self) -> float:
        """The median of what the fixed loop took."""
        return median(self.pace)

    @property
    def spread(self) -> float:
        """How far the runs lie apart: (longest - shortest) / median of processor time."""
        return (max(self.cpu) - min(self.cpu)) / self.cpu_s if self.cpu_s else 0.0


def pin(cpu: int | None = None) -> int:
    """Bind this process and what it starts to one processor, the last one there is; return which."""
    chosen = max(os.sched_getaffinity(0)) if cpu is None else cpu
    os.sched_setaffinity(0, {chosen})
    return chosen


def forget(path: os.PathLike[str]) -> None:
    """Drop a file from the page cache, so that the next reader finds it on the disk alone."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def pace() -> float:
    """Time a loop that is always the same, in seconds of processor time."""
    begin = time.process_time()
    total = 0
    for number in range(PACE_TURNS):
        total += number
    return time.process_time() - begin


def repeat(work: Callable[[Any], object], runs: int, before: Callable[[], Any] | None = None) -> Times:
    """Time `work` in this process; `before` prepares each run, is not timed, and gives the argument."""
    cpu, wall, paces = [], [], []
    for _ in range(runs):
        gc.collect()  # first of all: what the last run left may hold the file in memory
        argument = before() if before is not None else None
        paces.append(pace())
        wall_begin, cpu_begin = time.perf_counter(), time.process_time()
        kept = work(argument)
        cpu.append(time.process_time() - cpu_begin)
        wall.append(time.perf_counter() - wall_begin)
        del kept, argument
    return Times(tuple(cpu), tuple(wall), tuple(paces))


def repeat_command(argv: Sequence[str], runs: int, before: Callable[[], Any] | None = None) -> Times:
    """Time a command whose output goes to /dev/null. RuntimeError with its words when it fails."""
    cpu, wall, paces, peaks = [], [], [], []
    for _ in range(runs):
        if before is not None:
            before()
        paces.append(pace())
        begin = time.perf_counter()
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall.append(time.perf_counter() - begin)
        if process.returncode:
            raise RuntimeError(f"{argv} failed: {errors.decode(errors='replace')}")
        cpu.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss * 1024)
    return Times(tuple(cpu), tuple(wall), tuple(paces), max(peaks))
