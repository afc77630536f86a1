"""Reads fields one after another and keeps going as long as the bytes make sense. Never raises on any input."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from dissectors.fields import MAX_ELEMENTS, Field, Kind
from dissectors.message import Node, Problem, Severity, Value


class Stop(Exception):
    """The rest of the body cannot be read; the reason is among the problems."""


@dataclass(slots=True)
class Walk:
    """A position in a message. `have` is where the kept bytes end, `end` where the part of the message ends."""

    data: bytes
    at: int
    end: int
    order: str
    problems: list[Problem]
    request: dict[str, Value] = field(default_factory=dict)

    @property
    def have(self) -> int:
        """Where the readable bytes end."""
        return min(self.end, len(self.data))

    def fields(self, fields: tuple[Field, ...]) -> list[Node]:
        """Read `fields`; on a fault, return those before it. The fault is among the problems."""
        nodes: list[Node] = []
        values: dict[str, Value] = {}
        try:
            for item in fields:
                if item.when is not None and not self._holds(item, values):
                    continue
                node = self._read(item, values)
                nodes.append(node)
                if node.value is not None:
                    values[item.name] = node.value
                if self.at > self.have:
                    self._cut(item.name)
        except _Partial as partial:
            nodes.append(partial.node)
        except Stop:
            pass
        return nodes

    def _holds(self, item: Field, values: dict[str, Value]) -> bool:
        assert item.when is not None
        value = values.get(item.when.field)
        return isinstance(value, int) and item.when.holds(value)

    def _read(self, item: Field, values: dict[str, Value]) -> Node:
        match item.kind:
            case Kind.FIXED:
                return self._fixed(item)
            case Kind.NAME:
                return self._name(item)
            case Kind.DATA:
                return self._data(item, values)
            case Kind.STRINGS:
                return self._strings(item)
            case Kind.RECORDS:
                return self._records(item, values)
            case Kind.INTEGERS:
                return self._integers(item, values)
            case _:
                return self._integer(item)

    def _take(self, size: int, name: str) -> int:
        """Move past `size` bytes that must all be there; return where they begin."""
        start = self.at
        if start + size > self.end:
            self._fault(f"{name} needs {size} bytes, {max(0, self.end - start)} are left")
        if start + size > len(self.data):
            self._cut(name)
        self.at = start + size
        return start

    def _integer(self, item: Field) -> Node:
        start = self._take(item.size, item.name)
        (value,) = struct.unpack_from(self.order + item.code, self.data, start)
        return Node(item.name, value, start, self.at, item)

    def _fixed(self, item: Field) -> Node:
        start = self._take(item.size, item.name)
        return Node(item.name, self.data[start : self.at], start, self.at, item)

    def _name(self, item: Field) -> Node:
        start, have = self.at, self.have
        nul = self.data.find(b"\0", start, have)
        if nul >= 0:
            self.at = nul + 1
            return Node(item.name, self.data[start:nul], start, self.at, item)
        partial = Node(item.name, self.data[start:have], start, have, item)
        self.at = have
        if have < self.end:
            self._note_cut(item.name)
        else:
            self.problems.append(Problem(start, f"{item.name} has no NUL at its end"))
        raise _Partial(partial)

    def _data(self, item: Field, values: dict[str, Value]) -> Node:
        start = self.at
        left = max(0, self.end - start)
        size = left
        if item.size_from:
            wanted = values.get(item.size_from)
            size = wanted if isinstance(wanted, int) else 0
        if size > left:
            self.problems.append(Problem(start, f"{item.name} should have {size} bytes, {left} are left"))
            self.at = self.end
            raise _Partial(Node(item.name, self.data[start : self.have], start, self.have, item))
        stop = start + size
        self.at = stop
        if stop > len(self.data):
            kept = max(start, len(self.data))
            self._note_cut(item.name)
            raise _Partial(Node(item.name, self.data[start:kept], start, kept, item))
        return Node(item.name, self.data[start:stop], start, stop, item)

    def _strings(self, item: Field) -> Node:
        start, stop = self.at, self.have
        blob = self.data[start:stop]
        self.at = self.end
        parts = blob.split(b"\0")
        if parts[-1]:
            if stop < self.end:
                self._note_cut(item.name)
            else:
                self.problems.append(Problem(start, f"{item.name} does not end with a NUL"))
        else:
            parts.pop()
        return Node(item.name, parts, start, stop, item)

    def _count(self, item: Field, values: dict[str, Value]) -> int | None:
        if not item.count_from:
            return None
        numbers = [values.get(name) for name in item.count_from.split("+")]
        return sum(number for number in numbers if isinstance(number, int))

    def _records(self, item: Field, values: dict[str, Value]) -> Node:
        start = self.at
        count = self._count(item, values)
        children: list[Node] = []
        while (self.at < self.end) if count is None else (len(children) < count):
            if len(children) == MAX_ELEMENTS:
                self.problems.append(
                    Problem(self.at, f"only the first {MAX_ELEMENTS} {item.name} are shown", Severity.NOTE)
                )
                self.at = self.end
                break
            found = len(self.problems)
            child = self._record(item, len(children))
            if child.children:
                children.append(child)
            if len(self.problems) > found:
                self.at = self.end
                raise _Partial(_group(item, children, start, self.have))
        return _group(item, children, start, self.at)

    def _record(self, item: Field, number: int) -> Node:
        start = self.at
        nodes = self.fields(item.record)
        pad = -(self.at - start) % item.align
        if pad and nodes and self.at <= self.have:
            if self.at + pad > self.end:
                self.problems.append(Problem(self.at, f"{item.name}[{number}] is not padded to {item.align} bytes"))
            elif self.at + pad <= len(self.data):
                nodes.append(Node("_pad", self.data[self.at : self.at + pad], self.at, self.at + pad))
                self.at += pad
            else:
                self._note_cut(item.name)
        return Node(f"{item.name}[{number}]", None, start, min(self.at, self.have), item, tuple(nodes))

    def _integers(self, item: Field, values: dict[str, Value]) -> Node:
        start = self.at
        element = item.record[0]
        count = self._count(item, values) or 0
        fit = max(0, self.have - start) // element.size
        kept = min(count, fit)
        numbers = list(struct.unpack_from(f"{self.order}{kept}{element.code}", self.data, start))
        self.at = start + kept * element.size
        node = Node(item.name, numbers, start, self.at, item)
        if kept < count:
            if start + count * element.size > self.end:
                self.problems.append(Problem(self.at, f"{item.name} should be {count}, only {kept} are there"))
            else:
                self._note_cut(item.name)
            raise _Partial(node)
        return node

    def _fault(self, text: str) -> None:
        self.problems.append(Problem(self.at, text))
        raise Stop

    def _note_cut(self, name: str) -> None:
        self.problems.append(Problem(len(self.data), f"the capture kept the message up to {name}", Severity.NOTE))

    def _cut(self, name: str) -> None:
        self._note_cut(name)
        raise Stop


class _Partial(Exception):
    """A field of which a part could be read; nothing after it can."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)
        self.node = node


def _group(item: Field, children: list[Node], start: int, end: int) -> Node:
    values: list[dict[str, Value]] = [
        {node.name: node.value for node in child.children if node.value is not None} for child in children
    ]
    return Node(item.name, values, start, end, item, tuple(children))
