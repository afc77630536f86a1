"""The socket to a vhost-user daemon: what a VMM says before the rings are used.

Every answer is waited for, and no longer than a caller allows. Source: docs/interop/vhost-user.rst of QEMU.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

from replays.transports.base import ServerGone
from replays.transports.virtqueue import DriverQueue, SharedMemory
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.features import EVENT_IDX, PROTOCOL_FEATURES, REPLY_ACK
from tracer.bridges.vhost_user.messages import (
    ADDRESS,
    NEED_REPLY,
    REGION,
    STATE,
    TABLE,
    U64,
    VERSION,
    Message,
    Request,
    Wire,
    u64_of,
)

_VERSION_1: Final = 1 << 32  # of the virtio specification: rings are little-endian
_CLOSED: Final = "the server closed the connection"


class Control:
    """Asks one at a time. Whatever the daemon does wrong is ServerGone."""

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        """`timeout_s` is for each answer."""
        self._wire, self._timeout_s = Wire(connection, "the server"), timeout_s
        self._acknowledges = False
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def fileno(self) -> int:
        """Return the socket's descriptor, for epoll."""
        return self._wire.fileno()

    def close(self) -> None:
        """Close the connection: the daemon ends with it."""
        self._wire.close()

    def negotiate(self) -> bool:
        """Agree on features. Returns whether the rings tell at which entry they want to be told (EVENT_IDX)."""
        offered = self._ask(Request.GET_FEATURES)
        if not offered & _VERSION_1 or not offered & PROTOCOL_FEATURES:
            raise ServerGone(f"the server offers features {offered:#x}: no virtiofs daemon known offers so little")
        self._say(Request.SET_OWNER)
        protocol = self._ask(Request.GET_PROTOCOL_FEATURES) & REPLY_ACK
        self._say(Request.SET_PROTOCOL_FEATURES, U64.pack(protocol))
        self._acknowledges = bool(protocol)
        wanted = offered & (_VERSION_1 | PROTOCOL_FEATURES | EVENT_IDX)
        self._say(Request.SET_FEATURES, U64.pack(wanted))
        return bool(wanted & EVENT_IDX)

    def share(self, memory: SharedMemory) -> None:
        """Let the daemon map the memory."""
        region = REGION.pack(memory.guest_address, memory.size, memory.user_address, 0)
        self._say(Request.SET_MEM_TABLE, TABLE.pack(1, 0) + region, memory.fd)

    def start(self, queues: Sequence[DriverQueue], call: int, failure: int) -> None:
        """Start the queues: `call` is written to when requests are done, `failure` when a ring makes no sense."""
        for queue in queues:
            index = queue.index
            self._say(Request.SET_VRING_NUM, STATE.pack(index, queue.size))
            self._say(Request.SET_VRING_BASE, STATE.pack(index, 0))
            self._say(Request.SET_VRING_ADDR, ADDRESS.pack(index, 0, *queue.addresses, 0))
            self._say(Request.SET_VRING_CALL, U64.pack(index), call)
            self._say(Request.SET_VRING_ERR, U64.pack(index), failure)
            self._say(Request.SET_VRING_KICK, U64.pack(index), queue.kick)
            self._say(Request.SET_VRING_ENABLE, STATE.pack(index, 1))
        # a kick that arrives before its queue was enabled is lost on rust-vmm's daemons
        self._ask(Request.GET_FEATURES)

    def broke_silence(self) -> ServerGone:
        """Return what to say of a daemon whose socket became readable though it was asked nothing."""
        try:
            message = self._wire.read()
        except EOFError:
            return ServerGone(_CLOSED)
        except Refused as refused:
            return ServerGone(str(refused))
        if message is None:
            return ServerGone("the server sent a part of a message though it was asked nothing")
        message.close()
        return ServerGone(f"the server sent {message.name} though it was asked nothing")

    def _say(self, request: Request, payload: bytes = b"", fd: int = -1) -> None:
        """Send a message; wait for the acknowledgement where that was agreed on."""
        flags = VERSION | (NEED_REPLY if self._acknowledges else 0)
        self._write(Message(request, flags, payload, [os.dup(fd)] if fd >= 0 else []))
        if self._acknowledges and self._answer(request):
            raise ServerGone(f"the server refused {request.name}")

    def _ask(self, request: Request) -> int:
        self._write(Message(request, VERSION, b""))
        return self._answer(request)

    def _write(self, message: Message) -> None:
        try:
            self._wire.write(message)
        except EOFError:
            raise ServerGone(_CLOSED) from None
        except Refused as refused:
            raise ServerGone(str(refused)) from None

    def _answer(self, request: Request) -> int:
        """Return the number that a daemon answers a request with."""
        try:
            message = self._read(request)
            message.close()  # no answer to what is asked here comes with descriptors
            if message.request != request or not message.is_reply:
                raise ServerGone(f"the server sent {message.name} where the answer to {request.name} was due")
            return u64_of(message)
        except EOFError:
            raise ServerGone(f"{_CLOSED} instead of answering {request.name}") from None
        except Refused as refused:
            raise ServerGone(str(refused)) from None

    def _read(self, request: Request) -> Message:
        deadline_s = time.monotonic() + self._timeout_s
        while (message := self._wire.read()) is None:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not self._poll.poll(left_s * 1000):
                raise ServerGone(f"the server did not answer {request.name} within {self._timeout_s:g} s")
        return message
