"""The virtiofsd in Rust, QEMU's successor: Debian's package, unpacked with the libraries of its own release."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from tests.vm import archive

SUITE = "trixie"  # the first Debian that has it; bookworm's C library is too old for it
PROGRAM = "virtiofsd"
LIBRARIES = ("libc6", "libcap-ng0", "libseccomp2", "libgcc-s1")


@cache
def command() -> list[str]:
    """Return the words that run it, options to follow: by its own dynamic loader. Raises archive.Unavailable."""
    machine = platform.machine()
    program = archive.unpacked(SUITE, PROGRAM, ["*/virtiofsd"])
    roots = [archive.unpacked(SUITE, library, ["./usr/lib/*"]) for library in LIBRARIES]
    places = [place for root in roots for place in root.glob(f"usr/lib/{machine}-linux-gnu")]
    loaders = [path for place in places for path in place.glob("ld-linux-*.so.?")]
    found = program / "usr/libexec/virtiofsd"
    if not (found.exists() and loaders):
        raise archive.Unavailable(f"Debian's virtiofsd for {machine} is not arranged as expected")
    return [os.fspath(loaders[0]), "--library-path", ":".join(map(os.fspath, places)), os.fspath(found)]


def why_not() -> str | None:
    """Return why it cannot run here, or None."""
    if os.geteuid() != 0:
        return "virtiofsd's sandbox needs root"
    try:
        command()
    except archive.Unavailable as reason:
        return str(reason)
    return None


def argv(source: Path, *options: str) -> list[str]:
    """Return the command that serves `source`; the socket is named by who starts it."""
    return [*command(), f"--shared-dir={source}", *options]
