"""The decoder that never raises: damage, cuts, hostile counts, and what it says about each."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors import fast
from dissectors.decode import decode_notification, decode_reply, decode_request
from dissectors.describe import summary, tree
from dissectors.fields import MAX_ELEMENTS
from dissectors.jsonform import message_json
from dissectors.layout import Context
from dissectors.message import Message, MessageKind, Node, Severity
from dissectors.opcodes import OPS, Op
from tests.dissectors.samples import (
    NOW,
    REPLY,
    REQUEST,
    SAMPLES,
    SECCTX_BLOCK,
    Sample,
    answered,
    asked,
    decode,
    le,
    request_of,
    told,
)
from tests.dissectors.strategies import contexts, damaged


def assert_can_be_shown(message: Message) -> None:
    """Everything that shows a message takes this one, and no row lies outside of its bytes."""
    for row in tree(message):
        assert 0 <= row.start <= row.end <= len(message.data)
        assert row.text.isprintable()
    message_json(message)
    assert summary(message.op, message.values, message.values, message.error).isprintable()


def errors(message: Message) -> list[str]:
    return [problem.text for problem in message.problems if problem.severity is Severity.ERROR]


def notes(message: Message) -> list[str]:
    return [problem.text for problem in message.problems if problem.severity is Severity.NOTE]


opcodes = st.sampled_from(sorted(OPS)) | st.integers(0, 2**32 - 1)


@given(st.binary(max_size=300), st.integers(0, 400), contexts, opcodes)
@settings(max_examples=1500, deadline=None)
def test_any_bytes_decode_to_something_that_can_be_shown(data: bytes, more: int, context: Context, opcode: int) -> None:
    asked_for = data[:4] + opcode.to_bytes(4, "big" if context.big_endian else "little") + data[8:]
    request = decode_request(asked_for, len(asked_for) + more, context)
    assert_can_be_shown(request)
    assert_can_be_shown(decode_reply(data, len(data) + more, context, request))
    assert_can_be_shown(decode_reply(data, len(data) + more, context, None, opcode=opcode))
    assert_can_be_shown(decode_reply(data, len(data) + more, context, None))
    code = (opcode % 11).to_bytes(4, "big" if context.big_endian else "little")
    told_bytes = data[:4] + code + data[8:]
    assert_can_be_shown(decode_notification(told_bytes, len(told_bytes) + more, context))


@given(damaged(), contexts, st.integers(0, 64))
@settings(max_examples=1500, deadline=None)
def test_a_damaged_message_decodes_to_something_that_can_be_shown(
    found: tuple[Sample, bytes], context: Context, more: int
) -> None:
    sample, data = found
    for session in (context, sample.context):
        changed = Sample(sample.name, sample.kind, data, session, sample.answers)
        assert_can_be_shown(decode(changed, data, len(data) + more))


# ---- cuts ----


def leaves(message: Message) -> dict[tuple[str, int, int], Node]:
    """Return the nodes without children by name and place."""
    nodes = (node for top in (*message.header, *message.body, *message.extension) for node in top.walk())
    return {(node.name, node.start, node.end): node for node in nodes if not node.children and node.field is not None}


@pytest.mark.parametrize("name", SAMPLES)
def test_whatever_lies_before_a_cut_of_the_capture_survives_and_the_cut_is_noted(name: str) -> None:
    sample = SAMPLES[name]
    length = len(sample.data)
    whole = leaves(decode(sample))
    for size in range(length):
        message = decode(sample, sample.data[:size], length)
        found = leaves(message)
        for (field, start, end), node in whole.items():
            if end <= size and end > start:
                assert found[field, start, end].value == node.value, (size, field)
        assert message.lost_bytes == length - size
        assert set(errors(message)) <= set(errors(decode(sample)))
        assert any("the capture kept" in text for text in notes(message)), size
        assert_can_be_shown(message)


@pytest.mark.parametrize("name", [name for name in SAMPLES if not SAMPLES[name].data[36:38].strip(b"\0")])
def test_whatever_lies_before_the_end_of_a_short_message_survives_and_the_fault_is_said(name: str) -> None:
    sample = SAMPLES[name]
    whole = {key: node for key, node in leaves(decode(sample)).items() if node.field is not None}
    for size in range(len(sample.data)):
        message = decode(sample, sample.data[:size])
        assert message.problems
        assert_can_be_shown(message)
        found = leaves(message)
        for (field, start, end), node in whole.items():
            if end <= size and end > start and (field, start, end) in found:
                assert found[field, start, end].value == node.value


@pytest.mark.parametrize("name", ["read.reply", "write.request", "store.notification", "getxattr.reply"])
def test_the_fast_path_reads_a_message_whose_data_alone_was_cut(name: str) -> None:
    sample = SAMPLES[name]
    length = len(sample.data)
    request = request_of(sample)
    reader = fast.reader(sample.context)
    fits = 0
    for size in range(16, length):
        kept = sample.data[:size]
        slow = decode(sample, kept, length)
        if sample.kind is REQUEST:
            quick = reader.request(kept, 0, size, slow.opcode, length)
        elif request is not None:
            quick = reader.reply(kept, 0, size, slow.opcode, request.values, length)
        else:
            quick = reader.notification(kept, 0, size, slow.opcode, length)
        if quick is not None:
            fits += 1
            shown = {node.name: node.value for node in slow.body if node.field is not None and not node.field.hidden}
            assert quick == shown
    assert fits >= 5


# ---- what is said about faults ----


def test_a_header_that_lies_about_its_length_is_reported() -> None:
    data = bytearray(asked(1, b"x\0"))
    data[0] = 99
    assert errors(decode_request(bytes(data), len(data), NOW)) == ["the header says 99 bytes, 42 were sent"]


def test_a_name_without_its_nul_is_reported_and_shown() -> None:
    message = decode_request(asked(1, b"endless"), 47, NOW)
    assert errors(message) == ["name has no NUL at its end"]
    assert message.values == {"name": b"endless"}


def test_a_write_that_announces_more_than_it_carries_is_reported_and_its_bytes_are_shown() -> None:
    data = asked(16, le("QQIIQII", 1, 0, 4096, 0, 0, 0, 0) + b"short")
    message = decode_request(data, len(data), NOW)
    assert errors(message) == ["data should have 4096 bytes, 5 are left"]
    assert message.values["data"] == b"short"


def test_bytes_after_the_end_of_a_message_are_reported() -> None:
    data = asked(50, bytes(8) + b"more")
    assert errors(decode_request(data, len(data), NOW)) == ["4 bytes more than this message is known to have"]


def test_an_extension_area_longer_than_the_message_is_reported_and_the_name_survives() -> None:
    data = bytearray(asked(9, le("II", 0o755, 0o22) + b"folder\0"))
    data[36:38] = b"\xff\xff"
    message = decode_request(bytes(data), len(data), NOW)
    assert errors(message) == ["extension area of 524280 bytes in a message of 55"]
    assert message.values["name"] == b"folder"


def test_an_extension_area_where_none_belongs_is_reported() -> None:
    data = bytearray(asked(10, b"old\0" + le("II", 8, 0)))
    data[36] = 1
    message = decode_request(bytes(data), len(data), NOW)
    assert errors(message) == ["UNLINK has no extension area"]
    assert message.values["name"] == b"old"


def test_extensions_that_overrun_their_area_are_reported_and_the_body_survives() -> None:
    data = bytearray(asked(9, le("II", 0o755, 0o22) + b"folder\0" + le("II", 64, 1)))
    data[36] = 1
    message = decode_request(bytes(data), len(data), NOW)
    assert errors(message) == ["extension of 64 bytes, 8 are left"]
    assert message.values["name"] == b"folder"


def test_an_unknown_extension_is_shown_raw() -> None:
    data = bytearray(asked(9, le("II", 0o755, 0o22) + b"folder\0" + le("II", 16, 77) + b"whatever"))
    data[36] = 2
    message = decode_request(bytes(data), len(data), NOW)
    assert message.problems == ()
    assert [node.name for node in message.extension] == ["extension_77"]
    assert message.extension[0].children[-1].value == b"whatever"


@pytest.mark.parametrize("minor", [36, 37, None])
def test_a_security_context_before_7_38_is_found_behind_the_names(minor: int | None) -> None:
    flags = None if minor is None else 1 << 32
    data = asked(6, b"link\0target\0" + SECCTX_BLOCK)
    message = decode_request(data, len(data), Context(minor, flags))
    assert message.problems == ()
    assert message.values == {"name": b"link", "target": b"target"}
    assert [node.name for node in message.extension] == ["security_context"]


@pytest.mark.parametrize("context", [Context(35, 1 << 32), Context(45, 1 << 32), Context(37, 0)])
def test_bytes_behind_the_names_are_a_fault_where_no_security_context_was_agreed_on(context: Context) -> None:
    data = asked(9, le("II", 0o755, 0o22) + b"folder\0" + SECCTX_BLOCK)
    message = decode_request(data, len(data), context)
    assert message.extension == ()
    assert errors(message) == ["72 bytes more than this message is known to have"]


def test_an_error_reply_with_a_body_is_reported() -> None:
    data = answered(b"body", error=-2)
    message = decode_reply(data, len(data), NOW, None, opcode=1)
    assert errors(message) == ["an error reply must have no body: the caller gets EIO"]


@pytest.mark.parametrize("error", [1, 2**31 - 1, -512, -(2**31)])
def test_an_error_the_kernel_refuses_is_reported(error: int) -> None:
    data = answered(error=error)
    message = decode_reply(data, len(data), NOW, None, opcode=1)
    assert errors(message) == [f"error {error} is not 0 or a negative errno: the kernel refuses it"]


def test_an_answer_to_forget_is_reported() -> None:
    message = decode_reply(answered(), 16, NOW, None, opcode=2)
    assert errors(message) == ["FORGET must not be answered"]


def test_a_reply_whose_shape_depends_on_a_missing_request_is_shown_raw() -> None:
    data = answered(b"value")
    message = decode_reply(data, len(data), NOW, None, opcode=22)
    assert notes(message) == ["its shape depends on the request, which is missing"]
    assert message.values == {"body": b"value"}


def test_a_reply_without_its_request_is_shown_raw() -> None:
    data = answered(b"value")
    message = decode_reply(data, len(data), NOW, None)
    assert message.values == {"body": b"value"}
    assert message.name == "?"


def test_an_invalidation_without_the_nul_after_its_name_is_reported() -> None:
    data = told(3, le("QII", 1, 3, 0) + b"abc")
    message = decode_notification(data, len(data), NOW)
    assert errors(message) == ["nul needs 1 bytes, 0 are left"]
    assert message.values["name"] == b"abc"


def test_a_dirent_whose_padding_is_missing_is_what_the_kernel_ignores() -> None:
    data = answered(le("QQII", 1, 1, 3, 8) + b"abc")
    request = decode(SAMPLES["readdir.request"])
    message = decode_reply(data, len(data), NOW, request)
    assert notes(message) == ["entries[0] is not all there: the kernel ignores it"]
    assert not message.is_malformed


def test_an_ioctl_retry_after_7_15_has_only_wide_iovecs() -> None:
    data = answered(le("iIII", 0, 4, 1, 1) + bytes(16))
    message = decode_reply(data, len(data), Context(16, 0), decode(SAMPLES["ioctl.request"]))
    assert message.is_malformed


# ---- work is bounded ----

HUGE = 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (42, le("II", HUGE, 0) + bytes(1 << 20)),
        (49, le("I", HUGE) + bytes(1 << 20)),
        (16, le("QQIIQII", 0, 0, HUGE, 0, 0, 0, 0) + bytes(1 << 20)),
        (21, le("IIII", HUGE, 0, 0, 0) + b"user.x\0" + bytes(1 << 20)),
        (1, b"x" * (1 << 20)),
    ],
    ids=["BATCH_FORGET", "REMOVEMAPPING", "WRITE", "SETXATTR", "LOOKUP"],
)
def test_a_count_of_four_billion_costs_no_more_than_the_bytes_that_are_there(opcode: int, body: bytes) -> None:
    data = asked(opcode, body)
    message = decode_request(data, len(data), NOW)
    assert message.problems
    assert len(message.body[-1].children) <= MAX_ELEMENTS
    op = OPS[opcode]
    assert fast.request_values(data, 0, len(data), NOW, op) is None


def test_a_reply_of_more_entries_than_can_be_shown_says_so() -> None:
    request = decode(SAMPLES["listxattr.request"])
    data = answered(b"\0" * (MAX_ELEMENTS + 1))
    message = decode_reply(data, len(data), NOW, request)
    assert notes(message) == [f"only the first {MAX_ELEMENTS} names are shown"]
    op = request.op
    assert isinstance(op, Op)
    assert fast.reply_values(data, 0, len(data), NOW, op, request.values) is None


def test_an_extension_area_of_many_empty_records_is_not_shown_to_its_end() -> None:
    data = bytearray(asked(9, le("II", 0, 0) + b"f\0" + le("II", 8, 0) * 60000))
    data[36:38] = struct.pack("<H", 60000)
    message = decode_request(bytes(data), len(data), NOW)
    assert len(message.extension) == 1024
    assert notes(message) == ["only the first 1024 extensions are shown"]


def test_a_message_of_no_bytes_at_all_decodes() -> None:
    for message in (
        decode_request(b"", 0, NOW),
        decode_reply(b"", 0, NOW, None),
        decode_notification(b"", 0, NOW),
    ):
        assert message.header == ()
        assert message.problems
        assert_can_be_shown(message)


def test_the_kinds_of_messages_are_told_apart() -> None:
    assert decode(SAMPLES["poll.request"]).name == "POLL"
    assert decode(SAMPLES["poll.notification"]).name == "NOTIFY_POLL"
    assert decode(SAMPLES["poll.reply"]).kind is MessageKind.REPLY
    assert SAMPLES["poll.reply"].kind is REPLY
