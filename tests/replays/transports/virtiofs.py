"""Both virtiofs daemons: what they serve, and a session with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dissectors.flags import init_flag
from dissectors.layout import Context
from dissectors.message import Value
from replays.transports.base import Transport
from tests.replays.transports.kernel import MEBIBYTE, ROOT, Kernel
from tests.servers import rust_virtiofsd
from tests.tracer.small_disk import small_disk
from tracer.lab import daemons

NAMES = {"c": "virtiofsd of QEMU, in C", "rust": "virtiofsd in Rust"}
KINDS = tuple(NAMES)
MINOR = 36  # the newest of QEMU's virtiofsd
OFFERED = ("MAX_PAGES", "DO_READDIRPLUS", "BIG_WRITES", "SUBMOUNTS")
GETATTR = {"getattr_flags": 0, "dummy": 0, "fh": 0}


def why_not(kind: str) -> str | None:
    """Return why this daemon cannot run here, or None."""
    if kind == "rust":
        return rust_virtiofsd.why_not()
    try:
        daemons.daemon("c")
    except daemons.Unavailable as reason:
        return str(reason)
    return None


def argv(kind: str, source: Path) -> list[str]:
    """Return the command that serves `source`, submounts announced: the default of the one in Rust."""
    if kind == "rust":
        return rust_virtiofsd.argv(source, "--log-level=error")
    return [str(daemons.C_PROGRAM), "-f", "-o", f"source={source}", "-o", "announce_submounts"]


@contextlib.contextmanager
def share(directory: Path) -> Iterator[Path]:
    """Make a directory with a file and two tmpfs in it, mnt1 and mnt2, each with a file of its name in it."""
    source = directory / "share"
    source.mkdir()
    (source / "hello.txt").write_bytes(b"hello\n")
    with small_disk(source / "mnt1", 4 * MEBIBYTE) as one, small_disk(source / "mnt2", 4 * MEBIBYTE) as two:
        for place in (one, two):
            (place / place.name).write_text(place.name)
        yield source


def begin(transport: Transport, *flags: str) -> Kernel:
    """Agree on a session as a kernel does that knows of submounts; `flags` are what it offers."""
    kernel = Kernel(transport, context=Context(MINOR))
    offered = sum(init_flag(flag) for flag in flags or OFFERED)
    init: dict[str, Value] = {
        "major": 7,
        "minor": MINOR,
        "max_readahead": MEBIBYTE,
        "flags": offered,
        "flags2": 0,
        "unused": bytes(44),
    }
    answer = kernel.ask("INIT", 0, **init)
    assert answer.error == 0, answer
    return kernel


def node(kernel: Kernel, name: bytes, parent: int = ROOT) -> int:
    """Look a name up and return its node."""
    return kernel.number("LOOKUP", "nodeid", parent, name=name)


def getattr_error(kernel: Kernel, nodeid: int) -> int:
    """Ask for attributes, and return the error."""
    return kernel.ask("GETATTR", nodeid, **GETATTR).error
