"""Follows the dialogue and keeps what it changes: the names of nodes and the submount of every record.

Only messages that give, move or take names are looked into; all others cost one vectorised pass.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

from dissectors.fields import Role
from dissectors.flags import ATTR_SUBMOUNT
from dissectors.layout import Context
from dissectors.message import Value
from dissectors.opcodes import NOTIFY, OPS_BY_NAME, ROOT_ID
from tracer.trace.columns import BIG_ENDIAN, CodeSet, Kind, Rows, Table, distinct
from tracer.trace.events import ENTRY_OPS, FORGET, READDIRPLUS, REMOVALS, RENAMES, BodyReader, Source
from tracer.trace.names import Names

BATCH_FORGET = OPS_BY_NAME["BATCH_FORGET"].code
SYNCFS = OPS_BY_NAME["SYNCFS"].code
TMPFILE = OPS_BY_NAME["TMPFILE"].code
TMPFILE_NAME = b"(tmpfile)"
RENAME_EXCHANGE = 2
VARIES = -2  # instead of a submount's number: depends on the record
_GIVES_ENTRY = frozenset(ENTRY_OPS)
# Of a BATCH_FORGET: fuse_in_header, fuse_batch_forget_in, then (nodeid, nlookup) again and again.
EXTENSION_AT, COUNT_AT, FORGETS_AT = 36, 40, 48
PAIR = struct.Struct("<QQ")

AT_ONCE = 1 << 15  # events read at once: bounds the memory of their names
_ON_REPLY = CodeSet((*ENTRY_OPS, READDIRPLUS, *REMOVALS, *RENAMES))
_ON_REQUEST = CodeSet((FORGET, BATCH_FORGET, SYNCFS))

Values = Mapping[str, Value]


class Bodies(Protocol):
    """Where the state pass gets decoded bodies from."""

    def values(self, row: int) -> Values:
        """Return the body values of a record, as many as could be read."""
        ...

    @property
    def file(self) -> Source:
        """The file as it is mapped now."""
        ...

    def stretches(self, rows: Rows) -> Iterator[tuple[Rows, Context]]:
        """Split `rows` by what their session had agreed on; yield (places in `rows`, context)."""
        ...


def number(values: Values, name: str) -> int:
    """Return an integer value, 0 when it is missing."""
    value = values.get(name)
    return value if isinstance(value, int) else 0


def text(values: Values, name: str) -> bytes:
    """Return a bytes value, empty when it is missing."""
    value = values.get(name)
    return value if isinstance(value, bytes) else b""


class _Places(dict[int, int]):
    """Numbers different values as they are asked for, from 0 on."""

    def __missing__(self, value: int) -> int:
        place = self[value] = len(self)
        return place


class State:
    """Names and submounts of every channel, up to the record `upto`."""

    def __init__(self, table: Table, bodies: Bodies) -> None:
        self._table, self._bodies = table, bodies
        self.upto = 0
        self.names: dict[int, Names] = {}
        self.submounts: list[tuple[int, int]] = []  # (channel, root nodeid), by number
        self._numbers: dict[tuple[int, int], int] = {}
        self._steady: dict[int, tuple[int, dict[int, tuple[int, int, int]]]] = {}  # by channel: changes seen, and nodes
        self._reader = BodyReader(table, lambda: bodies.file)
        self._apply: dict[int, Callable[[Names, int], None]] = {
            **dict.fromkeys(ENTRY_OPS, self._entry),
            READDIRPLUS: self._entries,
            **dict.fromkeys(REMOVALS, self._removal),
            **dict.fromkeys(RENAMES, self._rename),
            FORGET: self._forget,
            BATCH_FORGET: self._forget_many,
            SYNCFS: self._superblock,
        }

    def advance(self) -> None:
        """Follow the dialogue up to the last record there is."""
        new = slice(self.upto, self._table.count)
        if new.start == new.stop:
            return
        self._name_notifications(new)
        events = self._events(new)
        for start in range(0, len(events), AT_ONCE):
            self._follow(events[start : start + AT_ONCE])
        self._assign_submounts(new)
        self.upto = new.stop

    def _of(self, channel: int) -> Names:
        names = self.names.get(channel)
        if names is None:
            names = self.names[channel] = Names()
            self.submount_number(channel, ROOT_ID)
        return names

    def _events(self, new: slice) -> Rows:
        table = self._table
        kind, opcode = table["kind"][new], table["opcode"][new]
        is_event = (kind == Kind.REPLY) & (table["error"][new] == 0) & (table["mate"][new] >= 0)
        is_event &= _ON_REPLY.holds(opcode)
        is_event |= (kind == Kind.REQUEST) & _ON_REQUEST.holds(opcode)
        rows: Rows = np.flatnonzero(is_event) + new.start
        return rows

    def _follow(self, rows: Rows) -> None:
        """Apply events in their order; one that is not laid out as declared is decoded with care."""
        table = self._table
        read = self._reader.read(rows, self._bodies.stretches(rows))
        channels = table["channel"][rows]
        by_channel = {channel: self._of(channel) for channel in distinct(channels)}
        columns = (rows, channels, table["opcode"][rows], table["nodeid"][rows], read.is_plain, read.nodeid, read.flags)
        for row, channel, code, parent, is_plain, nodeid, flags, name in zip(
            *(column.tolist() for column in columns), read.names, strict=True
        ):
            names = by_channel[channel]
            if not is_plain:
                self._apply[code](names, row)
            elif code in _GIVES_ENTRY:
                is_listed = code != TMPFILE
                name = name if is_listed else TMPFILE_NAME
                if nodeid:  # 0: a negative entry
                    names.entry(row, parent, name, nodeid, bool(flags & ATTR_SUBMOUNT), is_listed=is_listed)
            elif code == FORGET:
                names.forgotten(row, parent, nodeid)
            elif code == READDIRPLUS:
                for entry_name, entry, is_submount in name:
                    names.entry(row, parent, entry_name, entry, is_submount)
            elif code in RENAMES:
                old, new = name
                names.renamed(row, (parent, old), (nodeid, new), bool(flags & RENAME_EXCHANGE))
            else:
                names.removed(row, parent, name)

    def _entry(self, names: Names, row: int) -> None:
        reply = self._bodies.values(row)
        nodeid = number(reply, "nodeid")
        if not nodeid:
            return  # a negative entry
        request = int(self._table["mate"][row])
        is_listed = int(self._table["opcode"][row]) != TMPFILE
        name = self._whole_name(request, "name") if is_listed else TMPFILE_NAME
        is_submount = bool(number(reply, "attr.flags") & ATTR_SUBMOUNT)
        names.entry(row, int(self._table["nodeid"][row]), name, nodeid, is_submount, is_listed=is_listed)

    def _whole_name(self, request: int, name: str) -> bytes:
        """Return a name of a request; nothing when the capture ends in it: a part of a name is another name."""
        values = self._bodies.values(request)
        was_cut = self._table["kept"][request] < self._table["wire_len"][request]
        if was_cut and list(values)[-1:] == [name]:
            return b""  # the last value that could be read of a cut message
        return text(values, name)

    def _entries(self, names: Names, row: int) -> None:
        parent = int(self._table["nodeid"][row])
        entries = self._bodies.values(row).get("entries", [])
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, dict) or not number(entry, "nodeid"):
                continue  # nodeid 0: listed without attributes
            name = text(entry, "dirent.name")
            if len(name) != number(entry, "dirent.namelen"):
                name = b""  # the capture cut it
            if name in (b".", b".."):
                continue  # never counted (fuse_direntplus_link())
            is_submount = bool(number(entry, "attr.flags") & ATTR_SUBMOUNT)
            names.entry(row, parent, name, number(entry, "nodeid"), is_submount)

    def _removal(self, names: Names, row: int) -> None:
        name = self._whole_name(int(self._table["mate"][row]), "name")
        names.removed(row, int(self._table["nodeid"][row]), name)

    def _rename(self, names: Names, row: int) -> None:
        asked = int(self._table["mate"][row])
        request = self._bodies.values(asked)
        old = (int(self._table["nodeid"][row]), self._whole_name(asked, "oldname"))
        new = (number(request, "newdir"), self._whole_name(asked, "newname"))
        names.renamed(row, old, new, bool(number(request, "flags") & RENAME_EXCHANGE))

    def _forget_many(self, names: Names, row: int) -> None:
        """Read a BATCH_FORGET that is whole as pairs of numbers: one may hold thousands."""
        table = self._table
        start, kept = int(table["at"][row]), int(table["kept"][row])
        is_whole = kept == int(table["wire_len"][row]) and not int(table["bits"][row]) & BIG_ENDIAN
        head = bytes(self._bodies.file.mapped[start : start + FORGETS_AT]) if is_whole and kept >= FORGETS_AT else b""
        count = int.from_bytes(head[COUNT_AT : COUNT_AT + 4], "little")
        if not head or head[EXTENSION_AT : EXTENSION_AT + 2] != b"\0\0" or FORGETS_AT + PAIR.size * count != kept:
            self._forget(names, row)
            return
        for nodeid, nlookup in PAIR.iter_unpack(self._bodies.file.mapped[start + FORGETS_AT : start + kept]):
            names.forgotten(row, nodeid, nlookup)

    def _forget(self, names: Names, row: int) -> None:
        values = self._bodies.values(row)
        if "nlookup" in values:
            names.forgotten(row, int(self._table["nodeid"][row]), number(values, "nlookup"))
        forgets = values.get("forgets", [])
        for one in forgets if isinstance(forgets, list) else []:
            if isinstance(one, dict):
                names.forgotten(row, number(one, "nodeid"), number(one, "nlookup"))

    def _superblock(self, names: Names, row: int) -> None:
        names.superblock(row, int(self._table["nodeid"][row]))

    def _name_notifications(self, new: slice) -> None:
        """Put the node a notification is about into its row, so that it gets a path and a submount."""
        rows = np.flatnonzero(self._table["kind"][new] == Kind.NOTIFICATION) + new.start
        for row in rows.tolist():
            notification = NOTIFY.get(int(self._table["opcode"][row]))
            fields = notification.payload if notification else ()
            node = next((field.name for field in fields if field.role is Role.NODE and field.kind.is_integer), None)
            if node:
                self._table["nodeid"][row] = number(self._bodies.values(row), node) & 0xFFFF_FFFF_FFFF_FFFF

    def submount_number(self, channel: int, nodeid: int) -> int:
        """Return the number of a submount, giving it one when it is new."""
        found = self._numbers.get((channel, nodeid))
        if found is None:
            found = self._numbers[channel, nodeid] = len(self.submounts)
            self.submounts.append((channel, nodeid))
        return found

    def _assign_submounts(self, new: slice) -> None:
        channels = self._table["channel"]
        for channel in distinct(channels[new]):
            names = self._of(channel)
            if names.has_news:  # about records before it, too
                names.settle()
                self._steady.pop(channel, None)
                rows = np.flatnonzero(channels == channel)
            else:
                rows = np.flatnonzero(channels[new] == channel) + new.start
            root = self.submount_number(channel, ROOT_ID)
            for nodeid in names.submounts:
                self.submount_number(channel, nodeid)
            self._table["submount"][rows] = root
            if len(names.submounts) > 1:
                self._assign_by_node(channel, names, rows)

    def _assign_by_node(self, channel: int, names: Names, rows: Rows) -> None:
        """Give each record the submount its node lay in then: at first unknown, later one, for nearly every node."""
        column = self._table["nodeid"][rows].tolist()
        places = _Places()
        place = np.fromiter(map(places.__getitem__, column), np.int64, len(rows))
        since, late, early = np.array(self._steady_of(channel, names, places), np.int64).T
        found = late[place].astype(np.int32)
        is_early = rows < since[place]
        found[is_early] = early[place[is_early]]
        for index in np.flatnonzero(found == VARIES).tolist():
            found[index] = self._number_at(channel, names, column[index], int(rows[index]))
        is_orphan = (self._table["kind"][rows] == Kind.REPLY) & (self._table["mate"][rows] < 0)
        found[is_orphan] = -1  # names no node
        self._table["submount"][rows] = found

    def _steady_of(self, channel: int, names: Names, nodeids: Iterable[int]) -> list[tuple[int, int, int]]:
        """Return since which record each node lies in the submount it is in, its number, and the number before.

        Kept until the node gets another place: a trace that grows asks for the same nodes again and again.
        """
        changes, known = self._steady.get(channel, (0, {}))
        for nodeid in names.changed_nodes[changes:]:
            known.pop(nodeid, None)
        self._steady[channel] = len(names.changed_nodes), known
        found = []
        for nodeid in nodeids:
            steady = known.get(nodeid)
            if steady is None:
                row, is_first = names.steady_from(nodeid)
                before = self._number_at(channel, names, nodeid, -1) if is_first else VARIES
                steady = known[nodeid] = row, self._number_at(channel, names, nodeid, row), before
            found.append(steady)
        return found

    def _number_at(self, channel: int, names: Names, nodeid: int, row: int) -> int:
        root = ROOT_ID if nodeid == 0 else names.submount(nodeid, row)
        return self.submount_number(channel, root) if root else -1
