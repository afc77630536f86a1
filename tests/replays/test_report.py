"""What a replay came to, as text and as JSON: as it was approved, bounded, and harmless whatever names it holds."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dissectors.opcodes import OPERATIONS, Either
from replays.judging.rules import RULES
from replays.report import Counts
from replays.results.report_json import report_json
from replays.results.report_text import MOST_SHOWN, report_lines, rule_lines
from replays.results.terms import TermsCompared
from replays.results.value_text import difference_texts
from tests.replays.made_report import DIFFERENCES, NOTES, TERMS, difference, made_report
from tracer.output.style import Painter

GOLDEN = Path(__file__).parent / "golden"
PLAIN, COLOURED = Painter(False), Painter(True)


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("FUSEWIRE_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_a_report_reads_as_approved() -> None:
    check_golden("report.txt", "\n".join(report_lines(made_report(), TERMS, PLAIN)) + "\n")


def test_a_report_as_json_is_as_approved() -> None:
    check_golden("report.json", json.dumps(report_json(made_report(), TERMS), indent=2, ensure_ascii=False) + "\n")


def test_every_rule_is_listed_with_its_reason_below_what_it_does() -> None:
    sections: list[list[str]] = []
    for line in rule_lines(PLAIN):
        if line.startswith("  "):
            sections[-1].append(line.strip())
        else:
            sections.append([])
    counting, loose, never = sections
    assert [line.split()[0] for line in counting] == [rule.name for rule in RULES.values() if rule.counts]
    assert [line.split()[0] for line in never] == [rule.name for rule in RULES.values() if rule.never]
    assert len(counting) + len(loose) + len(never) == len(RULES)
    assert all(line.endswith(RULES[line.split()[0]].reason) for line in (*counting, *loose, *never))


def test_colours_change_no_word() -> None:
    coloured = "\n".join(report_lines(made_report(), TERMS, COLOURED))
    assert "\x1b[1;31mENOENT\x1b[0m" in coloured
    plain = "\n".join(report_lines(made_report(), TERMS, PLAIN))
    assert plain == "".join(part.partition("m")[2] if at else part for at, part in enumerate(coloured.split("\x1b[")))


def test_nothing_that_could_drive_a_terminal_is_printed() -> None:
    text = "\n".join(report_lines(made_report(), TERMS, PLAIN))
    assert all(line.isprintable() for line in text.splitlines())
    assert json.dumps(report_json(made_report(), TERMS), ensure_ascii=False).isprintable()


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"differences": ()}, "No difference in 90 answers."),
        ({"differences": DIFFERENCES[:1]}, "1 request differs in 90 answers."),
        ({"differences": (), "counts": Counts(3, 1)}, "Nothing was compared: "),
        ({"differences": (), "stopped": "it died"}, "Ended early: it died. No difference in 90 answers."),
        (
            {"differences": DIFFERENCES[5:6]},
            "No difference in 90 answers, but for 1 in consequence of what was skipped",
        ),
    ],
)
def test_the_last_line_is_the_verdict(changes: dict[str, object], verdict: str) -> None:
    assert list(report_lines(made_report(**changes), TERMS, PLAIN))[-1].startswith(verdict)


def test_what_only_follows_from_something_is_shown_apart() -> None:
    caused = tuple(difference(n, "GETATTR", "error", "error", 0, -2, follower_of=3) for n in range(10, 20))
    lines = list(report_lines(made_report(differences=caused), TERMS, PLAIN))
    at = lines.index("What differs in consequence of what was skipped, or done another way")
    assert lines[at + 1] == "  exchange 10  GETATTR /dir/file  (live exchange 11)"
    assert lines[at + 5] == "    follows from exchange 3"
    assert "  ... and 5 requests more: --json has all" in lines
    assert "What differs" not in lines


def test_a_report_of_very_many_differences_is_short() -> None:
    many = tuple(difference(number, "GETATTR", "error", "error", 0, -2) for number in range(5000))
    notes = NOTES * 500
    lines = list(report_lines(made_report(differences=many, notes=notes), TERMS, PLAIN))
    assert len(lines) < 8 * MOST_SHOWN
    assert f"  ... and {5000 - MOST_SHOWN} requests more: --json has all" in lines
    assert lines[-1] == "5000 requests differ in 90 answers."
    assert len(report_json(made_report(differences=many), TERMS)["differences"]) == 5000


def test_a_long_name_or_content_takes_one_line() -> None:
    long = difference(1, "READ", "data", "data", b"a" * 100_000 + b"x", b"a" * 100_000 + b"y", b"/" + b"n" * 9000)
    lines = list(report_lines(made_report(differences=(long,)), TERMS, PLAIN))
    assert max(map(len, lines)) < 400
    assert any('100001 bytes, at 100000: "x"' in line for line in lines)


def test_what_a_recording_without_init_agreed_on_is_not_made_up() -> None:
    lines = list(report_lines(made_report(), replace(TERMS, recorded=None), PLAIN))
    assert "  the recording holds no answer to INIT: what its server agreed to is not known" in lines
    assert not any("accepted by" in line for line in lines)


def test_flags_that_were_never_offered_are_not_held_against_a_server() -> None:
    assert TermsCompared(45, TERMS.recorded, TERMS.live, TERMS.live.accepted).recorded_alone
    assert TERMS.recorded is not None
    assert not replace(TERMS, not_offered=TERMS.recorded.accepted).recorded_alone


def test_every_field_of_every_reply_can_be_shown() -> None:
    """Whatever field differs, its two values have a text, as numbers of any size too."""
    for op in OPERATIONS:
        fields = op.reply.then + op.reply.otherwise if isinstance(op.reply, Either) else op.reply
        for field in fields:
            if field.kind.is_integer:
                most = (1 << 8 * field.size) - 1
                recorded, live = difference_texts(difference(1, op.name, "error", field.name, 0, most))
                assert (recorded, live) != ("", "")
                assert recorded != live
