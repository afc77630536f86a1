"""A kernel that asks a server one thing after the other, over any transport, in words of the declarations."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from dissectors.decode import decode_reply
from dissectors.flags import init_flag
from dissectors.layout import Context
from dissectors.message import Message, Value
from dissectors.opcodes import OPS_BY_NAME
from dissectors.reference import build_request
from replays.transports.base import Transport

ROOT = 1
MEBIBYTE = 1 << 20
HEADER = 16
TIMEOUT_S = 20.0
MINOR = 31  # what libfuse 3.14 and kernels since 5.2 know
OFFERED = ("MAX_PAGES", "DO_READDIRPLUS", "BIG_WRITES", "ASYNC_READ", "ATOMIC_O_TRUNC", "DONT_MASK", "HANDLE_KILLPRIV")
ROOM = {"INIT": 64, "LOOKUP": 128, "GETATTR": 104, "OPEN": 16, "OPENDIR": 16, "CREATE": 144, "WRITE": 8, "STATFS": 80}


@dataclass
class Kernel:
    """Asks, and gives every request exactly the room a kernel gives it. Notifications go to `told`."""

    transport: Transport
    unique: int = 0
    context: Context = Context(MINOR)  # noqa: RUF009 - frozen
    told: list[bytes] = field(default_factory=list)

    def message(self, name: str, nodeid: int = ROOT, /, **values: Value) -> bytes:
        """Return the next request."""
        self.unique += 2
        header = {"unique": self.unique, "nodeid": nodeid, "pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}
        return build_request(header, OPS_BY_NAME[name], values, self.context)

    def ask(self, name: str, nodeid: int = ROOT, room: int | None = None, /, **values: Value) -> Message:
        """Return the decoded answer; `room` is for its body where that varies."""
        room = HEADER + (ROOM.get(name, 0) if room is None else room)
        data = self.answer_to(self.message(name, nodeid, **values), room)
        answer = decode_reply(data, len(data), self.context, None, opcode=OPS_BY_NAME[name].code)
        assert not answer.problems, answer
        return answer

    def answer_to(self, message: bytes, room: int) -> bytes:
        """Return the bytes of the answer."""
        deadline = time.monotonic() + TIMEOUT_S
        assert self.transport.submit(message, room)
        self.transport.flush()
        while (left_s := deadline - time.monotonic()) > 0:
            answers = self.transport.complete(left_s)
            self.told += [answer.data for answer in answers if not answer.unique]
            for answer in answers:
                if answer.unique == self.unique:
                    return answer.data
        raise TimeoutError(f"no answer to request {self.unique} in {TIMEOUT_S} s")

    def tell(self, name: str, nodeid: int, /, **values: Value) -> None:
        """Send what has no answer."""
        assert self.transport.submit(self.message(name, nodeid, **values), 0, urgent=True)
        self.transport.flush()

    def begin(self, *flags: str) -> Message:
        """Agree on a session, whose minor is spoken from then on."""
        offered = sum(init_flag(flag) for flag in flags or OFFERED)
        init = {"major": 7, "minor": MINOR, "max_readahead": MEBIBYTE, "flags": offered}
        self.context = Context(MINOR)
        answer = self.ask("INIT", 0, **init)
        assert answer.error == 0, answer
        minor = answer.values["minor"]
        assert isinstance(minor, int)
        self.context = Context(min(minor, MINOR))
        return answer

    def number(self, name: str, wanted: str, nodeid: int = ROOT, room: int | None = None, /, **values: Value) -> int:
        """Return a number of a successful answer."""
        answer = self.ask(name, nodeid, room, **values)
        assert answer.error == 0, answer
        found = answer.values[wanted]
        assert isinstance(found, int)
        return found

    def read(self, node: int, handle: int, offset: int, size: int, name: str = "READ") -> Message:
        """Read from a file or, by READDIR or READDIRPLUS, a directory."""
        io = {"fh": handle, "offset": offset, "size": size, "read_flags": 0, "lock_owner": 0, "flags": 0}
        return self.ask(name, node, size, **io)
