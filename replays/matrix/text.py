"""The matrix for a terminal: a line a server, then differences by operation, then what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dissectors.text import escape
from replays.matrix.result import (
    Cell,
    Finding,
    Matrix,
    Row,
    Verdict,
    cells,
    column_name,
    columns,
    findings,
    requests_per_second,
    verdict_counts,
)
from replays.report import NONE
from replays.results.value_text import difference_texts
from tracer.output.style import Painter, Style, counted, duration, escape_text

WIDTH = 120
MOST_FINDINGS = 5  # of a server; the page and JSON have all
NAME_BYTES = 120
NOTHING = "·"
_GAP = "  "
_STYLES = {
    Verdict.SAME: Style.PLAIN,
    Verdict.DIFFERENT: Style.ERROR,
    Verdict.STOPPED: Style.ERROR,
    Verdict.FAILED: Style.ERROR,
    Verdict.SKIPPED: Style.DIM,
}


def matrix_lines(matrix: Matrix, paint: Painter, width: int = WIDTH, most: int = MOST_FINDINGS) -> Iterator[str]:
    """Yield the whole report; tables are broken into several at `width`, `most` findings are told of a server."""
    yield paint(trace_line(matrix), Style.HEADING)
    yield ""
    yield from _summary(matrix, paint)
    yield from _by_opcode(matrix, paint, width)
    for row in matrix.rows:
        yield from _server_lines(row, paint, most)
    yield ""
    yield _verdict(matrix, paint)


def row_line(row: Row) -> str:
    """Return how one server came out, in a line."""
    differ = sum(cell.firsts for cell in cells(row).values())
    count = f", {counted(differ, 'request')} differ" if differ > 1 else ", 1 request differs" if differ else ""
    why = f": {row.why}" if row.why else ""
    return escape_text(f"{row.server}: {row.verdict.value}{count}{why}")


def trace_line(matrix: Matrix) -> str:
    """Return what was played, in a line."""
    facts = matrix.trace
    server = f", recorded from {facts.server_command}" if facts.server_command else ""
    kernel = f" on kernel {facts.kernel}" if facts.kernel else ""
    text = f"{facts.path.name}: {counted(facts.request_count, 'request')}{server}{kernel}"
    return escape_text(text)


# ---- tables ----------------------------------------------------------------------------------------------------------


def _summary(matrix: Matrix, paint: Painter) -> Iterator[str]:
    heads = ("server", "verdict", "differ", "follow", "compared", "skipped", "time", "req/s", "version")
    lines = [_facts(row) for row in matrix.rows]
    widths = [max(len(head), *(len(line[at]) for line in lines)) for at, head in enumerate(heads[:-1])]
    yield paint(_line(heads, widths, 2), Style.HEADING)
    for row, facts in zip(matrix.rows, lines, strict=True):
        if row.report is None:
            yield paint(_line(facts[:2], widths, 2) + _GAP + escape_text(row.why), _STYLES[row.verdict])
        else:
            yield paint(_line(facts, widths, 2), _STYLES[row.verdict])


def _facts(row: Row) -> tuple[str, ...]:
    report = row.report
    if report is None:
        return (escape_text(row.server), row.verdict.value, *[""] * 6, "")
    own = cells(row).values()
    return (
        escape_text(row.server),
        row.verdict.value,
        str(sum(cell.firsts for cell in own)),
        str(sum(cell.followers for cell in own)),
        str(report.counts.compared),
        str(sum(report.counts.skipped.values())),
        duration(report.duration_ns),
        f"{requests_per_second(report):,.0f}",
        escape_text(row.version),
    )


def _by_opcode(matrix: Matrix, paint: Painter, width: int) -> Iterator[str]:
    played = [(row, cells(row)) for row in matrix.rows if row.report is not None]
    shown = columns(row for row, _ in played)
    if not shown:
        return
    yield ""
    yield "Requests that differ by themselves, by operation; (n) differ in what does not count"
    first = max(len("server"), *(len(escape_text(row.server)) for row, _ in played))
    for opcodes in _fitting(shown, width - first):
        heads = ["server", *map(column_name, opcodes)]
        lines = [
            [escape_text(row.server), *(cell_text(own.get(opcode, Cell())) for opcode in opcodes)]
            for row, own in played
        ]
        widths = [first, *(max(len(line[at]) for line in [heads, *lines]) for at in range(1, len(heads)))]
        yield paint(_line(heads, widths, 1), Style.HEADING)
        for line in lines:
            yield _line(line, widths, 1)


def _fitting(opcodes: Sequence[int], width: int) -> Iterator[list[int]]:
    """Yield as many columns at a time as fit."""
    part: list[int] = []
    used = 0
    for opcode in opcodes:
        needed = len(_GAP) + max(len(column_name(opcode)), 6)
        if part and used + needed > width:
            yield part
            part, used = [], 0
        part.append(opcode)
        used += needed
    yield part


def cell_text(cell: Cell) -> str:
    """Return a cell: how many differ by themselves, in parentheses how many in what does not count."""
    if cell.firsts or not cell.notes:
        return str(cell.firsts) if cell.firsts else f"+{cell.followers}" if cell.followers else NOTHING
    return f"({cell.notes})"


def _line(texts: Sequence[str], widths: Sequence[int], left: int) -> str:
    """Return texts in columns, the first `left` of them at the left; a text beyond the widths as it is."""
    padded = [
        text.ljust(width) if at < left else text.rjust(width)
        for at, (text, width) in enumerate(zip(texts, widths, strict=False))
    ]
    return _GAP.join([*padded, *texts[len(widths) :]]).rstrip()


# ---- what differs ----------------------------------------------------------------------------------------------------


def _server_lines(row: Row, paint: Painter, most: int) -> Iterator[str]:
    report = row.report
    if report is None or not (report.firsts or row.why):
        return
    yield ""
    yield paint(escape_text(row.server), Style.HEADING)
    if row.why:
        yield paint(f"  {row.verdict.value}: {escape_text(row.why)}", Style.ERROR)
    found = findings(report)
    for finding in found[:most]:
        yield from _finding_lines(finding, paint)
    if len(found) > most:
        yield f"  ... and {len(found) - most} more kinds"


def _finding_lines(finding: Finding, paint: Painter) -> Iterator[str]:
    item = finding.example
    recorded, live = difference_texts(item)
    sides = [f"recorded {recorded}"] if recorded else []
    sides += [f"live {paint(live, Style.ERROR)}"] if live else []
    what = f"{column_name(item.opcode)} {item.field or item.rule}" + (": " if sides else "")
    yield f"  {finding.count:>5} × {what}{', '.join(sides)}"
    path = "" if item.path is None else " " + paint(escape(item.path, NAME_BYTES), Style.NAME)
    where = "" if item.exchange == NONE else f"first at exchange {item.exchange}{path}; "
    yield f"          {where}{item.rule}: {item.reason}"


def _verdict(matrix: Matrix, paint: Painter) -> str:
    text = ", ".join(f"{count} {verdict.value}" for verdict, count in verdict_counts(matrix.rows).items())
    return paint(f"{counted(len(matrix.rows), 'server')}: {text}", Style.ERROR if matrix.has_finding else Style.HEADING)
