"""The matrix as one HTML page: the table, and behind each cell its exchanges. No scripts, nothing from outside."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from dissectors.text import escape
from replays.matrix.markup import Html, element, joined
from replays.matrix.result import (
    Cell,
    Matrix,
    Row,
    Verdict,
    by_opcode,
    cells,
    column_name,
    columns,
    requests_per_second,
    verdict_counts,
)
from replays.matrix.text import trace_line
from replays.report import NONE, Difference, Note
from replays.results.report_text import report_lines
from replays.results.value_text import difference_texts
from tracer.output.style import Painter, counted, duration, escape_text

STYLE: Final = Path(__file__).with_name("page.css")
MOST_SHOWN: Final = 200  # differences of one operation and server; JSON has all
NAME_BYTES: Final = 300
MOST_REPORT: Final = 50  # exchanges in the plain report of a server
# Were something to slip through: no scripts, no images, nothing fetched.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_HEATS: Final = (3, 10)  # differences from which a cell is redder
_CLASSES: Final = {
    Verdict.SAME: "same",
    Verdict.DIFFERENT: "different",
    Verdict.STOPPED: "stopped",
    Verdict.FAILED: "stopped",
    Verdict.SKIPPED: "skipped",
}


def page(matrix: Matrix) -> str:
    """Return the whole page."""
    title = f"{escape_text(matrix.trace.path.name)} against {counted(len(matrix.rows), 'server')}"
    head = joined(
        [
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
            element("title", title),
            element("style", Html(STYLE.read_text(encoding="utf-8"))),
        ]
    )
    sections = [_section(number, row) for number, row in enumerate(matrix.rows) if row.report is not None]
    body = element("main", _header(matrix, title), _table(matrix), *sections)
    return f"<!doctype html>\n{element('html', element('head', head), element('body', body), lang='en')}\n"


def _header(matrix: Matrix, title: str) -> Html:
    chips = [
        element("span", f"{count} {verdict.value}", class_=f"chip {_CLASSES[verdict]}")
        for verdict, count in verdict_counts(matrix.rows).items()
    ]
    return element(
        "header",
        element("h1", title),
        element("p", trace_line(matrix), class_="facts"),
        element("p", *chips, class_="chips"),
    )


# ---- the table -------------------------------------------------------------------------------------------------------


def _table(matrix: Matrix) -> Html:
    opcodes = columns(matrix.rows)
    heads = [
        element("th", "server", scope="col", class_="name"),
        element("th", "verdict", scope="col"),
        *(element("th", element("span", column_name(opcode)), scope="col", class_="op") for opcode in opcodes),
        *(element("th", text, scope="col", class_="number") for text in ("compared", "skipped", "time", "req/s")),
    ]
    rows = [_table_row(number, row, opcodes) for number, row in enumerate(matrix.rows)]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *rows), class_="matrix")
    legend = element(
        "p",
        "A cell counts the requests that differ by themselves; ",
        element("b", "+n", class_="follow"),
        " follow from another difference, ",
        element("b", "(n)", class_="note"),
        " differ in what does not count. Each leads to its exchanges.",
        class_="legend",
    )
    return element("section", element("div", table, class_="scroll", tabindex="0"), legend)


def _table_row(number: int, row: Row, opcodes: Sequence[int]) -> Html:
    server = _link(number, "", escape_text(row.server), row.report is not None)
    name = element("th", server, element("small", escape_text(row.version)), scope="row", class_="name")
    verdict = element("td", _chip(row))
    report = row.report
    if report is None:
        span = str(len(opcodes) + 4)
        return element("tr", name, verdict, element("td", escape_text(row.why), colspan=span, class_="why"))
    own = cells(row)
    facts = (
        str(report.counts.compared),
        str(sum(report.counts.skipped.values())),
        duration(report.duration_ns),
        f"{requests_per_second(report):,.0f}",
    )
    return element(
        "tr",
        name,
        verdict,
        *(_cell(number, opcode, own.get(opcode, Cell())) for opcode in opcodes),
        *(element("td", text, class_="number") for text in facts),
    )


def _cell(number: int, opcode: int, cell: Cell) -> Html:
    operation = column_name(opcode)
    if cell.firsts:
        heat = 1 + sum(cell.firsts >= least for least in _HEATS)
        return element("td", _link(number, operation, str(cell.firsts)), class_=f"cell heat{heat}")
    if cell.followers:
        return element("td", _link(number, operation, f"+{cell.followers}"), class_="cell follow")
    if cell.notes:
        return element("td", _link(number, f"note-{operation}", f"({cell.notes})"), class_="cell note")
    return element("td", "·", class_="cell none")


def _link(number: int, part: str, text: str, is_there: bool = True) -> str:
    return element("a", text, href=f"#{_anchor(number, part)}") if is_there else text


def _anchor(number: int, part: str) -> str:
    return f"server-{number + 1}" + (f"-{part}" if part else "")


def _chip(row: Row) -> Html:
    return element("span", row.verdict.value, class_=f"chip {_CLASSES[row.verdict]}")


# ---- one server ------------------------------------------------------------------------------------------------------


def _section(number: int, row: Row) -> Html:
    report, terms = row.report, row.terms
    assert report is not None
    parts = [
        element("h2", escape_text(row.server), " ", _chip(row)),
        element("p", element("code", escape_text(shlex.join(row.command))), class_="command"),
        element("p", *_about(row), class_="facts"),
        *(_operation(number, found, has_live=row.live is not None) for found in by_opcode(report)),
    ]
    if report.notes:
        parts.append(_notes(number, report.notes))
    if terms is not None:
        text = "\n".join(report_lines(report, terms, Painter(False), MOST_REPORT))
        parts.append(element("details", element("summary", "The whole report as text"), element("pre", text)))
    return element("section", *parts, id=_anchor(number, ""), class_="server")


def _about(row: Row) -> Iterator[str]:
    if row.why:
        yield element("strong", escape_text(row.why), ". ")
    facts = [row.version, row.how, f"live dialogue in {row.live}" if row.live is not None else ""]
    yield escape_text(" · ".join(fact for fact in facts if fact))


def _operation(number: int, found: Sequence[Difference], *, has_live: bool) -> Html:
    """Return all that differs in one operation, rule by rule."""
    operation = column_name(found[0].opcode)
    firsts = sum(item.follower_of is None for item in found)
    counts = [counted(firsts, "difference")] if firsts else []
    counts += [f"{len(found) - firsts} in consequence"] if len(found) > firsts else []
    head = element("h3", operation, " ", element("small", ", ".join(counts)))
    shown = sorted(found, key=lambda item: (item.follower_of is not None, item.rule))[:MOST_SHOWN]
    alike = groupby(shown, lambda item: (item.follower_of is None, item.rule))
    groups = [_rule(list(group), has_live=has_live) for _, group in alike]
    more = len(found) - len(shown)
    rest = element("p", f"and {more} more, which --json has", class_="facts") if more else ""
    return element("article", head, *groups, rest, id=_anchor(number, operation))


def _rule(found: Sequence[Difference], *, has_live: bool) -> Html:
    """Return differences of one rule, all first ones or all followers."""
    item = found[0]
    follows = "" if item.follower_of is None else element("span", "in consequence", class_="chip follow")
    caption = element("p", element("b", item.rule), f": {item.reason} ", follows, class_="rule")
    heads = ("path", "field", "recorded", "live")
    table = element(
        "table",
        element(
            "thead",
            element(
                "tr",
                element("th", "exchange", scope="col", class_="number"),
                *(element("th", head, scope="col") for head in heads),
            ),
        ),
        element("tbody", *(_difference(item, has_live=has_live) for item in found)),
        class_="exchanges",
    )
    return element("div", caption, element("div", table, class_="scroll"))


def _difference(item: Difference, *, has_live: bool) -> Html:
    recorded, live = difference_texts(item)
    number = "none" if item.exchange == NONE else str(item.exchange)
    beside = [f"follows {item.follower_of}"] if item.follower_of is not None else []
    beside += [f"live {item.live_exchange}"] if has_live and item.live_exchange != NONE else []
    path = "" if item.path is None else escape(item.path, NAME_BYTES) or "/"
    return element(
        "tr",
        element("td", f"{number} ", element("small", ", ".join(beside)), data_label="exchange", class_="number"),
        element("td", path, data_label="path", class_="path"),
        element("td", item.field or "message", data_label="field"),
        element("td", recorded, data_label="recorded"),
        element("td", live, data_label="live", class_="live"),
    )


def _notes(number: int, notes: Sequence[Note]) -> Html:
    items = []
    anchored: set[int] = set()
    for note in notes:
        operation = "" if note.opcode == NONE else f"{column_name(note.opcode)}: "
        first = "" if note.exchange == NONE else f", first at exchange {note.exchange}"
        anchor = "" if note.opcode in anchored else _anchor(number, f"note-{column_name(note.opcode)}")
        anchored.add(note.opcode)
        text = f"{note.count} × {operation}{escape_text(note.text)}{first} "
        items.append(element("li", text, element("small", f"{note.rule}: {note.reason}"), id=anchor))
    head = element("h3", "What does not count")
    return element("article", head, element("ul", *items), class_="notes")
