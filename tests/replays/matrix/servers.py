"""A recording and a list of servers to play it to, of real processes with one habit each."""

from __future__ import annotations

import sys
from pathlib import Path

from replays.matrix.reading import read_spec
from replays.matrix.result import Matrix
from replays.matrix.running import Run, run_matrix
from tests.replays import lying_server
from tests.replays.small_talk import small_talk


def recording(directory: Path) -> Path:
    """Write INIT, a name and three looks at it."""
    return small_talk().write_to(directory / "small.pcapng")


def entry(habit: str, name: str = "", **keys: str) -> str:
    """Return a server's table; values are TOML."""
    words = [sys.executable, str(Path(lying_server.__file__)), habit, "{mount}"]
    facts = {"command": repr(words), "transport": '"fd"', **keys}
    return f"[servers.{name or habit!r}]\n" + "".join(f"{key} = {value}\n" for key, value in facts.items())


def play(directory: Path, text: str, **run: object) -> Matrix:
    """Run a list of servers."""
    path = directory / "servers.toml"
    path.write_text(text)
    return run_matrix(read_spec(path), Run(recording(directory), **run))  # type: ignore[arg-type]
