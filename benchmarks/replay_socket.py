"""How fast requests go to a server over a socket in the place of /dev/fuse: `python -m benchmarks.replay_socket`.

Needs no privilege. Client and server have a processor each. Messages are made beforehand but for their uniques, and
every answer is checked and copied out, so this is what the transport takes; what a replay adds is not in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.replay_virtqueue import Figure, Sender, Work, cpu_ns, middle, repeated, works
from benchmarks.report import quantity
from replays.transports import launcher
from replays.transports.seqpacket import SocketTransport
from tests.replays.transports.kernel import MEBIBYTE, Kernel
from tests.servers.base import Server
from tests.servers.real import Bindfs, PassthroughLl

RESULTS = Path(__file__).parent / "results"
CLIENT_CPU, SERVER_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
DEPTHS = (1, 32)
SHOWN_DEPTH = 32
TARGET = "GETATTR", SHOWN_DEPTH, 80e3
SERVERS: tuple[tuple[type[Server], str], ...] = ((PassthroughLl, "fd"), (PassthroughLl, "seccomp"), (Bindfs, "seccomp"))


def measure(sender: Sender, process: int, work: Work, count: int, depth: int) -> Figure:
    """Send `count` requests, `depth` at a time."""
    server_ns, client_ns, begin_ns = cpu_ns(process), time.process_time_ns(), time.perf_counter_ns()
    sender.run(work, count, repeated(depth))
    wall_ns, client_ns = time.perf_counter_ns() - begin_ns, time.process_time_ns() - client_ns
    return Figure(count * 1e9 / wall_ns, client_ns / count / 1e3, (cpu_ns(process) - server_ns) / count / 1e3, 0.0)


def table(kind: type[Server], way: str, directory: Path, count: int, rounds: int) -> list[str]:
    """Measure all works against one server, and return the lines of its table."""
    server = kind(directory / f"{kind.name}-{way}")
    argv = server.command(server.mount_point)
    (server.directory / "source" / "measured").write_bytes(bytes(MEBIBYTE))
    transport = launcher.launch(["taskset", "-c", str(SERVER_CPU), *argv], way).transport
    assert isinstance(transport, SocketTransport)
    rates = " | ".join(f"{depth} in flight" for depth in DEPTHS)
    lines = [f"| {kind.name}, {way} | {rates} | client, us | server, us |  |", "|---" * (len(DEPTHS) + 4) + "|"]
    try:
        kernel = Kernel(transport)
        kernel.begin()
        for work in works(kernel):
            figures = {}
            for depth in DEPTHS:
                sender = Sender(transport)
                runs = [
                    measure(sender, transport.process.pid, work, count // work.divisor, depth) for _ in range(rounds)
                ]
                figures[depth] = middle(runs), runs
                print(f"{kind.name}, {way}, {work.name}, {depth} in flight: {_spread(runs)}", file=sys.stderr)
            lines.append(_line(work, figures))
    finally:
        transport.close()
    return lines


def _spread(runs: Sequence[Figure]) -> str:
    """Return the lowest and the highest rate: one request at a time is fast or slow as its peer is awake or not."""
    rates = sorted(figure.rate for figure in runs)
    return f"{quantity(rates[0])} - {quantity(rates[-1])}/s"


def _line(work: Work, figures: dict[int, tuple[Figure, Sequence[Figure]]]) -> str:
    rates = " | ".join(_spread(figures[depth][1]) for depth in DEPTHS)
    shown = figures[SHOWN_DEPTH][0]
    name, depth, least = TARGET
    verdict = ""
    if work.name == name:
        met = "met" if figures[depth][0].rate >= least else "missed"
        verdict = f"to reach {quantity(least)}/s at {depth}: {met}"
    return f"| {work.name} | {rates} | {shown.client_us:.2f} | {shown.daemon_us:.2f} | {verdict} |"


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and keep the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay_socket", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="requests a run, a tenth of it for large ones")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"), help="where the file lies: a tmpfs")
    parser.add_argument("--no-save", action="store_true")
    given = parser.parse_args(argv)
    for kind, _ in SERVERS:
        if (reason := kind.lacks()) is not None:
            raise SystemExit(reason)
    os.sched_setaffinity(0, {CLIENT_CPU})
    about = "\n".join(f"- {name}: {value}" for name, value in machine.describe(CLIENT_CPU))
    with tempfile.TemporaryDirectory(prefix="fusewire-", dir=given.directory) as folder:
        places = [(kind, way, Path(folder), given.count, given.rounds) for kind, way in SERVERS]
        tables = "\n\n".join("\n".join(table(*place)) for place in places)
    text = (
        f"# Requests over a socket\n\n`python -m benchmarks.replay_socket`, {given.rounds} runs, the slowest and the "
        f"fastest; the last columns are the processor time a request takes on either side at {SHOWN_DEPTH} in flight"
        f"\n\n{about}\n- the server: pinned to number {SERVER_CPU}\n\n{tables}\n"
    )
    print(text)
    if not given.no_save:
        (RESULTS / "replay-socket.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
