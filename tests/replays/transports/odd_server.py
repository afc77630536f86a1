"""A real server process with one odd habit: odd_server.py HABIT PLACE. PLACE is /dev/fd/N, or where it is to mount.

It speaks just enough of the protocol to be odd at a well-known point: it answers every request with a header alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

HEADER = struct.Struct("=IiQ")
MEBIBYTE = 1 << 20
FUSE_DEV_IOC_CLONE = 0x8004E500
OPENAT2, FSOPEN, FSCONFIG, FSMOUNT, MOVE_MOUNT = 437, 430, 431, 432, 429
SET_FLAG, CREATE = 0, 6  # FSCONFIG_...
EMPTY_PATH = 4  # MOVE_MOUNT_F_EMPTY_PATH
AT_FDCWD = -100

place = sys.argv[2]


def device() -> int:
    if place.startswith("/dev/fd/"):
        return int(place.removeprefix("/dev/fd/"))
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    assert ctypes.CDLL(None).mount(b"odd", place.encode(), b"fuse", 0, options.encode()) == 0
    return fd


def asked(fd: int) -> Iterator[int]:
    """Yield the unique of every request, to the end of the connection."""
    while request := os.read(fd, 2 * MEBIBYTE):
        yield HEADER.unpack_from(request)[2]


def reply(unique: int, body: bytes = b"", length: int | None = None, error: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + len(body) if length is None else length, error, unique) + body


def sending(*make: Callable[[int], bytes]) -> Callable[[], None]:
    """Return a habit: answer every request with these messages."""

    def habit() -> None:
        fd = device()
        for unique in asked(fd):
            for message in make:
                os.write(fd, message(unique))

    return habit


def exits() -> NoReturn:
    print("no such file system", flush=True)
    sys.exit(3)


def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def longer_than_any_reply() -> None:
    fd = device()
    end = socket.socket(fileno=fd)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MEBIBYTE)
    for unique in asked(fd):
        end.send(reply(unique, bytes(MEBIBYTE + 8192)))


def closes() -> None:
    os.close(device())
    time.sleep(60)


def never_answers() -> None:
    for _ in asked(device()):
        pass


def never_reads() -> None:
    device()
    time.sleep(60)


def becomes_a_daemon() -> None:
    fd = device()
    if os.fork():
        os._exit(0)
    os.setsid()
    print(os.getpid(), flush=True)
    for unique in asked(fd):
        os.write(fd, reply(unique))


def stays_whatever_it_is_told() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fd = device()
    for unique in asked(fd):
        os.write(fd, reply(unique))
    while True:
        time.sleep(60)


def goes_when_it_is_told() -> None:
    for unique in asked(fd := device()):
        os.write(fd, reply(unique))
    time.sleep(60)


def leaves_a_child() -> None:
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    for unique in asked(fd := device()):
        os.write(fd, reply(unique))


def talks() -> None:
    for number in range(40_000):
        print(f"\x1b[31m{number} of too many words")
    sys.stdout.flush()
    for unique in asked(fd := device()):
        os.write(fd, reply(unique))


def in_pieces() -> None:
    fd = device()
    for unique in asked(fd):
        whole = reply(unique, bytes(range(200)))
        for start in range(0, len(whole), 100):
            os.write(fd, whole[start : start + 100])


def mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(b"odd", b"/mnt", b"tmpfs", 0, None)
    print(os.strerror(ctypes.get_errno()), flush=True)


def splices() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    near, far = os.pipe()
    os.write(far, b"x")
    libc.splice(near, None, device(), None, 1, 0)
    print(os.strerror(ctypes.get_errno()), flush=True)


def opens_nothing() -> None:
    print("thinking", flush=True)
    time.sleep(60)


def mounts_the_new_way() -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
        result = libc.syscall(ctypes.c_long(number), *words)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"system call {number}")
        return int(result)

    how = struct.pack("=QQQ", os.O_RDWR | os.O_CLOEXEC, 0, 0)
    fd = call(OPENAT2, AT_FDCWD, b"/dev/fuse", how, len(how))
    assert not os.get_inheritable(fd)
    context = call(FSOPEN, b"fuse", 0)
    call(FSCONFIG, context, SET_FLAG, b"ro", None, 0)
    call(FSCONFIG, context, CREATE, None, None, 0)
    mount = call(FSMOUNT, context, 0, 0)
    call(MOVE_MOUNT, mount, b"", AT_FDCWD, place.encode(), EMPTY_PATH)
    second = os.open("/dev/../dev/fuse", os.O_RDWR)
    master = ctypes.c_uint32(fd)
    assert libc.ioctl(second, ctypes.c_ulong(FUSE_DEV_IOC_CLONE), ctypes.byref(master)) == 0
    assert libc.umount2(place.encode(), 0) == 0
    with open("/dev/null", "r+b"):  # any other open for reading and writing goes its way
        pass
    for unique in asked(second):
        os.write(fd, reply(unique))


HABITS: dict[str, Callable[[], None]] = {
    "answers": sending(reply),
    "garbage": sending(lambda _: b"garbage"),
    "lies about the length": sending(lambda unique: reply(unique, length=4000)),
    "answers too much": sending(lambda unique: reply(unique, bytes(100))),
    "answers twice": sending(reply, reply),
    "answers what was not asked": sending(lambda unique: reply(unique + 1000)),
    "refuses an interrupt": sending(lambda unique: reply(unique | 1, error=-11)),
    "notifies of nothing": sending(lambda _: reply(0)),
    "answers, then garbage": sending(reply, lambda _: b"garbage"),
    **{
        habit.__name__.replace("_", " "): habit
        for habit in (
            exits,
            crashes,
            longer_than_any_reply,
            closes,
            never_answers,
            never_reads,
            becomes_a_daemon,
            stays_whatever_it_is_told,
            goes_when_it_is_told,
            leaves_a_child,
            talks,
            in_pieces,
            mounts,
            splices,
            opens_nothing,
            mounts_the_new_way,
        )
    },
}

if __name__ == "__main__":
    HABITS[sys.argv[1]]()
