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
_OPTIONS: Final = "-o"  # of mount.fuse(8): the word after it is never a place


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
    """Find the mount point: the placeholder {}, or the word that is one in nearly every server's command.

    That is the value of an option with "mount" in its name, else the last word that is neither an option nor, as far
    as can be told, the value of one. TracerError when there is no such word.
    """
    marked = [number for number, word in enumerate(argv) if number and PLACEHOLDER in word]
    if len(marked) > 1:
        raise TracerError(f"{PLACEHOLDER} stands {len(marked)} times in the server's command", "write it once")
    if marked:
        return Command(tuple(argv), marked[0])
    words = [number for number in range(1, len(argv)) if not argv[number].startswith("-")]
    words = [number for number in words if argv[number - 1] != _OPTIONS]
    if not words:
        raise TracerError(
            "the server's command names no mount point",
            f"write the command as you would start it, or {PLACEHOLDER} where its mount point goes",
        )
    named = [number for number in words if argv[number - 1].startswith("-") and "mount" in argv[number - 1]]
    plain = [number for number in words if not _may_be_value(argv, number)]
    return Command(tuple(argv), (named or plain or words)[-1])


def _may_be_value(argv: Sequence[str], number: int) -> bool:
    """Tell whether a word may belong to the option before it: `-f DIR` is taken for a place, `--cache full` is not."""
    place = Path(argv[number])
    return argv[number - 1].startswith("-") and not place.is_dir()
