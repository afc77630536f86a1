"""The few facts bridges know by themselves are those the protocol's declaration states."""

from __future__ import annotations

import pytest

from dissectors.opcodes import NOTIFY, OPS
from dissectors.structs import REPLY_HEADER_SIZE, REQUEST_HEADER_SIZE
from tracer.bridges import framing


def test_headers_are_as_long_as_declared() -> None:
    assert framing.IN_HEADER_SIZE == framing.IN_HEADER["little"].size == REQUEST_HEADER_SIZE
    assert framing.OUT_HEADER_SIZE == framing.OUT_HEADER["big"].size == REPLY_HEADER_SIZE


def test_every_declared_opcode_and_notification_is_within_the_bounds() -> None:
    assert all(framing.is_opcode(code) for code in OPS)
    assert all(0 < code <= framing.MAX_NOTIFY_CODE for code in NOTIFY)
    assert OPS[framing.OPCODE_INIT].name == "INIT"
    assert OPS[framing.OPCODE_INTERRUPT].name == "INTERRUPT"
    assert OPS[framing.OPCODE_NOTIFY_REPLY].name == "NOTIFY_REPLY"
    assert OPS[framing.OPCODE_CUSE_INIT].name == "CUSE_INIT"


@pytest.mark.parametrize("order", ["little", "big"])
def test_messages_are_recognized_in_both_byte_orders(order: framing.ByteOrder) -> None:
    request = framing.IN_HEADER[order].pack(47, 1, 2, 1, 0, 0, 99, 0, 0) + b"a-name\0"
    assert framing.request_byte_order(request, 47) == order
    assert framing.request_byte_order(request[:8], 47) == order
    assert framing.request_byte_order(request[:7], 47) is None
    assert framing.request_byte_order(request, 48) is None
    assert framing.unique_of(request, order) == 2
    assert framing.unique_of(request[:15], order) == 0


@pytest.mark.parametrize(
    ("length", "error", "unique", "wire_len", "is_reply"),
    [
        (16, 0, 2, 16, True),
        (120, 0, 2, 120, True),
        (16, -2, 2, 16, True),
        (20, -2, 2, 20, False),  # an error has no body
        (16, 5, 2, 16, False),  # a reply's error is negative
        (40, 2, 0, 40, True),  # a notification
        (40, 0, 0, 40, False),
        (16, -5000, 2, 16, False),
        (17, 0, 2, 16, False),
    ],
)
def test_replies_and_notifications_are_recognized(
    length: int, error: int, unique: int, wire_len: int, is_reply: bool
) -> None:
    data = framing.OUT_HEADER["little"].pack(length, error, unique) + bytes(max(0, wire_len - 16))
    assert framing.is_reply(data, wire_len, "little") is is_reply
    assert framing.is_reply(data[:15], wire_len, "little") is False
