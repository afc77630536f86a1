"""The fields of both sides of a row: what differs is marked, and where one side's cursor goes the other's follows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal

from tracer.tui.field_tree import FieldTree
from tracer.tui.fields import NO_FIELDS, FieldRow, Fields

ENTRY = re.compile(r"entries\[(\d+)\]\.?")
HEADER = frozenset({"len", "unique"})  # of either header: no two dialogues agree on them
Key = tuple[int, str, str]
DIFFERS, OTHER = "differs", "other"
STYLES = {DIFFERS: ("was", "differs"), OTHER: ("other", "other")}  # component classes of either side's value


class ReplayDetail(Horizontal):
    """Two trees side by side; where that is too narrow, one of them."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.recorded, self.live = FieldTree(id="recorded"), FieldTree(id="live")
        self.is_single, self._front = False, self.live

    def compose(self) -> ComposeResult:
        """Put the recorded side to the left, as in the list."""
        yield self.recorded
        yield self.live

    @property
    def front(self) -> FieldTree:
        """The side that keys go to, and the only one in sight where there is room for one."""
        return self._front

    def lay_out(self, is_single: bool) -> None:
        """Show one side, or both."""
        self.is_single = is_single
        for tree in (self.recorded, self.live):
            tree.display = tree is self._front or not is_single

    def turn(self) -> None:
        """Bring the other side to the front."""
        had_focus = self._front.has_focus
        self._front = self._other(self._front)
        self.lay_out(self.is_single)
        if had_focus:
            self._front.focus()

    def _other(self, tree: FieldTree) -> FieldTree:
        return self.live if tree is self.recorded else self.recorded

    def show(self, recorded: Fields, live: Fields, named: Collection[str], without: str) -> None:
        """Show a row; `named` are the fields that differences are about, `without` says why a side is missing."""
        for tree, mine, theirs in ((self.recorded, recorded, live), (self.live, live, recorded)):
            marks = marked(mine, theirs, named)
            styles = {row: STYLES[mark][tree is self.live] for row, mark in marks.items()}
            first = next((row for row, mark in sorted(marks.items()) if mark == DIFFERS), None)
            tree.show(mine, _reply_of(mine) if first is None else first, styles)
            side = "recorded" if tree is self.recorded else "live"
            tree.border_title = Text(f"{side} {mine.title or without}")

    @on(FieldTree.Chosen)
    def _follow(self, event: FieldTree.Chosen) -> None:
        event.stop()
        mover = self.recorded if self.recorded.has_focus else self.live
        other = self._other(mover)
        keys = _keys(mover.fields)
        wanted = keys[mover.cursor] if mover.cursor < len(keys) else None
        for row, key in enumerate(_keys(other.fields)):
            if key == wanted:
                other.place(row)
                return


def _reply_of(fields: Fields) -> int:
    """Return the row where the answer's body begins, its header where it has none, 0 where there is no answer."""
    headings = [row for row, field in enumerate(fields.rows) if field.part == 1 and field.row.depth == 0]
    return headings[-1] if headings else 0


def marked(mine: Fields, theirs: Fields, named: Collection[str]) -> Mapping[int, str]:
    """Return which rows of an exchange have another value on the other side: by a rule that counts, or all the same."""
    if mine is NO_FIELDS or theirs is NO_FIELDS:
        return {}
    others = dict(zip(_keys(theirs), theirs.rows, strict=True))
    found = {}
    for row, (key, field) in enumerate(zip(_keys(mine), mine.rows, strict=True)):
        if not field.row.depth or field.row.name in HEADER:
            continue
        other = others.get(key)
        counts = field.part == 1 and ENTRY.sub("", field.row.name) in named
        if (
            other is None
            or other.row.text != field.row.text
            or (counts and _bytes(mine, field) != _bytes(theirs, other))
        ):
            found[row] = DIFFERS if counts else OTHER
    return found


def _bytes(fields: Fields, field: FieldRow) -> bytes:
    """Return what a row stands for: the texts of long contents are only their beginnings."""
    return bytes(fields.parts[field.part].data[field.row.start : field.row.end])


def _keys(fields: Fields) -> list[Key]:
    """Return by what each row is found on the other side: entries of a listing by name, they come in any order."""
    names = dict(_entry_names(fields.rows))

    def known(field: FieldRow) -> Key:
        entry = ENTRY.match(field.row.name)
        place = f"entries[{names.get(entry[1], entry[1])}]{field.row.name[entry.end() :]}" if entry else field.row.name
        return field.part, place, field.row.label if not entry else ""

    return [known(field) for field in fields.rows]


def _entry_names(rows: Collection[FieldRow]) -> Iterator[tuple[str, str]]:
    for field in rows:
        entry = ENTRY.match(field.row.name)
        if entry and field.row.name.endswith("name"):
            yield entry[1], field.row.text
