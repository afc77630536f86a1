"""What a matrix is to run: values, as `reading` takes them from the user's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

from replays.options import ReplayOptions
from replays.transports.launcher import AUTO
from replays.transports.process import START_TIMEOUT_S

LIMIT_S = 300.0
Words = tuple[str, ...]


class Isolation(Enum):
    """How a server gets the source to itself."""

    COPY = "copy"  # a copy: behaves as the source does, and needs nothing
    OVERLAY = "overlay"  # an overlay, whatever its size; see replays.stores.sandbox for where it behaves otherwise


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One server, or one version, or one set of flags. Words may hold placeholders: see `words`."""

    name: str
    command: Words
    transport: str = AUTO
    environment: Mapping[str, str] = field(default_factory=dict)  # beside ours
    isolation: Isolation = Isolation.COPY
    needs: Words = ()  # programs beside those that the commands begin with
    needs_root: bool = False
    prepare: tuple[Words, ...] = ()  # run before the server, one after another
    version: Words = ()  # tells the version
    version_has: str = ""  # in the line that does; empty: the first line
    traces: Words = ()  # patterns of file names it is meant for; none: all
    skip: str = ""  # why it is not run at all
    options: ReplayOptions = field(default_factory=ReplayOptions)
    start_timeout_s: float = START_TIMEOUT_S
    limit_s: float = LIMIT_S  # for the dialogue, and for each command beside it

    def is_for(self, trace: Path) -> bool:
        """Tell whether it is meant for a trace of this name."""
        return not self.traces or any(fnmatchcase(trace.name, pattern) for pattern in self.traces)


@dataclass(frozen=True, slots=True)
class MatrixSpec:
    """A whole file. Of `source` and `make_source` there is at most one; none: servers that need none."""

    path: Path
    servers: tuple[ServerSpec, ...]
    source: Path | None = None
    make_source: Words = ()  # fills {source}, an empty directory
    variables: Mapping[str, str] = field(default_factory=dict)
