"""What a virtiofsd says of each message while it runs with log level "debug": a second witness for a capture."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

# C (fuse_lowlevel.c):        unique: 14, opcode: SYNCFS (50), nodeid: 1, insize: 48, pid: 131
#                                unique: 14, success, outsize: 16
#                                unique: 14, error: -38 (Function not implemented), outsize: 16
# Rust (src/server.rs): Received request: opcode=Syncfs (50), inode=1, unique=14, pid=131
#                       Replying OK, header: OutHeader { len: 16, error: 0, unique: 14 }
#                       Replying ERROR, header: OutHeader { error: -38 (Function not implemented), unique: 14, len: 16 }
C_ASKED = re.compile(r"unique: (?P<unique>\d+), opcode: \S+ \((?P<opcode>\d+)\), nodeid: (?P<nodeid>\d+)")
C_ANSWERED = re.compile(r"unique: (?P<unique>\d+), (?:success|error: (?P<error>-\d+) .*), outsize: (?P<length>\d+)")
RUST_ASKED = re.compile(r"opcode=\S+ \((?P<opcode>\d+)\), inode=(?P<nodeid>\d+), unique=(?P<unique>\d+)")
RUST_DONE = re.compile(r"OutHeader \{ len: (?P<length>\d+), error: (?P<error>\d+), unique: (?P<unique>\d+) \}")
RUST_FAILED = re.compile(r"OutHeader \{ error: (?P<error>-\d+) .*, unique: (?P<unique>\d+), len: (?P<length>\d+) \}")
PATTERNS = {"c": (C_ASKED, C_ANSWERED), "rust": (RUST_ASKED, RUST_DONE, RUST_FAILED)}


class Asked(NamedTuple):
    """A request as the daemon read it."""

    unique: int
    opcode: int
    nodeid: int


class Answered(NamedTuple):
    """A reply as the daemon wrote it; `error` is a negative errno or 0, `length` that of the whole message."""

    unique: int
    error: int
    length: int


@dataclass(frozen=True, slots=True)
class Said:
    """All that a daemon said it was asked and answered. A FORGET is asked and not answered."""

    asked: Counter[Asked]
    answered: Counter[Answered]


def said(daemon: str, log: str) -> Said:
    """Read the log of a daemon, "c" or "rust"."""
    asked, *answered = PATTERNS[daemon]
    report = Said(Counter(), Counter())
    for line in log.splitlines():
        if found := asked.search(line):
            report.asked[Asked(*(int(found[name]) for name in Asked._fields))] += 1
        elif found := next(filter(None, (pattern.search(line) for pattern in answered)), None):
            report.answered[Answered(int(found["unique"]), int(found["error"] or 0), int(found["length"]))] += 1
    return report
