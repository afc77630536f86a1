"""What a command is, what it exits with, and how it talks: data on stdout, narration on stderr."""

from __future__ import annotations

import argparse
import sys
from enum import IntEnum
from typing import Protocol


class Exit(IntEnum):
    """Exit codes scripts rely on."""

    FINE = 0
    FINDING = 1
    USAGE = 2
    LOST = 3  # the capture lost records


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
    """Tell a person what is going on, on stderr."""
    print(f"fusewire: {text}", file=sys.stderr, flush=True)


def minor_of(text: str) -> int:
    """Read a protocol minor as the user gives it, "31" or "7.31"; ValueError otherwise."""
    minor = int(text.removeprefix("7."))
    if not 0 <= minor <= 255:
        raise ValueError(text)
    return minor


def add_minor(parser: argparse.ArgumentParser) -> None:
    """Declare --minor, for traces that began after INIT."""
    parser.add_argument(
        "--minor",
        type=minor_of,
        metavar="N",
        help="protocol minor to decode by, when INIT was not captured or is wrong",
    )
