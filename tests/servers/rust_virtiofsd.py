"""The virtiofsd in Rust, QEMU's successor, as the lab has it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from tracer.lab.archive import Unavailable
from tracer.lab.rust_virtiofsd import packaged


@cache
def command() -> list[str]:
    """Return the words that run it, options to follow. Raises Unavailable."""
    return list(packaged().words)


def why_not() -> str | None:
    """Return why it cannot run here, or None."""
    if os.geteuid() != 0:
        return "virtiofsd's sandbox needs root"
    try:
        command()
    except Unavailable as reason:
        return str(reason)
    return None


def argv(source: Path, *options: str) -> list[str]:
    """Return the command that serves `source`; the socket is named by who starts it."""
    return [*command(), f"--shared-dir={source}", *options]
