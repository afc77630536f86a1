"""scapy's view of the protocol: a Packet class for every header and body, made from the declarations.

For people who live in scapy, and for crafting, mutating and fuzzing messages; everything else here is faster. Field
names are the declared ones with "_" for "."; where an attribute of scapy's own stands in the way (`name`, `parent`), a
"_" follows. Lengths, counts and the opcode are worked out unless they are set. What cannot be dissected stays Raw.

Only this module and the one that plays edits import scapy. It is an extra: `pip install fusewire[scapy]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import error as StructError
from struct import pack
from typing import Any, ClassVar, TypeVar, cast

from scapy.fields import ConditionalField, Field, FieldListField, PacketListField, StrField
from scapy.packet import Packet, Raw

from dissectors import fields as declared
from dissectors.fields import MAX_ELEMENTS, Kind
from dissectors.layout import Context, Layout, agreed_layout, compile_layout, fixed_layout, layout_for, variants
from dissectors.message import Message, MessageKind
from dissectors.names import Flags
from dissectors.opcodes import NEWEST_MINOR, NOTIFY, OPS, OPS_BY_NAME, Either, Notification, Op, notify_name
from dissectors.structs import IN_HEADER, OUT_HEADER
from dissectors.text import value_text

P = TypeVar("P", bound=Packet)

EXTLEN_SINCE = 38  # fuse.h changelog: total_extlen came with 7.38
NOTIFICATIONS_BY_NAME = {notify_name(code): item for code, item in NOTIFY.items()}


class CutShort(ValueError):
    """A field does not fit into what is left of the bytes."""


def attribute(name: str) -> str:
    """Return what a declared field is called in scapy."""
    plain = name.replace(".", "_")
    return plain + "_" if hasattr(Packet, plain) else plain


# ---- fields ----------------------------------------------------------------------------------------------------------


class Number(Field[Any, Any]):
    """An integer. Words stand for numbers, `|` joins flags: `flags="O_RDWR|O_TRUNC"`."""

    __slots__ = ("field",)

    def __init__(self, field: declared.Field, order: str, default: int | None = 0) -> None:
        self.field = field
        super().__init__(attribute(field.name), default, order + field.code)

    def any2i(self, pkt: Packet | None, x: Any) -> Any:
        """Return a number for one or for words; ValueError for a word that means nothing here."""
        return self._named(x) if isinstance(x, str) else x

    def i2repr(self, pkt: Packet | None, x: Any) -> str:
        """Return the number as fusewire shows it."""
        return value_text(self.field, x) if isinstance(x, int) else repr(x)

    def _named(self, words: str) -> int:
        names = self.field.names
        parts = words.split("|") if isinstance(names, Flags) else [words]
        found = 0
        for word in parts:
            value = names.value(word.strip().removeprefix("O_")) if names is not None else None
            if value is None:
                raise ValueError(f"{self.name} has no value {word!r}")
            found |= value
        return found


class Size(Number):
    """The length of another field, or the number of its elements, unless it is set."""

    __slots__ = ("of",)

    def __init__(self, field: declared.Field, order: str, of: str) -> None:
        self.of = of
        super().__init__(field, order, None)

    def i2m(self, pkt: Packet | None, x: Any) -> Any:
        """Measure the other field where nothing was set."""
        return len(pkt.getfieldval(self.of)) if x is None and pkt is not None else x


class Name(StrField):
    """Bytes up to a NUL."""

    __slots__ = ("field",)

    def __init__(self, field: declared.Field) -> None:
        self.field = field
        super().__init__(attribute(field.name), b"")

    def addfield(self, pkt: Packet, s: bytes, val: Any) -> bytes:
        """Append the name and its NUL."""
        return s + self.i2m(pkt, val) + b"\0"

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, bytes]:
        """Take the bytes before the next NUL."""
        name, nul, rest = s.partition(b"\0")
        if not nul:
            raise CutShort(self.name)
        return rest, name

    def i2repr(self, pkt: Packet | None, x: Any) -> str:
        """Return the name with everything escaped that could drive a terminal."""
        return value_text(self.field, x) if isinstance(x, bytes) else repr(x)


class Data(Name):
    """Bytes: a fixed number, as many as another field says, or all that is left."""

    def addfield(self, pkt: Packet, s: bytes, val: Any) -> bytes:
        """Append the bytes; spare room keeps its size."""
        raw: bytes = self.i2m(pkt, val)
        return s + (raw[: self.field.size].ljust(self.field.size, b"\0") if self.field.kind is Kind.FIXED else raw)

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, bytes]:
        """Take the bytes; what is shorter than was said is no such field."""
        if self.field.kind is not Kind.FIXED and not self.field.size_from:
            return b"", s
        size = pkt.getfieldval(attribute(self.field.size_from)) if self.field.size_from else self.field.size
        if size > len(s):
            raise CutShort(self.name)
        return s[size:], s[:size]


class Integers(FieldListField):
    """A run of integers, as many as another field says."""

    __slots__ = ("declared_as",)

    def __init__(self, field: declared.Field, order: str) -> None:
        self.declared_as = field
        super().__init__(attribute(field.name), [], Number(field.record[0], order), max_count=MAX_ELEMENTS)

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, list[int]]:
        """Take exactly as many as were said."""
        count, size = _count(self.declared_as, pkt), self.field.sz
        if count > MAX_ELEMENTS or count * size > len(s):
            raise CutShort(self.name)
        found = [self.field.getfield(pkt, s[at : at + size])[1] for at in range(0, count * size, size)]
        return s[count * size :], found


class Padding(StrField):
    """What fills a record up to its alignment."""

    __slots__ = ("align",)

    def __init__(self, align: int) -> None:
        self.align = align
        super().__init__("_pad", None)

    def addfield(self, pkt: Packet, s: bytes, val: Any) -> bytes:
        """Append zeros unless other bytes were there."""
        return s + (bytes(-len(s) % self.align) if val is None else val)


class Records(PacketListField):
    """Records one after another: as many as another field says, or as many as are whole."""

    __slots__ = ("declared_as", "order")

    def __init__(self, field: declared.Field, order: str) -> None:
        self.declared_as, self.order = field, order
        super().__init__(attribute(field.name), [], record_class(field.record, order, field.align))

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, list[Any]]:
        """Take the records; a last one that is cut stays where it is."""
        field = self.declared_as
        counted = _count(field, pkt) if field.count_from else None
        narrow = counted and len(s) == counted * sum(member.size for member in field.narrow_record)
        members = field.narrow_record if narrow else field.record
        layout = compile_layout(members, NEWEST_MINOR, frozenset(), self.order)
        made, at = record_class(layout.fields, self.order, field.align), 0
        found: list[Any] = []
        while at < len(s) if counted is None else len(found) < counted:
            end = at + _record_size(layout, s, at)
            end += -(end - at) % field.align
            if end > len(s) or len(found) == MAX_ELEMENTS:
                if counted is None:
                    break
                raise CutShort(self.name)
            found.append(made(s[at:end], _parent=pkt))
            at = end
        return s[at:], found


def _count(field: declared.Field, packet: Packet) -> int:
    return sum(int(packet.getfieldval(attribute(name))) for name in field.count_from.split("+"))


def _record_size(layout: Layout, data: bytes, at: int) -> int:
    """Return the length of the record at `at`, more than there is when its head is cut."""
    if not layout.tail:
        return layout.head_size
    if at + layout.head_size > len(data):
        return layout.head_size
    words = dict(zip((f.name for f in layout.head), layout.struct.unpack_from(data, at), strict=True))
    return layout.head_size + sum(int(words[field.size_from]) for field in layout.tail)


def scapy_fields(fields: tuple[declared.Field, ...], order: str) -> list[Any]:
    """Return the fields of a Packet class for declared ones, as they lie on the wire."""
    measured = {f.size_from or f.count_from: f.name for f in fields if f.size_from or f.count_from}
    return [_scapy_field(field, order, measured.get(field.name, "")) for field in fields]


def _scapy_field(field: declared.Field, order: str, measures: str) -> Any:
    made: Any
    match field.kind:
        case Kind.NAME:
            made = Name(field)
        case Kind.DATA | Kind.FIXED:
            made = Data(field)
        case Kind.STRINGS:
            made = FieldListField(attribute(field.name), [], Name(field), max_count=MAX_ELEMENTS)
        case Kind.INTEGERS:
            made = Integers(field, order)
        case Kind.RECORDS:
            made = Records(field, order)
        case _:
            made = Size(field, order, attribute(measures)) if measures else Number(field, order)
    when = field.when
    if when is None:
        return made
    return ConditionalField(made, lambda packet: when.holds(packet.getfieldval(attribute(when.field))))


# ---- packets ---------------------------------------------------------------------------------------------------------


class Header(Packet):
    """What both headers do. `context` is the session the class is for."""

    context: ClassVar[Context]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Fill in the length unless it was set."""
        if self.getfieldval("len") is None:
            pkt = pack(self.context.order + "I", len(pkt + pay)) + pkt[4:]
        return pkt + pay


class RequestHeader(Header):
    """fuse_in_header: its opcode tells what follows. An extension area stays raw behind the body."""

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Fill in the length of the extension area as well."""
        extension = self.payload.payload
        if self.getfieldval("total_extlen") is None and extension and self.context.effective_minor >= EXTLEN_SINCE:
            pkt = pkt[:-4] + pack(self.context.order + "H", len(extension) // 8) + pkt[-2:]
        return super().post_build(pkt, pay)

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        """Return the body's class by the opcode and, where that decides, by the length."""
        op = OPS.get(self.getfieldval("opcode"))
        if op is None:
            return Raw
        length = len(payload) - (8 * self.getfieldval("total_extlen") if op.extensible else 0)
        return request_class(op, self.context, payload[: max(0, length)])


class ReplyHeader(Header):
    """fuse_out_header: with a unique of 0 the head of a notification, else of a reply that does not say to what."""

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        """Return the class of a notification's payload; a reply is read by `reply`, which is told to what."""
        notification = NOTIFY.get(self.getfieldval("error")) if not self.getfieldval("unique") else None
        if notification is None:
            return Raw
        layout = fixed_layout(notification.payload, self.context, len(payload))
        return body_class(notify_name(notification.code), layout, notification, type(self))


_HEADERS: Mapping[str, tuple[declared.Struct, type[Header]]] = {
    header.name: (header, base) for header, base in ((IN_HEADER, RequestHeader), (OUT_HEADER, ReplyHeader))
}


@lru_cache(256)
def header_class(name: str, context: Context) -> type[Header]:
    """Return the class of "fuse_in_header" or "fuse_out_header" in a session."""
    struct, base = _HEADERS[name]
    derived = ("len", "total_extlen")
    described = [Number(f, context.order, None if f.name in derived else 0) for f in struct.fields]
    return _made(base, name, fields_desc=described, context=context)


@lru_cache(1024)
def record_class(fields: tuple[declared.Field, ...], order: str, align: int) -> type[Packet]:
    """Return the class of one record."""
    padding: list[Any] = [Padding(align)] if align > 1 else []
    return _made(Packet, "fuse_record", fields_desc=scapy_fields(fields, order) + padding)


@lru_cache(4096)
def body_class(name: str, layout: Layout, op: Op | Notification, header: type[Header]) -> type[Packet]:
    """Return the class of a body. Below a header of class `header` it says what is asked."""
    says = "error" if isinstance(op, Notification) else "opcode" if issubclass(header, RequestHeader) else None
    described = scapy_fields(layout.fields, layout.order)
    return _made(Packet, name, fields_desc=described, overload_fields={header: {says: op.code} if says else {}})


def _made(base: type[P], title: str, **members: Any) -> type[P]:
    named = {"name": title, "__doc__": base.__doc__, **members}
    return cast(type[P], cast(Any, type(base))(title.replace(".", "_"), (base,), named))


def request_class(op: Op, context: Context, body: bytes) -> type[Packet]:
    """Return the class of the request whose body is `body`."""
    layout = layout_for(op.request, context, len(body), body)
    return body_class(op.name, layout, op, header_class(IN_HEADER.name, context))


def reply_class(op: Op, context: Context, length: int | None, asked: Mapping[str, Any]) -> type[Packet]:
    """Return the class of the reply of `length` bytes to `op`; `asked` are values of the request."""
    fields = op.reply
    if isinstance(fields, Either):
        value = asked.get(fields.when.field.removeprefix("request."), -1)
        fields = fields.then if fields.when.holds(value) else fields.otherwise
    if length is None:
        layout = variants(fields, context.order)[0] if op.short_reply else agreed_layout(fields, context)
    else:
        layout = fixed_layout(fields, context, length, short=op.short_reply)
    return body_class(f"{op.name}.reply", layout, op, header_class(OUT_HEADER.name, context))


# ---- what people call ------------------------------------------------------------------------------------------------


def layer(name: str, context: Context | None = None, asked: Mapping[str, Any] | None = None) -> type[Packet]:
    """Return the Packet class called `name`: "fuse_in_header", "fuse_out_header", "READ", "READ.reply", "NOTIFY_PRUNE".

    `context` is the session; without it the newest protocol, little-endian. Of the two replies to GETXATTR and
    LISTXATTR, `asked={"size": 0}` gives the one that tells a size. KeyError when there is no such layer.
    """
    context = context or Context()
    if name in _HEADERS:
        return header_class(name, context)
    if name in NOTIFICATIONS_BY_NAME:
        notification = NOTIFICATIONS_BY_NAME[name]
        layout = agreed_layout(notification.payload, context)
        return body_class(name, layout, notification, header_class(OUT_HEADER.name, context))
    op = OPS_BY_NAME[name.removesuffix(".reply")]
    if name.endswith(".reply"):
        return reply_class(op, context, None, asked or {})
    return body_class(op.name, agreed_layout(op.request, context), op, header_class(IN_HEADER.name, context))


def request(data: bytes, context: Context | None = None) -> Packet:
    """Dissect a whole request: header, body, and raw behind it what belongs to neither."""
    return header_class(IN_HEADER.name, context or Context())(data)


def notification(data: bytes, context: Context | None = None) -> Packet:
    """Dissect a whole notification."""
    return header_class(OUT_HEADER.name, context or Context())(data)


def reply(data: bytes, op: str, context: Context | None = None, asked: Mapping[str, Any] | None = None) -> Packet:
    """Dissect a whole reply to the operation called `op`, which the reply does not say."""
    context = context or Context()
    header = header_class(OUT_HEADER.name, context)
    size = sum(field.size for field in OUT_HEADER.fields)
    packet = header(data[:size])
    body = data[size:]
    if body:
        made = Raw if packet.error else reply_class(OPS_BY_NAME[op], context, len(body), asked or {})
        try:
            packet.add_payload(made(body))
        except (ValueError, StructError):
            packet.add_payload(Raw(body))
    return packet


def packet_of(message: Message, asked: Message | None = None) -> Packet:
    """Return a message of a trace as scapy's packet; `asked` is the request that a reply answers."""
    if message.kind is MessageKind.REQUEST:
        return request(message.data, message.context)
    if message.kind is MessageKind.NOTIFICATION or not isinstance(message.op, Op):
        return notification(message.data, message.context)
    return reply(message.data, message.op.name, message.context, asked.values if asked is not None else {})


__all__ = ["attribute", "layer", "notification", "packet_of", "reply", "request"]
