"""virtiofsd, in C and in Rust: serves a directory of this machine to one guest."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracer.lab import children, rust_virtiofsd
from tracer.lab.archive import Unavailable

C_PROGRAM = Path("/usr/lib/qemu/virtiofsd")  # QEMU's own, up to QEMU 7
LIFETIME_S = 900.0


@dataclass(frozen=True, slots=True)
class Service:
    """How a directory is to be served."""

    cache: str = "auto"  # or "always"; "none": every read and write of the guest is a request
    log_level: str = "debug"  # names every request: what a capture is checked against
    announce_submounts: bool = True
    writeback: bool = False  # the guest may keep what was written until it is told to sync
    threads: int = 0  # of a pool, each with a request; 0: one request after another


@dataclass(frozen=True, slots=True)
class Daemon:
    """A virtiofsd that can be started here: `program` and its words for serving `source` to a listening socket."""

    name: str  # "c" or "rust"
    program: tuple[str, ...]
    origin: str  # in a few words
    arguments: Callable[[int, Path, Service], list[str]]


@dataclass(frozen=True, slots=True)
class Served:
    """A running daemon: where it listens, and its directory as this process can see it while it runs."""

    socket: Path
    source: Path
    process: subprocess.Popen[bytes]


def _c_arguments(listening: int, source: Path, service: Service) -> list[str]:
    words = [f"source={source}", f"cache={service.cache}", f"log_level={service.log_level}"]
    words += ["announce_submounts"] if service.announce_submounts else []
    words += ["writeback"] if service.writeback else []
    # never with a pool: the seccomp filter of QEMU 7.2's kills its thread for sched_getaffinity(2), and the guest hangs
    return [f"--fd={listening}", "-f", *(word for option in words for word in ("-o", option))]


def _rust_arguments(listening: int, source: Path, service: Service) -> list[str]:
    cache = "never" if service.cache == "none" else service.cache
    words = [f"--fd={listening}", f"--shared-dir={source}", f"--cache={cache}", f"--log-level={service.log_level}"]
    words += [f"--thread-pool-size={service.threads}"]
    words += [] if service.announce_submounts else ["--no-announce-submounts"]
    words += ["--writeback"] if service.writeback else []
    return words


def c_daemon() -> Daemon:
    """Return the virtiofsd that comes with QEMU 7; raises Unavailable."""
    if not C_PROGRAM.exists():
        raise Unavailable("the virtiofsd written in C is not installed", "apt install qemu-system-common (bookworm)")
    return Daemon("c", (str(C_PROGRAM),), "QEMU's own", _c_arguments)


def rust_daemon() -> Daemon:
    """Return the virtiofsd written in Rust, as Debian has it; raises Unavailable."""
    return Daemon("rust", *rust_virtiofsd.packaged(), _rust_arguments)


def cargo_daemon() -> Daemon:
    """Return the virtiofsd written in Rust, as crates.io has it; raises Unavailable."""
    return Daemon("rust", *rust_virtiofsd.built(), _rust_arguments)


DAEMONS: Mapping[str, Callable[[], Daemon]] = {"c": c_daemon, "rust": rust_daemon, "cargo": cargo_daemon}


def daemon(name: str = "") -> Daemon:
    """Return a daemon by name, any that is here without one; raises Unavailable, also when this is not root."""
    if os.geteuid() != 0:
        raise Unavailable("virtiofsd's sandbox needs root", "run it with sudo")
    if name:
        return DAEMONS[name]()
    with contextlib.suppress(Unavailable):
        return c_daemon()
    return rust_daemon()


@contextlib.contextmanager
def serving(
    daemon: Daemon,
    source: Path,
    service: Service,
    log: Path,
    *,
    submounts: Sequence[str] | None = None,
    around: Sequence[str] = (),
    lifetime_s: float = LIFETIME_S,
) -> Iterator[Served]:
    """Serve `source` to whoever connects first; what the daemon says goes to `log`. It ends with its one connection.

    With `submounts` the source is a file system of its own in a mount namespace of the daemon's: a tmpfs with another
    one mounted at each of these paths in it, which holds a file THIS_IS_NAME. `around` are words in front of the
    daemon's command, of a program that runs it.
    """
    with contextlib.ExitStack() as stack:
        # a directory of its own: a socket's path must be short
        listen = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusewire-"))) / "virtiofs"
        said = stack.enter_context(open(log, "wb"))
        # it listens before the daemon runs: nobody has to wait until the daemon has made a socket of its own
        listener = stack.enter_context(children.listener(listen))
        process = stack.enter_context(
            children.child(
                [*around, *daemon.program, *daemon.arguments(listener.fileno(), source, service)],
                said,
                lifetime_s=lifetime_s,
                within=() if submounts is None else _in_a_namespace(source, submounts),
                pass_fds=(listener.fileno(),),
            )
        )
        listener.close()
        seen = source if submounts is None else Path(f"/proc/{process.pid}/root{source.absolute()}")
        yield Served(listen, seen, process)


def _in_a_namespace(source: Path, submounts: Sequence[str]) -> list[str]:
    """Return the words that mount the tree where nobody else sees it: it is gone when the daemon is."""
    steps = ["set -e", shlex.join(["mount", "-t", "tmpfs", "root", str(source)])]
    for submount in submounts:
        place, name = source / submount, Path(submount).name
        steps += [
            shlex.join(["mkdir", "-p", str(place)]),
            shlex.join(["mount", "-t", "tmpfs", name, str(place)]),
            shlex.join(["touch", str(place / f"THIS_IS_{name.upper()}")]),
        ]
    script = "\n".join((*steps, 'exec "$@"'))
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
