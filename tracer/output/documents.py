"""Exchanges as JSON, fast: each line is put together from templates, without a document ever being built.

Facts about records come from the columns, bodies from `tracer.output.bodies`; what is not as declared is decoded with
care, one message after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson

from dissectors.errnos import error_text
from dissectors.jsonform import message_json, values_json
from dissectors.message import Value
from dissectors.opcodes import NOTIFY, OPS, notify_name, op_name
from tracer.output.bodies import read_bodies
from tracer.records import RecordFlag
from tracer.trace.columns import Kind, Rows
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

CHUNK = 4096  # exchanges of which everything is read together
MAX_TEXTS = 1 << 16  # that are kept in their JSON form
Document = dict[str, Any]
Asked = dict[str, Value] | None

_STATES = tuple(b'"%b"' % state.name.encode() for state in State)
_FACTS = (
    b'{"exchange":%d,"time_ns":%d,"channel":%d,"opcode":%b,"unique":%d,"nodeid":%d,"submount":%b,"path":%b,"pid":%b'
    b',"comm":%b,"state":%b,"latency_ns":%b%b'
)
_ANSWERED = _FACTS.replace(b":%b%b", b":%d%b") + b',"request":%b,"error":%b,"reply":%b}'
_NOTIFICATIONS = 1 << 20  # added to a notification's code, to tell it from an opcode


class _Texts(dict[Any, bytes]):
    """Values in their JSON form: the same few come again and again."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, value: Any) -> bytes:
        if len(self) >= MAX_TEXTS:
            self.clear()
        found = self[value] = self._encode(value)
        return found


def json_lines(trace: Trace, numbers: Rows) -> Iterator[list[bytes]]:
    """Yield the JSON text of exchanges, some thousand at a time, without line breaks.

    Values are numbers as on the wire, names are escaped text; `exchange_document` (-V) adds names of flags and offsets.
    """
    trace.advance_state()
    printer = _Printer(trace)
    for start in range(0, len(numbers), CHUNK):
        yield printer.lines(numbers[start : start + CHUNK])


def documents(trace: Trace, numbers: Rows) -> Iterator[Document]:
    """Yield what `json_lines` says as dictionaries."""
    for lines in json_lines(trace, numbers):
        yield from map(orjson.loads, lines)


class _Printer:
    """Prints exchanges of one trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self._paths = trace, trace.paths()
        self._texts, self._names = _Texts(orjson.dumps), _Texts(_name_text)
        self._errors, self._extras = _Texts(_error_text), _Texts(_extra_text)

    def lines(self, numbers: Rows) -> list[bytes]:
        """Return the lines of some exchanges: what is answered and as declared by one template, others by hand."""
        table = self._trace.records
        first = self._trace.first_rows[numbers].astype(np.int64)
        kinds = table["kind"][first]
        mates = np.where(kinds == Kind.REQUEST, table["mate"][first], -1).astype(np.int64)
        asked, answers = read_bodies(self._trace, first), self._answers(mates)
        facts = self._facts(numbers, first, mates)
        lines = [
            _ANSWERED % line if line[-1] is not None and line[-3] is not None and line[11] >= 0 else b""
            for line in zip(*facts, asked, self._error_texts(mates), answers, strict=True)
        ]
        for index, line in enumerate(lines):
            if not line:
                known = [column[index] for column in facts]
                known[11] = b"%d" % known[11] if known[11] >= 0 else b"null"
                row, mate = int(first[index]), int(mates[index])
                lines[index] = _FACTS % tuple(known) + self._rest(row, mate, asked[index], answers[index])
        return lines

    def _facts(self, numbers: Rows, first: Rows, mates: Rows) -> tuple[list[Any], ...]:
        """Return what the index knows of exchanges, a list for each place of the template but the bodies."""
        trace, table, texts, names = self._trace, self._trace.records, self._texts, self._names
        roots = [*(b"%d" % root for _, root in trace.submounts), b"null"]  # the last: submount -1, unknown
        channels, nodeids = table["channel"][first].tolist(), table["nodeid"][first].tolist()
        codes = table["opcode"][first] + _NOTIFICATIONS * (table["kind"][first] == Kind.NOTIFICATION)
        extras = zip(table["flags"][first].tolist(), _lost_bytes(trace, first, mates).tolist(), strict=True)
        return (
            numbers.tolist(),
            table["t_ns"][first].tolist(),
            channels,
            [names[code] for code in codes.tolist()],
            table["unique"][first].tolist(),
            nodeids,
            [roots[submount] for submount in table["submount"][first].tolist()],
            [texts[path] for path in self._paths.texts(channels, nodeids, first.tolist())],
            self._pids(first),
            [texts[comm] for comm in trace.comms(first)],
            [_STATES[state] for state in trace.states(numbers).tolist()],
            trace.latencies_ns(numbers).tolist(),
            [self._extras[extra] if extra != (0, 0) else b"" for extra in extras],
        )

    def _pids(self, first: Rows) -> list[bytes]:
        """Return the callers; null where the capture cut the header before it, or there is no request."""
        known = self._trace.has_pid(first).tolist()
        pids = self._trace.records["pid"][first].tolist()
        return [b"%d" % pid if is_known else b"null" for pid, is_known in zip(pids, known, strict=True)]

    def _answers(self, mates: Rows) -> list[bytes | None]:
        """Return the body of the reply in each row; None where there is none, or one to be read with care."""
        bodies = iter(read_bodies(self._trace, mates[mates >= 0]))
        return [next(bodies) if mate >= 0 else None for mate in mates.tolist()]

    def _error_texts(self, mates: Rows) -> list[bytes]:
        errors = np.where(mates >= 0, self._trace.records["error"][mates], 0)
        texts = self._errors
        return [texts[error] for error in errors.tolist()]

    # ---- what is not answered, or not as declared ------------------------------------------------------------------

    def _rest(self, row: int, mate: int, asked: bytes | None, answer: bytes | None) -> bytes:
        kind = int(self._trace.records["kind"][row])
        if kind == Kind.NOTIFICATION:
            return self._body("notification", row, None)[0] + b"}"
        if kind == Kind.REPLY:
            return self._reply(row, asked, None) + b"}"
        text, values = self._body("request", row, None) if asked is None else (b',"request":' + asked, None)
        return text + (self._reply(mate, answer, values) if mate >= 0 else b"") + b"}"

    def _reply(self, row: int, body: bytes | None, asked: Asked) -> bytes:
        text = b',"error":' + self._errors[int(self._trace.records["error"][row])]
        return text + (b',"reply":' + body if body is not None else self._body("reply", row, asked)[0])

    def _body(self, part: str, row: int, asked: Asked) -> tuple[bytes, Asked]:
        """Return a body and its values; of one the fast path refuses, what could be read and why it ends there."""
        values = self._trace.fast_values(row, asked)
        if values is None:
            message = message_json(self._trace.message(row))
            problems = message.get("problems")
            text = b',"%b":' % part.encode() + orjson.dumps(message["body"])
            return text + (b',"%b_problems":' % part.encode() + orjson.dumps(problems) if problems else b""), None
        opcode = int(self._trace.records["opcode"][row])
        op = NOTIFY.get(opcode) if part == "notification" else OPS.get(opcode)
        return b',"%b":' % part.encode() + orjson.dumps(values_json(op, values, reply=part == "reply")), values


def _name_text(code: int) -> bytes:
    if code >= _NOTIFICATIONS:
        return orjson.dumps(notify_name(code - _NOTIFICATIONS))
    return orjson.dumps(op_name(code) if code >= 0 else None)


def _error_text(error: int) -> bytes:
    return b'%d,"error_name":%b' % (error, orjson.dumps(error_text(error))) if error else b"0"


def _extra_text(extra: tuple[int, int]) -> bytes:
    """Return what is said of records with flags, and of exchanges of which not all was kept."""
    flags, lost = extra
    text = b',"record_flags":"%b"' % str(RecordFlag(flags).name).encode() if flags else b""
    return text + (b',"lost_bytes":%d' % lost if lost else b"")


def _lost_bytes(trace: Trace, first: Rows, mates: Rows) -> Rows:
    """Return how many bytes of each exchange were not kept, those of its reply included."""
    lost = trace.records["wire_len"][first].astype(np.int64) - trace.records["kept"][first]
    answered = np.flatnonzero(mates >= 0)
    replies = mates[answered]
    lost[answered] += trace.records["wire_len"][replies].astype(np.int64) - trace.records["kept"][replies]
    return lost


def exchange_document(trace: Trace, number: int) -> Document:
    """Return one exchange as `documents` does, and each whole message beside, with names and offsets of its fields."""
    numbers = np.array([number], dtype=np.int64)
    document = next(documents(trace, numbers))
    exchange = trace.exchange(number)
    for part in ("request", "reply", "notification"):
        message = getattr(exchange, part)
        if message is not None:
            document[part + "_message"] = message_json(message)
    return document
