"""Every field a filter can name, derived from the declaration, with what is needed to compile a comparison.

`fuse.<op>.<field>` is a field of the request, `fuse.<op>.reply.<field>` of the reply and
`fuse.notify.<notification>.<field>` of a notification; a field of records (`fuse.readdir.reply.entries.name`) stands
for each of them: a comparison holds when it holds for any.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from types import MappingProxyType

from dissectors.errnos import ERRNO
from dissectors.fields import Field, Kind, When
from dissectors.message import MessageKind
from dissectors.names import Enumeration, Names
from dissectors.opcodes import NOTIFY, OPS, Either, Notification, Op
from dissectors.text import is_name


class Source(Enum):
    """Where a value is found."""

    HEADER = "header"  # in the header of the request, or of the reply or notification
    EXCHANGE = "exchange"  # known about every exchange without a look into any body
    SESSION = "session"  # depends on what was seen before: paths, submounts
    BODY = "body"  # in the body of one kind of message
    PROCESS = "process"  # who asked, who answered


class ValueKind(Enum):
    """What a value is, and so what it can be compared with."""

    INTEGER = "integer"  # unsigned
    SIGNED = "signed"
    BYTES = "bytes"  # file content and the like
    NAME = "name"  # a file name or path: bytes, compared as text
    STRING = "string"
    BOOLEAN = "boolean"
    DURATION = "duration"  # in nanoseconds
    TIME = "time"  # in nanoseconds since the epoch


@dataclass(frozen=True, slots=True, eq=False)
class FilterField:
    """One name of the filter language."""

    name: str
    source: Source
    kind: ValueKind
    doc: str
    unit: str = ""
    names: Names | None = None
    op: Op | Notification | None = None  # of a field in a body
    message: MessageKind | None = None  # which body of `op`
    field_path: str = ""  # as in `Message.values`; "entries[].name" in records, "nodeids[]" in a run of integers
    field: Field | None = None
    when: When | None = None  # what must hold, in the request or in fields before, for the field to be there

    @property
    def many(self) -> bool:
        """Whether one message can have several of it; a comparison then asks for any."""
        return "[]" in self.field_path


STATES = ("PENDING", "DONE", "NO_REPLY", "INTERRUPTED", "ORPHAN_REPLY", "LOST", "NOTIFY", "ABORTED")
STATE = Enumeration("state", dict(enumerate(STATES)))
KIND = Enumeration("kind", dict(enumerate(kind.name for kind in MessageKind)))
OPCODE = Enumeration("opcode", {code: op.name for code, op in OPS.items()})
NOTIFICATION = Enumeration("notification", {code: item.name for code, item in NOTIFY.items()})
ERROR = Enumeration("errno", {0: "OK", **ERRNO})


def _general() -> Iterator[FilterField]:
    """Yield the names every exchange has."""
    yield from _header_fields()
    for name, kind, unit, doc in (
        ("fuse.time", ValueKind.TIME, "ns", "when the request was seen, or the first message of the exchange"),
        ("fuse.latency", ValueKind.DURATION, "ns", "from the request to its reply"),
        (
            "fuse.queue_wait",
            ValueKind.DURATION,
            "ns",
            "until the server read the request, where the capture tells",
        ),
        ("fuse.service", ValueKind.DURATION, "ns", "from the server's reading the request to its reply"),
        ("fuse.pending_for", ValueKind.DURATION, "ns", "how long a PENDING request has waited: up to the last record"),
        ("fuse.name", ValueKind.NAME, "", "first name of the request, whatever its opcode"),
        ("fuse.channel", ValueKind.STRING, "", "connection, as the capture names it"),
        ("fuse.mount", ValueKind.STRING, "", "mount point of the connection"),
        ("fuse.queue", ValueKind.INTEGER, "", "virtqueue or io_uring queue"),
        ("fuse.lost_bytes", ValueKind.INTEGER, "B", "bytes of the exchange's messages that the capture did not keep"),
        ("fuse.malformed", ValueKind.BOOLEAN, "", "the bytes of a message break the protocol"),
    ):
        yield FilterField(name, Source.EXCHANGE, kind, doc, unit)
    integer = ValueKind.INTEGER
    yield FilterField("fuse.state", Source.EXCHANGE, integer, "how far the exchange came", names=STATE)
    yield FilterField("fuse.kind", Source.EXCHANGE, integer, "kind of the exchange's first message", names=KIND)
    yield FilterField("fuse.path", Source.SESSION, ValueKind.NAME, "path of the node, as it was at that time")
    yield FilterField("fuse.submount", Source.SESSION, integer, "nodeid of the superblock's root the node is in")
    yield FilterField("proc.pid", Source.PROCESS, integer, "caller, as the header has it")
    yield FilterField("proc.comm", Source.PROCESS, ValueKind.STRING, "name of the calling process")
    yield FilterField("server.pid", Source.PROCESS, integer, "server process")
    yield FilterField("server.tid", Source.PROCESS, integer, "server thread")


def _header_fields() -> Iterator[FilterField]:
    integer, signed = ValueKind.INTEGER, ValueKind.SIGNED
    yield FilterField("fuse.opcode", Source.HEADER, integer, "what is asked", names=OPCODE)
    yield FilterField("fuse.notify", Source.HEADER, integer, "kind of notification", names=NOTIFICATION)
    yield FilterField(
        "fuse.error", Source.HEADER, signed, "errno of the reply: ENOENT, 2 and -2 are the same", names=ERROR
    )
    for name, unit, doc in (
        ("unique", "", "identifies the request among those of its connection"),
        ("nodeid", "", "the node it is about"),
        ("uid", "", "user of the caller"),
        ("gid", "", "group of the caller"),
        ("pid", "", "thread id of the caller"),
        ("len", "B", "length of the request; of the reply or notification where there is no request"),
    ):
        yield FilterField(f"fuse.{name}", Source.HEADER, integer, doc, unit)


def _declared() -> Iterator[FilterField]:
    """Yield the names of all fields of all bodies."""
    for op in OPS.values():
        prefix = f"fuse.{op.name.lower()}."
        yield from _fields(prefix, op.request, op, MessageKind.REQUEST)
        if isinstance(op.reply, Either):
            when = op.reply.when
            yield from _fields(prefix + "reply.", op.reply.then, op, MessageKind.REPLY, when)
            yield from _fields(prefix + "reply.", op.reply.otherwise, op, MessageKind.REPLY, when.opposite)
        else:
            yield from _fields(prefix + "reply.", op.reply, op, MessageKind.REPLY)
    for item in NOTIFY.values():
        yield from _fields(f"fuse.notify.{item.name.lower()}.", item.payload, item, MessageKind.NOTIFICATION)


def _fields(
    prefix: str,
    fields: tuple[Field, ...],
    op: Op | Notification,
    message: MessageKind,
    when: When | None = None,
    path: str = "",
) -> Iterator[FilterField]:
    for field in fields:
        if field.hidden:
            continue
        name = prefix + field.name
        if field.kind is Kind.RECORDS:
            inside = f"{path}{field.name}[]."
            yield from _fields(name + ".", field.record, op, message, field.when or when, inside)
            continue
        many = field.kind in (Kind.STRINGS, Kind.INTEGERS)
        yield FilterField(
            name,
            Source.BODY,
            _value_kind(field),
            field.doc,
            field.unit,
            field.names,
            op,
            message,
            f"{path}{field.name}[]" if many else path + field.name,
            field,
            field.when or when,
        )


def _value_kind(field: Field) -> ValueKind:
    if field.kind is Kind.STRINGS or is_name(field):
        return ValueKind.NAME
    if field.kind in (Kind.I32, Kind.I64):
        return ValueKind.SIGNED
    if field.kind.is_integer or field.kind is Kind.INTEGERS:
        return ValueKind.INTEGER
    return ValueKind.BYTES


CATALOG: Mapping[str, FilterField] = MappingProxyType({field.name: field for field in (*_general(), *_declared())})
_SORTED = sorted(CATALOG)


def complete(prefix: str) -> list[FilterField]:
    """Return the fields whose names begin with `prefix`, in any case, by name."""
    wanted = prefix.lower()
    matching = takewhile(lambda name: name.startswith(wanted), _SORTED[bisect_left(_SORTED, wanted) :])
    return [CATALOG[name] for name in matching]
