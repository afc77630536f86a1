"""How fast requests go to a virtiofsd without a virtual machine: `python -m benchmarks.replay_virtqueue`, as root.

Client and daemon have a processor each. Messages are made beforehand but for their uniques, and every answer is copied
out, so this is what the transport takes; what a replay adds (mapping, comparing) is not in it. `--soak N` instead sends
N requests of changing depth and counts what was never answered.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.report import quantity
from replays.transports.base import Transport
from replays.transports.vhost_user import VhostUserTransport, launch
from tests.replays.transports import virtiofs
from tests.replays.transports.kernel import HEADER, MEBIBYTE, ROOM, Kernel

RESULTS = Path(__file__).parent / "results"
CLIENT_CPU, DAEMON_CPU = 0, 1
DEPTHS = (1, 32, 128)
SHOWN_DEPTH = 32
TARGET = "GETATTR", SHOWN_DEPTH, 150e3
STUCK_S = 10.0
LARGE = 128 << 10
UNIQUE = slice(8, 16)


@dataclass(frozen=True, slots=True)
class Work:
    """Requests that are sent in turn, each with the room for its reply."""

    name: str
    messages: tuple[tuple[bytearray, int], ...]
    divisor: int = 1  # so many times fewer are sent


@dataclass(frozen=True, slots=True)
class Figure:
    """One run: requests a second, and what one took."""

    rate: float
    client_us: float
    daemon_us: float
    wakes: float  # of the daemon, a request


def works(kernel: Kernel) -> list[Work]:
    """Open a file and return what is asked of it."""
    node = virtiofs.node(kernel, b"measured")
    handle = kernel.number("OPEN", "fh", node, flags=os.O_RDWR, open_flags=0)

    def read(size: int) -> tuple[bytearray, int]:
        place = {"fh": handle, "offset": 0, "size": size, "read_flags": 0, "lock_owner": 0, "flags": 0}
        return bytearray(kernel.message("READ", node, **place)), HEADER + size

    def write(size: int) -> tuple[bytearray, int]:
        place = {"fh": handle, "offset": 0, "size": size, "write_flags": 0, "lock_owner": 0, "flags": 0}
        return bytearray(kernel.message("WRITE", node, **place, data=bytes(size))), HEADER + ROOM["WRITE"]

    attributes = bytearray(kernel.message("GETATTR", node, **virtiofs.GETATTR)), HEADER + ROOM["GETATTR"]
    lookup = bytearray(kernel.message("LOOKUP", name=b"measured")), HEADER + ROOM["LOOKUP"]
    missing = bytearray(kernel.message("LOOKUP", name=b"missing")), HEADER + ROOM["LOOKUP"]
    return [
        Work("GETATTR", (attributes,)),
        Work("READ 4 KiB", (read(4096),)),
        Work("WRITE 4 KiB", (write(4096),)),
        Work("mixed", (attributes, lookup, read(4096), missing, write(4096), attributes)),
        Work("READ 128 KiB", (read(LARGE),), 10),
        Work("WRITE 128 KiB", (write(LARGE),), 10),
    ]


class Sender:
    """Keeps so many requests in flight, over any transport."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.unique = 1 << 32

    def run(self, work: Work, count: int, depths: Iterator[int]) -> None:
        """Send `count` requests; SystemExit when the daemon leaves some unanswered."""
        transport, messages, unique = self.transport, work.messages, self.unique
        sent = done = 0
        while done < count:
            most = min(count, done + next(depths))
            while sent < most:
                message, room = messages[sent % len(messages)]
                unique += 2
                message[UNIQUE] = unique.to_bytes(8, "little")
                if not transport.submit(message, room):
                    break
                sent += 1
            transport.flush()
            answers = transport.complete(STUCK_S)
            if not answers:
                raise SystemExit(f"{work.name}: {sent - done} requests were not answered within {STUCK_S} s")
            done += len(answers)
        self.unique = unique


def repeated(value: int) -> Iterator[int]:
    """Yield the same depth for ever."""
    while True:
        yield value


def changing(chance: random.Random) -> Iterator[int]:
    """Yield depths that stay for a while: alone, some, more than a processor's worth."""
    while True:
        depth = chance.choice((1, 1, 2, 8, 32, 128))
        yield from [depth] * chance.randrange(1, 50)


def measure(transport: VhostUserTransport, sender: Sender, work: Work, count: int, depth: int) -> Figure:
    """Send `count` requests, `depth` at a time."""
    assert transport.process is not None
    daemon, wakes = transport.process.pid, transport.kick_count
    daemon_ns, client_ns, begin_ns = cpu_ns(daemon), time.process_time_ns(), time.perf_counter_ns()
    sender.run(work, count, repeated(depth))
    wall_ns, client_ns = time.perf_counter_ns() - begin_ns, time.process_time_ns() - client_ns
    daemon_us = (cpu_ns(daemon) - daemon_ns) / count / 1e3
    return Figure(count * 1e9 / wall_ns, client_ns / count / 1e3, daemon_us, (transport.kick_count - wakes) / count)


def cpu_ns(session: int) -> int:
    """Return the processor time of all threads of a session: a daemon's sandbox is a process of its own."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += sum(int(task.read_text().split()[0]) for task in process.glob("task/*/schedstat"))
    return total


def middle(figures: Sequence[Figure]) -> Figure:
    """Return the run whose rate is the median."""
    rate = median(figure.rate for figure in figures)
    return min(figures, key=lambda figure: abs(figure.rate - rate))


@contextlib.contextmanager
def started(kind: str, directory: Path) -> Iterator[VhostUserTransport]:
    """A daemon on its own processor."""
    source = directory / kind
    source.mkdir()
    (source / "measured").write_bytes(bytes(MEBIBYTE))
    transport = launch(["taskset", "-c", str(DAEMON_CPU), *virtiofs.argv(kind, source)])
    try:
        yield transport
    finally:
        transport.close()


def table(kind: str, directory: Path, count: int, rounds: int) -> list[str]:
    """Measure all works against one daemon, and return the lines of its table."""
    rates = " | ".join(f"{depth} in flight" for depth in DEPTHS)
    lines = [f"| {virtiofs.NAMES[kind]} | {rates} | client, us | daemon, us | wake-ups |  |"]
    lines.append("|---" * (len(DEPTHS) + 5) + "|")
    with started(kind, directory) as transport:
        sender = Sender(transport)
        for work in works(virtiofs.begin(transport)):
            figures = {}
            for depth in DEPTHS:
                runs = [measure(transport, sender, work, count // work.divisor, depth) for _ in range(rounds)]
                figures[depth] = middle(runs)
                print(f"{kind}, {work.name}, {depth} in flight: {quantity(figures[depth].rate)}/s", file=sys.stderr)
            lines.append(_line(work, figures))
    return lines


def _line(work: Work, figures: dict[int, Figure]) -> str:
    rates = " | ".join(f"{quantity(figures[depth].rate)}/s" for depth in DEPTHS)
    shown = figures[SHOWN_DEPTH]
    name, depth, least = TARGET
    verdict = ""
    if work.name == name:
        met = "met" if figures[depth].rate >= least else "missed"
        verdict = f"to reach {quantity(least)}/s at {depth}: {met}"
    return f"| {work.name} | {rates} | {shown.client_us:.2f} | {shown.daemon_us:.2f} | {shown.wakes:.3f} | {verdict} |"


def soak(kind: str, directory: Path, count: int) -> str:
    """Send a mixture of requests of changing depth."""
    with started(kind, directory) as transport:
        mixture = next(work for work in works(virtiofs.begin(transport)) if work.name == "mixed")
        begin_s = time.perf_counter()
        Sender(transport).run(mixture, count, changing(random.Random(count)))
        seconds = time.perf_counter() - begin_s
    return f"{virtiofs.NAMES[kind]}: {count} requests of changing depth in {seconds:.1f} s, none stuck"


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and keep the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay_virtqueue", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=60_000, help="requests a run, a tenth of it for large ones")
    parser.add_argument("--soak", type=int, metavar="N", help="send N requests of changing depth, measure nothing")
    parser.add_argument("--only", choices=virtiofs.KINDS, help="one daemon")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"), help="where the file lies: a tmpfs")
    parser.add_argument("--no-save", action="store_true")
    given = parser.parse_args(argv)
    kinds = [kind for kind in virtiofs.KINDS if given.only in (None, kind)]
    for kind in kinds:
        if (reason := virtiofs.why_not(kind)) is not None:
            raise SystemExit(reason)
    with tempfile.TemporaryDirectory(prefix="fusewire-", dir=given.directory) as folder:
        if given.soak:
            print("\n".join(soak(kind, Path(folder), given.soak) for kind in kinds))
            return 0
        os.sched_setaffinity(0, {CLIENT_CPU})
        about = "\n".join(f"- {name}: {value}" for name, value in machine.describe(CLIENT_CPU))
        tables = "\n\n".join("\n".join(table(kind, Path(folder), given.count, given.rounds)) for kind in kinds)
    text = (
        f"# Requests over a virtqueue\n\n`python -m benchmarks.replay_virtqueue`, median of {given.rounds} runs; the "
        f"last columns are for {SHOWN_DEPTH} in flight: processor time a request on either side, and wake-ups of the "
        f"daemon a request\n\n{about}\n- the daemon: pinned to number {DAEMON_CPU}\n\n{tables}\n"
    )
    print(text)
    if not given.no_save:
        (RESULTS / "replay-virtqueue.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
