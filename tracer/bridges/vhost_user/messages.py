"""The vhost-user protocol: what each message carries, and how it travels over a socket.

Source: docs/interop/vhost-user.rst of QEMU. A message is a header {u32 request, u32 flags, u32 size} in native byte
order and `size` bytes; descriptors travel with the first byte of the header.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from tracer.bridges.vhost_user.failures import Refused

HEADER: Final = struct.Struct("=III")
VERSION: Final = 1  # bits 0 and 1 of the flags
VERSION_BITS: Final = 3
REPLY: Final = 1 << 2
NEED_REPLY: Final = 1 << 3
MAX_PAYLOAD: Final = 4096  # the most that rust-vmm's vhost takes; the longest message known has 2056
MAX_FDS: Final = 32
NO_FD: Final = 1 << 8  # of the word of SET_VRING_KICK, CALL, ERR
RING_INDEX: Final = 0xFF

U64: Final = struct.Struct("=Q")
STATE: Final = struct.Struct("=II")  # ring, number
ADDRESS: Final = struct.Struct("=IIQQQQ")  # ring, flags, descriptors, used, available, log
TABLE: Final = struct.Struct("=II")  # number of regions, padding
REGION: Final = struct.Struct("=QQQQ")  # guest address, size, user address, offset in the file
SINGLE_REGION: Final = struct.Struct("=QQQQQ")  # padding, then a region
CONFIG: Final = struct.Struct("=III")  # offset, size, flags, then `size` bytes


class Request(IntEnum):
    """What the VMM asks of the daemon."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43
    GET_SHMEM_CONFIG = 44


class Shape(NamedTuple):
    """What a request carries. Sizes in bytes; `refusal` says why one is never passed on."""

    least: int
    most: int
    most_fds: int = 0
    least_fds: int = 0
    replies: bool = False  # always; every other is acknowledged when NEED_REPLY is set and REPLY_ACK negotiated
    refusal: str = ""


def _of(layout: struct.Struct, most_fds: int = 0, least_fds: int = 0, *, replies: bool = False) -> Shape:
    return Shape(layout.size, layout.size, most_fds, least_fds, replies)


def _never(refusal: str, most_fds: int = 0) -> Shape:
    return Shape(0, MAX_PAYLOAD, most_fds, refusal=refusal)


_EMPTY: Final = struct.Struct("")
_LOG: Final = "the log of changed pages was not offered: rings of the tap are written without it"
_POSTCOPY: Final = "post-copy migration was not offered"
_INFLIGHT: Final = "the record of requests in flight was not offered: it is about other rings than the daemon's"

SHAPES: Final[dict[Request, Shape]] = {
    Request.GET_FEATURES: _of(_EMPTY, replies=True),
    Request.SET_FEATURES: _of(U64),
    Request.SET_OWNER: _of(_EMPTY),
    Request.RESET_OWNER: _of(_EMPTY),
    Request.SET_MEM_TABLE: Shape(TABLE.size, TABLE.size + MAX_FDS * REGION.size, MAX_FDS),
    Request.SET_LOG_BASE: _never(_LOG, 1),
    Request.SET_LOG_FD: _never(_LOG, 1),
    Request.SET_VRING_NUM: _of(STATE),
    Request.SET_VRING_ADDR: _of(ADDRESS),
    Request.SET_VRING_BASE: _of(STATE),
    Request.GET_VRING_BASE: _of(STATE, replies=True),
    Request.SET_VRING_KICK: _of(U64, 1),
    Request.SET_VRING_CALL: _of(U64, 1),
    Request.SET_VRING_ERR: _of(U64, 1),
    Request.GET_PROTOCOL_FEATURES: _of(_EMPTY, replies=True),
    Request.SET_PROTOCOL_FEATURES: _of(U64),
    Request.GET_QUEUE_NUM: _of(_EMPTY, replies=True),
    Request.SET_VRING_ENABLE: _of(STATE),
    Request.SET_BACKEND_REQ_FD: _of(_EMPTY, 1, 1),
    Request.IOTLB_MSG: _never("addresses behind an IOMMU were not offered"),
    Request.SET_VRING_ENDIAN: _of(STATE),
    Request.GET_CONFIG: Shape(CONFIG.size, MAX_PAYLOAD, replies=True),
    Request.SET_CONFIG: Shape(CONFIG.size, MAX_PAYLOAD),
    Request.POSTCOPY_ADVISE: _never(_POSTCOPY),
    Request.POSTCOPY_LISTEN: _never(_POSTCOPY),
    Request.POSTCOPY_END: _never(_POSTCOPY),
    Request.GET_INFLIGHT_FD: _never(_INFLIGHT),
    Request.SET_INFLIGHT_FD: _never(_INFLIGHT, 1),
    Request.RESET_DEVICE: _of(_EMPTY),
    Request.VRING_KICK: _never("kicks within the socket were not offered"),
    Request.GET_MAX_MEM_SLOTS: _of(_EMPTY, replies=True),
    Request.ADD_MEM_REG: _of(SINGLE_REGION, 1, 1),
    Request.REM_MEM_REG: _of(SINGLE_REGION, 1),  # QEMU attaches none, others one that nobody needs
    Request.SET_STATUS: _of(U64),
    Request.GET_STATUS: _of(_EMPTY, replies=True),
    Request.SET_DEVICE_STATE_FD: Shape(8, 8, 1, 1, replies=True),
    Request.CHECK_DEVICE_STATE: _of(_EMPTY, replies=True),
    Request.GET_SHMEM_CONFIG: _of(_EMPTY, replies=True),
}


@dataclass(slots=True)
class Message:
    """One message, and the descriptors that came with it; whoever holds it last closes them."""

    request: int
    flags: int
    payload: bytes
    fds: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the specification calls it, or its number."""
        return Request(self.request).name if self.request in _KNOWN else f"message {self.request}"

    @property
    def is_reply(self) -> bool:
        """Whether the other side sent it as an answer."""
        return bool(self.flags & REPLY)

    @property
    def needs_reply(self) -> bool:
        """Whether an acknowledgement is asked for."""
        return bool(self.flags & NEED_REPLY)

    def close(self) -> None:
        """Close the descriptors that are still here."""
        while self.fds:
            os.close(self.fds.pop())

    def with_payload(self, payload: bytes) -> Message:
        """Return the same message, descriptors and all, saying something else."""
        return Message(self.request, self.flags, payload, self.fds)


_KNOWN: Final = frozenset(int(request) for request in Request)


def checked_request(message: Message) -> Request:
    """Return which request it is. Raises Refused when it is none the tap may pass on, or does not fit its shape."""
    if message.request not in _KNOWN:
        raise Refused(f"the VMM sent {message.name}, which is not known")
    request = Request(message.request)
    shape = SHAPES[request]
    if shape.refusal:
        raise Refused(f"the VMM sent {message.name}, but {shape.refusal}")
    if message.is_reply:
        raise Refused(f"the VMM sent {message.name} as a reply")
    if not shape.least <= len(message.payload) <= shape.most:
        raise Refused(f"the VMM sent {message.name} with {len(message.payload)} bytes")
    if not shape.least_fds <= len(message.fds) <= shape.most_fds:
        raise Refused(f"the VMM sent {message.name} with {len(message.fds)} descriptors")
    return request


def u64_of(message: Message) -> int:
    """Return the only number of a message. Raises Refused when it has another size."""
    if len(message.payload) != U64.size:
        raise Refused(f"{message.name} with {len(message.payload)} bytes where one number was due")
    return int.from_bytes(message.payload, sys.byteorder)


class Wire:
    """One end of a vhost-user conversation: reads whole messages without waiting, writes them at once."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        """`peer` is what a person calls the other end."""
        connection.setblocking(False)
        self.connection, self.peer = connection, peer
        self._bytes = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        """Return the socket's descriptor, for epoll."""
        return self.connection.fileno()

    def close(self) -> None:
        """Close the socket and what came through it unread."""
        self.connection.close()
        Message(0, 0, b"", self._fds).close()

    def read(self) -> Message | None:
        """Return the next message, None when it has not come whole yet.

        Raises EOFError when the other end is gone, Refused when what it sends is no message.
        """
        while (missing := self._missing()) > 0:
            try:
                data, ancillary, flags, _ = self.connection.recvmsg(missing, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return None
            except ConnectionError:
                raise EOFError from None
            was_begun = bool(self._bytes)
            came = list(_descriptors(ancillary))
            self._fds += came
            if flags & socket.MSG_CTRUNC or len(self._fds) > MAX_FDS:
                raise Refused(f"{self.peer} sent more than {MAX_FDS} descriptors with one message")
            if not data:
                raise EOFError
            if came and was_begun:
                raise Refused(f"{self.peer} sent descriptors in the middle of a message")
            self._bytes += data
        request, flags, _ = HEADER.unpack_from(self._bytes)
        message = Message(request, flags, bytes(self._bytes[HEADER.size :]), self._fds)
        self._bytes, self._fds = bytearray(), []
        return message

    def write(self, message: Message) -> None:
        """Send a message, and close the descriptors that went with it. Raises EOFError when the other end is gone."""
        data = HEADER.pack(message.request, message.flags, len(message.payload)) + message.payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", message.fds))] if message.fds else []
        try:
            sent = self.connection.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise Refused(f"{self.peer} does not read what it is sent") from None
        except (ConnectionError, BrokenPipeError):
            raise EOFError from None
        finally:
            message.close()
        if sent != len(data):  # a socket's buffer holds dozens of messages, and each is waited for
            raise Refused(f"{self.peer} does not read what it is sent")

    def _missing(self) -> int:
        """Return how many bytes to read next: of the header first, so that no message runs into another."""
        if len(self._bytes) < HEADER.size:
            return HEADER.size - len(self._bytes)
        _, flags, size = HEADER.unpack_from(self._bytes)
        if flags & VERSION_BITS != VERSION:
            raise Refused(f"{self.peer} speaks version {flags & VERSION_BITS} of vhost-user, not {VERSION}")
        if size > MAX_PAYLOAD:
            raise Refused(f"{self.peer} announced a message of {size} bytes")
        return HEADER.size + int(size) - len(self._bytes)


_ANCILLARY_BYTES: Final = socket.CMSG_SPACE((MAX_FDS + 1) * array.array("i").itemsize)


def _descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> Iterable[int]:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            yield from numbers
