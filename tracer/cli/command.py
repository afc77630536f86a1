"""What a command is, what it exits with, and how it talks: data on stdout, narration on stderr."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from dissectors.opcodes import NEWEST_MINOR

PROGRAM = "fusewire: "


class Exit(IntEnum):
    """Exit codes scripts rely on."""

    FINE = 0
    FINDING = 1
    USAGE = 2
    LOST = 3  # the capture lost records
    BUG = 70  # EX_SOFTWARE of sysexits.h


class Command(Protocol):
    """A command; `name` is what the user types, `help` its line in the overview."""

    name: str
    help: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do the work; return an Exit. Raises TracerError for what the user can mend."""
        ...


def say(text: str) -> None:
    """Tell a person what is going on, on stderr; what could drive a terminal is escaped."""
    lines = printable(text).replace("\n", "\n" + " " * len(PROGRAM))
    print(f"{PROGRAM}{lines}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return our own words with whatever they quote (names of files, say) made harmless; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def command_line() -> str:
    """Return the command that runs, for a trace to keep: as it is typed, not where it lies on this machine."""
    return shlex.join([PROGRAM.removesuffix(": "), *sys.argv[1:]])


def number_from(least: int) -> Callable[[str], int]:
    """Return an argparse type: a number of at least `least`, said so when it is none."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!a} is no number from {least} on")
        return value

    return read


def minor_of(text: str) -> int:
    """Read a protocol minor as the user gives it, "31" or "7.31"; an argparse type."""
    digits = text.removeprefix("7.")
    if not (digits.isascii() and digits.isdigit() and int(digits) <= NEWEST_MINOR):
        raise argparse.ArgumentTypeError(f"{text!a} is no protocol minor up to {NEWEST_MINOR}: write 31, or 7.31")
    return int(digits)


def add_minor(parser: argparse.ArgumentParser) -> None:
    """Declare --minor, for traces that began after INIT."""
    parser.add_argument(
        "--minor",
        type=minor_of,
        metavar="N",
        help="protocol minor to decode by, when INIT was not captured or is wrong",
    )
