"""Runs in the guest: loads the eBPF programs, runs a workload, leaves what came out of the ring in the share.

    python -m tests.vm.inside.capture DIRECTORY MOUNT_POINTS COMMAND...

MOUNT_POINTS are those that COMMAND mounts, divided by colons; they are unmounted in the end. DIRECTORY gets events.bin
(a length of 4 bytes before each event) and facts.json. Exits with 3 when nothing loads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

from tracer.bridges.ebpf.failures import LoadFailure
from tracer.bridges.ebpf.programs import Config, Programs
from tracer.bridges.ebpf.ring import Ring

RING_BYTES = 64 << 20  # a whole workload: nothing is dropped however slow this processor is
DRAIN_EVERY_S = 0.05


def main(directory: Path, mount_points: list[str], command: list[str]) -> int:
    """Capture while `command` runs, and while what it mounted is unmounted."""
    try:
        programs = Programs.load(Config(), RING_BYTES)
    except LoadFailure as failure:
        facts = {"cause": failure.cause.name, "message": str(failure), "lines": failure.lines}
        (directory / "facts.json").write_text(json.dumps(facts))
        return 3
    with programs, open(directory / "events.bin", "wb") as out:
        ring = Ring(programs.ring_fd, programs.ring_bytes)
        status = run(command, ring, out)
        connections = known(programs, mount_points)
        status = status or run(["umount", *mount_points], ring, out)
        facts = {
            "mode": programs.mode,
            "attached": programs.attached(),
            "knows_direct_map": programs.direct_map is not None,
            "notes": programs.notes,
            "misses": programs.recursion_misses(),
            "counters": {name: int(programs.counters()[name].sum()) for name in programs.counters().dtype.names},
            "connections": connections,
            "status": status,
        }
        ring.close()
    (directory / "facts.json").write_text(json.dumps(facts))
    return 0


def known(programs: Programs, mount_points: list[str]) -> list[dict[str, int]]:
    """Return what the kernel's table of open files tells of connections, those of the mount points among them."""
    files = [os.open(place, os.O_PATH) for place in mount_points]
    try:
        return [dict(connection._asdict(), flags=int(connection.flags)) for connection in programs.connections()]
    finally:
        for file in files:
            os.close(file)


def run(command: list[str], ring: Ring, out: BinaryIO) -> int:
    """Drain the ring until the command has ended; return its exit status."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        while True:
            try:
                process.wait(DRAIN_EVERY_S)
            except subprocess.TimeoutExpired:
                drain(ring, out)
            else:
                break
    drain(ring, out)
    return process.returncode


def drain(ring: Ring, out: BinaryIO) -> None:
    """Write all that is committed."""
    while ring.pending():
        drained = ring.drain()
        for at, size in zip(drained.at.tolist(), drained.size.tolist(), strict=True):
            out.write(size.to_bytes(4, "little"))
            out.write(drained.content[at : at + size].data)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2].split(":"), sys.argv[3:]))
