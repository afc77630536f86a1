"""The table: what was measured, how fast, what it should reach, and tshark beside it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import Times


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `count` things were done in `times`; `target` is in the unit of `rate`, or in seconds."""

    work: str
    how: str
    times: Times | None  # None: `figure` is no time
    count: int = 0
    unit: str = "messages"
    target: str = ""
    is_met: bool | None = None
    compared: str = ""
    note: str = ""
    figure: str = ""

    @property
    def rate_text(self) -> str:
        """How many a second of processor time."""
        if self.times is None or not self.count:
            return self.figure
        return f"{quantity(self.count / self.times.cpu_s)} {self.unit}/s"


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


HEADINGS = ("work", "processor", "wall", "spread", "rate", "to reach", "", "tshark beside it")


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {True: "yes", False: "NO", None: ""}[row.is_met]
    times = row.times
    measured = ("", "", "") if times is None else (seconds(times.cpu_s), seconds(times.wall_s), f"{times.spread:.0%}")
    return (
        row.work,
        *measured,
        row.rate_text,
        row.target,
        verdict,
        row.compared,
    )


def table(rows: list[Row]) -> list[str]:
    """Return a table in Markdown, readable as it is."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
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
        "has two. Spread is (longest - shortest) / median. Nothing here is asserted by a test.",
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
