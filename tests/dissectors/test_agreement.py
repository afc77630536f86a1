"""The reference, the fast path, the columns and the decoder that never raises: they agree, or all find fault."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors import fast
from dissectors.decode import decode_request
from dissectors.layout import Context, agreed_layout, variants
from dissectors.message import Message, MessageKind
from dissectors.opcodes import NOTIFY, OPS, Answer, Either
from dissectors.reference import build_notification, build_reply, build_request
from tests.dissectors.agreement import assert_notification_agrees, assert_reply_agrees, assert_request_agrees
from tests.dissectors.samples import REPLY, REQUEST, SAMPLES, Sample, asked, request_of
from tests.dissectors.strategies import contexts, damaged, u32s, u64s, values_of

ANSWERED = [op.name for op in OPS.values() if op.answer is not Answer.NEVER]
BY_NAME = {op.name: op for op in OPS.values()}


def assert_agrees(sample: Sample, data: bytes, context: Context) -> None:
    if sample.kind is REQUEST:
        assert_request_agrees(data, context)
    elif sample.kind is REPLY:
        request = request_of(sample)
        assert request is not None
        assert_reply_agrees(data, context, request)
    else:
        assert_notification_agrees(data, context)


@pytest.mark.parametrize("name", SAMPLES)
def test_all_readers_agree_on_a_golden_message(name: str) -> None:
    assert_agrees(SAMPLES[name], SAMPLES[name].data, SAMPLES[name].context)


@given(damaged(), contexts)
@settings(max_examples=3000, deadline=None)
def test_all_readers_agree_on_a_damaged_message(found: tuple[Sample, bytes], context: Context) -> None:
    sample, data = found
    assert_agrees(sample, data, context)
    assert_agrees(sample, data, sample.context)


@pytest.mark.parametrize("name", BY_NAME)
@given(data=st.data(), context=contexts, unique=u64s, nodeid=u64s, uid=u32s)
@settings(max_examples=40, deadline=None)
def test_a_request_made_from_its_declaration_is_read_back_by_all(
    name: str, data: st.DataObject, context: Context, unique: int, nodeid: int, uid: int
) -> None:
    op = BY_NAME[name]
    layouts = (agreed_layout(op.request, context), *variants(op.request, context.order))
    layout = layouts[0] if layouts[0].tail else data.draw(st.sampled_from(layouts))
    values = data.draw(values_of(layout.fields))
    words = data.draw(st.binary(max_size=16).map(lambda raw: raw + bytes(-len(raw) % 8)))
    extension = words if op.extensible and (context.minor or 0) >= 38 else b""
    header = {"unique": unique, "nodeid": nodeid, "uid": uid, "gid": uid, "pid": uid, "padding": 1}
    message = build_request(header, op, values, context, extension)
    if context.init_flags is None and op.name == "SETXATTR":
        assert_request_agrees(message, context)  # its shape is guessed from the bytes, and any may be drawn
        return
    parsed = assert_request_agrees(message, context)
    assert parsed is not None
    assert parsed.op is op
    assert values.items() <= parsed.values.items() or any(isinstance(value, list) for value in values.values())
    assert (parsed.header["unique"], parsed.header["nodeid"], parsed.extension) == (unique, nodeid, extension)


@pytest.mark.parametrize("name", ANSWERED)
@given(data=st.data(), context=contexts, unique=u64s, wanted=st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_a_reply_made_from_its_declaration_is_read_back_by_all(
    name: str, data: st.DataObject, context: Context, unique: int, wanted: int
) -> None:
    op = BY_NAME[name]
    request = some_request(op.code, wanted)
    fields = op.reply
    if isinstance(fields, Either):
        fields = fields.otherwise if wanted else fields.then
    layouts = (agreed_layout(fields, context), *variants(fields, context.order))
    layout = layouts[0] if layouts[0].tail else data.draw(st.sampled_from(layouts))
    message = build_reply(unique, op, data.draw(values_of(layout.fields)), context, request.values)
    parsed = assert_reply_agrees(message, context, request)
    assert parsed is not None
    assert parsed.header == {"len": len(message), "error": 0, "unique": unique}


def some_request(code: int, size: int) -> Message:
    """Return a request of which only the first word of the body matters: the size that GETXATTR asks for."""
    data = asked(code, size.to_bytes(4, "little") + bytes(4) + b"user.x\0")
    return decode_request(data, len(data), Context(45, 0))


@pytest.mark.parametrize("code", NOTIFY)
@given(data=st.data(), context=contexts)
@settings(max_examples=40, deadline=None)
def test_a_notification_made_from_its_declaration_is_read_back_by_all(
    code: int, data: st.DataObject, context: Context
) -> None:
    values = data.draw(values_of(NOTIFY[code].payload))
    message = build_notification(NOTIFY[code], values, context)
    parsed = assert_notification_agrees(message, context)
    assert parsed is not None
    assert parsed.op is NOTIFY[code]


@pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name].kind is not MessageKind.NOTIFICATION])
def test_a_message_is_read_where_it_lies_among_others(name: str) -> None:
    sample = SAMPLES[name]
    request = request_of(sample)
    reader = fast.reader(sample.context)
    around = b"\xff" * 7 + sample.data + b"\xff" * 300
    start, end = 7, 7 + len(sample.data)
    if request is None:
        code = decode_request(sample.data, len(sample.data), sample.context).opcode
        expected = reader.request(sample.data, 0, len(sample.data), code)
        assert reader.request(memoryview(around), start, end, code) == expected
        assert reader.request(around, start, end, code) == expected
    else:
        expected = reader.reply(sample.data, 0, len(sample.data), request.opcode, request.values)
        assert reader.reply(memoryview(around), start, end, request.opcode, request.values) == expected
