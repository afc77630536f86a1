"""One line an exchange, and the whole tree of one, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dissectors.describe import summary, tree
from dissectors.errnos import MAX_ERRNO, error_text
from dissectors.message import Message, Severity, Value
from dissectors.opcodes import NOTIFY, OPS, OPS_BY_NAME, NodeIs, notify_name, op_name
from dissectors.text import escape
from tracer.output.caller import caller_text
from tracer.output.style import Painter, Style, clock, duration
from tracer.records import RecordFlag
from tracer.trace.columns import Kind, Rows
from tracer.trace.pairing import State
from tracer.trace.trace import Exchange, Trace

SYNCFS = OPS_BY_NAME["SYNCFS"].code
MAX_PATH, MAX_SUMMARY = 200, 300
CHUNK = 4096
STATES = tuple(State)


@dataclass(frozen=True, slots=True)
class Line:
    """An exchange in the words of a list; everything from outside is escaped."""

    number: int
    time: str
    latency: str
    submount: str
    opcode: str
    path: str
    what: str
    who: str
    is_sync: bool
    is_error: bool
    is_open: bool


@dataclass(frozen=True, slots=True)
class _Body:
    """What could be read of a message, and the first thing that is wrong with it."""

    values: Mapping[str, Value]
    fault: str = ""


class Lines:
    """Puts exchanges into words. Reads only what a line needs: no tree is built for a well-formed message."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._paths = trace.paths()
        self._many_channels = len(trace.channels) > 1

    def line(self, number: int) -> Line:
        """Return exchange `number` as a line."""
        return next(self.lines(np.array([number], dtype=np.int64)))

    def lines(self, numbers: Rows) -> Iterator[Line]:
        """Yield exchanges as lines."""
        for start in range(0, len(numbers), CHUNK):
            chunk = numbers[start : start + CHUNK]
            states, latencies = self._trace.states(chunk).tolist(), self._trace.latencies_ns(chunk).tolist()
            for number, state, latency_ns in zip(chunk.tolist(), states, latencies, strict=True):
                yield self._line(number, STATES[state], latency_ns if latency_ns >= 0 else None)

    def _line(self, number: int, state: State, latency_ns: int | None) -> Line:
        trace = self._trace
        table = trace.records
        row = int(trace.first_rows[number])
        kind, opcode, mate = int(table["kind"][row]), int(table["opcode"][row]), int(table["mate"][row])
        body = self._body(row)
        reply_row = mate if kind == Kind.REQUEST else row if kind == Kind.REPLY else -1
        reply = self._body(reply_row) if reply_row >= 0 and reply_row != row else None
        error = int(table["error"][reply_row]) if reply_row >= 0 else 0
        has_times = not int(table["flags"][row]) & RecordFlag.TIME_UNKNOWN
        is_open = state in (State.PENDING, State.LOST)
        return Line(
            number,
            clock(int(table["t_ns"][row]), has_times),
            state.name.lower() if is_open else duration(latency_ns),
            self._submount(row),
            _name(kind, opcode),
            self._path(row, kind, opcode, body),
            self._orphan(row, error) if kind == Kind.REPLY else self._what(row, mate, body, reply, error),
            self._who(row, kind),
            kind == Kind.REQUEST and opcode == SYNCFS,
            bool(error or body.fault or (reply and (reply.fault or trace.refusal(reply_row)))),
            is_open,
        )

    def _body(self, row: int) -> _Body:
        values = self._trace.fast_values(row)
        if values is not None:
            return _Body(values)
        message = self._trace.message(row)
        faults = [problem.text for problem in message.problems if problem.severity is Severity.ERROR]
        return _Body(message.values, faults[0] if faults else "")

    def _submount(self, row: int) -> str:
        root = self._trace.submount(row)
        text = "?" if root is None else str(root)
        return f"{int(self._trace.records['channel'][row])}/{text}" if self._many_channels else text

    def _path(self, row: int, kind: int, opcode: int, body: _Body) -> str:
        """Return the path, with the name an operation on a directory is about; the nodeid where it is unknown."""
        table = self._trace.records
        nodeid = int(table["nodeid"][row])
        if not nodeid:
            return "-"
        path = self._paths.text(int(table["channel"][row]), nodeid, row)
        name = _name_in_parent(kind, opcode, body.values)
        if name is not None:
            parent = f"node {nodeid}:" if path is None else path.rstrip("/")
            return f"{_shortened(parent)}/{escape(name, MAX_PATH)}"
        return f"node {nodeid}" if path is None else _shortened(path)

    def _orphan(self, row: int, error: int) -> str:
        table = self._trace.records
        answer = error_text(error) if error else f"{int(table['wire_len'][row])} bytes"
        unique = int(table["unique"][row])
        if refusal := self._trace.refusal(row):
            if error > 0 or error < -MAX_ERRNO:
                answer = f"error {error}, which is no errno,"
            return f"{answer} for unique {unique}, which the kernel refused with {error_text(refusal)}"
        return f"{answer} for unique {unique}, whose request was not captured"

    def _what(self, row: int, mate: int, body: _Body, reply: _Body | None, error: int) -> str:
        table = self._trace.records
        kind, opcode = int(table["kind"][row]), int(table["opcode"][row])
        refusal = self._trace.refusal(row if kind == Kind.NOTIFICATION else mate) if kind or reply else 0
        return _what(kind, opcode, body, reply, error, refusal)

    def _who(self, row: int, kind: int) -> str:
        if kind != Kind.REQUEST:
            return "server"
        is_known = self._trace.has_pid(np.array([row])).all()
        return caller_text(int(self._trace.records["pid"][row]) if is_known else None, escape(self._trace.comm(row)))


def _name(kind: int, opcode: int) -> str:
    if kind == Kind.NOTIFICATION:
        return notify_name(opcode)
    name = op_name(opcode) if opcode >= 0 else "?"
    return name if kind == Kind.REQUEST else f"reply {name}"


def _name_in_parent(kind: int, opcode: int, values: Mapping[str, Value]) -> bytes | None:
    op = OPS.get(opcode) if kind == Kind.REQUEST else None
    if op is None or op.node is not NodeIs.PARENT:
        return None
    name = values.get("name", values.get("oldname"))
    return name if isinstance(name, bytes) else None


def _what(kind: int, opcode: int, body: _Body, reply: _Body | None, error: int, refusal: int) -> str:
    """Return the summary; without the name where the path ends in it."""
    op = NOTIFY.get(opcode) if kind == Kind.NOTIFICATION else OPS.get(opcode)
    text = summary(op, body.values, reply.values if reply is not None else None, error)
    name = _name_in_parent(kind, opcode, body.values)
    if name is not None and "name" in body.values:
        text = text.removeprefix(escape(name)).lstrip()
    fault = body.fault or (reply.fault if reply is not None else "")
    if refusal:
        # fuse_dev_do_write() ends the request all the same, with EIO; to a notification, the server alone hears of it.
        text += f" [refused by the kernel with {error_text(refusal)}" + (": the caller got EIO]" if reply else "]")
    if fault:
        text += f" [malformed: {fault}]"
    return text if len(text) <= MAX_SUMMARY else text[: MAX_SUMMARY - 1] + "…"


def _shortened(path: str) -> str:
    """Return a path that fits a line: of a long one the end, which tells files apart."""
    return path if len(path) <= MAX_PATH else "…" + path[-MAX_PATH + 1 :]


def heading(paint: Painter) -> str:
    """Return the line above the list."""
    text = f"{'#':>6} {'time':<15} {'latency':>8} {'submount':>8}    {'opcode':<15} {'path':<32} what  who"
    return paint(text, Style.HEADING)


def text_line(line: Line, paint: Painter) -> str:
    """Return the line as `fusewire show` prints it. A SYNCFS has a ◆ before it, coloured or not."""
    outcome = "✗" if line.is_error else "…" if line.is_open else " "
    opcode = f"{'◆' if line.is_sync else ' '}{outcome} {line.opcode:<15}"
    style = (
        Style.SYNC if line.is_sync else Style.ERROR if line.is_error else Style.WARNING if line.is_open else Style.PLAIN
    )
    who = paint(line.who, Style.DIM)
    return (
        f"{line.number:>6} {paint(f'{line.time:<15}', Style.DIM)} {line.latency:>8} {line.submount:>8} "
        f"{paint(opcode, style)} {paint(f'{line.path:<32}', Style.NAME)} {line.what}  {who}"
    )


def tree_lines(message: Message, paint: Painter) -> Iterator[str]:
    """Yield the rows of a message's tree, each with the offsets of its bytes."""
    for row in tree(message):
        span = f"[{row.start:>4}:{row.end:<4}]" if row.end > row.start else " " * 11
        indent = "    " + "  " * row.depth
        label = paint(row.label, Style.HEADING if row.depth == 0 else Style.NAME)
        text = f": {row.text}" if row.text else ""
        style = Style.ERROR if row.problem else Style.PLAIN
        yield f"{paint(span, Style.DIM)}{indent}{label}{paint(text, style)}"


def verbose_lines(exchange: Exchange, paint: Painter) -> Iterator[str]:
    """Yield the trees of all messages of an exchange."""
    for message in (exchange.request, exchange.reply, exchange.notification):
        if message is not None:
            yield from tree_lines(message, paint)
    yield ""
