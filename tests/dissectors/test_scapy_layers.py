"""scapy's layers are the declared messages: they build and read what the reference does, and refuse what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.packet import NoPayload, Packet, Padding, Raw

from dissectors import scapy_layers as layers
from dissectors.errnos import MAX_ERRNO
from dissectors.fields import Field, Kind
from dissectors.layout import Context, agreed_layout, variants
from dissectors.message import MessageKind
from dissectors.opcodes import NOTIFY, OPS, Answer, Either, notify_name
from dissectors.reference import (
    Parsed,
    Refused,
    build_notification,
    build_reply,
    build_request,
    parse_notification,
    parse_reply,
    parse_request,
)
from dissectors.scapy_layers import attribute, layer
from tests.dissectors.agreement import all_fields
from tests.dissectors.samples import NOW, REPLY, REQUEST, SAMPLES, Sample, decode, request_of
from tests.dissectors.strategies import contexts, damaged, values_of

BY_NAME = {op.name: op for op in OPS.values()}
ANSWERED = [op.name for op in OPS.values() if op.answer is not Answer.NEVER]


def dissected(sample: Sample, data: bytes, context: Context) -> Packet:
    if sample.kind is REQUEST:
        return layers.request(data, context)
    if sample.kind is REPLY:
        request = request_of(sample)
        assert request is not None
        return layers.reply(data, request.name, context, request.values)
    return layers.notification(data, context)


def parsed(sample: Sample, data: bytes, context: Context) -> Parsed:
    if sample.kind is REQUEST:
        return parse_request(data, context)
    if sample.kind is REPLY:
        request = request_of(sample)
        assert request is not None
        return parse_reply(data, context, BY_NAME[request.name], request.values)
    return parse_notification(data, context)


def as_declared(packet: Packet) -> dict[str, Any]:
    """Return the values of a layer as the reference gives them."""
    there = [field for field in packet.fields_desc if not (field.isconditional and not field._evalcond(packet))]
    values = {field.name: packet.getfieldval(field.name) for field in there}
    return {
        name: [as_declared(one) if isinstance(one, Packet) else one for one in value]
        if isinstance(value, list)
        else value
        for name, value in values.items()
        if value is not None and not (name == "_pad" and not value)
    }


def as_scapy(fields: tuple[Field, ...], values: Mapping[str, Any], order: str) -> dict[str, Any]:
    """Return the reference's values as arguments of a layer."""
    known = {field.name: field for field in fields}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name == "_narrow":
            continue
        field = known.get(name)
        if field is not None and field.kind is Kind.RECORDS:
            found[attribute(name)] = [_record(field, one, order) for one in value]
        else:
            found[attribute(name) if field else name] = value
    return found


def _record(field: Field, values: Mapping[str, Any], order: str) -> Packet:
    fields = field.narrow_record if "_narrow" in values else field.record
    return layers.record_class(fields, order, field.align)(**as_scapy(fields, values, order))


def without_marks(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name if name == "_pad" else attribute(name): without_marks(one)
            for name, one in value.items()
            if name != "_narrow"
        }
    return [without_marks(one) for one in value] if isinstance(value, list) else value


def rebuilt(packet: Packet, found: Parsed, kind: MessageKind, context: Context) -> bytes:
    """Build the message anew from the reference's values, with lengths left to scapy."""
    left_out = ("len", "opcode") if kind is REQUEST else ("len",)
    header = {name: value for name, value in found.header.items() if name not in left_out}
    made = type(packet)(**header)
    if not isinstance(packet.payload, NoPayload | Raw):
        made /= type(packet.payload)(**as_scapy(all_fields(found.op, kind), found.values, context.order))
    elif kind is REQUEST:
        made.opcode = found.header["opcode"]
    return bytes(made / found.extension) if found.extension else bytes(made)


def assert_agrees(sample: Sample, data: bytes, context: Context) -> None:
    if sample.kind is MessageKind.NOTIFICATION and any(data[8:16]):
        return  # to scapy a message with a unique is a reply; the reference believes who calls it
    try:
        found = parsed(sample, data, context)
    except Refused:
        assert_refused_too(sample, data, context)
        return
    packet = dissected(sample, data, context)
    empty = isinstance(packet.payload, NoPayload)
    if empty:
        assert not any(value for value in found.values.values()), "a body without a byte has no value"
    elif not isinstance(packet.payload, Raw):
        assert as_declared(packet.payload) == without_marks(found.values)
    behind = packet.payload.payload if not isinstance(packet.payload, Raw) else packet.payload
    assert bytes(behind) == found.extension
    assert rebuilt(packet, found, sample.kind, context) == data
    packet.clear_cache()
    assert bytes(packet) == data


def assert_refused_too(sample: Sample, data: bytes, context: Context) -> None:
    """Assert that scapy leaves bytes over; it checks neither lengths nor errors in the header, nor extension areas."""
    if len(data) < (40 if sample.kind is REQUEST else 16):
        return
    packet = dissected(sample, data, context)
    if packet.len != len(data) or (sample.kind is REQUEST and packet.total_extlen):
        return
    if sample.kind is REPLY and not -MAX_ERRNO <= packet.error <= 0:
        return
    has_rest = packet.haslayer(Raw) or packet.haslayer(Padding)
    assert has_rest or isinstance(packet.payload, NoPayload)


# ---- both ways -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_a_golden_message_is_read_and_built_as_the_reference_does(name: str) -> None:
    assert_agrees(SAMPLES[name], SAMPLES[name].data, SAMPLES[name].context)


def test_every_operation_and_notification_is_among_the_golden_messages() -> None:
    asked = {decode(sample).name for sample in SAMPLES.values() if sample.kind is not MessageKind.NOTIFICATION}
    assert asked >= set(BY_NAME)
    told = {decode(sample).name for sample in SAMPLES.values() if sample.kind is MessageKind.NOTIFICATION}
    assert told >= {notify_name(code) for code in NOTIFY}


@given(damaged(), contexts)
@settings(max_examples=1000, deadline=None)
def test_scapy_agrees_on_a_damaged_message_or_leaves_bytes_over(found: tuple[Sample, bytes], context: Context) -> None:
    sample, data = found
    assert_agrees(sample, data, context)
    assert_agrees(sample, data, sample.context)


@pytest.mark.parametrize("name", BY_NAME)
@given(data=st.data(), context=contexts)
@settings(max_examples=20, deadline=None)
def test_any_request_is_read_and_built_as_the_reference_does(name: str, data: st.DataObject, context: Context) -> None:
    op = BY_NAME[name]
    if context.init_flags is None and name == "SETXATTR":
        return  # its shape is guessed from the bytes, and any may be drawn
    layouts = (agreed_layout(op.request, context), *variants(op.request, context.order))
    layout = layouts[0] if layouts[0].tail else data.draw(st.sampled_from(layouts))
    message = build_request({"unique": 2, "nodeid": 7}, op, data.draw(values_of(layout.fields)), context)
    assert_agrees(Sample("", REQUEST, message), message, context)


@pytest.mark.parametrize("name", ANSWERED)
@given(data=st.data(), context=contexts, size=st.integers(0, 1))
@settings(max_examples=20, deadline=None)
def test_any_reply_is_read_and_built_as_the_reference_does(
    name: str, data: st.DataObject, context: Context, size: int
) -> None:
    op, asked = BY_NAME[name], {"size": size}
    fields = op.reply
    if isinstance(fields, Either):
        fields = fields.then if fields.when.holds(size) else fields.otherwise
    layouts = (agreed_layout(fields, context), *variants(fields, context.order))
    layout = layouts[0] if layouts[0].tail else data.draw(st.sampled_from(layouts))
    message = build_reply(2, op, data.draw(values_of(layout.fields)), context, asked)
    packet = layers.reply(message, name, context, asked)
    found = parse_reply(message, context, op, asked)
    assert isinstance(packet.payload, NoPayload) or as_declared(packet.payload) == without_marks(found.values)
    assert not packet.haslayer(Raw)
    assert rebuilt(packet, found, REPLY, context) == message


@pytest.mark.parametrize("code", NOTIFY)
@given(data=st.data(), context=contexts)
@settings(max_examples=20, deadline=None)
def test_any_notification_is_read_and_built_as_the_reference_does(
    code: int, data: st.DataObject, context: Context
) -> None:
    message = build_notification(NOTIFY[code], data.draw(values_of(NOTIFY[code].payload)), context)
    assert_agrees(Sample("", MessageKind.NOTIFICATION, message), message, context)


# ---- what people write -----------------------------------------------------------------------------------------------


def test_a_request_is_crafted_from_what_matters() -> None:
    header = layer("fuse_in_header")(unique=0x1C4, nodeid=1, uid=1000, gid=1000, pid=4242)
    assert bytes(header / layer("LOOKUP")(name_=b"report.txt")) == SAMPLES["lookup.request"].data


def test_flags_are_said_by_name() -> None:
    assert layer("OPEN")(flags="O_RDWR|O_TRUNC").flags == 0o1002
    with pytest.raises(ValueError, match="flags has no value 'O_QUICK'"):
        layer("OPEN")(flags="O_QUICK")


@pytest.mark.parametrize(("minor", "size"), [(8, 24), (9, 40)])
def test_a_layer_is_laid_out_for_its_session(minor: int, size: int) -> None:
    assert len(layer("READ", Context(minor, 0))()) == size
    assert bytes(layer("READ", Context(minor, 0, big_endian=True))(fh=1))[:8] == bytes(7) + b"\1"


def test_which_reply_to_getxattr_depends_on_what_was_asked() -> None:
    assert [field.name for field in layer("GETXATTR.reply").fields_desc] == ["value"]
    assert layer("GETXATTR.reply", asked={"size": 0})().size == 0


def test_a_layer_that_is_none_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        layer("REED")


def test_no_two_fields_of_a_layer_have_one_name() -> None:
    for name in (*BY_NAME, *(f"{name}.reply" for name in BY_NAME), *map(notify_name, NOTIFY)):
        names = [field.name for field in layer(name).fields_desc]
        assert len(names) == len(set(names)), name
        assert not any(hasattr(Packet, one) for one in names)


def test_a_message_of_a_trace_is_a_packet() -> None:
    request = decode(SAMPLES["getxattr_size.request"])
    reply = decode(SAMPLES["getxattr_size.reply"])
    assert layers.packet_of(request).payload.name_ == b"user.comment"
    assert layers.packet_of(reply, request).payload.size == 8
    assert layers.packet_of(decode(SAMPLES["prune.notification"])).payload.nodeids == [5, 6]


def test_names_that_could_drive_a_terminal_are_shown_escaped() -> None:
    assert "\x1b" not in layers.request(SAMPLES["unlink.request"].data, NOW).show(dump=True)


def test_a_listing_of_a_mebibyte_is_read() -> None:
    one = SAMPLES["readdirplus.reply"].data[16:]
    whole = one * ((1 << 20) // len(one))
    packet = layers.reply(_with_header(whole), "READDIRPLUS")
    assert len(packet.payload.entries) == 3 * ((1 << 20) // len(one))


def _with_header(body: bytes) -> bytes:
    return (16 + len(body)).to_bytes(4, "little") + bytes(4) + (2).to_bytes(8, "little") + body


def test_what_the_documentation_shows_runs() -> None:
    root = Path(__file__).parents[2]
    shown = re.findall(r"```python\n(.*?)```", (root / "docs/scapy.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(shown)], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "fuse_in_header / OPENDIR -> fuse_out_header / OPENDIR_reply" in done.stdout
    assert "flags     = RDWR|TRUNC (0x202)" in done.stdout
