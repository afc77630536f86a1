"""A virtiofsd for the guests of these tests, and the reason where there is none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tracer.lab import daemons


def why_not() -> str | None:
    """Return why no virtiofsd can run here, or None."""
    try:
        daemons.daemon()
    except daemons.Unavailable as reason:
        return str(reason)
    return None


@contextlib.contextmanager
def serving(source: Path) -> Iterator[Path]:
    """Serve `source` to whoever connects first to the socket yielded; what it says goes to `source`.log."""
    log = source.with_name(f"{source.name}.log")
    with daemons.serving(daemons.daemon(), source, daemons.Service(), log) as served:
        yield served.socket
