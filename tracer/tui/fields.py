"""The messages of an exchange as one list of fields, each with the bytes it covers."""

from __future__ import annotations

from dataclasses import dataclass

from dissectors.describe import TreeRow, tree
from dissectors.message import Message
from tracer.output.timing import is_telling, timing_label, timing_words
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
    is_bad: bool  # nobody answered, and nobody will
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
        timing = trace.timing(number)
        is_bad = timing.state in (State.ABORTED, State.LOST)
        if is_telling(timing):
            rows = (FieldRow(0, TreeRow(0, "", timing_words(timing), "", 0, 0, problem=is_bad)), *rows)
        title = f"#{number} {parts[0].name} · {timing_label(timing)} · unique {parts[0].unique}"
        return cls(title, timing.state is State.PENDING, is_bad, parts, rows)

    def row_at(self, part: int, offset: int) -> int:
        """Return the row with the fewest bytes around an offset, the deepest of several; -1 when there is none."""
        best, size = -1, 1 << 62
        for at, field in enumerate(self.rows):
            row = field.row
            if field.part == part and row.start <= offset < row.end and row.end - row.start <= size:
                best, size = at, row.end - row.start
        return best

    def first_of_interest(self) -> int:
        """Return the row to begin with: why there is no answer, else the first of the body, else of the header."""
        if self.is_open or self.is_bad:
            return 0
        headings = [at for at, field in enumerate(self.rows) if field.row.depth == 0 and field.row.end]
        return headings[1] if len(headings) > 1 and self.rows[headings[1]].part == 0 else 0


NO_FIELDS = Fields("", False, False, (), ())
