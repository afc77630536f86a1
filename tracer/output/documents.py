"""Exchanges as JSON, fast: each line is put together from templates, without a document ever being built.

Facts about records come from the columns, bodies from `tracer.output.bodies`; what is not as declared is decoded with
care, one message after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from dissectors.columns import gather
from dissectors.errnos import error_text
from dissectors.jsonform import message_json, values_json
from dissectors.message import Value
from dissectors.opcodes import NOTIFY, OPS, notify_name, op_name
from dissectors.text import escape
from tracer.output.bodies import Texts, read_bodies
from tracer.records import RecordFlag
from tracer.store.prefix import FUSE_AT
from tracer.trace.columns import Kind, Rows
from tracer.trace.index import COMM
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

CHUNK = 4096  # exchanges of which everything is read together
Document = dict[str, Any]
Asked = dict[str, Value] | None

_FACTS = (
    b'{"exchange":%d,"time_ns":%d,"channel":%b,"unique":%d,"nodeid":%d,"submount":%b,"path":%b,%b,"state":%b'
    b',"latency_ns":%b%b'
)
_ANSWERED = _FACTS.replace(b":%b%b", b":%d%b") + b',"request":%b,"error":%b,"reply":%b}'
_STATES = tuple(b'"%b"' % state.name.encode() for state in State)
_NOTIFICATION = 1 << 32  # added to a notification's code, to tell it from an opcode
_CHANNEL_SHIFT = 40  # a channel's number stands above opcode and code
# What a caller's text is kept under. Bytes, since a name that ends with NULs is not numpy's to shorten.
_CALLER = np.dtype([("comm", "V16"), ("pid", "<u4"), ("is_known", "<u4")])


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
        self._texts, self._kinds, self._callers = Texts(orjson.dumps), Texts(_kind_text), Texts(_caller_text)
        self._errors = Texts(_error_text)

    def lines(self, numbers: Rows) -> list[bytes]:
        """Return the lines of some exchanges: what is answered and as declared by one template, others by hand."""
        table = self._trace.records
        first = self._trace.first_rows[numbers].astype(np.int64)
        kinds = table["kind"][first]
        mates = np.where(kinds == Kind.REQUEST, table["mate"][first], -1).astype(np.int64)
        asked, answers = read_bodies(self._trace, first), read_bodies(self._trace, mates)
        latencies_ns, errors = self._trace.latencies_ns(numbers), self._error_texts(mates)
        facts = (*self._facts(numbers, first), latencies_ns.tolist(), self._extras(numbers, first, mates))
        by_hand = self._by_hand(latencies_ns, asked, answers)
        bodies = [(asked[place], answers[place]) for place in by_hand]
        for place in by_hand:
            asked[place] = answers[place] = b""
        lines = [_ANSWERED % line for line in zip(*facts, asked, errors, answers, strict=True)]
        for place, (question, answer) in zip(by_hand, bodies, strict=True):
            *known, latency_ns, extra = (column[place] for column in facts)
            latency = b"%d" % latency_ns if latency_ns >= 0 else b"null"
            rest = self._rest(int(first[place]), int(mates[place]), question, answer)
            lines[place] = _FACTS % (*known, latency, extra) + rest
        return lines

    @staticmethod
    def _by_hand(latencies_ns: Rows, asked: list[bytes | None], answers: list[bytes | None]) -> list[int]:
        """Return the places of exchanges that the template of the answered does not fit, in order."""
        found = set(np.flatnonzero(latencies_ns < 0).tolist())
        for bodies in (asked, answers):
            found.update([place for place, body in enumerate(bodies) if body is None])
        return sorted(found)

    def _facts(self, numbers: Rows, first: Rows) -> tuple[list[Any], ...]:
        """Return what the index knows of exchanges, a list for each place of the template."""
        trace, table, texts = self._trace, self._trace.records, self._texts
        roots = [*(b"%d" % root for _, root in trace.submounts), b"null"]  # the last: submount -1, unknown
        channels, nodeids = table["channel"][first], table["nodeid"][first].tolist()
        kinds = table["opcode"][first] + _NOTIFICATION * (table["kind"][first] == Kind.NOTIFICATION)
        kinds += channels.astype(np.int64) << _CHANNEL_SHIFT
        paths = self._paths.texts(channels.tolist(), nodeids, first.tolist())
        return (
            numbers.tolist(),
            table["t_ns"][first].tolist(),
            list(map(self._kinds.__getitem__, kinds.tolist())),
            table["unique"][first].tolist(),
            nodeids,
            list(map(roots.__getitem__, table["submount"][first].tolist())),
            list(map(texts.__getitem__, paths)),
            self._caller_texts(first),
            list(map(_STATES.__getitem__, trace.states(numbers).tolist())),
        )

    def _caller_texts(self, first: Rows) -> list[bytes]:
        """Return the callers; the pid is null where the capture cut the header before it, or there is no request."""
        trace = self._trace
        callers = np.empty(len(first), dtype=_CALLER)
        words = trace.records["at"][first] // 4 - FUSE_AT // 4 + COMM
        callers["comm"] = np.frombuffer(gather(trace.file.content, words * 4, 16), dtype="V16")
        known = callers["is_known"] = trace.has_pid(first)
        callers["pid"] = trace.records["pid"][first] * known
        joined, texts, size = callers.tobytes(), self._callers, _CALLER.itemsize
        return [texts[joined[at : at + size]] for at in range(0, len(joined), size)]

    def _extras(self, numbers: Rows, first: Rows, mates: Rows) -> list[bytes]:
        """Return what is said of records with flags, of exchanges of which not all was kept, and of their servers."""
        flags, lost = self._trace.records["flags"][first], _lost_bytes(self._trace, first, mates)
        found = self._timings(numbers, first, mates)
        for place in np.flatnonzero((flags != 0) | (lost != 0)).tolist():
            found[place] += _extra_text(int(flags[place]), int(lost[place]))
        return found

    def _timings(self, numbers: Rows, first: Rows, mates: Rows) -> list[bytes]:
        """Return when the server read each request, as far as the capture tells; nothing where it does not."""
        trace = self._trace
        if not trace.has_deliveries:
            return [b""] * len(first)
        waits_ns, service_ns = trace.queue_waits_ns(numbers).tolist(), trace.service_ns(numbers).tolist()
        found = [_timing_text(*times) for times in zip(waits_ns, service_ns, strict=True)]
        for place in np.flatnonzero(trace.states(numbers) == State.PENDING.value).tolist():
            was_read = trace.timing(int(numbers[place])).was_read
            if was_read is not None:
                found[place] += b',"server_read":%b' % (b"true" if was_read else b"false")
        return found

    def _error_texts(self, mates: Rows) -> list[bytes]:
        errors = np.where(mates >= 0, self._trace.records["error"][mates], 0)
        return list(map(self._errors.__getitem__, errors.tolist()))

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


def _kind_text(kind: int) -> bytes:
    """Return a channel and the name of an opcode or a notification."""
    channel = (kind + (1 << 31)) >> _CHANNEL_SHIFT
    code = kind - (channel << _CHANNEL_SHIFT)
    is_notification = code >= _NOTIFICATION - (1 << 31)
    name = notify_name(code - _NOTIFICATION) if is_notification else op_name(code) if code >= 0 else None
    return b'%d,"opcode":%b' % (channel, orjson.dumps(name))


def _caller_text(caller: bytes) -> bytes:
    comm, pid, is_known = caller[:16], caller[16:20], any(caller[20:])
    number = b"%d" % int.from_bytes(pid, "little") if is_known else b"null"
    return b'"pid":%b,"comm":%b' % (number, orjson.dumps(escape(comm.rstrip(b"\0"))))


def _error_text(error: int) -> bytes:
    return b'%d,"error_name":%b' % (error, orjson.dumps(error_text(error))) if error else b"0"


def _timing_text(wait_ns: int, service_ns: int) -> bytes:
    text = b',"queue_wait_ns":%d' % wait_ns if wait_ns >= 0 else b""
    return text + b',"service_ns":%d' % service_ns if service_ns >= 0 else text


def _extra_text(flags: int, lost: int) -> bytes:
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
