"""What overhearing costs the one who is overheard: `python -m benchmarks.overhead`, as root, on a quiet machine.

Client and server are bound to one processor, the recorder to another: unbound, waking an idle processor is most of
what a request takes, whatever watches. Ways of watching take turns in a new order each round, and each is compared with
the same round unwatched; the table has medians of these ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import machine
from tests.servers.base import Server
from tests.servers.real import Bindfs, PassthroughLl

RESULTS = Path(__file__).parent / "results"
RECORD = (sys.executable, "-m", "tracer.cli.main", "record")
WATCHED_CPU, WATCHING_CPU = 0, 1
READY_S, END_S = 20.0, 120.0
CHUNK = 500
TRACEFS = [Path(f"/sys/kernel/{place}/events/fuse") for place in ("tracing", "debug/tracing")]
UNTRACED = "nobody watches"

_STAT = """
import os, sys, time
path, count, chunk = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
stat, now, times = os.stat, time.perf_counter_ns, []
for _ in range(count // chunk):
    begin = now()
    for _ in range(chunk):
        stat(path)
    times.append((now() - begin) / chunk)
times.sort()
print(times[len(times) // 2])
"""
_WRITE = """
import os, sys, time
path, mib = sys.argv[1], int(sys.argv[2])
block = os.urandom(1 << 20)
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
begin = time.perf_counter_ns()
for _ in range(mib):
    os.write(fd, block)
os.close(fd)
print((time.perf_counter_ns() - begin) / mib)
"""
_READ = """
import os, sys, time
path, mib = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
begin = time.perf_counter_ns()
while os.read(fd, 1 << 20):
    pass
print((time.perf_counter_ns() - begin) / mib)
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of watching a mount; `words` may say MOUNT and OUT."""

    name: str
    words: tuple[str, ...] = ()
    ready: bytes = b"attached to"
    slow: int = 1  # how many times less work it is given
    target: str = ""


def _ebpf(name: str, *options: str, target: str = "") -> Way:
    words = (*RECORD, "--bridge", "ebpf", *options, "-o", "OUT", "--mount", "MOUNT")
    return Way(f"fusewire, {name}", words, target=target)


def _bpftrace(name: str, program: str) -> Way:
    return Way(f"bpftrace, {name}", ("bpftrace", "-e", program), ready=b"Attach")


COUNT = "tracepoint:fuse:fuse_request_send { @ = count(); }"
LATENCY = """
tracepoint:fuse:fuse_request_send { @start[args->unique] = nsecs; }
tracepoint:fuse:fuse_request_end /@start[args->unique]/ {
    @ns = hist(nsecs - @start[args->unique]); delete(@start[args->unique]);
}"""
STRACE = (*RECORD, "--bridge", "strace", "-o", "OUT", "--mount", "MOUNT")
METADATA = (
    Way(UNTRACED),
    _bpftrace("count", COUNT),
    _bpftrace("latency histogram", LATENCY),
    _ebpf("headers and arguments", "--no-syscalls", target="<= 1.2"),
    _ebpf("and FORGET, INTERRUPT, notifications", target="<= 1.35"),
    _ebpf("and deliveries", "--deliveries"),
    _ebpf("every byte", "--snap", "all", "--no-syscalls"),
    Way("fusewire, strace", STRACE, slow=20),
)
_FULL = ("--snap", "all", "--no-syscalls", "--ring", "256")


def _sequential(headers: str, full: str) -> tuple[Way, ...]:
    return (
        Way(UNTRACED),
        _bpftrace("count", COUNT),
        _ebpf("headers and arguments", "--snap", "128", "--no-syscalls", target=headers),
        _ebpf("every byte", *_FULL, target=full),
        Way("fusewire, strace", STRACE),
    )


@dataclass
class Watched:
    """What a watcher left: whether it lost or cut anything because its ring was full."""

    lost: bool = False


@contextlib.contextmanager
def watched(way: Way, mount_point: Path, out: Path) -> Iterator[Watched]:
    """Watch the mount while the block runs."""
    result = Watched()
    if not way.words:
        yield result
        return
    words = [{"MOUNT": str(mount_point), "OUT": str(out)}.get(word, word) for word in way.words]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ["taskset", "-c", str(WATCHING_CPU), *words],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            _wait_ready(process, way, said.fileno())
            yield result
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        result.lost = process.returncode == 3 or b"the ring was full" in os.pread(said.fileno(), 1 << 20, 0)
        if process.returncode not in (0, 3, -signal.SIGKILL):
            raise SystemExit(f"{way.name} ended with {process.returncode}: {os.pread(said.fileno(), 4096, 0)!r}")


def _can_run(way: Way) -> bool:
    """Tell whether a way's program is here; bpftrace needs a mounted tracefs beside."""
    if not way.words:
        return True
    return shutil.which(way.words[0]) is not None and (way.words[0] != "bpftrace" or any(map(Path.exists, TRACEFS)))


def _wait_ready(process: subprocess.Popen[bytes], way: Way, fd: int) -> None:
    deadline = time.monotonic() + READY_S
    while way.ready not in os.pread(fd, 1 << 16, 0):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{way.name} does not start: {os.pread(fd, 4096, 0)!r}")
        time.sleep(0.05)
    time.sleep(0.5)  # bpftrace says so a little before it is


def _worker(program: str, *arguments: object) -> float:
    command = ["taskset", "-c", str(WATCHED_CPU), sys.executable, "-c", program, *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=END_S).stdout)


@dataclass
class Figures:
    """The time of one thing done, a round each, by way."""

    title: str
    unit: str
    ways: tuple[Way, ...]
    ns: dict[str, list[float]]
    lost: set[str]
    is_rate: bool = False

    def markdown(self) -> str:
        """Return the table. A ratio is this way's over nobody's: of time, or of throughput."""
        lines = [f"## {self.title}", "", f"| way | {self.unit} | ratio | to reach | |", "|---|---|---|---|---|"]
        base = self.ns[UNTRACED]
        for way in self.ways:
            own = self.ns.get(way.name)
            if not own:
                lines.append(f"| {way.name} | not run here | | {way.target} | |")
                continue
            ratios = [mine / nobody for mine, nobody in zip(own, base, strict=True)]
            ratio = median([1 / one for one in ratios] if self.is_rate else ratios)
            figure = (1 << 20) / median(own) * 1e3 if self.is_rate else median(own) / 1e3
            lost = "lost or cut some" if way.name in self.lost else ""
            lines.append(
                f"| {way.name} | {figure:.{0 if self.is_rate else 2}f} | {ratio:.2f} | {way.target} | {lost} |"
            )
        return "\n".join(lines) + "\n"


def measure(
    title: str, program: str, ways: Sequence[Way], mount_point: Path, amount: int, rounds: int, *, is_rate: bool
) -> Figures:
    """Let `ways` take turns, `rounds` times; `amount` is what the program is told to do."""
    present = [way for way in ways if _can_run(way)]
    figures = Figures(
        title, "MB/s" if is_rate else "µs", tuple(ways), {way.name: [] for way in present}, set(), is_rate
    )
    shuffle = random.Random(1).shuffle
    for number in range(rounds):
        order = present[:]
        shuffle(order)
        for way in order:
            out = mount_point.parent / "overhead.pcapng"
            chunk = () if is_rate else (CHUNK,)
            with watched(way, mount_point, out) as watching:
                took_ns = _worker(program, mount_point / "measured", amount // way.slow, *chunk)
            figures.ns[way.name].append(took_ns)
            figures.lost |= {way.name} if watching.lost else set()
            out.unlink(missing_ok=True)
            print(f"{title}, round {number + 1}: {way.name}: {took_ns / 1e3:.2f} µs", file=sys.stderr)
    return figures


class Uncached(Bindfs):
    """bindfs whose answers the kernel may not keep."""

    def command(self, mount_point: Path) -> list[str]:
        """Return the server's command line."""
        return [*super().command(mount_point), "-o", "attr_timeout=0,entry_timeout=0"]


def metadata(directory: Path, rounds: int, stats: int) -> Figures:
    """stat(2) on bindfs with timeouts 0: LOOKUP and GETATTR each time."""
    server = Uncached(directory / "bindfs")
    with _started(server) as mount_point:
        (mount_point / "measured").write_bytes(b"")
        title = f"stat(2) on bindfs, timeouts 0, {stats} a round"
        return measure(title, _STAT, METADATA, mount_point, stats, rounds, is_rate=False)


def sequential(directory: Path, rounds: int, mib: int) -> list[Figures]:
    """Write, then read a file through libfuse's passthrough_ll, a MiB at a time."""
    server = PassthroughLl(directory / "passthrough")
    with _started(server) as mount_point:
        about = f"{mib} MiB sequential on passthrough_ll"
        wrote = measure(
            f"{about}, written", _WRITE, _sequential(">= 0.95", ">= 0.7"), mount_point, mib, rounds, is_rate=True
        )
        read = measure(
            f"{about}, read", _READ, _sequential(">= 0.95", ">= 0.65"), mount_point, mib, rounds, is_rate=True
        )
        return [wrote, read]


@contextlib.contextmanager
def _started(server: Server) -> Iterator[Path]:
    if (reason := server.needs()) is not None:
        raise SystemExit(f"{server.name}: {reason}")
    server.directory.mkdir(parents=True)
    with server.started(lambda argv: ["taskset", "-c", str(WATCHED_CPU), *argv]) as running:
        yield running.mount_point


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and keep the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--stats", type=int, default=60_000)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--only", choices=("metadata", "sequential"))
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"), help="where files and traces lie: a tmpfs")
    parser.add_argument("--no-save", action="store_true")
    given = parser.parse_args(argv)
    about = "\n".join(f"- {name}: {value}" for name, value in machine.describe(WATCHED_CPU))
    with tempfile.TemporaryDirectory(prefix="fusewire-", dir=given.directory) as folder:
        directory = Path(folder)
        figures = [metadata(directory, given.rounds, given.stats)] if given.only != "sequential" else []
        figures += sequential(directory, given.rounds, given.mib) if given.only != "metadata" else []
    command = " ".join(["python -m benchmarks.overhead", *(sys.argv[1:] if argv is None else argv)])
    tables = "\n".join(one.markdown() for one in figures)
    text = f"# What overhearing costs\n\n`{command}`, medians of {given.rounds} rounds\n\n{about}\n\n{tables}"
    print(text)
    if not given.no_save:
        (RESULTS / "overhead.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
