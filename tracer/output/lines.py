"""One line an exchange, and the whole tree of one, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from dissectors.describe import summary, tree
from dissectors.errnos import MAX_ERRNO, error_text
from dissectors.message import Message, Value
from dissectors.opcodes import NOTIFY, OPS, OPS_BY_NAME, NodeIs, notify_name, op_name
from dissectors.text import escape
from tracer.output.caller import caller_text
from tracer.output.reading import Body, read_bodies
from tracer.output.style import Painter, Style, clock, duration
from tracer.output.timing import NOBODY, is_telling, open_label, timing_words
from tracer.records import RecordFlag
from tracer.trace.columns import Array, Kind, Rows
from tracer.trace.exchange import Exchange
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

SYNCFS = OPS_BY_NAME["SYNCFS"].code
MAX_PATH, MAX_SUMMARY = 200, 300
CHUNK = 4096  # exchanges of which everything is read together
KEPT_SECONDS = 4096  # whose local time is kept as text
NS, NS_PER_US = 1_000_000_000, 1000
STATES = tuple(State)
OPEN = frozenset({State.PENDING, State.LOST})
ABORTED = State.ABORTED.value
REQUEST, REPLY = int(Kind.REQUEST), int(Kind.REPLY)  # comparing with an enum's member takes several times as long
NAMED_IN_PARENT = frozenset(code for code, op in OPS.items() if op.node is NodeIs.PARENT)


class Line(NamedTuple):
    """An exchange in the words of a list; everything from outside is escaped.

    A tuple because `fusewire show` makes tens of thousands a second: a frozen dataclass costs four times as much.
    """

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


class _Facts(NamedTuple):
    """What the index knows of exchanges, each as a list; and what could be read of their messages."""

    numbers: list[int]
    rows: list[int]
    kinds: list[int]
    opcodes: list[int]
    times: list[str]
    states: list[int]
    latencies_ns: list[int]
    submounts: list[str]
    nodeids: list[int]
    paths: list[str | None]
    callers: list[str]
    errors: list[int]  # of the reply; 0 without one
    refusals: list[int]  # of the reply, or of a notification; 0 when the kernel took it
    bodies: list[Body]
    replies: list[Body | None]


class Lines:
    """Puts exchanges into words. Reads only what a line needs: no tree is built for a well-formed message."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._paths = trace.paths()
        self._many_channels = len(trace.channels) > 1
        self._second = lru_cache(KEPT_SECONDS)(_second)  # of this reader alone: the time zone is no constant

    def line(self, number: int) -> Line:
        """Return exchange `number` as a line."""
        return next(self.lines(np.array([number], dtype=np.int64)))

    def lines(self, numbers: Rows) -> Iterator[Line]:
        """Yield exchanges as lines."""
        for start in range(0, len(numbers), CHUNK):
            facts = self._facts(numbers[start : start + CHUNK])
            yield from map(self._line, *facts)

    def _facts(self, numbers: Rows) -> _Facts:
        """Read what the lines of some exchanges are made of, a column at a time."""
        trace, table = self._trace, self._trace.records
        rows = trace.first_rows[numbers].astype(np.int64)
        kinds = table["kind"][rows]
        mates = np.where(kinds == Kind.REQUEST, table["mate"][rows], -1).astype(np.int64)
        answers = np.where(kinds == Kind.REPLY, rows, mates)
        channels, nodeids, row_list = table["channel"][rows].tolist(), table["nodeid"][rows].tolist(), rows.tolist()
        bodies = read_bodies(trace, rows)
        return _Facts(
            numbers.tolist(),
            row_list,
            kinds.tolist(),
            table["opcode"][rows].tolist(),
            self._times(rows),
            trace.states(numbers).tolist(),
            trace.latencies_ns(numbers).tolist(),
            self._submounts(channels, table["submount"][rows].tolist()),
            nodeids,
            self._paths.texts(channels, nodeids, row_list),
            self._callers(rows, kinds),
            np.where(answers >= 0, table["error"][answers], 0).tolist(),
            self._refusals(np.where(kinds == Kind.NOTIFICATION, rows, mates)),
            bodies,
            self._replies(mates, bodies),
        )

    def _line(
        self,
        number: int,
        row: int,
        kind: int,
        opcode: int,
        time: str,
        state: int,
        latency_ns: int,
        submount: str,
        nodeid: int,
        path: str | None,
        caller: str,
        error: int,
        refusal: int,
        body: Body,
        reply: Body | None,
    ) -> Line:
        """Put the facts about one exchange together; they come in the order of _Facts."""
        is_open, is_aborted = STATES[state] in OPEN, state == ABORTED
        name = _name_in_parent(kind, opcode, body.values)
        return Line(
            number,
            time,
            self._open_label(number, state) if is_open else duration(latency_ns if latency_ns >= 0 else None),
            submount,
            _name(kind, opcode),
            _path(nodeid, path, name),
            self._orphan(row, error)
            if kind == REPLY
            else _what(kind, opcode, body, reply, error, refusal, name, is_aborted),
            caller,
            kind == REQUEST and opcode == SYNCFS,
            bool(error or is_aborted or body.fault or (reply is not None and (reply.fault or refusal))),
            is_open,
        )

    # ---- columns ---------------------------------------------------------------------------------------------------

    def _times(self, rows: Rows) -> list[str]:
        """Return the local times; the day's part of them is worked out once a second."""
        t_ns, second = self._trace.records["t_ns"][rows].astype(np.int64), self._second
        micros = (t_ns % NS // NS_PER_US).tolist()
        texts = [f"{second(at)}{us:06d}" for at, us in zip((t_ns // NS).tolist(), micros, strict=True)]
        for place in np.flatnonzero(self._trace.records["flags"][rows] & int(RecordFlag.TIME_UNKNOWN)).tolist():
            texts[place] = clock(int(t_ns[place]), has_times=False)
        return texts

    def _submounts(self, channels: list[int], numbers: list[int]) -> list[str]:
        roots = [*(str(root) for _, root in self._trace.submounts), "?"]  # the last: number -1, unknown
        if not self._many_channels:
            return [roots[number] for number in numbers]
        return [f"{channel}/{roots[number]}" for channel, number in zip(channels, numbers, strict=True)]

    def _callers(self, rows: Rows, kinds: Array) -> list[str]:
        facts = (
            (kinds == Kind.REQUEST).tolist(),
            self._trace.has_pid(rows).tolist(),
            self._trace.records["pid"][rows].tolist(),
            self._trace.comms(rows),
        )
        return [
            caller_text(pid if is_known else None, comm) if is_request else "server"
            for is_request, is_known, pid, comm in zip(*facts, strict=True)
        ]

    def _refusals(self, rows: Rows) -> list[int]:
        """Return with what the kernel refused the server's write in each row, 0 where it took it or row is -1."""
        found = [0] * len(rows)
        flags = np.where(rows >= 0, self._trace.records["flags"][rows], 0)
        for place in np.flatnonzero(flags & int(RecordFlag.REJECTED)).tolist():
            found[place] = self._trace.refusal(int(rows[place]))
        return found

    def _replies(self, mates: Rows, asked: list[Body]) -> list[Body | None]:
        """Return the reply in each row; None where the row is -1."""
        found: list[Body | None] = [None] * len(mates)
        places = np.flatnonzero(mates >= 0)
        replies = read_bodies(self._trace, mates[places], [asked[place] for place in places.tolist()])
        for place, reply in zip(places.tolist(), replies, strict=True):
            found[place] = reply
        return found

    def _open_label(self, number: int, state: int) -> str:
        """Return what stands in place of a latency: of a request that waits, whether its server has read it."""
        was_read = self._trace.timing(number).was_read if STATES[state] is State.PENDING else None
        return open_label(STATES[state], was_read)

    def _orphan(self, row: int, error: int) -> str:
        table = self._trace.records
        answer = error_text(error) if error else f"{int(table['wire_len'][row])} bytes"
        unique = int(table["unique"][row])
        if refusal := self._trace.refusal(row):
            if error > 0 or error < -MAX_ERRNO:
                answer = f"error {error}, which is no errno,"
            return f"{answer} for unique {unique}, which the kernel refused with {error_text(refusal)}"
        return f"{answer} for unique {unique}, whose request was not captured"


def _second(seconds: int) -> str:
    """Return the local time of day up to the point before the fraction."""
    return clock(seconds * NS).removesuffix("000000")


@cache
def _name(kind: int, opcode: int) -> str:
    if kind == Kind.NOTIFICATION:
        return notify_name(opcode)
    name = op_name(opcode) if opcode >= 0 else "?"
    return name if kind == Kind.REQUEST else f"reply {name}"


def _name_in_parent(kind: int, opcode: int, values: Mapping[str, Value]) -> bytes | None:
    """Return the name an operation on a directory is about; None when it is about none, or was not kept."""
    if kind != REQUEST or opcode not in NAMED_IN_PARENT:
        return None
    name = values.get("name", values.get("oldname"))
    return name if isinstance(name, bytes) else None


def _path(nodeid: int, path: str | None, name: bytes | None) -> str:
    """Return the path, with the name an operation on a directory is about; the nodeid where it is unknown."""
    if not nodeid:
        return "-"
    if name is not None:
        parent = f"node {nodeid}:" if path is None else path.rstrip("/")
        return f"{_shortened(parent)}/{escape(name, MAX_PATH)}"
    return f"node {nodeid}" if path is None else _shortened(path)


def _what(
    kind: int,
    opcode: int,
    body: Body,
    reply: Body | None,
    error: int,
    refusal: int,
    name: bytes | None,
    is_aborted: bool,
) -> str:
    """Return the summary; without the name where the path ends in it."""
    op = NOTIFY.get(opcode) if kind == Kind.NOTIFICATION else OPS.get(opcode)
    text = summary(op, body.values, *((reply.values, error, reply.lost) if reply is not None else (None, error)))
    if name is not None and "name" in body.values:
        text = text.removeprefix(escape(name)).lstrip()
    fault = body.fault or (reply.fault if reply is not None else "")
    if refusal:
        # fuse_dev_do_write() ends the request all the same, with EIO; to a notification, the server alone hears of it.
        text += f" [refused by the kernel with {error_text(refusal)}" + (": the caller got EIO]" if reply else "]")
    if is_aborted:
        text += f" [{NOBODY}]"
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
    """Yield the trees of all messages of an exchange, after what there is to say of its time."""
    if is_telling(exchange.timing):
        is_bad = exchange.state in (State.ABORTED, State.LOST)
        style = Style.ERROR if is_bad else Style.WARNING if exchange.state is State.PENDING else Style.PLAIN
        label = paint("timing", Style.HEADING)
        yield f"{' ' * 15}{label}{paint(f': {timing_words(exchange.timing)}', style)}"
    for message in (exchange.request, exchange.reply, exchange.notification):
        if message is not None:
            yield from tree_lines(message, paint)
    yield ""
