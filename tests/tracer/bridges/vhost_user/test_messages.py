"""Messages over real sockets: what arrives whole, and what ends the conversation."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.bridges.vhost_user import features
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.messages import (
    MAX_FDS,
    NEED_REPLY,
    REPLY,
    SHAPES,
    VERSION,
    Message,
    Request,
    Wire,
    checked_request,
)


@contextlib.contextmanager
def wired() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    wire = Wire(ours, "the peer")
    try:
        yield wire, theirs
    finally:
        wire.close()
        theirs.close()


def header(request: int, flags: int, size: int) -> bytes:
    return struct.pack("=III", request, flags, size)


def send_fds(to: socket.socket, data: bytes, count: int) -> None:
    fds = array.array("i", [to.fileno()] * count)
    to.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=5), st.data())
@settings(max_examples=50, deadline=None)
def test_messages_arrive_whole_however_they_were_cut(messages: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(header(number, VERSION, len(payload)) + payload for number, payload in messages)
    with wired() as (wire, peer):
        got: list[tuple[int, bytes]] = []
        while stream:
            count = data.draw(st.integers(1, len(stream)))
            peer.sendall(stream[:count])
            stream = stream[count:]
            while (message := wire.read()) is not None:
                got.append((message.request, message.payload))
        assert got == messages


def test_descriptors_come_with_their_message_and_go_on_with_it() -> None:
    with wired() as (wire, peer), wired() as (onward, end):
        before = open_fds()
        send_fds(peer, header(Request.SET_BACKEND_REQ_FD, VERSION | NEED_REPLY, 0), 1)
        message = wire.read()
        assert message is not None
        assert len(message.fds) == 1
        assert message.needs_reply
        onward.write(message)
        assert open_fds() == before
        data, fds, _, _ = socket.recv_fds(end, 100, 4)
        assert data == header(Request.SET_BACKEND_REQ_FD, VERSION | NEED_REPLY, 0)
        assert os.fstat(fds[0]).st_ino == os.fstat(peer.fileno()).st_ino
        os.close(fds[0])


def test_the_end_of_the_other_side_is_told_even_within_a_message() -> None:
    with wired() as (wire, peer):
        peer.sendall(header(1, VERSION, 8) + b"abc")
        peer.close()
        with pytest.raises(EOFError):
            wire.read()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header(1, 2, 0), "version 2"),
        (header(1, VERSION, 4097), "a message of 4097 bytes"),
        (header(1, VERSION, 0xFFFFFFFF), "a message of 4294967295 bytes"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, reason: str) -> None:
    with wired() as (wire, peer):
        peer.sendall(data)
        with pytest.raises(Refused, match=reason):
            wire.read()


def test_more_descriptors_than_any_message_has_are_refused_and_closed() -> None:
    before = open_fds()
    with wired() as (wire, peer):
        send_fds(peer, header(1, VERSION, 0), MAX_FDS + 1)
        with pytest.raises(Refused, match="more than 32 descriptors"):
            wire.read()
    assert open_fds() == before


def test_descriptors_within_a_message_are_refused() -> None:
    with wired() as (wire, peer):
        peer.sendall(header(1, VERSION, 8))
        assert wire.read() is None
        send_fds(peer, bytes(8), 1)
        with pytest.raises(Refused, match="in the middle of a message"):
            wire.read()


@pytest.mark.parametrize("request_id", [0, 19, 45, 1000, 0xFFFFFFFF])
def test_a_message_that_nobody_knows_is_refused(request_id: int) -> None:
    with pytest.raises(Refused, match=f"message {request_id}, which is not known"):
        checked_request(Message(request_id, VERSION, b""))


@pytest.mark.parametrize("request_id", list(Request))
def test_every_request_of_a_wrong_shape_is_refused(request_id: Request) -> None:
    shape = SHAPES[request_id]
    wrong = [Message(request_id, VERSION, bytes(shape.most + 1), [0] * shape.least_fds)]
    wrong += [Message(request_id, VERSION, bytes(shape.least), [0] * (shape.most_fds + 1))]
    wrong += [Message(request_id, VERSION | REPLY, bytes(shape.least), [0] * shape.least_fds)]
    if shape.least:
        wrong.append(Message(request_id, VERSION, bytes(shape.least - 1), [0] * shape.least_fds))
    for message in wrong:
        with pytest.raises(Refused, match=request_id.name):
            checked_request(message)
    right = Message(request_id, VERSION, bytes(shape.least), [0] * shape.least_fds)
    if shape.refusal:
        with pytest.raises(Refused, match="not offered"):
            checked_request(right)
    else:
        assert checked_request(right) is request_id


def test_what_would_blind_the_tap_is_not_offered_and_each_reason_is_said() -> None:
    everything = (1 << 64) - 1
    assert [bit for bit in range(64) if not features.device(everything) >> bit & 1] == [26, 33, 34, 35, 38]
    assert [bit for bit in range(22) if not features.protocol(everything) >> bit & 1] == [1, 8, 11, 12, 14, 17, 20, 21]
    told = features.masked(1 << 34 | features.EVENT_IDX, features.DEVICE)
    assert told == ["RING_PACKED is not offered to the VMM: the tap copies split rings only"]
