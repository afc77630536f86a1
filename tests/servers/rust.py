"""Servers in Rust: the examples that the crate fuser ships, `simple` and `hello`, built once per machine."""

from __future__ import annotations

import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from examples.demo import mounts, possible
from tests.servers.compiled import cache_directory

VERSION = "0.12.0"  # the last that the compiler of Debian 12 takes, with the dependencies it names itself
FEATURES = "abi-7-31"  # without, it speaks 7.8; and without its default, which is libfuse, it mounts by itself
BUILD_TIMEOUT_S = 280
SPARSE_INDEX_SINCE = (1, 68)  # of cargo; before, it clones the index of all crates unless told otherwise


class Unavailable(Exception):
    """The server cannot be built here; says why."""


EXAMPLES = ("simple", "hello")


@cache
def example(name: str) -> Path:
    """Return one of EXAMPLES, built if needed. Raises Unavailable."""
    root = cache_directory() / f"fuser-{VERSION}-{FEATURES}"
    program = root / "bin" / name
    if not program.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as directory:
            _install(Path(directory))
            _put_in_place(Path(directory) / "installed", root)
    return program


def why_not() -> str | None:
    """Return why it cannot run here, or None."""
    for program in ("cargo", "rustc"):
        if (reason := possible.why_no_program(program, program)) is not None:
            return reason
    try:
        example(EXAMPLES[0])
    except Unavailable as reason:
        return str(reason)
    return None


def _install(directory: Path) -> None:
    version = mounts.run_child(["cargo", "--version"], 60).output.decode(errors="replace")
    numbers = re.match(r"cargo (\d+)\.(\d+)", version)
    words, environment = ["cargo"], {"CARGO_TARGET_DIR": str(directory / "target")}
    if numbers is not None and tuple(map(int, numbers.groups())) < SPARSE_INDEX_SINCE:
        words, environment["RUSTC_BOOTSTRAP"] = ["cargo", "-Z", "sparse-registry"], "1"
    words += ["install", "--locked", "--root", str(directory / "installed"), "--version", VERSION]
    words += ["--no-default-features", "--features", FEATURES, *[f"--example={name}" for name in EXAMPLES], "fuser"]
    assigned = [f"{name}={value}" for name, value in environment.items()]
    done = mounts.run_child([shutil.which("env") or "env", *assigned, *words], BUILD_TIMEOUT_S)
    if done.status != 0:
        last = done.output.decode(errors="backslashreplace").strip().splitlines()[-1:]
        raise Unavailable(f"cargo cannot build the crate fuser {VERSION}: {''.join(last) or 'it does not end'}")


def _put_in_place(built: Path, root: Path) -> None:
    """Rename: two workers may build at the same time."""
    try:
        built.replace(root)
    except OSError:
        if not (root / "bin" / EXAMPLES[0]).exists():
            raise
