"""What could be read of many messages: values, and the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dissectors.fast import reader
from dissectors.message import Severity, Value
from tracer.trace.columns import Kind, Rows
from tracer.trace.trace import SHAPED_BY_REQUEST, Trace

REQUEST, REPLY = int(Kind.REQUEST), int(Kind.REPLY)


class Body(NamedTuple):
    """The values of a message, as many as could be read, and its first fault."""

    values: Mapping[str, Value]
    fault: str = ""
    is_plain: bool = True  # laid out as declared, nothing missing
    lost: int = 0  # bytes at its end that were not kept


def read_bodies(trace: Trace, rows: Rows, requests: Sequence[Body] | None = None) -> list[Body]:
    """Read the messages in `rows`; of replies, `requests` are what they answer. Padding may be left out."""
    found: list[Body | None] = [None] * len(rows)
    for places, context in trace.stretches(rows):
        read, mapped = reader(context), trace.file.mapped
        for place, start, end, kind, opcode, wire_len in zip(*_facts(trace, rows, places), strict=True):
            if kind == REQUEST:
                values = read.request(mapped, start, end, opcode, wire_len)
            elif kind == REPLY:
                asked = requests[place] if requests is not None and opcode in SHAPED_BY_REQUEST else None
                known = asked.values if asked is not None and asked.is_plain else None
                values = read.reply(mapped, start, end, opcode, known, wire_len)
            else:
                values = read.notification(mapped, start, end, opcode, wire_len)
            if values is not None:
                found[place] = Body(values, lost=wire_len - (end - start))
    return [_with_care(trace, row) if body is None else body for body, row in zip(found, rows.tolist(), strict=True)]


def _facts(trace: Trace, rows: Rows, places: Rows) -> tuple[list[int], ...]:
    """Return place, first and last byte, kind, opcode and length on the wire of the records at `places` of `rows`."""
    table, own = trace.records, rows[places]
    starts = table["at"][own]
    ends = starts + table["kept"][own].astype(np.int64)
    columns = (starts, ends, table["kind"][own], table["opcode"][own], table["wire_len"][own])
    return places.tolist(), *(column.tolist() for column in columns)


def _with_care(trace: Trace, row: int) -> Body:
    message = trace.message(row)
    faults = [problem.text for problem in message.problems if problem.severity is Severity.ERROR]
    return Body(message.values, faults[0] if faults else "", False)
