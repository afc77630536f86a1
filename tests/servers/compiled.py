"""Builds libfuse's passthrough_ll from the examples that Debian's libfuse3-dev ships, once per machine."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from examples.demo import mounts, possible

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
SOURCES = ("passthrough_ll.c", "passthrough_helpers.h")


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "fusewire"


def _source(name: str) -> bytes | None:
    """Return an example's text; dh_compress may have packed it."""
    for path, opener in ((EXAMPLES / name, open), (EXAMPLES / f"{name}.gz", gzip.open)):
        if path.exists():
            with opener(path, "rb") as file:
                return file.read()
    return None


def why_not() -> str | None:
    """Return why passthrough_ll cannot be built here, or None."""
    for program, package in (("gcc", "gcc"), ("pkg-config", "pkg-config")):
        if (reason := possible.why_no_program(program, package)) is not None:
            return reason
    if mounts.run_child(["pkg-config", "--exists", "fuse3"], 10).status != 0:
        return "the headers of libfuse 3 are not installed (Debian package libfuse3-dev)"
    if any(_source(name) is None for name in SOURCES):
        return f"{EXAMPLES} is not there: libfuse3-dev is missing, or dpkg leaves documentation out here"
    return None


def passthrough_ll() -> Path:
    """Return the program, built if this source was not built before; AssertionError with gcc's words if it fails."""
    texts = {name: _source(name) or b"" for name in SOURCES}
    version = mounts.run_child(["pkg-config", "--modversion", "fuse3"], 10).output
    key = hashlib.sha256(version + b"\0".join(texts.values())).hexdigest()[:16]
    program = _cache() / f"passthrough_ll-{key}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as directory:
            for name, text in texts.items():
                (Path(directory) / name).write_bytes(text)
            _compile(Path(directory), program)
    return program


def _compile(directory: Path, program: Path) -> None:
    """Build beside the place and rename: two workers may build at the same time."""
    flags = mounts.run_child(["pkg-config", "--cflags", "--libs", "fuse3"], 10).output.decode().split()
    built = directory / "program"
    gcc = shutil.which("gcc") or "gcc"
    done = mounts.run_child([gcc, "-O2", "-o", built, directory / SOURCES[0], *flags], 120)
    assert done.status == 0, done.output.decode(errors="replace")
    built.replace(program)
