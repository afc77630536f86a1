"""A server's command as the user writes it, and the argument in it that is the mount point."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tracer.bridges.host.words import printable
from tracer.errors import TracerError

PLACEHOLDER: Final = "{}"
_TAKE_A_VALUE: Final = frozenset({"-o"})  # the one option of mount.fuse(8) whose value stands alone


@dataclass(frozen=True, slots=True)
class Command:
    """A server's command; `argv[at]` is its mount point, or holds the placeholder for it."""

    argv: tuple[str, ...]
    at: int

    @property
    def mount_point(self) -> str:
        """The argument with the mount point, safe to show."""
        return printable(os.fsencode(self.argv[self.at]), 200)

    def serving(self, place: str) -> list[str]:
        """Return the command with another mount point."""
        argument = self.argv[self.at]
        new = argument.replace(PLACEHOLDER, place) if PLACEHOLDER in argument else place
        return [*self.argv[: self.at], new, *self.argv[self.at + 1 :]]


def parse(argv: Sequence[str]) -> Command:
    """Find the mount point: the placeholder {}, else the last directory named, else the last word that is no option.

    TracerError when there is no such word.
    """
    marked = [number for number, word in enumerate(argv) if number and PLACEHOLDER in word]
    if len(marked) > 1:
        raise TracerError(f"{PLACEHOLDER} stands {len(marked)} times in the server's command", "write it once")
    if marked:
        return Command(tuple(argv), marked[0])
    words = [number for number in range(1, len(argv)) if _may_be_mount_point(argv, number)]
    directories = [number for number in words if Path(argv[number]).is_dir()]
    if not words:
        raise TracerError(
            "the server's command names no mount point",
            f"write the command as you would start it, or {PLACEHOLDER} where its mount point goes",
        )
    return Command(tuple(argv), (directories or words)[-1])


def _may_be_mount_point(argv: Sequence[str], number: int) -> bool:
    return not argv[number].startswith("-") and argv[number - 1] not in _TAKE_A_VALUE
