"""The messages of an exchange as one list of fields, each with the bytes it covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dissectors.describe import TreeRow, tree
from dissectors.message import Message
from tracer.output.style import duration
from tracer.trace.columns import Kind
from tracer.trace.pairing import State
from tracer.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, end) of the message number `part` of an exchange."""

    part: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A row of the detail tree, and which message it belongs to."""

    part: int
    row: TreeRow

    @property
    def span(self) -> Span:
        """The bytes it covers."""
        return Span(self.part, self.row.start, self.row.end)


@dataclass(frozen=True, slots=True)
class Fields:
    """Everything the detail panes show of one exchange."""

    title: str
    is_open: bool  # an answer may still come
    parts: tuple[Message, ...]
    rows: tuple[FieldRow, ...]

    @classmethod
    def of(cls, trace: Trace, number: int) -> Fields:
        """Decode an exchange; no exchange has the number -1."""
        if number < 0:
            return NO_FIELDS
        row = int(trace.first_rows[number])
        kind, mate = int(trace.records["kind"][row]), int(trace.records["mate"][row])
        records = (row, mate) if kind == Kind.REQUEST and mate >= 0 else (row,)
        parts = tuple(trace.message(record) for record in records)
        rows = tuple(FieldRow(part, row) for part, message in enumerate(parts) for row in tree(message))
        state = State(int(trace.states(np.array([number], dtype=np.int64))[0]))
        return cls(_title(trace, number, parts[0], state), state is State.PENDING, parts, rows)

    def row_at(self, part: int, offset: int) -> int:
        """Return the row with the fewest bytes around an offset, the deepest of several; -1 when there is none."""
        best, size = -1, 1 << 62
        for at, field in enumerate(self.rows):
            row = field.row
            if field.part == part and row.start <= offset < row.end and row.end - row.start <= size:
                best, size = at, row.end - row.start
        return best

    def first_of_interest(self) -> int:
        """Return the row to begin with: the first of the body, else of the header."""
        headings = [at for at, field in enumerate(self.rows) if field.row.depth == 0]
        return headings[1] if len(headings) > 1 and self.rows[headings[1]].part == 0 else 0


NO_FIELDS = Fields("", False, (), ())


def _title(trace: Trace, number: int, message: Message, state: State) -> str:
    one = np.array([number], dtype=np.int64)
    latency_ns = int(trace.latencies_ns(one)[0])
    took = duration(latency_ns) if latency_ns >= 0 else state.name.lower().replace("_", " ")
    return f"#{number} {message.name} · unique {message.unique} · {took}"
