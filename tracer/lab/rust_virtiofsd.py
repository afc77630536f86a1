"""Where the virtiofsd written in Rust comes from: this machine, Debian's package, or crates.io.

Debian's package takes seconds, and runs where it could not be installed: it is unpacked into the cache with the C
library it was built for, whose program loader starts it. cargo builds a newer one in a minute or some.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tracer.lab import archive
from tracer.lab.archive import Unavailable
from tracer.lab.children import needed

INSTALLED = Path("/usr/libexec/virtiofsd")
SUITE = "trixie"  # the first Debian release that has it
LIBRARIES = ("libc6", "libcap-ng0", "libgcc-s1", "libseccomp2")
MEMBERS = ("*/libexec/virtiofsd", "*/ld-linux-x86-64.so.2", "*/lib*.so.*")
LOADER = "ld-linux-x86-64.so.2"
VERSION = "1.14.0"  # on crates.io
CARGO_TIMEOUT_S = 1800.0
LINKED = {"libcap-ng-dev": "/usr/include/cap-ng.h", "libseccomp-dev": "/usr/include/seccomp.h"}


class Program(NamedTuple):
    """A virtiofsd that runs here: the words that start it, and in a few words where it is from."""

    words: tuple[str, ...]
    origin: str


def packaged() -> Program:
    """Return the one installed here, or else Debian's; raises Unavailable."""
    if INSTALLED.exists():
        return Program((str(INSTALLED),), "installed")
    files = archive.unpacked(SUITE, "virtiofsd", MEMBERS, beside=LIBRARIES)
    loader, program = next(files.rglob(LOADER), None), next(files.rglob("libexec/virtiofsd"), None)
    if loader is None or program is None:
        raise Unavailable(f"{files.name} holds no virtiofsd that could run here")
    libraries = {str(library.parent): None for library in files.rglob("lib*.so.*")}
    words = (str(loader), "--library-path", ":".join(libraries), str(program))
    return Program(words, f"Debian's {archive.version(files)}")


def built() -> Program:
    """Return the one from crates.io, built once; raises Unavailable."""
    with archive.locked("built"):
        program = archive.cache() / "built" / f"virtiofsd-{VERSION}"
        if not program.exists():
            _build(program)
        return Program((str(program),), f"crates.io's {VERSION}")


def _build(program: Path) -> None:
    cargo = needed("cargo", "cargo")  # one that is new enough may have to come from rustup
    if missing := [package for package, header in LINKED.items() if not Path(header).exists()]:
        raise Unavailable("virtiofsd is linked with libraries that are not here", f"apt install {' '.join(missing)}")
    with tempfile.TemporaryDirectory(dir=program.parent) as directory:
        words = [cargo, "install", "virtiofsd", "--version", VERSION, "--locked", "--quiet"]
        words += ["--root", directory, "--target-dir", f"{directory}/target"]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CARGO_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"cargo did not build virtiofsd within {CARGO_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("error")] or done.stderr.splitlines()
            raise Unavailable(f"cargo cannot build virtiofsd {VERSION}: {said[:1]}")
        shutil.move(Path(directory) / "bin/virtiofsd", program)
