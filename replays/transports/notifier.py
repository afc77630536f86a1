"""System calls of another process that are ours to answer: the listener of a seccomp filter (seccomp_unotify(2))."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
from typing import Final, NamedTuple

# <linux/seccomp.h>: _IOWR and _IOW of '!'
_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_GIVE: Final = 0x40182103

_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif, with struct seccomp_data in it
_RESPONSE: Final = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_DESCRIPTOR: Final = struct.Struct("=QIIII")  # struct seccomp_notif_addfd
_CONTINUE: Final = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_AND_SEND: Final = 2  # SECCOMP_ADDFD_FLAG_SEND

_PAGE: Final = 4096
_LONGEST_STRING: Final = 4096  # PATH_MAX; mount(2) copies no more of its options than a page


class Call(NamedTuple):
    """A call that waits for us. `pid` is the calling thread, in our pid namespace."""

    id: int
    pid: int
    number: int
    arguments: tuple[int, ...]


class Notifier:
    """The listener. A caller that was killed meanwhile makes no answer fail."""

    def __init__(self, listener: int) -> None:
        self.fd = listener

    def receive(self) -> Call | None:
        """Return the next call; None when who made it is gone. Blocks: poll first."""
        buffer = bytearray(_NOTIFICATION.size)  # must be zero
        try:
            fcntl.ioctl(self.fd, _RECEIVE, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        id_, pid, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
        return Call(id_, pid, number, tuple(arguments))

    def in_use(self, wait_s: float = 0.0) -> bool:
        """Wait until no process is left under the filter, and tell whether there still is one."""
        ended = select.poll()
        ended.register(self.fd, 0)  # POLLHUP is always told
        return not ended.poll(wait_s * 1000)

    def succeed(self, call: Call) -> None:
        """Let the call return 0, without having been made."""
        self._answer(_SEND, _RESPONSE.pack(call.id, 0, 0, 0))

    def fail(self, call: Call, error: int) -> None:
        """Let the call fail."""
        self._answer(_SEND, _RESPONSE.pack(call.id, 0, -error, 0))

    def proceed(self, call: Call) -> None:
        """Let the kernel make the call."""
        self._answer(_SEND, _RESPONSE.pack(call.id, 0, 0, _CONTINUE))

    def give(self, call: Call, fd: int, *, cloexec: bool) -> None:
        """Let the call return a copy of our descriptor."""
        self._answer(_GIVE, _DESCRIPTOR.pack(call.id, _AND_SEND, fd, 0, os.O_CLOEXEC if cloexec else 0))

    def close(self) -> None:
        """Let go of the listener: every later call of the kind fails with ENOSYS."""
        os.close(self.fd)

    def _answer(self, request: int, content: bytes) -> None:
        try:
            fcntl.ioctl(self.fd, request, content)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINPROGRESS):  # it was killed; it got a signal
                raise


def string_at(pid: int, address: int) -> bytes | None:
    """Return the string at an address of a process; None when there is none, or its memory may not be read."""
    if address == 0:
        return None
    text = bytearray()
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            while len(text) < _LONGEST_STRING:
                place = address + len(text)
                piece = os.pread(memory.fileno(), _PAGE - place % _PAGE, place)
                text += piece
                if b"\0" in piece or not piece:
                    break
    except (OSError, OverflowError):
        return None
    string, end, _ = bytes(text).partition(b"\0")
    return string if end else None


def words_at(pid: int, address: int, count: int) -> tuple[int, ...] | None:
    """Return 64-bit words at an address of a process; None when they cannot be read."""
    with contextlib.suppress(OSError, OverflowError), open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        content = os.pread(memory.fileno(), 8 * count, address)
        if len(content) == 8 * count:
            return struct.unpack(f"={count}Q", content)
    return None
