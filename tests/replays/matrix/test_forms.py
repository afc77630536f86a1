"""The table, the page and JSON say the same, and nothing of a trace or a server can break out of them."""

from __future__ import annotations

import dataclasses
import os
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest

from replays.matrix.document import matrix_json
from replays.matrix.page import page
from replays.matrix.result import Matrix, Verdict
from replays.matrix.text import matrix_lines
from replays.report import Difference
from tests.replays.matrix.servers import entry, play
from tracer.output.style import Painter

HOSTILE = "<script>alert('x')</script>\x1b[2J\u202e\udcff&\""


class Parsed(HTMLParser):
    """What a page holds: tags, ids, links, texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        known = dict(attrs)
        if "id" in known:
            self.ids.append(known["id"] or "")
        if "href" in known:
            self.links.append(known["href"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """One server that is the same, one that differs, one that went, one that is missing."""
    text = (
        "".join(map(entry, ("is honest", "too little", "exits")))
        + '[servers.missing]\ncommand = ["no-such-server", "{mount}"]\n'
    )
    return play(tmp_path_factory.mktemp("matrix"), text)


def hostile(matrix: Matrix) -> Matrix:
    """Return the matrix with everything said by others replaced by something that means harm."""
    rows = []
    for row in matrix.rows:
        report = row.report
        if report is not None:
            report = dataclasses.replace(report, differences=tuple(map(_hostile_difference, report.differences)))
        rows.append(
            dataclasses.replace(
                row, server=HOSTILE, why=HOSTILE, version=HOSTILE, how=HOSTILE, command=(HOSTILE,), report=report
            )
        )
    trace = dataclasses.replace(matrix.trace, path=Path(HOSTILE), server_command=HOSTILE, kernel=HOSTILE)
    return dataclasses.replace(matrix, trace=trace, rows=tuple(rows))


def _hostile_difference(item: Difference) -> Difference:
    raw = os.fsencode(HOSTILE)
    return dataclasses.replace(item, path=raw, rule="names", field="entries", recorded=[raw], live=[raw])


def lines(matrix: Matrix, width: int = 120) -> list[str]:
    return list(matrix_lines(matrix, Painter(False), width))


def test_the_table_has_a_line_for_each_server(matrix: Matrix) -> None:
    text = lines(matrix)
    assert text[0] == "small.pcapng: 5 requests"
    table = {line.split("  ")[0]: line.split()[-6:] for line in text[3:6]}
    assert [row.verdict for row in matrix.rows] == [
        Verdict.SAME,
        Verdict.DIFFERENT,
        Verdict.STOPPED,
        Verdict.SKIPPED,
    ]
    assert table["is honest"][:4] == ["0", "0", "4", "0"]
    assert table["too little"][:4] == ["1", "2", "4", "0"]
    assert text[6].split("  ")[-1] == "no-such-server is not there, nor on PATH"
    assert text[-1] == "4 servers: 1 same, 1 different, 1 ended early, 1 skipped"


def test_cells_say_how_many_requests_of_which_operation(matrix: Matrix) -> None:
    text = lines(matrix)
    at = next(number for number, line in enumerate(text) if line.split() == ["server", "GETATTR"])
    assert [line.split()[-1] for line in text[at + 1 : at + 4]] == ["·", "1", "1"]
    at = text.index("too little") + 1
    assert text[at].startswith('      1 × GETATTR malformed: live 24 bytes: "')
    assert text[at + 1].strip().startswith("first at exchange 2 /file; malformed: the kernel refuses such a message")


def test_a_narrow_terminal_gets_several_tables(matrix: Matrix) -> None:
    wide = dataclasses.replace(matrix, rows=tuple(_with_opcodes(matrix, range(1, 13))))
    parts = [line for line in lines(wide, 60) if line.startswith("server") and "verdict" not in line]
    assert len(parts) > 1
    assert all(len(line) <= 60 for line in parts)


def _with_opcodes(matrix: Matrix, opcodes: range) -> list:
    different = matrix.rows[1]
    assert different.report is not None
    first = different.report.differences[0]
    every = tuple(dataclasses.replace(first, opcode=opcode, exchange=opcode) for opcode in opcodes)
    return [dataclasses.replace(different, report=dataclasses.replace(different.report, differences=every))]


def test_every_link_of_the_page_leads_somewhere_in_it(matrix: Matrix) -> None:
    parsed = Parsed(page(matrix))
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {"#server-2", "#server-2-GETATTR", "#server-3-GETATTR"} <= set(parsed.links)
    assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)


def test_a_page_stands_alone(matrix: Matrix) -> None:
    text = page(matrix)
    parsed = Parsed(text)
    assert not parsed.tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not {name for name in parsed.attributes if name.startswith("on") or name in ("src", "style")}
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_nothing_that_others_say_breaks_out_of_the_page(matrix: Matrix) -> None:
    text = page(hostile(matrix))
    parsed = Parsed(text)
    assert "script" not in parsed.tags
    assert "alert" in parsed.text  # shown as it is
    assert all(character.isprintable() or character == "\n" for character in text)


def test_nothing_that_others_say_drives_a_terminal(matrix: Matrix) -> None:
    assert all(line.isprintable() for line in lines(hostile(matrix)))


def test_nothing_that_others_say_breaks_json(matrix: Matrix) -> None:
    document = orjson.loads(orjson.dumps(matrix_json(hostile(matrix))))
    assert document["servers"][1]["name"].isprintable()
    assert document["servers"][1]["name"].startswith("<script>")


def test_json_has_stable_names_and_the_whole_replay_of_each_server(matrix: Matrix) -> None:
    document = matrix_json(matrix)
    assert list(document) == ["version", "finding", "jobs", "trace", "opcodes", "servers"]
    assert (document["version"], document["finding"], document["opcodes"]) == (1, True, ["GETATTR"])
    assert list(document["trace"]) == ["path", "channel", "server_command", "kernel", "requests"]
    honest, little, exits, missing = document["servers"]
    names = ["name", "verdict", "why", "command", "version", "reached_by", "live_trace", "requests_per_second"]
    assert list(honest) == [*names, "cells", "replay"]
    assert little["cells"] == {"GETATTR": {"first": 1, "followers": 2, "notes": 0}}
    assert [item["rule"] for item in little["replay"]["differences"]] == ["malformed"] * 3
    assert (exits["verdict"], missing["verdict"], missing["replay"]) == ("ended early", "skipped", None)
