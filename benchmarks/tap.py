"""What the tap costs a guest and the host: `python -m benchmarks.tap`, as root, on a quiet machine.

One guest has several devices, each with a daemon of its own: one without a tap, the others through one. They take turns
under the same load, in a new order each round, and each is compared with the untapped one of the same round: the table
has medians of these ratios. Processor time is the recorder's, all threads, for each operation of the load.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import machine
from examples.demo import mounts
from tests.servers import compiled
from tests.vm.guest import Guest
from tracer.lab import daemons, kernels
from tracer.lab.daemons import Service

RESULTS = Path(__file__).parent / "results"
RECORD = (sys.executable, "-m", "tracer.cli.main", "record", "-o")
READY_S = 20.0
MOUNT = "mkdir -p /mnt/{0} && mount -t virtiofs {0} /mnt/{0}"


@dataclass
class Way:
    """A device of the guest; without `options` nothing is between it and its daemon."""

    tag: str
    name: str
    options: tuple[str, ...] | None = None
    daemon: str = "c"
    recorder: subprocess.Popen[bytes] | None = None

    def cpu_ns(self) -> int:
        """Return the processor time that the recorder took so far, in all its threads."""
        if self.recorder is None:
            return 0
        threads = Path(f"/proc/{self.recorder.pid}/task").glob("*/schedstat")
        return sum(int(path.read_text().split()[0]) for path in threads)


@dataclass(frozen=True, slots=True)
class Load:
    """What the guest does."""

    mode: str
    threads: int
    text: str


LOADS = (
    Load("statfs", 1, "statfs(2), 1 thread"),
    Load("statfs", 8, "statfs(2), 8 threads"),
    Load("read", 1, "1 MiB read, 1 thread"),
    Load("read", 8, "1 MiB read, 8 threads"),
    Load("write", 1, "1 MiB written, 1 thread"),
    Load("write", 8, "1 MiB written, 8 threads"),
)


@dataclass
class Figures:
    """What one way reached under one load, a round each."""

    per_s: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)  # of the recorder, for each operation


def ways(daemon: str) -> list[Way]:
    """Return the devices, the untapped one first."""
    return [
        Way("direct", "no tap", daemon=daemon),
        Way("headers", "tap, headers and arguments", (), daemon),
        # files in turn: a trace of all that is read and written here would not fit into memory
        Way("all", "tap, every byte", ("--snap", "all", "--rotate", "1GiB", "--keep", "2"), daemon),
    ]


@contextlib.contextmanager
def _tapped(way: Way, directory: Path) -> Iterator[Path]:
    """Serve a directory to whoever connects to the socket yielded."""
    source = directory / way.tag
    source.mkdir()
    service = Service(cache="none", log_level="warn")  # each read and write is a request, and none is logged
    with daemons.serving(daemons.daemon(way.daemon), source, service, directory / f"{way.tag}.daemon") as served:
        daemon = served.socket
        if way.options is None:
            yield daemon
            return
        listen = daemon.with_name("tap")
        words = [*RECORD, str(directory / f"{way.tag}.pcapng"), *way.options]
        words += ["--vhost-user", str(listen), "--daemon", str(daemon)]
        with open(directory / f"{way.tag}.recorder", "wb") as said:
            way.recorder = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + READY_S
            while not listen.exists():
                if way.recorder.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((directory / f"{way.tag}.recorder").read_text())
                time.sleep(0.05)
            yield listen
        finally:
            mounts.stop(way.recorder, timeout_s=20)


def measure(
    guest: Guest, ways: list[Way], loads: list[Load], rounds: int, seconds: float
) -> dict[tuple[str, str], Figures]:
    """Let the ways take turns under each load; return the figures by load and way."""
    program, shuffle = compiled.guest_load(), random.Random(1).shuffle
    figures = {(load.text, way.tag): Figures() for load in loads for way in ways}
    for load in loads:
        for number in range(rounds):
            order = ways[:]
            shuffle(order)
            for way in order:
                begin_ns = way.cpu_ns()
                words = [program, load.mode, str(load.threads), str(seconds), f"/mnt/{way.tag}"]
                count, took_ns = map(int, guest.run(words, seconds + 60).checked().split())
                own = figures[load.text, way.tag]
                own.per_s.append(count * 1e9 / took_ns)
                # The load ends a little after it stops counting; over whole seconds that is below a percent.
                own.cpu_us.append((way.cpu_ns() - begin_ns) / 1e3 / max(count, 1))
                print(
                    f"{load.text}, round {number + 1}: {way.name}: {own.per_s[-1]:.0f}/s, {own.cpu_us[-1]:.1f} µs",
                    file=sys.stderr,
                    flush=True,
                )
    return figures


def table(figures: dict[tuple[str, str], Figures], ways: list[Way], loads: list[Load]) -> str:
    """Return a table in Markdown."""
    lines = ["| load | way | a second | of no tap | tap's processor time each |", "|---|---|---|---|---|"]
    for load in loads:
        base = figures[load.text, ways[0].tag].per_s
        for way in ways:
            own = figures[load.text, way.tag]
            ratio = median(mine / nobody for mine, nobody in zip(own.per_s, base, strict=True))
            cpu = f"{median(own.cpu_us):.1f} µs" if way.options is not None else ""
            lines.append(f"| {load.text} | {way.name} | {median(own.per_s):.0f} | {ratio:.2f} | {cpu} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and keep the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tap", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each load lasts")
    parser.add_argument("--kernel", default="6.1", help="of the guest (default: 6.1)")
    parser.add_argument("--daemon", choices=("c", "rust"), default="c", help="virtiofsd in C (the default) or in Rust")
    parser.add_argument("--cpus", type=int, default=2, help="of the guest (default: 2)")
    parser.add_argument("--load", action="append", choices=("statfs", "read", "write"), help="only these")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"), help="where files and traces lie: a tmpfs")
    parser.add_argument("--no-save", action="store_true")
    given = parser.parse_args(argv)
    loads = [load for load in LOADS if not given.load or load.mode in given.load]
    about = "\n".join(f"- {name}: {value}" for name, value in machine.describe(-1) if name != "tshark")
    everyone = ways(given.daemon)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusewire-tap-", dir=given.directory)))
        devices = {way.tag: stack.enter_context(_tapped(way, directory)) for way in everyone}
        kernel = kernels.kernel(given.kernel)
        guest = stack.enter_context(Guest(kernel, directory / "guest", cpus=given.cpus, virtiofs=devices))
        guest.run(["sh", "-c", " && ".join(MOUNT.format(way.tag) for way in everyone)]).checked()
        figures = measure(guest, everyone, loads, given.rounds, given.seconds)
    command = " ".join(["python -m benchmarks.tap", *(sys.argv[1:] if argv is None else argv)])
    text = f"# What the tap costs\n\n`{command}`: Linux {kernel.release} in QEMU without KVM; medians of {given.rounds}"
    text += f" rounds\n\n{about}\n\n{table(figures, everyone, loads)}"
    print(text)
    if not given.no_save:
        (RESULTS / "tap.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
