"""What a matrix came to: facts, for whoever prints them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dissectors.opcodes import op_name
from replays.report import NONE, Difference, ReplayReport
from replays.results.report_text import differing
from replays.results.terms import TermsCompared
from replays.results.value_text import difference_texts


class Verdict(Enum):
    """How it went with one server."""

    SAME = "same"
    DIFFERENT = "different"
    STOPPED = "ended early"  # the server went, or somebody's patience
    FAILED = "failed"  # nothing was played
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Row:
    """One server. `why` says what is behind FAILED, STOPPED and SKIPPED; all texts may hold words of the server."""

    server: str
    verdict: Verdict
    command: tuple[str, ...]  # as it stands in the file
    why: str = ""
    version: str = ""
    how: str = ""  # it was reached
    report: ReplayReport | None = None
    terms: TermsCompared | None = None
    live: Path | None = None  # the trace of the live dialogue

    @property
    def is_finding(self) -> bool:
        """Whether somebody should look at it."""
        return self.verdict not in (Verdict.SAME, Verdict.SKIPPED)


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What was played."""

    path: Path
    channel: str
    server_command: str
    kernel: str
    request_count: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """All of it, in the order of the file. `jobs` is how many ran at once: more than 1 and times mean little."""

    trace: TraceFacts
    spec: Path
    rows: tuple[Row, ...]
    jobs: int = 1

    @property
    def has_finding(self) -> bool:
        """Whether any server differs or failed."""
        return any(row.is_finding for row in self.rows)


def verdict_counts(rows: Iterable[Row]) -> dict[Verdict, int]:
    """Return how many servers came out how, in the order of Verdict; those of none are left out."""
    counts = Counter(row.verdict for row in rows)
    return {verdict: counts[verdict] for verdict in Verdict if counts[verdict]}


@dataclass(frozen=True, slots=True)
class Cell:
    """Requests of one operation to one server. `notes` are those that differ in what does not count."""

    firsts: int = 0
    followers: int = 0
    notes: int = 0


def cells(row: Row) -> dict[int, Cell]:
    """Return the operations of a row that have anything to tell, by opcode; NONE: answers to nothing."""
    if row.report is None:
        return {}
    firsts = Counter(group[0].opcode for group in differing(row.report.firsts))
    every = Counter(group[0].opcode for group in differing(row.report.differences))
    notes: Counter[int] = Counter()
    for note in row.report.notes:
        if note.opcode != NONE:
            notes[note.opcode] += note.count
    return {
        opcode: Cell(firsts[opcode], every[opcode] - firsts[opcode], notes[opcode]) for opcode in every.keys() | notes
    }


def columns(rows: Iterable[Row]) -> list[int]:
    """Return the opcodes that any server differs in, those of most servers first."""
    servers: Counter[int] = Counter()
    requests: Counter[int] = Counter()
    for row in rows:
        for opcode, cell in cells(row).items():
            servers[opcode] += cell.firsts > 0
            requests[opcode] += cell.firsts
    return sorted(servers, key=lambda opcode: (-servers[opcode], -requests[opcode], opcode))


def column_name(opcode: int) -> str:
    """Return an operation's name."""
    return "unasked" if opcode == NONE else op_name(opcode)


def requests_per_second(report: ReplayReport) -> float:
    """Return how many requests went out in a second."""
    return report.counts.sent * 1e9 / report.duration_ns if report.duration_ns else 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """First differences that are alike: same operation, rule and field, and same errors. `example` is the first."""

    count: int
    example: Difference


def findings(report: ReplayReport) -> list[Finding]:
    """Return what differs, the most frequent first."""
    groups: defaultdict[tuple[object, ...], list[Difference]] = defaultdict(list)
    for item in report.firsts:
        sides = difference_texts(item) if item.field == "error" else ()
        groups[(item.opcode, item.rule, item.field, *sides)].append(item)
    found = [Finding(len(group), group[0]) for group in groups.values()]
    return sorted(found, key=lambda finding: -finding.count)


def by_opcode(report: ReplayReport) -> list[list[Difference]]:
    """Return the differences of each operation, first ones and followers, in the order they were met."""
    groups: defaultdict[int, list[Difference]] = defaultdict(list)
    for item in report.differences:
        groups[item.opcode].append(item)
    return list(groups.values())
