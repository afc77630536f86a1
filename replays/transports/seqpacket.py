"""A socket in the place of /dev/fuse: SEQPACKET, because one message must stay one message, as in a read of the device.

A server reads its end of a socket pair like the device, and cannot tell the difference but for ioctls and, if it were
let, splice. What the device checks of a reply is checked here: length, unique, room.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from replays.transports.base import Answer, Ending, ServerGone
from replays.transports.process import ServerProcess
from tracer.bridges.framing import OUT_HEADER_SIZE
from tracer.errors import TracerError

MOST_BYTES: Final = (1 << 20) + 4096  # the kernel's limit: max_pages of 256 pages of data, and a page for the rest
_SO_SNDBUFFORCE: Final = 32  # <asm-generic/socket.h>; past net.core.wmem_max, needs CAP_NET_ADMIN
_BUFFER_BYTES: Final = 4 << 20  # several messages of the largest kind
_SKB_BYTES: Final = 32  # what unix_dgram_sendmsg keeps of the buffer for itself
_LOOKS: Final = 30  # before we sleep: about as many us as a server needs, where waking up takes twice that
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_INTERRUPT_BIT: Final = 1  # FUSE_INT_REQ_BIT: an INTERRUPT's unique is odd, and only a refusal answers it
_BACKGROUND_S: Final = 0.5  # for children of a dead server to let go of what they inherited
_UNIQUE_AT: Final = struct.Struct("=8xQ").unpack_from  # of both headers
_OUT_HEADER: Final = struct.Struct("=IiQ").unpack_from


def pair() -> tuple[socket.socket, socket.socket, int]:
    """Return our end, the server's, and the longest message that both can send."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    limit = MOST_BYTES
    for end in (ours, theirs):  # a sender's own buffer bounds its messages
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        limit = min(limit, end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _SKB_BYTES)
    ours.setblocking(False)
    return ours, theirs, limit


def _nothing() -> None:
    """Do nothing."""


class SocketTransport:
    """One conversation over a socket; `base.Transport` says what its methods promise.

    `is_served(seconds)` waits, and tells whether any process still has the server's end, once the first has ended.
    `release` closes what else keeps the connection open, `released` is called once the server has ended. `inode` is
    that of the server's end.
    """

    def __init__(
        self,
        name: str,
        ours: socket.socket,
        most_bytes: int,
        process: ServerProcess,
        inode: int,
        is_served: Callable[[float], bool] | None = None,
        release: Callable[[], None] = _nothing,
        released: Callable[[], None] = _nothing,
    ) -> None:
        self.name = name
        self.most_bytes = most_bytes
        self.process = process
        self._socket = ours
        self._inode = inode
        self._is_served = is_served or self._is_open
        self._release, self._released = release, released
        self._rooms: dict[int, int] = {}  # unique -> room of what waits for an answer
        self._buffer = bytearray(MOST_BYTES)
        self._view = memoryview(self._buffer)
        self._pieces = bytearray()  # the beginning of a reply that came spliced
        self._blocked = False
        self._failure: ServerGone | None = None
        self._ending: Ending | None = None
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        self._poll.register(process.pidfd, select.POLLIN)

    def submit(self, message: bytes | bytearray, room: int, *, urgent: bool = False) -> bool:
        """Take a whole request; a socket has one queue, so nothing is `urgent`."""
        if len(message) > self.most_bytes:
            raise self._too_long(len(message))
        try:
            self._socket.send(message, _SEND_FLAGS)
        except BlockingIOError:
            self._blocked = True
            return False
        except ConnectionError:
            raise self._gone() from None
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # the kernel has no memory for it now
                raise
            self._blocked = True
            return False
        if room:
            self._rooms[_UNIQUE_AT(message)[0]] = room
        return True

    def flush(self) -> None:
        """Do nothing: a socket wakes its reader with every message."""

    def complete(self, timeout_s: float) -> list[Answer]:
        """Return what was answered. Returns early, with nothing, when there is place again for a refused request."""
        if self._failure is not None:
            raise self._failure
        answers: list[Answer] = []
        for _ in range(_LOOKS):
            self._receive(answers)
            if answers:
                return answers
        if self._wait(timeout_s):
            self._receive(answers)
        return answers

    def close(self) -> Ending:
        """Close our end, which ends most servers, then the server."""
        if self._ending is None:
            self._socket.close()
            self._release()
            self._ending = self.process.end()
            _end_holders(self._inode)
            self._released()
        return self._ending

    # ---- receiving ----

    def _receive(self, answers: list[Answer]) -> None:
        """Take all that is there; stop when nothing more is awaited, to spare a system call that finds nothing."""
        receive, view, rooms = self._socket.recv_into, self._view, self._rooms
        while True:
            try:
                size = receive(view, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except ConnectionError:  # it died with requests unread
                size = 0
            if size == 0:
                if not answers:
                    raise self._gone()
                return
            try:
                answer = self._answer(size)
            except ServerGone as gone:
                self._failure = gone
                if not answers:
                    raise
                return  # what was right before it is handed over first
            if answer is not None:
                answers.append(answer)
                if not rooms:
                    return

    def _answer(self, size: int) -> Answer | None:
        """Check one message as the device would (fuse_dev_do_write); None when more of it is to come."""
        t_ns = time.monotonic_ns()
        if size > MOST_BYTES:
            raise self._broke(f"sent a message of {size} bytes, longer than any reply ({MOST_BYTES} at most)")
        data = bytes(self._view[:size])
        if self._pieces:
            data = self._joined(data)
        elif size < OUT_HEADER_SIZE:
            raise self._broke(f"sent {size} bytes, which is no message: fuse_out_header alone has {OUT_HEADER_SIZE}")
        length, error, unique = _OUT_HEADER(data)
        if length != len(data):
            self._keep_piece(data, length, unique)
            return None
        if unique and (room := self._rooms.pop(unique, None)) is not None:
            if length > room:
                raise self._broke(f"answered {length} bytes to a request that has room for {room}")
        elif unique and not (unique & _INTERRUPT_BIT and length == OUT_HEADER_SIZE):
            raise self._broke(f"answered request {unique}, which was not asked, or was answered before")
        elif not unique and error <= 0:
            raise self._broke(f"sent a notification of code {error}: there is none below 1")
        return Answer(t_ns, unique, data)

    def _joined(self, data: bytes) -> bytes:
        self._pieces += data
        joined = bytes(self._pieces)
        self._pieces.clear()
        return joined

    def _keep_piece(self, data: bytes, length: int, unique: int) -> None:
        """Keep the beginning of a reply, when it can be only that: with one awaited, pieces cannot be mixed."""
        room = self._rooms.get(unique, 0)
        if not len(data) < length <= room:
            raise self._broke(f"sent {len(data)} bytes that say they are {length}")
        if len(self._rooms) > 1:
            raise self._broke("splices its replies, which arrive here in pieces: have one request under way at a time")
        self._pieces += data

    # ---- waiting ----

    def _wait(self, timeout_s: float) -> bool:
        """Wait for something to read. Raises ServerGone when the server's process has ended."""
        if self._blocked:
            self._poll.modify(self._socket, select.POLLIN | select.POLLOUT)
        events = dict(self._poll.poll(math.ceil(timeout_s * 1000)))
        if self._blocked:
            self._poll.modify(self._socket, select.POLLIN)
            self._blocked = False
        found = events.get(self._socket.fileno(), 0)
        if not found & select.POLLIN and self.process.pidfd in events:
            raise self._gone()
        return bool(found & (select.POLLIN | select.POLLHUP | select.POLLERR))

    # ---- what went wrong ----

    def _gone(self) -> ServerGone:
        """Say why nothing more will come."""
        name = self.process.name
        if not self.process.has_ended(_BACKGROUND_S):
            return ServerGone(f"{name} closed its end of the connection, and {self.process.fate()}")
        if self.process.ended_well() and self._is_served(_BACKGROUND_S):
            return ServerGone(
                f"{name} went to the background, where it can be neither watched nor ended in order: "
                "add its option to stay in the foreground (mostly -f or --foreground)"
            )
        return ServerGone(f"{name} {self.process.fate()}")

    def _broke(self, what: str) -> ServerGone:
        return ServerGone(f"{self.process.name} {what}")

    def _too_long(self, size: int) -> TracerError:
        """Say what the socket would answer with EMSGSIZE; of a reply too long for it, the server alone hears."""
        return TracerError(
            f"a request of {size} bytes is too long for this socket, which carries {self.most_bytes}",
            "offer a smaller max_write in INIT, raise net.core.wmem_max, or run as root",
        )

    def _is_open(self, wait_s: float) -> bool:
        """Wait for the end of the connection, and tell whether it did not come."""
        ended = select.poll()
        ended.register(self._socket, 0)  # POLLHUP is always told
        return not ended.poll(wait_s * 1000)


def _end_holders(inode: int) -> None:
    """Kill what still holds the server's end: a daemon that was not our child and did not go with the connection."""
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid() and _holds(process, wanted):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(process.name), signal.SIGKILL)


def _holds(process: Path, wanted: str) -> bool:
    try:
        return any(str(entry.readlink()) == wanted for entry in (process / "fd").iterdir())
    except OSError:  # it ended, or is another user's
        return False
