"""Exchanges as JSON documents, fast: values come from the struct path, facts about many records from the columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dissectors.errnos import error_text
from dissectors.jsonform import message_json, values_json
from dissectors.opcodes import NOTIFY, OPS, notify_name, op_name
from dissectors.text import escape
from tracer.output.bodies import read_bodies
from tracer.records import RecordFlag
from tracer.trace.columns import Kind, Rows
from tracer.trace.pairing import State
from tracer.trace.paths import Paths
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


def _chunk(trace: Trace, numbers: Rows, paths: Paths) -> Iterator[Document]:
    first = trace.first_rows[numbers].astype(np.int64)
    mates = np.where(trace.records["kind"][first] == Kind.REQUEST, trace.records["mate"][first], -1).astype(np.int64)
    bodies, replies = read_bodies(trace, first), _replies(trace, mates)
    facts = _facts(trace, numbers, first, mates, paths)
    columns = (first, mates, *(trace.records[name][first] for name in ("kind", "opcode")))
    for document, row, mate, kind, opcode, body, (error, reply) in zip(
        facts, *(column.tolist() for column in columns), bodies, replies, strict=True
    ):
        if kind == Kind.REQUEST:
            asked = body
            if body is not None:
                document["request"] = body
            else:
                asked = _add_body(trace, document, "request", row, opcode, None)
            if mate >= 0:
                _add_reply(trace, document, mate, opcode, error, reply, asked)
        elif kind == Kind.NOTIFICATION:
            _add_body(trace, document, "notification", row, opcode, None)
        else:
            _add_reply(trace, document, row, opcode, int(trace.records["error"][row]), body, None)
        yield document


def _replies(trace: Trace, mates: Rows) -> Iterator[tuple[int, Document | None]]:
    """Yield error and body of the reply in each row; (0, None) where there is none, or one to be read with care."""
    answered = mates >= 0
    errors = np.where(answered, trace.records["error"][np.where(answered, mates, 0)], 0)
    bodies = iter(read_bodies(trace, mates[answered]))
    for error, is_answered in zip(errors.tolist(), answered.tolist(), strict=True):
        yield error, next(bodies) if is_answered else None


def _facts(trace: Trace, numbers: Rows, first: Rows, mates: Rows, paths: Paths) -> Iterator[Document]:
    """Yield what the index knows of each exchange."""
    table, roots = trace.records, [root for _, root in trace.submounts]
    names = ("t_ns", "channel", "kind", "opcode", "unique", "nodeid", "submount", "pid", "flags")
    columns = [numbers, first, _lost_bytes(trace, first, mates), trace.states(numbers), trace.latencies_ns(numbers)]
    columns += [table[name][first] for name in names]
    text = paths.text
    for (
        number,
        row,
        lost,
        state,
        latency_ns,
        t_ns,
        channel,
        kind,
        opcode,
        unique,
        nodeid,
        submount,
        pid,
        flags,
        comm,
    ) in zip(*(column.tolist() for column in columns), trace.comms(first), strict=True):
        document: Document = {
            "exchange": number,
            "time_ns": t_ns,
            "channel": channel,
            "opcode": notify_name(opcode) if kind == Kind.NOTIFICATION else op_name(opcode) if opcode >= 0 else None,
            "unique": unique,
            "nodeid": nodeid,
            "submount": roots[submount] if submount >= 0 else None,
            "path": text(channel, nodeid, row) if nodeid else None,
            "pid": pid,
            "comm": comm,
            "state": STATE_NAMES[state],
            "latency_ns": latency_ns if latency_ns >= 0 else None,
        }
        if flags:
            document["record_flags"] = str(RecordFlag(flags).name)
        if lost:
            document["lost_bytes"] = lost
        yield document


def _lost_bytes(trace: Trace, first: Rows, mates: Rows) -> Rows:
    """Return how many bytes of each exchange were not kept, those of its reply included."""
    lost = trace.records["wire_len"][first].astype(np.int64) - trace.records["kept"][first]
    answered = np.flatnonzero(mates >= 0)
    replies = mates[answered]
    lost[answered] += trace.records["wire_len"][replies].astype(np.int64) - trace.records["kept"][replies]
    return lost


def _add_reply(
    trace: Trace, document: Document, row: int, opcode: int, error: int, body: Document | None, asked: Document | None
) -> None:
    document["error"] = error
    if error:
        document["error_name"] = error_text(error)
    if body is not None:
        document["reply"] = body
    else:
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
