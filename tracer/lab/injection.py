"""Faults put into a real daemon: strace runs it, and answers or delays its syncfs(2) in the kernel's place.

The daemon cannot tell. What it answers to SYNCFS is its own answer to the fault, so an old server and a slow one are
the real one with an old or slow kernel below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracer.lab.children import needed

LOG = "strace.log"  # in the directory of a run
# 12345 syncfs(8</mnt1>) = -1 ENOSYS (Function not implemented) (INJECTED)
# with -f, what other threads do meanwhile divides a line: syncfs(8</mnt1> <unfinished ...>
SYNCED = re.compile(r"^\d+ +syncfs\(\d+<(?P<path>[^>]*)>(?:\) += -1 (?P<error>E[A-Z]+))?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Synced:
    """One syncfs(2) of the daemon: the path of its descriptor as the daemon sees it, and the name of its error."""

    path: str
    error: str  # empty when it succeeded, or had not ended


def refusing(error: str, directory: Path) -> list[str]:
    """Return the words that run a daemon whose syncfs(2) ends with `error` and does nothing.

    getpid(2) is called in its place: by itself strace would make it system call -1, for which the daemon's seccomp
    filter kills it.
    """
    return _around(f"error={error}:syscall=getpid", directory)


def delaying(seconds: int, directory: Path) -> list[str]:
    """Return the words that run a daemon whose syncfs(2) takes `seconds` longer."""
    return _around(f"delay_enter={seconds}s", directory)


def _around(fault: str, directory: Path) -> list[str]:
    words = [needed("strace", "strace"), "-f", "-y", "-o", str(directory / LOG)]
    return [*words, "-e", "trace=syncfs", "-e", f"inject=syncfs:{fault}"]


def synced(log: str) -> Iterator[Synced]:
    """Yield every syncfs(2) in what strace wrote, in the order in which they began."""
    for found in SYNCED.finditer(log):
        yield Synced(found["path"], found["error"] or "")
