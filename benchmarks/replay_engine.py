"""How fast a whole replay goes: ids mapped, every answer compared. `python -m benchmarks.replay_engine`.

The recording is made: small requests on one file, so many side by side. Client and server have a processor each.
Needs no privilege for the socket; both virtiofsd are measured where they are installed.
"""

from __future__ import annotations

import argparse
import os
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import machine
from benchmarks.replay_virtqueue import Figure, middle
from benchmarks.report import quantity
from dissectors.opcodes import OPS_BY_NAME
from replays.options import ReplayOptions
from replays.recorded.plan import make_plan
from replays.replay import replay
from replays.transports import launcher, vhost_user
from replays.transports.base import Transport
from tests.replays.transports import virtiofs
from tests.servers.base import seed
from tests.servers.real import PassthroughLl
from tests.tracer.dialogue import REGULAR, Dialogue
from tracer.trace.trace import Trace

RESULTS = Path(__file__).parent / "results"
CLIENT_CPU, SERVER_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
DEPTHS = (1, 32)
TARGETS = {"socket": 80e3, "virtqueue": 150e3}  # a second, of small requests, with 32 in flight
NAME, NODE, FH = b"hello.txt", 50, 7
CONTENT = b"hello from memfs\n"
LOOKUP, GETATTR, OPEN, READ, STATFS = (
    OPS_BY_NAME[name].code for name in ("LOOKUP", "GETATTR", "OPEN", "READ", "STATFS")
)
WORKS = {
    "GETATTR": (GETATTR,),
    "READ 4 KiB": (READ,),
    "mixed": (GETATTR, READ, LOOKUP, STATFS),
}


def _attributes() -> bytes:
    return struct.pack("<6Q10I", 0, len(CONTENT), 0, 0, 0, 0, 0, 0, 0, REGULAR, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def _entry() -> bytes:
    return struct.pack("<QQQQII", NODE, 0, 1, 1, 0, 0) + _attributes()


def _messages(opcode: int) -> tuple[int, bytes, bytes]:
    """Return node, body and the answer's body."""
    return {
        GETATTR: (NODE, struct.pack("<IIQ", 0, 0, 0), struct.pack("<QII", 1, 0, 0) + _attributes()),
        READ: (NODE, struct.pack("<QQIIQII", FH, 0, 4096, 0, 0, 0, 0), CONTENT),
        LOOKUP: (1, NAME + b"\0", _entry()),
        STATFS: (1, b"", bytes(80)),
    }[opcode]


def recording(opcodes: tuple[int, ...], depth: int, count: int, path: Path) -> Path:
    """Write a recording of `count` requests, `depth` of them under way at any time."""
    made = Dialogue()
    made.init()
    made.talk(LOOKUP, 1, NAME + b"\0", _entry())
    made.talk(OPEN, NODE, struct.pack("<II", 0, 0), struct.pack("<QII", FH, 0, 0))
    waiting: list[tuple[int, bytes]] = []
    for number in range(count):
        node, body, answer = _messages(opcodes[number % len(opcodes)])
        waiting.append((made.ask(opcodes[number % len(opcodes)], node, body), answer))
        if len(waiting) >= depth:
            made.answer(*waiting.pop(0))
    for unique, answer in waiting:
        made.answer(unique, answer)
    return made.write_to(path)


def _socket(directory: Path) -> Transport:
    server = PassthroughLl(directory)
    return launcher.launch(["taskset", "-c", str(SERVER_CPU), *server.command(server.mount_point)], "fd").transport


def _daemon(kind: str) -> Callable[[Path], Transport]:
    def start(directory: Path) -> Transport:
        if not (directory / "source").exists():
            seed(directory / "source")
        return vhost_user.launch(["taskset", "-c", str(SERVER_CPU), *virtiofs.argv(kind, directory / "source")])

    return start


def targets() -> dict[str, Callable[[Path], Transport]]:
    """Return what can be played on here, by name."""
    found = {"passthrough_ll, socket": _socket}
    found |= {
        f"{virtiofs.NAMES[kind]}, virtqueue": _daemon(kind) for kind in virtiofs.KINDS if not virtiofs.why_not(kind)
    }
    return found


def measure(start: Callable[[Path], Transport], trace: Trace, directory: Path) -> Figure:
    """Play a recording once; the client's time is without making the plan, the server's with its start."""
    plan, transport = make_plan(trace), start(directory)
    children, client_ns = _children_s(), time.process_time_ns()
    report = replay(trace, transport, ReplayOptions(), plan)
    client_ns = time.process_time_ns() - client_ns
    assert not report.stopped, report.stopped
    assert not report.differences, report.differences[0]
    sent = report.counts.sent
    server_us = (_children_s() - children) * 1e6 / sent
    return Figure(sent * 1e9 / report.duration_ns, client_ns / sent / 1e3, server_us, 0.0)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(name: str, start: Callable[[Path], Transport], directory: Path, count: int, rounds: int) -> list[str]:
    """Measure all works on one server, and return the lines of its table."""
    lines = [f"| {name} | " + " | ".join(f"{depth} in flight" for depth in DEPTHS) + " | client, us | server, us |  |"]
    lines.append("|---" * (len(DEPTHS) + 4) + "|")
    for work, opcodes in WORKS.items():
        figures = {}
        for depth in DEPTHS:
            trace = Trace.open(recording(opcodes, depth, count, directory / "made.pcapng"))
            figures[depth] = middle([measure(start, trace, directory) for _ in range(rounds)])
            print(f"{name}, {work}, {depth} in flight: {quantity(figures[depth].rate)}/s", file=sys.stderr)
        shown = figures[DEPTHS[-1]]
        rates = " | ".join(f"{quantity(figures[depth].rate)}/s" for depth in DEPTHS)
        target = TARGETS[name.rpartition(" ")[2]]
        met = "met" if shown.rate >= target else "missed"
        verdict = f"to reach {quantity(target)}/s at {DEPTHS[-1]}: {met}"
        lines.append(f"| {work} | {rates} | {shown.client_us:.2f} | {shown.daemon_us:.2f} | {verdict} |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and keep the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay_engine", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=40_000, help="requests a run")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"), help="where the files lie: a tmpfs")
    parser.add_argument("--no-save", action="store_true")
    given = parser.parse_args(argv)
    if (reason := PassthroughLl.lacks()) is not None:
        raise SystemExit(reason)
    os.sched_setaffinity(0, {CLIENT_CPU})
    about = "\n".join(f"- {name}: {value}" for name, value in machine.describe(CLIENT_CPU))
    tables = []
    for name, start in targets().items():
        with tempfile.TemporaryDirectory(prefix="fusewire-", dir=given.directory) as folder:
            tables.append("\n".join(table(name, start, Path(folder), given.count, given.rounds)))
    text = (
        f"# A whole replay\n\n`python -m benchmarks.replay_engine`, the median of {given.rounds} runs of {given.count} "
        f"requests; the last columns are the processor time a request takes on either side at {DEPTHS[-1]} in flight"
        f"\n\n{about}\n- the server: pinned to number {SERVER_CPU}\n\n" + "\n\n".join(tables) + "\n"
    )
    print(text)
    if not given.no_save:
        (RESULTS / "replay-engine.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
