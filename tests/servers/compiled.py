"""Builds the servers written in C, once per machine: those of tests/fixtures, and libfuse's own examples.

The latter come from the examples that Debian's libfuse3-dev ships.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from examples.demo import mounts, possible

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
FIXTURES = Path(__file__).parent.parent / "fixtures"
HELPERS = "passthrough_helpers.h"
MEMORY_SERVER = (
    *(f"{name}.c" for name in ("memory_server", "memory_fs", "control", "ring", "locks", "ioctl")),
    *(f"{name}.h" for name in ("memory_server", "memory_fs")),
)
SPLICING_SERVER = ("splicing_server.c",)
GUEST_LOAD = ("guest_load.c",)


def cache_directory() -> Path:
    """Return where what is built is kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "fusewire"


def _source(name: str) -> bytes | None:
    """Return an example's text; dh_compress may have packed it."""
    for path, opener in ((EXAMPLES / name, open), (EXAMPLES / f"{name}.gz", gzip.open)):
        if path.exists():
            with opener(path, "rb") as file:
                return file.read()
    return None


def why_no_compiler() -> str | None:
    """Return why C cannot be compiled against the kernel's headers here, or None."""
    if (reason := possible.why_no_program("gcc", "gcc")) is not None:
        return reason
    if not Path("/usr/include/linux/fuse.h").exists():
        return "the kernel's headers are not installed (Debian package linux-libc-dev)"
    return None


def why_no_libfuse3() -> str | None:
    """Return why C cannot be compiled against libfuse 3 here, or None."""
    if (reason := why_no_compiler() or possible.why_no_program("pkg-config", "pkg-config")) is not None:
        return reason
    if mounts.run_child(["pkg-config", "--exists", "fuse3"], 10).status != 0:
        return "the headers of libfuse 3 are not installed (Debian package libfuse3-dev)"
    return None


def why_not() -> str | None:
    """Return why passthrough_ll cannot be built here, or None."""
    return why_no_example("passthrough_ll")


def why_no_example(name: str) -> str | None:
    """Return why this example of libfuse cannot be built here, or None."""
    if (reason := why_no_libfuse3()) is not None:
        return reason
    if any(_source(source) is None for source in _sources(name)):
        return f"{EXAMPLES} is not there: libfuse3-dev is missing, or dpkg leaves documentation out here"
    return None


def passthrough_ll() -> Path:
    """Return the program, built if this source was not built before; AssertionError with gcc's words if it fails."""
    return example("passthrough_ll")


def example(name: str) -> Path:
    """Return an example of libfuse, built if needed; AssertionError with gcc's words if it fails."""
    return _built(name, {source: _source(source) or b"" for source in _sources(name)}, libfuse3=True)


def _sources(name: str) -> tuple[str, ...]:
    return (f"{name}.c", HELPERS) if name.startswith("passthrough") else (f"{name}.c",)


def memory_server() -> Path:
    """Return tests/fixtures/memory_server, built if needed; AssertionError with gcc's words if it fails."""
    return _built("memory_server", _fixtures(MEMORY_SERVER))


def splicing_server() -> Path:
    """Return tests/fixtures/splicing_server, built if needed; AssertionError with gcc's words if it fails."""
    return _built("splicing_server", _fixtures(SPLICING_SERVER), libfuse3=True)


def guest_load() -> Path:
    """Return tests/fixtures/guest_load, built if needed; AssertionError with gcc's words if it fails."""
    return _built("guest_load", _fixtures(GUEST_LOAD))


def _fixtures(names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (FIXTURES / name).read_bytes() for name in names}


def _built(name: str, texts: Mapping[str, bytes], libfuse3: bool = False) -> Path:
    version = mounts.run_child(["pkg-config", "--modversion", "fuse3"], 10).output if libfuse3 else b""
    key = hashlib.sha256(version + b"\0".join(texts.values())).hexdigest()[:16]
    program = cache_directory() / f"{name}-{key}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as directory:
            for source, text in texts.items():
                (Path(directory) / source).write_bytes(text)
            _compile(Path(directory), program, libfuse3)
    return program


def _compile(directory: Path, program: Path, libfuse3: bool) -> None:
    """Build beside the place and rename: two workers may build at the same time."""
    flags: list[str] = ["-pthread"]
    if libfuse3:
        flags += mounts.run_child(["pkg-config", "--cflags", "--libs", "fuse3"], 10).output.decode().split()
    built = directory / "program"
    gcc = shutil.which("gcc") or "gcc"
    done = mounts.run_child([gcc, "-O2", "-Wall", "-o", built, *sorted(directory.glob("*.c")), *flags], 120)
    assert done.status == 0, done.output.decode(errors="replace")
    built.replace(program)
