"""Reads fields one after another and keeps going as long as the bytes make sense. Never raises on any input."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, groupby

from dissectors.fields import MAX_ELEMENTS, Field, Kind
from dissectors.message import Node, Problem, Severity, Value


class _Stop(Exception):
    """The rest of the body cannot be read; the reason is among the problems."""


class _Partial(Exception):
    """A field of which a part could be read; nothing after it can."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)
        self.node = node


@dataclass(frozen=True, slots=True)
class _Block:
    """Neighbouring fields of fixed size: one struct call reads them when all of their bytes are there."""

    fields: tuple[tuple[str, int, int, Field], ...]  # name, begin and end from the block's start, field
    layout: struct.Struct


@dataclass(slots=True)
class Walk:
    """A position in a message. `end` is where the part of the message that is read ended when it was sent."""

    data: bytes
    at: int
    end: int
    order: str
    problems: list[Problem]
    is_broken: bool = False  # something could not be read, so nothing is known about what follows
    have: int = field(init=False)  # where the readable bytes end

    def __post_init__(self) -> None:
        self.have = min(self.end, len(self.data))

    def fields(self, fields: tuple[Field, ...]) -> list[Node]:
        """Read `fields`; on a fault, return those before it. The fault is among the problems."""
        nodes: list[Node] = []
        values: dict[str, Value] = {}
        try:
            for run in _runs(fields, self.order):
                if isinstance(run, Field):
                    if run.when is None or self._holds(run, values):
                        self._add(self._read(run, values), nodes, values)
                elif self.at + run.layout.size <= self.have:
                    self._whole_block(run, nodes, values)
                else:
                    for _, _, _, item in run.fields:
                        self._add(self._read(item, values), nodes, values)
        except _Partial as partial:
            nodes.append(partial.node)
            self.is_broken = True
        except _Stop:
            self.is_broken = True
        return nodes

    @staticmethod
    def _add(node: Node, nodes: list[Node], values: dict[str, Value]) -> None:
        nodes.append(node)
        if node.value is not None:
            values[node.name] = node.value

    def _whole_block(self, block: _Block, nodes: list[Node], values: dict[str, Value]) -> None:
        at = self.at
        for (name, start, end, item), value in zip(block.fields, block.layout.unpack_from(self.data, at), strict=True):
            values[name] = value
            nodes.append(Node(name, value, at + start, at + end, item))
        self.at = at + block.layout.size

    def _holds(self, item: Field, values: dict[str, Value]) -> bool:
        assert item.when is not None
        value = values.get(item.when.field)
        return isinstance(value, int) and item.when.holds(value)

    def _read(self, item: Field, values: dict[str, Value]) -> Node:
        match item.kind:
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
                return self._fixed(item)

    def _fixed(self, item: Field) -> Node:
        start, stop = self.at, self.at + item.size
        if stop > self.end:
            self._fault(f"{item.name} needs {item.size} bytes, {max(0, self.end - start)} are left")
            raise _Stop
        if stop > len(self.data):
            self._note_cut(item.name)
            raise _Stop
        self.at = stop
        (value,) = struct.unpack_from(self.order + item.code, self.data, start)
        return Node(item.name, value, start, stop, item)

    def _name(self, item: Field) -> Node:
        start, have = self.at, self.have
        nul = self.data.find(b"\0", start, have)
        if nul >= 0:
            self.at = nul + 1
            return Node(item.name, self.data[start:nul], start, self.at, item)
        if have < self.end:
            self._note_cut(item.name)
        else:
            self._fault(f"{item.name} has no NUL at its end")
        raise _Partial(self._rest(item))

    def _rest(self, item: Field) -> Node:
        """Return what is left as the value of `item`."""
        start = self.at
        stop = max(start, self.have)
        self.at = stop
        return Node(item.name, self.data[start:stop], start, stop, item)

    def _data(self, item: Field, values: dict[str, Value]) -> Node:
        start = self.at
        left = max(0, self.end - start)
        size = left
        if item.size_from:
            wanted = values.get(item.size_from)
            size = wanted if isinstance(wanted, int) else 0
        if size > left:
            self._fault(f"{item.name} should have {size} bytes, {left} are left")
            raise _Partial(self._rest(item))
        stop = start + size
        if stop > len(self.data):
            self._note_cut(item.name)
            raise _Partial(self._rest(item))
        self.at = stop
        return Node(item.name, self.data[start:stop], start, stop, item)

    def _strings(self, item: Field) -> Node:
        start, stop = self.at, self.have
        parts: list[bytes] = self.data[start:stop].split(b"\0", MAX_ELEMENTS)
        last = parts.pop()
        node = Node(item.name, parts, start, stop, item)
        if last and len(parts) == MAX_ELEMENTS:
            self._note_more(item.name)
        elif last:
            parts.append(last)
            if stop == self.end:
                self._fault(f"{item.name} does not end with a NUL")
                raise _Partial(node)
        if stop < self.end:
            self._note_cut(item.name)
            raise _Partial(node)
        self.at = self.end
        return node

    def _count(self, item: Field, values: dict[str, Value]) -> int:
        numbers = [values.get(name) for name in item.count_from.split("+")]
        return sum(number for number in numbers if isinstance(number, int))

    def _records(self, item: Field, values: dict[str, Value]) -> Node:
        start = self.at
        fields, count = item.record, -1
        if item.count_from:
            count = self._count(item, values)
            narrow_size = sum(member.size for member in item.narrow_record)
            if narrow_size and count * narrow_size == self.end - start:
                fields = item.narrow_record
        children: list[Node] = []
        while self.at < self.end if count < 0 else len(children) < count:
            if len(children) == MAX_ELEMENTS:
                self._note_more(item.name)
                self.at = self.end
                break
            child = self._record(item, fields, len(children))
            if child.children:
                children.append(child)
            if self.is_broken:
                raise _Partial(_group(item, children, start, self.have))
        return _group(item, children, start, self.at)

    def _record(self, item: Field, fields: tuple[Field, ...], number: int) -> Node:
        start, known = self.at, len(self.problems)
        name = f"{item.name}[{number}]"
        nodes = self.fields(fields)
        pad = -(self.at - start) % item.align
        if pad and not self.is_broken:
            self._pad(name, pad, nodes)
        is_short = any(problem.severity is Severity.ERROR for problem in self.problems[known:])
        if is_short and not item.count_from:
            # fs/fuse/readdir.c, parse_dirfile(): a last entry that is not all there ends the list without an error
            self.problems[known:] = [Problem(start, f"{name} is not all there: the kernel ignores it", Severity.NOTE)]
        return Node(name, None, start, min(self.at, self.have), item, tuple(nodes))

    def _pad(self, name: str, size: int, nodes: list[Node]) -> None:
        start, stop = self.at, self.at + size
        if stop > self.have:
            if stop > self.end:
                self._fault(f"{name} needs {size} bytes of padding, {self.end - start} are left")
            else:
                self._note_cut(name)
            self.at = self.have
            self.is_broken = True
            return
        nodes.append(Node("_pad", self.data[start:stop], start, stop))
        self.at = stop

    def _integers(self, item: Field, values: dict[str, Value]) -> Node:
        start = self.at
        element = item.record[0]
        count = self._count(item, values)
        fit = max(0, self.have - start) // element.size
        kept = min(count, fit)
        numbers = list(struct.unpack_from(f"{self.order}{kept}{element.code}", self.data, start))
        self.at = start + kept * element.size
        node = Node(item.name, numbers, start, self.at, item)
        if kept < count:
            if start + count * element.size > self.end:
                self._fault(f"{item.name} should be {count}, only {kept} are there")
            else:
                self._note_cut(item.name)
            raise _Partial(node)
        return node

    def _fault(self, text: str) -> None:
        self.problems.append(Problem(self.at, text))

    def _note_cut(self, name: str) -> None:
        self.problems.append(Problem(len(self.data), f"the capture kept the message up to {name}", Severity.NOTE))

    def _note_more(self, name: str) -> None:
        self.problems.append(Problem(self.at, f"only the first {MAX_ELEMENTS} {name} are shown", Severity.NOTE))


@cache
def _runs(fields: tuple[Field, ...], order: str) -> tuple[_Block | Field, ...]:
    """Split `fields` into blocks of fixed size and fields that vary or may be missing."""
    runs: list[_Block | Field] = []
    for is_block, members in groupby(fields, key=lambda item: item.kind.is_fixed and item.when is None):
        if not is_block:
            runs.extend(members)
            continue
        block = list(members)
        ends = list(accumulate(item.size for item in block))
        rows = [(item.name, end - item.size, end, item) for item, end in zip(block, ends, strict=True)]
        runs.append(_Block(tuple(rows), struct.Struct(order + "".join(item.code for item in block))))
    return tuple(runs)


def _group(item: Field, children: list[Node], start: int, end: int) -> Node:
    values: list[dict[str, Value]] = [
        {node.name: node.value for node in child.children if node.value is not None} for child in children
    ]
    return Node(item.name, values, start, end, item, tuple(children))
