"""One line an exchange, and the whole tree of one, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dissectors.describe import summary, tree
from dissectors.errnos import error_text
from dissectors.message import Message, Severity
from dissectors.opcodes import OPS_BY_NAME, NodeIs, Op
from dissectors.text import escape
from tracer.output.style import Painter, Style, clock, duration
from tracer.records import RecordFlag
from tracer.trace.pairing import State
from tracer.trace.trace import Exchange, Trace

SYNCFS = OPS_BY_NAME["SYNCFS"].code
MAX_PATH, MAX_SUMMARY = 200, 300
HEADINGS = ("#", "time", "latency", "submount", "opcode", "path", "what", "who")


@dataclass(frozen=True, slots=True)
class Line:
    """An exchange in the words of a list."""

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


def line_of(trace: Trace, exchange: Exchange) -> Line:
    """Put an exchange into words; everything from outside is escaped."""
    first = exchange.message
    row = first.number
    has_times = not int(trace.records["flags"][row]) & RecordFlag.TIME_UNKNOWN
    is_open = exchange.state in (State.PENDING, State.LOST)
    latency = exchange.state.name.lower() if is_open else duration(exchange.latency_ns)
    return Line(
        exchange.number,
        clock(exchange.t_ns, has_times),
        latency,
        _submount(trace, exchange),
        first.name if exchange.request or exchange.notification else f"reply {first.name}",
        _path(exchange),
        _what(trace, exchange),
        _who(exchange),
        exchange.request is not None and first.opcode == SYNCFS,
        bool(exchange.reply and exchange.reply.error) or any(one.is_malformed for one in _messages(exchange)),
        is_open,
    )


def _messages(exchange: Exchange) -> list[Message]:
    return [one for one in (exchange.request, exchange.reply, exchange.notification) if one is not None]


def _submount(trace: Trace, exchange: Exchange) -> str:
    root = "?" if exchange.submount is None else str(exchange.submount)
    return f"{exchange.channel}/{root}" if len(trace.channels) > 1 else root


def _path(exchange: Exchange) -> str:
    """Return the path, with the name an operation on a directory is about; the bare nodeid when it is unknown."""
    first = exchange.message
    if not first.nodeid:
        return "-"
    path = exchange.path
    op = first.op
    if isinstance(op, Op) and op.node is NodeIs.PARENT:
        values = first.values
        name = values.get("name", values.get("oldname"))
        if isinstance(name, bytes):
            parent = f"node{first.nodeid}:" if path is None else escape(path, MAX_PATH).rstrip("/")
            return f"{parent}/{escape(name, MAX_PATH)}"
    return f"node {first.nodeid}" if path is None else escape(path, MAX_PATH)


def _what(trace: Trace, exchange: Exchange) -> str:
    first, reply = exchange.message, exchange.reply
    if exchange.request is None and reply is not None:
        return _orphan(trace, reply)
    text = summary(first.op, first.values, reply.values if reply is not None else None, reply.error if reply else 0)
    problems = [problem.text for one in _messages(exchange) for problem in one.problems if _matters(problem.severity)]
    if problems:
        text += f" [malformed: {problems[0]}]"
    return text if len(text) <= MAX_SUMMARY else text[: MAX_SUMMARY - 1] + "…"


def _matters(severity: Severity) -> bool:
    return severity is Severity.ERROR


def _orphan(trace: Trace, reply: Message) -> str:
    answer = error_text(reply.error) if reply.error else f"{reply.wire_len} bytes"
    record = trace.record(reply.number)
    if record.flags & RecordFlag.REJECTED:
        return f"refused by the kernel with {error_text(record.result)}: {answer} for unique {reply.unique}"
    return f"{answer} for unique {reply.unique}, whose request was not captured"


def _who(exchange: Exchange) -> str:
    pid = exchange.message.header_value("pid") if exchange.request is not None else 0
    if not pid and not exchange.comm:
        return "server" if exchange.notification is not None else "kernel" if exchange.request is not None else "server"
    return f"{escape(exchange.comm) or '?'}[{pid}]"


WIDTHS = {"number": 6, "time": 15, "latency": 8, "submount": 8, "opcode": 15}


def heading(paint: Painter) -> str:
    """Return the line above the list."""
    text = f"{'#':>6} {'time':<15} {'latency':>8} {'submount':>8}   {'opcode':<15} {'path':<32} what  who"
    return paint(text, Style.HEADING)


def text_line(line: Line, paint: Painter) -> str:
    """Return the line as `fusewire show` prints it. A SYNCFS has a ◆ before it, coloured or not."""
    mark = "◆" if line.is_sync else "✗" if line.is_error else "…" if line.is_open else " "
    opcode = f"{mark} {line.opcode:<15}"
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
    for message in _messages(exchange):
        yield from tree_lines(message, paint)
    yield ""


def lines(trace: Trace, numbers: Iterable[int]) -> Iterator[Line]:
    """Yield exchanges as lines."""
    for number in numbers:
        yield line_of(trace, trace.exchange(number))
