"""A message as JSON: its values, and each field with its name and its bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors import fast
from dissectors.decode import decode_reply, decode_request
from dissectors.describe import tree
from dissectors.jsonform import fields_json, message_json, values_json
from dissectors.layout import Context
from dissectors.message import Message, MessageKind, Node
from dissectors.opcodes import Op
from tests.dissectors.samples import NOW, SAMPLES, Sample, answered, asked, decode, le, request_of
from tests.dissectors.strategies import contexts, damaged


@pytest.mark.parametrize("name", SAMPLES)
def test_json_holds_nothing_but_json(name: str) -> None:
    message = decode(SAMPLES[name])
    found = message_json(message)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name].kind is not MessageKind.NOTIFICATION])
def test_the_fast_json_is_the_body_of_the_full_one(name: str) -> None:
    sample = SAMPLES[name]
    message, request = decode(sample), request_of(sample)
    reader = fast.reader(sample.context)
    length = len(sample.data)
    if request is None:
        values = reader.request(sample.data, 0, length, message.opcode)
    else:
        values = reader.reply(sample.data, 0, length, message.opcode, request.values)
    if values is None:
        assert message.problems
        return
    op = message.op
    assert op is None or isinstance(op, Op)
    assert values_json(op, values, reply=request is not None) == message_json(message)["body"]


def shown_leaves(message: Message) -> list[tuple[str, str, Node]]:
    """Return the part, the last part of the name and the node of each shown field without members."""
    parts = {"header": message.header, "body": message.body, "extension": message.extension}
    return [
        (part, node.name, node)
        for part, nodes in parts.items()
        for top in nodes
        for node in top.walk()
        if not node.children and node.name != "_pad" and not (node.field is not None and node.field.hidden)
    ]


def assert_fields_are_told(message: Message) -> None:
    """Each shown field is told once, in order, with its bytes; each flag set and enumeration by name as well."""
    fields, leaves = fields_json(message), shown_leaves(message)
    assert [(row["part"], row["at"], row["size"]) for row in fields] == [
        (part, node.start, node.end - node.start) for part, _, node in leaves
    ]
    at = 0
    for row, (_, name, node) in zip(fields, leaves, strict=True):
        assert row["name"] == name or row["name"].endswith("." + name)
        assert at <= row["at"] <= row["at"] + row["size"] <= len(message.data), row
        at = row["at"] + row["size"]
        if node.field is not None and node.field.names is not None and isinstance(node.value, int):
            assert row["text"] == node.field.names.text(node.value)
        if isinstance(node.value, int):
            assert row["value"] == node.value


@pytest.mark.parametrize("name", SAMPLES)
def test_json_tells_each_field_with_its_bytes_and_its_name(name: str) -> None:
    message = decode(SAMPLES[name])
    assert_fields_are_told(message)
    assert message_json(message)["fields"] == fields_json(message)


@given(damaged(), contexts, st.integers(0, 64))
@settings(max_examples=600, deadline=None)
def test_json_tells_the_fields_of_a_damaged_message(found: tuple[Sample, bytes], context: Context, more: int) -> None:
    sample, data = found
    for session in (context, sample.context):
        changed = Sample(sample.name, sample.kind, data, session, sample.answers)
        assert_fields_are_told(decode(changed, data, len(data) + more))


@pytest.mark.parametrize("name", SAMPLES)
def test_names_and_bytes_of_the_fields_are_those_of_the_detail_tree(name: str) -> None:
    message = decode(SAMPLES[name])
    rows = {(row.name, row.start, row.end) for row in tree(message)}
    assert {(row["name"], row["at"], row["at"] + row["size"]) for row in fields_json(message)} <= rows


def texts_of(message: Message) -> dict[str, str]:
    return {f"{row['part']}.{row['name']}": row["text"] for row in fields_json(message) if "text" in row}


def test_bits_without_a_name_are_told_as_a_number() -> None:
    flags, mode, umask = 0x4000_8042, 0o120777, 0o27
    found = texts_of(decode_request(asked(35, le("4I", flags, mode, umask, 0) + b"a\0"), 58, NOW))
    assert found["header.opcode"] == "CREATE"
    assert found["body.flags"] == "RDWR|CREAT|LARGEFILE|0x40000000"
    assert (found["body.mode"], found["body.umask"]) == ("lrwxrwxrwx", "027")


def test_the_error_is_told_by_name_and_a_notification_by_its_own() -> None:
    assert texts_of(decode_reply(answered(error=-38), 16, NOW, None, opcode=50))["header.error"] == "ENOSYS"
    assert texts_of(decode_reply(answered(error=-4000), 16, NOW, None, opcode=50))["header.error"] == "-4000"
    told = decode(SAMPLES["inval_entry.notification"])
    assert texts_of(told)["header.error"] == "NOTIFY_INVAL_ENTRY"
