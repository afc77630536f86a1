"""Why a request of the recording is not sent, each with the sentence a user reads."""

from __future__ import annotations

from enum import Enum


class Skip(Enum):
    """A reason; the value is what it says."""

    WRITES = "it would change what the server stores; allow writes to play it"
    HOSTILE_NAME = "its name is empty, '.', '..' or holds '/' or NUL: a server could be led out of its directory"
    HOSTILE_SIZE = "it asks for more than any kernel does"
    UNKNOWN_OPCODE = "no operation of that number is known, so its ids cannot be mapped"
    CUT = "the recording kept too little of it to say it again"
    MALFORMED = "its bytes break the protocol, so its ids cannot be found"
    DAX = "it maps memory that only a kernel has"
    CUSE = "character devices (CUSE) are not replayed"
    INIT_AGAIN = "a session has one INIT"
    RESENT = "the kernel sent it again; the first is played"
    RETRIEVED = "the kernel's answer to a notification is sent when the live server asks"
    UNKNOWN_NODE = "the live server never gave out the node it is about"
    UNKNOWN_HANDLE = "the live server never opened the handle it is about"
    UNKNOWN_COOKIE = "the live server's listing has no place like the one it goes on from"
    NOT_A_DIRECTORY = "on the live server its directory is none: no kernel would ask that"
    NOT_A_FILE = "on the live server it is of another type: no kernel would ask that"
    ANSWERED = "what it interrupts was answered already"
    STILL_HELD = "the kernel still holds the node; given back with the last lookup"
    NOTHING_HELD = "nothing of it is held from the live server"
    NEVER_AGAIN = "the live server answered ENOSYS before: no kernel would ask again"
    NO_INTERRUPT = "virtiofs has no INTERRUPT"
    FALLBACK = "the recorded kernel's second way; the live server went the first"
    EDITED_AWAY = "the edit dropped it, or made of it what is never sent"
    NOT_REACHED = "the replay ended before"


class SkipStep(Exception):
    """The step under way cannot be played; bad ids are data, so this never leaves the engine."""

    def __init__(self, reason: Skip) -> None:
        super().__init__(reason.name)
        self.reason = reason
