"""Golden files: for every opcode and notification the bytes in hexadecimal, and what they decode to.

FUSEWIRE_UPDATE_GOLDEN=1 (make golden) writes them anew; read the difference before you commit it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from dissectors.describe import summary, tree
from dissectors.jsonform import message_json
from dissectors.message import Message, MessageKind, Severity
from dissectors.opcodes import NOTIFY, OPS, Answer, Op
from tests.dissectors.samples import REPLY, REQUEST, SAMPLES, Sample, decode, request_of

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("FUSEWIRE_UPDATE_GOLDEN"))

# What is wrong on purpose.
MALFORMED = {"unknown_opcode.request", "unknown.notification"}
NOTED = {"readdir_cut_entry.reply"}


def hex_text(data: bytes) -> str:
    lines = [data[at : at + 16].hex(" ") for at in range(0, len(data), 16)]
    return "\n".join(lines) + "\n"


def golden_text(found: dict[str, Any]) -> str:
    """Return JSON with one field of the message a line."""
    text = json.dumps(found, indent=1, ensure_ascii=False)
    return re.sub(r'\{\s+"part"[^{}]*\}', lambda row: re.sub(r"\n\s*", " ", row[0]), text) + "\n"


def described(sample: Sample, message: Message) -> dict[str, Any]:
    context = sample.context
    flags = None if context.init_flags is None else f"{context.init_flags:#x}"
    request = request_of(sample)
    op = message.op if isinstance(message.op, Op) or message.kind is MessageKind.NOTIFICATION else None
    if request is not None:
        line = summary(op, request.values, message.values, message.error)
    else:
        line = summary(op, message.values)
    return {
        "context": {"minor": context.minor, "init_flags": flags, "big_endian": context.big_endian},
        "answers": sample.answers,
        "summary": line,
        "json": message_json(message),
        "tree": [f"{row.start:>5}-{row.end:<5}{'  ' * row.depth}{row.label}: {row.text}" for row in tree(message)],
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_decodes_to_its_golden_tree(name: str) -> None:
    sample = SAMPLES[name]
    hex_path, json_path = GOLDEN / f"{name}.hex", GOLDEN / f"{name}.json"
    found = described(sample, decode(sample))
    if UPDATE:
        GOLDEN.mkdir(exist_ok=True)
        hex_path.write_text(hex_text(sample.data))
        json_path.write_text(golden_text(found))
    assert bytes.fromhex(hex_path.read_text()) == sample.data
    assert json.loads(json_path.read_text()) == json.loads(json.dumps(found))


def test_no_golden_file_is_left_without_its_sample() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SAMPLES)


def test_every_opcode_has_a_golden_request_and_every_answered_one_a_golden_reply() -> None:
    requests = {decode(sample).opcode for sample in SAMPLES.values() if sample.kind is REQUEST}
    replies = {decode(sample).opcode for sample in SAMPLES.values() if sample.kind is REPLY}
    assert requests >= set(OPS)
    assert replies == {code for code, op in OPS.items() if op.answer is not Answer.NEVER}


def test_every_notification_has_a_golden_file() -> None:
    found = {decode(sample).opcode for sample in SAMPLES.values() if sample.kind is MessageKind.NOTIFICATION}
    assert found >= set(NOTIFY)


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - MALFORMED - NOTED))
def test_nothing_is_wrong_with_a_golden_message(name: str) -> None:
    assert decode(SAMPLES[name]).problems == ()


@pytest.mark.parametrize("name", sorted(MALFORMED | NOTED))
def test_what_is_wrong_with_a_golden_message_is_said(name: str) -> None:
    message = decode(SAMPLES[name])
    assert message.is_malformed == (name in MALFORMED)
    assert [problem.severity for problem in message.problems] == [
        Severity.ERROR if name in MALFORMED else Severity.NOTE
    ]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_rows_of_the_tree_cover_bytes_of_the_message(name: str) -> None:
    message = decode(SAMPLES[name])
    covered: set[int] = set()
    for row in tree(message):
        assert 0 <= row.start <= row.end <= len(message.data)
        if row.depth == 0:
            covered |= set(range(row.start, row.end))
    assert covered == set(range(len(message.data)))
