"""Exchanges as JSON documents, fast: values come from the struct path, facts about many records from the columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dissectors.errnos import error_text
from dissectors.jsonform import message_json, values_json
from dissectors.opcodes import NOTIFY, OPS, notify_name, op_name
from dissectors.text import escape
from tracer.records import RecordFlag
from tracer.trace.columns import Kind, Rows
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

CHUNK = 4096
STATE_NAMES = tuple(state.name for state in State)
Document = dict[str, Any]


def documents(trace: Trace, numbers: Rows) -> Iterator[Document]:
    """Yield a document for each exchange. Values are numbers as on the wire; names are escaped text."""
    trace.advance_state()
    paths = trace.paths()
    for start in range(0, len(numbers), CHUNK):
        yield from _chunk(trace, numbers[start : start + CHUNK], paths)


def _chunk(trace: Trace, numbers: Rows, paths: Any) -> Iterator[Document]:
    table = trace.records
    first = trace.first_rows[numbers]
    columns = {
        name: table[name][first].tolist()
        for name in (
            "t_ns",
            "unique",
            "nodeid",
            "opcode",
            "mate",
            "pid",
            "channel",
            "kind",
            "flags",
            "submount",
            "kept",
        )
    }
    lost = (table["wire_len"][first].astype(np.int64) - table["kept"][first]).tolist()
    comms = trace.comms(first)
    states, latencies = trace.states(numbers).tolist(), trace.latencies_ns(numbers).tolist()
    submounts = trace.submounts
    for index, (number, row) in enumerate(zip(numbers.tolist(), first.tolist(), strict=True)):
        kind, opcode, mate = columns["kind"][index], columns["opcode"][index], columns["mate"][index]
        submount = columns["submount"][index]
        nodeid, channel = columns["nodeid"][index], columns["channel"][index]
        document: Document = {
            "exchange": number,
            "time_ns": columns["t_ns"][index],
            "channel": channel,
            "opcode": notify_name(opcode) if kind == Kind.NOTIFICATION else op_name(opcode) if opcode >= 0 else None,
            "unique": columns["unique"][index],
            "nodeid": nodeid,
            "submount": submounts[submount][1] if submount >= 0 else None,
            "path": paths.text(channel, nodeid, row) if nodeid else None,
            "pid": columns["pid"][index],
            "comm": comms[index],
            "state": STATE_NAMES[states[index]],
            "latency_ns": latencies[index] if latencies[index] >= 0 else None,
        }
        if columns["flags"][index]:
            document["record_flags"] = str(RecordFlag(columns["flags"][index]).name)
        if lost[index]:
            document["lost_bytes"] = lost[index]
        if kind == Kind.REQUEST:
            _add_request(trace, document, row, opcode, mate)
        elif kind == Kind.NOTIFICATION:
            _add_body(trace, document, "notification", row, opcode, None)
        else:
            _add_reply(trace, document, row, opcode, None)
        yield document


def _add_request(trace: Trace, document: Document, row: int, opcode: int, mate: int) -> None:
    values = _add_body(trace, document, "request", row, opcode, None)
    if mate >= 0:
        _add_reply(trace, document, mate, opcode, values)


def _add_reply(trace: Trace, document: Document, row: int, opcode: int, asked: Document | None) -> None:
    error = int(trace.records["error"][row])
    document["error"] = error
    if error:
        document["error_name"] = error_text(error)
    _add_body(trace, document, "reply", row, opcode, asked)


def _add_body(
    trace: Trace, document: Document, part: str, row: int, opcode: int, asked: Document | None
) -> Document | None:
    """Add the values of a body; of one the fast path refuses, the whole decoded message with its problems."""
    values = trace.fast_values(row, asked)
    if values is None:
        document[part + "_message"] = message_json(trace.message(row))
        return None
    op = NOTIFY.get(opcode) if part == "notification" else OPS.get(opcode)
    document[part] = values_json(op, values, reply=part == "reply")
    return values


def exchange_document(trace: Trace, number: int) -> Document:
    """Return one exchange with everything: headers, offsets of problems, extension area."""
    numbers = np.array([number], dtype=np.int64)
    document = next(documents(trace, numbers))
    exchange = trace.exchange(number)
    for part in ("request", "reply", "notification"):
        message = getattr(exchange, part)
        document.pop(part + "_message", None)
        if message is not None:
            document[part] = message_json(message)
    document["comm"] = escape(exchange.comm)
    return document
