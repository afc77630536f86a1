"""A decoded message: every field with its bytes, and every fault found, none of which stops the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from dissectors.fields import Field
from dissectors.layout import Context
from dissectors.opcodes import Notification, Op, notify_name, op_name

Value = int | bytes | list[bytes] | list[int] | list[dict[str, "Value"]]


class Severity(Enum):
    """How bad a Problem is."""

    NOTE = "note"  # the capture kept less than was sent, or something had to be assumed
    ERROR = "error"  # the bytes break the protocol


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a message; `at` is the offset in its bytes."""

    at: int
    text: str
    severity: Severity = Severity.ERROR


class MessageKind(Enum):
    """What a message is in the dialogue."""

    REQUEST = "request"
    REPLY = "reply"
    NOTIFICATION = "notification"


class Node(NamedTuple):
    """One field with its value and its bytes [start, end), or a group with its members in `children`.

    A tuple because a message has dozens of them.
    """

    name: str
    value: Value | None
    start: int
    end: int
    field: Field | None = None
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """Yield this node and everything below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Message:
    """One message, decoded as far as its bytes allow."""

    number: int
    kind: MessageKind
    context: Context
    op: Op | Notification | None
    opcode: int  # of a reply: that of its request; of a notification: its code; -1 when unknown
    unique: int
    nodeid: int
    error: int
    data: bytes
    wire_len: int
    header: tuple[Node, ...]
    body: tuple[Node, ...]
    extension: tuple[Node, ...]
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        """The opcode's name, NOTIFY_* for a notification, "?" when it is not known."""
        if self.opcode < 0:
            return "?"
        return notify_name(self.opcode) if self.kind is MessageKind.NOTIFICATION else op_name(self.opcode)

    @property
    def values(self) -> dict[str, Value]:
        """The body's values by field name, padding included."""
        return {node.name: node.value for node in self.body if node.value is not None}

    @property
    def lost_bytes(self) -> int:
        """How many bytes were sent and not kept."""
        return max(0, self.wire_len - len(self.data))

    @property
    def is_malformed(self) -> bool:
        """Whether the bytes break the protocol."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)

    def header_value(self, name: str) -> int:
        """Return one integer of the header, 0 when it was cut off."""
        value = next((node.value for node in self.header if node.name == name), 0)
        return value if isinstance(value, int) else 0
