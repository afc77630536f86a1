"""A real server process that agrees in INIT, then does one odd thing: lying_server.py HABIT /dev/fd/N.

It knows its root and one file, "file" with node 2, and answers every other request with success and no body.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
import time
from collections.abc import Callable

REQUEST = struct.Struct("<IIQQ")  # the beginning of fuse_in_header: length, opcode, unique, nodeid
REPLY = struct.Struct("<IiQ")
INIT, LOOKUP, GETATTR, OPEN = 26, 1, 3, 14
DIRECTORY, REGULAR = 0o040755, 0o100644

Act = Callable[[int, int, bytes], None]  # opcode, unique, the sound reply


def attributes(node: int) -> bytes:
    mode = DIRECTORY if node == 1 else REGULAR
    return struct.pack("<6Q10I", node, 5, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def sound(opcode: int, unique: int, node: int) -> bytes:
    """Return what an honest server answers."""
    body = b""
    if opcode == INIT:
        body = struct.pack("<IIIIHHIIHHII6I", 7, 31, 131072, 0, 12, 9, 131072, 1, 32, 0, 0, 0, *[0] * 6)
    elif opcode == LOOKUP:
        body = struct.pack("<QQQQII", 2, 0, 1, 1, 0, 0) + attributes(2)
    elif opcode == GETATTR:
        body = struct.pack("<QII", 1, 0, 0) + attributes(node)
    elif opcode == OPEN:
        body = struct.pack("<QII", 7, 0, 0)
    return REPLY.pack(REPLY.size + len(body), 0, unique) + body


def send(message: bytes) -> None:
    os.write(FD, message)


def garbage(opcode: int, unique: int, reply: bytes) -> None:
    send(b"\xff" * 7)


def too_much(opcode: int, unique: int, reply: bytes) -> None:
    send(REPLY.pack(len(reply) + 5000, 0, unique) + reply[REPLY.size :] + bytes(5000))


def too_little(opcode: int, unique: int, reply: bytes) -> None:
    send(REPLY.pack(REPLY.size + 8, 0, unique) + bytes(8))


def twice(opcode: int, unique: int, reply: bytes) -> None:
    send(reply)
    send(reply)


def never(opcode: int, unique: int, reply: bytes) -> None:
    return None


def unasked(opcode: int, unique: int, reply: bytes) -> None:
    send(REPLY.pack(REPLY.size, 0, unique + 4000))
    send(reply)


def impossible_error(opcode: int, unique: int, reply: bytes) -> None:
    send(REPLY.pack(REPLY.size, -5000, unique))


def exits(opcode: int, unique: int, reply: bytes) -> None:
    print("\x1b[31mno more of this", flush=True)
    sys.exit(3)


def crashes(opcode: int, unique: int, reply: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs_and_ignores_signals(opcode: int, unique: int, reply: bytes) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def is_honest(opcode: int, unique: int, reply: bytes) -> None:
    send(reply)


HABITS: dict[str, Act] = {
    act.__name__.replace("_", " "): act
    for act in (
        garbage,
        too_much,
        too_little,
        twice,
        never,
        unasked,
        impossible_error,
        exits,
        crashes,
        hangs_and_ignores_signals,
        is_honest,
    )
}

if __name__ == "__main__":
    FD = int(sys.argv[2].removeprefix("/dev/fd/"))
    print(f"{os.getpid()} serves", flush=True)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # we have gone
        while request := os.read(FD, 2 << 20):
            _, asked, number, about = REQUEST.unpack_from(request)
            answer = sound(asked, number, about)
            if asked in (INIT, LOOKUP, OPEN):
                send(answer)
            else:
                HABITS[sys.argv[1]](asked, number, answer)
