"""The table: what was measured, how fast, what it should reach, and tshark beside it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import Times


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach: at least so many a second, or at most so many seconds or bytes."""

    text: str
    least_rate: float = 0.0
    most_seconds: float = 0.0
    most_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: `count` things done in `times`, or `size_bytes`. tshark's time is for `their_count` of them."""

    work: str
    how: str
    times: Times | None = None
    count: int = 0
    unit: str = "messages"
    size_bytes: float = 0.0
    target: Target | None = None
    theirs: Times | None = None
    their_count: int = 0
    what_theirs: str = ""
    note: str = ""

    def rate_text(self) -> str:
        """How many a second of processor time, or how many bytes."""
        if self.times is None:
            return f"{self.size_bytes:.0f} B/message"
        return f"{quantity(self.count / self.times.cpu_s)} {self.unit}/s" if self.count else ""

    def is_met(self, slowed: float) -> bool:
        """Tell whether the target is reached, on a processor that other programs slowed by the factor `slowed`."""
        assert self.target is not None
        if self.times is None:
            return self.size_bytes <= self.target.most_bytes
        seconds = self.times.cpu_s / slowed
        if self.target.most_seconds:
            return seconds <= self.target.most_seconds
        return self.count / seconds >= self.target.least_rate

    def beside_text(self) -> str:
        """How long tshark took, and how many times as long that is for as many messages."""
        if self.theirs is None or self.times is None:
            return ""
        ratio = self.theirs.cpu_s * max(self.count, 1) / max(self.their_count, 1) / self.times.cpu_s
        return f"{seconds(self.theirs.cpu_s)}, {ratio:.1f}x ours ({self.what_theirs})"


def quantity(value: float) -> str:
    """Return a number in three digits with k, M or G."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def seconds(value: float) -> str:
    """Return a duration in three digits."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} us"


HEADINGS = ("work", "processor", "wall", "spread", "slowed", "rate", "to reach", "", "tshark beside it")


def _cells(row: Row, best_pace_s: float) -> tuple[str, ...]:
    times, slowed = row.times, 1.0
    measured = ("", "", "", "")
    if times is not None:
        slowed = max(1.0, times.pace_s / best_pace_s)
        measured = (seconds(times.cpu_s), seconds(times.wall_s), f"{times.spread:.0%}", f"{slowed:.2f}x")
    verdict = ""
    if row.target is not None:
        verdict = "yes" if row.is_met(1.0) else "(yes)" if row.is_met(slowed) else "NO"
    target = row.target.text if row.target is not None else ""
    return (row.work, *measured, row.rate_text(), target, verdict, row.beside_text())


def table(rows: list[Row]) -> list[str]:
    """Return a table in Markdown, readable as it is."""
    paces = [pace for row in rows if row.times is not None for pace in row.times.pace]
    lines = [HEADINGS, *(_cells(row, min(paces)) for row in rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(HEADINGS))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [texts[0], rule, *texts[1:]]


def document(rows: list[Row], machine: list[tuple[str, str]], runs: int, records: int, command: str, date: str) -> str:
    """Return the whole report in Markdown."""
    lines = [
        "# Speed and memory",
        "",
        f"`{command}` on {date}: medians of {runs} runs over {records} messages. Processor time is user and system",
        "time; rates are counted by it, because other programs take the wall's. A message is a record: an exchange",
        "has two. Spread is (longest - shortest) / median. Slowed says how much longer than at its best a fixed loop",
        "took right before the runs, because other programs shared the processor: (yes) means that the target is",
        "reached when the time is divided by that. Nothing here is asserted by a test.",
        "",
        *(f"- {name}: {value}" for name, value in machine),
        "",
        *table(rows),
        "",
        "How each was measured:",
        "",
        *(f"- {row.work}: {row.how}" + (f". {row.note}" if row.note else "") for row in rows),
        "",
    ]
    return "\n".join(lines)
