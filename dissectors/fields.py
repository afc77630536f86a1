"""The words a declaration is written in: fields, structures and conditions. No lambdas: every reader must be derivable.

A field is one of a small closed set of kinds. Fixed kinds have a size known before the message is seen; variable kinds
follow the fixed head. `since` says from which protocol minor a field is on the wire at all: it stands for the header's
FUSE_COMPAT_* sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from dissectors.names import Names

# More elements than this in one message are not shown one by one; a READDIRPLUS reply of 1 MiB holds about 6,500.
MAX_ELEMENTS = 65536


class Kind(Enum):
    """How a field lies on the wire. The value is (struct code, size) for integers, else ("", 0)."""

    U8 = ("B", 1)
    U16 = ("H", 2)
    U32 = ("I", 4)
    U64 = ("Q", 8)
    I32 = ("i", 4)
    I64 = ("q", 8)
    FIXED = ("s", 0)  # a fixed number of bytes: spare room
    NAME = ("name", 0)  # bytes up to a NUL
    DATA = ("data", 0)  # `size_from` bytes, or all that is left
    STRINGS = ("strings", 0)  # NUL-terminated strings up to the end
    RECORDS = ("records", 0)  # `count_from` records, or records up to the end
    INTEGERS = ("integers", 0)  # like RECORDS, of bare u32 or u64

    @property
    def is_integer(self) -> bool:
        """Whether one struct code reads it."""
        return self.value[1] > 0

    @property
    def is_fixed(self) -> bool:
        """Whether its size is known from the declaration alone."""
        return self.is_integer or self is Kind.FIXED


class Show(Enum):
    """How a person reads an integer."""

    DECIMAL = "decimal"
    HEX = "hex"
    MODE = "mode"  # file type and permission bits
    DEVICE = "device"  # the kernel's 32-bit dev_t encoding
    SECONDS = "seconds"  # since the epoch
    OCTAL = "octal"


class Role(Enum):
    """What a value means to somebody who plays the message again: what must be mapped, kept or counted."""

    NODE = "node"  # a nodeid the server gave out before
    NEW_NODE = "new node"  # a nodeid the server gives out here: lookup count + 1
    HANDLE = "handle"
    NEW_HANDLE = "new handle"
    LOCK_OWNER = "lock owner"
    NAME = "name"  # of something in a directory: no '/' in it, and not "." or ".." of a kernel
    TARGET = "link target"  # any bytes, "/" too
    ATTRIBUTE = "attribute name"
    PAYLOAD = "payload"
    COOKIE = "cookie"  # a readdir offset
    UNIQUE_REF = "unique reference"  # the unique of another request
    NLOOKUP = "lookup count"
    POLL_HANDLE = "poll handle"
    LENGTH = "length"  # derived from the payload's length
    COUNT = "count"  # derived from the number of records
    BACKING_ID = "backing id"


@dataclass(frozen=True, slots=True)
class When:
    """A condition on an integer read before: `(value & mask) == equals`, or its opposite with `negate`.

    A name that begins with "request." is looked up in the request that a reply answers.
    """

    field: str
    equals: int = 0
    mask: int = 0xFFFF_FFFF_FFFF_FFFF
    negate: bool = False

    def holds(self, value: int) -> bool:
        """Tell whether `value` meets the condition."""
        return ((value & self.mask) == self.equals) != self.negate

    @property
    def opposite(self) -> When:
        """The condition that holds exactly when this one does not."""
        return replace(self, negate=not self.negate)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Field:
    """One field, as declared. Equal to itself alone: declarations are made once and are the keys of many caches."""

    name: str
    kind: Kind
    doc: str = ""
    size: int = 0
    unit: str = ""
    names: Names | None = None
    role: Role | None = None
    of: str = ""  # of a handle: the field with the node it was opened on; empty: the header's
    valid: When | None = None  # on the wire anyhow, but it means something only then
    show: Show = Show.DECIMAL
    nanoseconds: str = ""  # the field that holds the fraction of these seconds
    since: int = 0  # first minor that has it on the wire
    means: int = 0  # first minor in which it means this; padding before
    needs: str = ""  # INIT flag without which it is not on the wire
    hidden: bool = False  # padding: kept for rebuilding, not shown
    size_from: str = ""
    room_from: str = ""  # of a reply: the field of the request that says how many bytes there is room for
    count_from: str = ""
    record: tuple[Field, ...] = ()
    narrow_record: tuple[Field, ...] = ()  # what a record is instead when `count_from` of them fill the rest exactly
    narrow_before: int = 0  # the first minor in which it can no longer be narrow
    align: int = 1
    when: When | None = None

    def __post_init__(self) -> None:
        if self.kind.is_integer:
            object.__setattr__(self, "size", self.kind.value[1])

    def __repr__(self) -> str:
        return f"<Field {self.name} {self.kind.name}>"

    @property
    def code(self) -> str:
        """The struct code of a fixed field."""
        return f"{self.size}s" if self.kind is Kind.FIXED else str(self.kind.value[0])

    def prefixed(self, prefix: str) -> Field:
        """Return the field under a longer name, as when its structure is embedded in another."""
        if not prefix:
            return self
        nanoseconds = f"{prefix}.{self.nanoseconds}" if self.nanoseconds else ""
        return replace(self, name=f"{prefix}.{self.name}", nanoseconds=nanoseconds)


@dataclass(frozen=True, slots=True, eq=False)
class Embed:
    """A structure inside a structure: `member` is its name in C, `prefix` what its fields' names begin with here."""

    member: str
    struct: Struct
    prefix: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Struct:
    """A C structure of the protocol. `since` is the minor that brought it."""

    name: str
    members: tuple[Field | Embed, ...]
    since: int = 0
    fields: tuple[Field, ...] = ()  # in wire order, those of embedded structures with their prefix

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(flatten(self.members)))


def flatten(members: tuple[Field | Embed | Struct, ...] | tuple[Field | Embed, ...]) -> Iterator[Field]:
    """Yield the fields of a member list, embedded structures opened up."""
    for member in members:
        if isinstance(member, Field):
            yield member
        elif isinstance(member, Struct):
            yield from member.fields
        else:
            yield from (field.prefixed(member.prefix) for field in member.struct.fields)


def struct(name: str, *members: Field | Embed, since: int = 0) -> Struct:
    """Declare a C structure."""
    return Struct(name, members, since)


def body(*members: Field | Embed | Struct) -> tuple[Field, ...]:
    """Declare what follows a header."""
    return tuple(flatten(members))


@dataclass(frozen=True, slots=True)
class Declare:
    """Declares integer fields of one kind. A field without a doc is padding: kept for rebuilding, not shown."""

    kind: Kind

    def __call__(
        self,
        name: str,
        doc: str = "",
        *,
        unit: str = "",
        names: Names | None = None,
        role: Role | None = None,
        of: str = "",
        valid: When | None = None,
        show: Show = Show.DECIMAL,
        nanoseconds: str = "",
        since: int = 0,
        means: int = 0,
        needs: str = "",
    ) -> Field:
        """Return the declared field; see `Field` for what each argument says."""
        return Field(
            name,
            self.kind,
            doc,
            unit=unit,
            names=names,
            role=role,
            of=of,
            valid=valid,
            show=show,
            nanoseconds=nanoseconds,
            since=since,
            means=means,
            needs=needs,
            hidden=not doc,
        )


u8, u16, u32, u64 = Declare(Kind.U8), Declare(Kind.U16), Declare(Kind.U32), Declare(Kind.U64)
i32, i64 = Declare(Kind.I32), Declare(Kind.I64)


def spare(name: str, size: int, *, since: int = 0, means: int = 0) -> Field:
    """Declare `size` bytes that mean nothing yet; `means` is the minor that left no more of them."""
    return Field(name, Kind.FIXED, size=size, since=since, means=means, hidden=True)


def name(field_name: str = "name", doc: str = "name in the directory", role: Role = Role.NAME) -> Field:
    """Declare a NUL-terminated name. Bytes in no particular encoding, without padding after it."""
    return Field(field_name, Kind.NAME, doc, role=role)


def data(
    field_name: str,
    doc: str,
    *,
    size_from: str = "",
    room_from: str = "",
    role: Role | None = Role.PAYLOAD,
    align: int = 1,
    when: When | None = None,
) -> Field:
    """Declare bytes: as many as the field `size_from` says, or all that is left."""
    return Field(
        field_name, Kind.DATA, doc, size_from=size_from, room_from=room_from, role=role, align=align, when=when
    )


def strings(field_name: str, doc: str, *, room_from: str = "") -> Field:
    """Declare NUL-terminated strings up to the end of the body."""
    return Field(field_name, Kind.STRINGS, doc, room_from=room_from)


def records(
    field_name: str,
    doc: str,
    *members: Field | Embed | Struct,
    count_from: str = "",
    room_from: str = "",
    narrow: Struct | None = None,
    narrow_before: int = 0,
    align: int = 1,
    when: When | None = None,
) -> Field:
    """Declare records one after another, each padded to `align` bytes: `count_from` many, or up to the end.

    `count_from` may name several fields with a plus between: "in_iovs+out_iovs".
    """
    return Field(
        field_name,
        Kind.RECORDS,
        doc,
        record=body(*members),
        count_from=count_from,
        room_from=room_from,
        narrow_record=narrow.fields if narrow else (),
        narrow_before=narrow_before,
        align=align,
        when=when,
    )


def integers(field_name: str, doc: str, element: Field, *, count_from: str, role: Role | None = None) -> Field:
    """Declare a run of bare integers, `count_from` many."""
    return Field(field_name, Kind.INTEGERS, doc, record=(element,), count_from=count_from, role=role)
