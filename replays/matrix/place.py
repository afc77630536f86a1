"""What a server gets to itself: the source as a copy or an overlay, and a directory for what else it needs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from replays.matrix.spec import Isolation, MatrixSpec, ServerSpec
from replays.matrix.words import HERE, SCRATCH, SOURCE, filled
from replays.stores.sandbox import Sandbox, remove_tree
from replays.transports.base import Ending
from replays.transports.process import Overlay, start
from tracer.bridges.host.words import printable
from tracer.errors import TracerError


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server works. `values` is what placeholders stand for; `overlay` lies over its source, if any."""

    values: Mapping[str, str]
    overlay: Overlay | None = None


@contextlib.contextmanager
def common_source(spec: MatrixSpec, limit_s: float) -> Iterator[Path | None]:
    """Yield the directory that every server gets a copy of, made if it has to be. Raises TracerError."""
    if not spec.make_source:
        if spec.source is not None and not spec.source.is_dir():
            raise TracerError(f"the source {_shown(spec.source)} is no directory", "name one: --source DIR")
        yield spec.source
        return
    with _own_directory() as directory:
        made = directory / SOURCE
        made.mkdir()
        run_command(filled(spec.make_source, {**beside(spec), SOURCE: str(made)}), limit_s)
        yield made


@contextlib.contextmanager
def place_for(server: ServerSpec, spec: MatrixSpec, source: Path | None) -> Iterator[Place]:
    """Make room for a server, and take it away afterwards. Raises TracerError."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(_own_directory())
        scratch = directory / SCRATCH
        scratch.mkdir()
        values, overlay = {**beside(spec), SCRATCH: str(scratch)}, None
        if source is not None and server.isolation is Isolation.OVERLAY:
            overlay = stack.enter_context(Sandbox(source, directory)).overlay
            values[SOURCE] = str(overlay.source)
        else:
            values[SOURCE] = str(_copied(source, directory / SOURCE, server.limit_s))
        yield Place(values, overlay)


def beside(spec: MatrixSpec) -> dict[str, str]:
    """Return what placeholders stand for that are the same for every server."""
    return {**spec.variables, HERE: str(spec.path.parent.absolute())}


def run_command(
    words: Sequence[str],
    limit_s: float,
    *,
    overlay: Overlay | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ending:
    """Run a command to its end; TracerError when it fails, or does not end in time."""
    child = start(words, overlay=overlay, environment=environment)
    try:
        has_ended = child.has_ended(limit_s)
    finally:
        ending = child.end()
    if not has_ended:
        raise TracerError(f"{child.name} did not end within {limit_s:g} s", "limit = SECONDS gives it longer")
    if ending.status:
        last = ending.output.splitlines()[-1:]
        said = f', saying: "{last[0]}"' if last else ""
        raise TracerError(f"{child.name} ended with exit code {ending.status}{said}", "run it by hand to see why")
    return ending


def _copied(source: Path | None, to: Path, limit_s: float) -> Path:
    """Copy everything there is of a file: owners, times, attributes, hard links, holes."""
    if source is None:
        to.mkdir()
    else:
        run_command(["cp", "-a", "--reflink=auto", "--", os.fspath(source.absolute()), os.fspath(to)], limit_s)
    return to


@contextlib.contextmanager
def _own_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="fusewire-matrix-"))
    try:
        yield directory
    finally:
        remove_tree(directory)


def _shown(path: Path) -> str:
    return printable(os.fsencode(path), 200)
