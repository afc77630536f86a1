"""A short recording of what `lying_server` honestly answers, and a server of that kind as words of a command."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.replays import lying_server
from tests.tracer.dialogue import GETATTR, LOOKUP, Dialogue
from tracer.records import ChannelInfo

SERVER = str(Path(lying_server.__file__))
FILE = 2


def body(opcode: int, node: int) -> bytes:
    """Return what follows the header in an honest answer."""
    return lying_server.sound(opcode, 0, node)[lying_server.REPLY.size :]


def look(talk: Dialogue, name: bytes = b"file", parent: int = 1, **known: object) -> int:
    return talk.talk(LOOKUP, parent, name + b"\0", body(LOOKUP, FILE), **known)


def stat(talk: Dialogue, node: int = FILE, **known: object) -> int:
    return talk.talk(GETATTR, node, bytes(16), body(GETATTR, node), **known)


def small_talk(rounds: int = 3, channels: int = 1) -> Dialogue:
    """Return INIT, a name and some looks at it, of so many mounts."""
    talk = Dialogue(channels=[ChannelInfo(f"/mnt/{number}", minor=31) for number in range(channels)])
    for channel in range(channels):
        talk.init(31, channel=channel)
        look(talk, channel=channel)
        for _ in range(rounds):
            stat(talk, channel=channel)
    return talk


def server(habit: str = "is honest") -> list[str]:
    return ["--transport", "fd", "--", sys.executable, SERVER, habit, "{}"]
