"""From the tree of a filter to terms: finds the fields, checks that every value fits, chooses where to read."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from fractions import Fraction
from typing import cast

import numpy as np

from dissectors.catalog import CATALOG, FilterField, ValueKind
from dissectors.message import MessageKind
from dissectors.names import Flags
from dissectors.opcodes import Notification, Op
from tracer.filters.bodies import source_of
from tracer.filters.body_names import NAMED_OPS, FirstName
from tracer.filters.checks import NumberCheck, TextCheck, any_bit, any_flag, compared, found_in, masked, one_of
from tracer.filters.errors import FilterError
from tracer.filters.malformed import Malformed
from tracer.filters.messages import messages_of
from tracer.filters.names import EVERYTHING, KINDS, fields_below, suggestion
from tracer.filters.paths import Path
from tracer.filters.sources import COLUMN_COST, GENERAL, SINCE_START, Bools, Numbers, SharedTexts, Source, Texts
from tracer.filters.terms import Everything, Joined, Not, NumberTest, SharedTextTest, Term, TextTest
from tracer.filters.tree import (
    Bits,
    Both,
    Compare,
    Contains,
    Either,
    FieldName,
    Matches,
    Negation,
    OneOf,
    Present,
    Tree,
    Value,
)
from tracer.filters.values import ERROR, Reader, is_text
from tracer.trace.columns import Rows
from tracer.trace.trace import Trace

WHOLE_SOURCES: dict[str, Source] = {
    **GENERAL,
    "fuse.name": FirstName(NAMED_OPS),
    "fuse.path": Path(),
    "fuse.malformed": Malformed(),
}


def source_for(field: FilterField) -> Source:
    """Return where the values of a field come from."""
    return source_of(field) if field.op is not None else WHOLE_SOURCES[field.name]


@dataclass(frozen=True, slots=True)
class KindTest:
    """Holds for exchanges that have a message of one kind."""

    op: Op | Notification
    kind: MessageKind
    cost: int = COLUMN_COST

    def mask(self, trace: Trace, numbers: Rows) -> Bools:
        """Tell by opcode, and by the error of replies."""
        mask = np.zeros(len(numbers), dtype=np.bool_)
        mask[messages_of(trace, numbers, self.op, self.kind).where] = True
        return mask


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles one filter; `text` is the whole of it, for errors. `names` are those it asks for, once compiled."""

    text: str
    names: set[str] = dataclass_field(default_factory=set)

    def term(self, tree: Tree) -> Term:
        """Compile a tree. FilterError where a field or a value does not fit."""
        match tree:
            case Both(terms):
                return Joined.of([self.term(term) for term in terms], every=True)
            case Either(terms):
                return Joined.of([self.term(term) for term in terms], every=False)
            case Negation(term):
                return Not(self.term(term))
            case Present(name):
                return self._present(name)
            case Compare(name, sign, value):
                return self._compare(self._reader(name), sign, value)
            case OneOf(name, members):
                return self._one_of(self._reader(name), members)
            case Contains(name, value):
                return self._contains(self._reader(name), value)
            case Matches(name, pattern):
                return self._matches(self._reader(name), pattern)
            case Bits():
                return self._bits(self._reader(tree.field), tree)

    def _reader(self, name: FieldName) -> Reader:
        self.names.add(name.name)
        field = CATALOG.get(name.name)
        if field is None:
            raise FilterError(self._unknown(name.name), self.text, name.start, name.end)
        return Reader(self.text, name, field)

    def _unknown(self, name: str) -> str:
        below = fields_below(name)[:3]
        if name in KINDS and not below:
            return f"{name} stands for a message and has no value; alone it asks whether there is one"
        if below:
            some = ", ".join(field.name for field in below)
            return f"{name} stands for a group and has no value; its fields are {some} ..."
        return f"there is no such field: {suggestion(name)}"

    # ---- the tests ----

    def _present(self, name: FieldName) -> Term:
        self.names.add(name.name)
        field = CATALOG.get(name.name)
        if field is not None:
            return _has(field)
        if name.name == EVERYTHING:
            return Everything()
        if name.name in KINDS:
            return KindTest(*KINDS[name.name])
        below = fields_below(name.name)
        if not below or below[0].op is None:
            raise FilterError(f"there is no such field: {suggestion(name.name)}", self.text, name.start, name.end)
        return Joined.of([_has(field) for field in below], every=False) if len(below) > 1 else _has(below[0])

    def _compare(self, reader: Reader, sign: str, value: Value) -> Term:
        if is_text(reader.field):
            return self._compare_text(reader, sign, value)
        if sign not in ("==", "!="):
            self._refuse_order(reader)
        return self._number_test(reader, [value], compared(sign, reader.number(value)), every=sign == "!=")

    def _compare_text(self, reader: Reader, sign: str, value: Value) -> Term:
        if sign not in ("==", "!="):
            raise reader.fault(f"{reader.name.name} is text: use == != in contains or matches", reader.name)
        content = reader.content(value)
        return _text_test(reader.field, content.__eq__ if sign == "==" else content.__ne__, every=sign == "!=")

    def _refuse_order(self, reader: Reader) -> None:
        name = reader.name.name
        if name == ERROR:
            raise reader.fault(f"errors have no order; for any error write {name} != OK", reader.name)
        if reader.field.kind is ValueKind.BOOLEAN:
            raise reader.fault(f"{name} is true or false: use == or !=", reader.name)

    def _one_of(self, reader: Reader, members: tuple[tuple[Value, Value | None], ...]) -> Term:
        if is_text(reader.field):
            for _, high in members:
                if high is not None:
                    raise reader.fault("a range is of numbers", high)
            wanted = frozenset(reader.content(low) for low, _ in members)
            return _text_test(reader.field, wanted.__contains__)
        ranges = [self._range(reader, low, high) for low, high in members]
        written = [value for member in members for value in member if value is not None]
        return self._number_test(reader, written, one_of(ranges))

    def _range(self, reader: Reader, low: Value, high: Value | None) -> tuple[Fraction, Fraction]:
        first = reader.number(low)
        if high is None:
            return first, first
        self._refuse_order(reader)
        last = reader.number(high)
        if last < first:
            raise reader.fault("a range goes from the lower number to the higher", high)
        return first, last

    def _number_test(self, reader: Reader, values: list[Value], check: NumberCheck, *, every: bool = False) -> Term:
        source = _numbers(reader.field)
        if reader.field.kind is ValueKind.TIME:
            since_start = [reader.is_since_start(value) for value in values]
            if any(since_start) and not all(since_start):
                raise reader.fault("times and durations do not go together in one set", values[0])
            source = SINCE_START if since_start[0] else source
        return NumberTest(source, check, every)

    def _contains(self, reader: Reader, value: Value) -> Term:
        if not is_text(reader.field):
            raise reader.fault(self._not_text(reader, "contains"), reader.name)
        wanted = reader.content(value)
        return _text_test(reader.field, lambda content: wanted in content)

    def _matches(self, reader: Reader, pattern: Value) -> Term:
        if not is_text(reader.field):
            raise reader.fault(self._not_text(reader, "matches"), reader.name)
        return _text_test(reader.field, found_in(reader.pattern(pattern)))

    def _not_text(self, reader: Reader, word: str) -> str:
        name, names = reader.name.name, reader.field.names
        if isinstance(names, Flags):
            return f"{name} is a number: for single flags write {name} & {next(iter(names.bits.values()))}"
        return f"{word} is for text, {name} is a number: use == != < <= > >= in"

    def _bits(self, reader: Reader, tree: Bits) -> Term:
        field, name = reader.field, reader.name.name
        if field.kind not in (ValueKind.INTEGER, ValueKind.SIGNED) or name == ERROR:
            raise reader.fault(f"& is for numbers and flags, {name} is neither", reader.name)
        masks = [reader.bits(part) for part in tree.mask.parts]
        if tree.value is not None:
            joined = int(np.bitwise_or.reduce(np.array(masks, dtype=np.uint64)))
            check = masked(joined, compared(tree.operator, reader.number(tree.value)))
            return NumberTest(_numbers(field), check, every=tree.operator == "!=")
        if 0 in masks:
            part = tree.mask.parts[masks.index(0)]
            raise reader.fault(
                f"{part.text} has no bit to test: compare the whole, or ({name} & MASK) == {part.text}", part
            )
        if isinstance(field.names, Flags) and all(reader.named(part.text) is not None for part in tree.mask.parts):
            return NumberTest(_numbers(field), any_flag(masks))
        return NumberTest(_numbers(field), any_bit(int(np.bitwise_or.reduce(np.array(masks, dtype=np.uint64)))))


def _has(field: FilterField) -> Term:
    """Return the test whether an exchange has the field; of one that is true or false, whether it is true."""
    if is_text(field):
        return _text_test(field, None)
    is_boolean = field.kind is ValueKind.BOOLEAN
    return NumberTest(_numbers(field), compared("!=", Fraction(0)) if is_boolean else None)


def _numbers(field: FilterField) -> Numbers:
    """Return the source of a field whose kind is a number's."""
    return cast(Numbers, source_for(field))


def _text_test(field: FilterField, check: TextCheck | None, *, every: bool = False) -> Term:
    """Return the test of a field whose kind is text."""
    source = source_for(field)
    if hasattr(source, "groups"):
        return SharedTextTest(cast(SharedTexts, source), check)
    return TextTest(cast(Texts, source), check, every)
