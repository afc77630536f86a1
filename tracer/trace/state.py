"""Follows the dialogue and keeps what it changes: the names of nodes and the submount of every record.

Only messages that give, move or take names are looked into; all others cost one vectorised pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from dissectors.fields import Role
from dissectors.flags import ATTR_SUBMOUNT
from dissectors.message import Value
from dissectors.opcodes import NOTIFY, OPS_BY_NAME, ROOT_ID
from tracer.trace.columns import Kind, Rows, Table
from tracer.trace.names import Names

ENTRY_OPS = tuple(
    OPS_BY_NAME[name].code for name in ("LOOKUP", "SYMLINK", "MKNOD", "MKDIR", "LINK", "CREATE", "TMPFILE")
)
READDIRPLUS = OPS_BY_NAME["READDIRPLUS"].code
REMOVALS = (OPS_BY_NAME["UNLINK"].code, OPS_BY_NAME["RMDIR"].code)
RENAMES = (OPS_BY_NAME["RENAME"].code, OPS_BY_NAME["RENAME2"].code)
FORGETS = (OPS_BY_NAME["FORGET"].code, OPS_BY_NAME["BATCH_FORGET"].code)
SYNCFS = OPS_BY_NAME["SYNCFS"].code
TMPFILE = OPS_BY_NAME["TMPFILE"].code
RENAME_EXCHANGE = 2

ON_REPLY = (*ENTRY_OPS, READDIRPLUS, *REMOVALS, *RENAMES)
ON_REQUEST = (*FORGETS, SYNCFS)

Values = Mapping[str, Value]


class Bodies(Protocol):
    """Where the state pass gets decoded bodies from."""

    def values(self, row: int) -> Values:
        """Return the body values of a record, as many as could be read."""
        ...


def number(values: Values, name: str) -> int:
    """Return an integer value, 0 when it is missing."""
    value = values.get(name)
    return value if isinstance(value, int) else 0


def text(values: Values, name: str) -> bytes:
    """Return a bytes value, empty when it is missing."""
    value = values.get(name)
    return value if isinstance(value, bytes) else b""


class State:
    """Names and submounts of every channel, up to the record `upto`."""

    def __init__(self, table: Table, bodies: Bodies) -> None:
        self._table, self._bodies = table, bodies
        self.upto = 0
        self.names: dict[int, Names] = {}
        self.submounts: list[tuple[int, int]] = []  # (channel, root nodeid), by number
        self._numbers: dict[tuple[int, int], int] = {}
        self._apply: dict[int, Callable[[Names, int], None]] = {
            **dict.fromkeys(ENTRY_OPS, self._entry),
            READDIRPLUS: self._entries,
            **dict.fromkeys(REMOVALS, self._removal),
            **dict.fromkeys(RENAMES, self._rename),
            **dict.fromkeys(FORGETS, self._forget),
            SYNCFS: self._superblock,
        }

    def advance(self) -> None:
        """Follow the dialogue up to the last record there is."""
        new = slice(self.upto, self._table.count)
        if new.start == new.stop:
            return
        self._name_notifications(new)
        for row in self._events(new):
            names = self._of(int(self._table["channel"][row]))
            self._apply[int(self._table["opcode"][row])](names, row)
        self._assign_submounts(new)
        self.upto = new.stop

    def _of(self, channel: int) -> Names:
        names = self.names.get(channel)
        if names is None:
            names = self.names[channel] = Names()
            self.submount_number(channel, ROOT_ID)
        return names

    def _events(self, new: slice) -> list[int]:
        table = self._table
        kind, opcode = table["kind"][new], table["opcode"][new]
        is_event = (kind == Kind.REPLY) & (table["error"][new] == 0) & (table["mate"][new] >= 0)
        is_event &= np.isin(opcode, ON_REPLY)
        is_event |= (kind == Kind.REQUEST) & np.isin(opcode, ON_REQUEST)
        rows: list[int] = (np.flatnonzero(is_event) + new.start).tolist()
        return rows

    def _entry(self, names: Names, row: int) -> None:
        reply = self._bodies.values(row)
        nodeid = number(reply, "nodeid")
        if not nodeid:
            return  # a negative entry
        request = int(self._table["mate"][row])
        name = self._whole_name(request, "name")
        if int(self._table["opcode"][row]) == TMPFILE:
            name = b"(tmpfile)"
        is_submount = bool(number(reply, "attr.flags") & ATTR_SUBMOUNT)
        names.entry(row, int(self._table["nodeid"][row]), name, nodeid, is_submount)

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
        channels = self._table["channel"][new]
        for channel in np.unique(channels).tolist():
            names = self._of(channel)
            rows = np.flatnonzero(channels == channel) + new.start
            root = self.submount_number(channel, ROOT_ID)
            for nodeid in names.submounts:
                self.submount_number(channel, nodeid)
            self._table["submount"][rows] = root
            if len(names.submounts) > 1:
                self._assign_by_node(channel, names, rows)

    def _assign_by_node(self, channel: int, names: Names, rows: Rows) -> None:
        table = self._table
        nodeids, inverse = np.unique(table["nodeid"][rows], return_inverse=True)
        last = int(rows[-1])
        numbers = np.empty(len(nodeids), dtype=np.int32)
        for index, nodeid in enumerate(nodeids.tolist()):
            numbers[index] = self._number_at(channel, names, nodeid, last)
        table["submount"][rows] = numbers[inverse]
        for index, nodeid in enumerate(nodeids.tolist()):
            if names.is_constant(nodeid):
                continue
            for row in rows[inverse == index].tolist():
                table["submount"][row] = self._number_at(channel, names, nodeid, row)

    def _number_at(self, channel: int, names: Names, nodeid: int, row: int) -> int:
        root = ROOT_ID if nodeid == 0 else names.submount(nodeid, row)
        return self.submount_number(channel, root) if root else -1
