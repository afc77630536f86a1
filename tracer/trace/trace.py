"""A trace: the mapped file, the columns over it, and messages decoded on demand.

Append-only. Opening a file, following one that grows and watching a live capture are the same calls: `refresh` takes in
what is whole, everything else answers for "the first n records".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dissectors.decode import decode_notification, decode_reply, decode_request
from dissectors.fast import reader
from dissectors.flags import init_flag
from dissectors.layout import Context
from dissectors.message import Message, Value
from dissectors.opcodes import OPERATIONS, Either
from dissectors.text import escape
from tracer.errors import TraceFileError
from tracer.records import BridgeKind, ChannelInfo, Direction, Gap, RawRecord, RecordFlag
from tracer.store.prefix import FUSE_AT, PREFIX, PREFIX_AT
from tracer.store.reader import TraceFile
from tracer.trace import cache, index, loss, times
from tracer.trace.columns import COLUMNS, Array, Kind, Rows, Table
from tracer.trace.exchange import Exchange
from tracer.trace.loss import MissingUniques
from tracer.trace.names import Names
from tracer.trace.pairing import INIT, Pairing, State, states
from tracer.trace.paths import Paths
from tracer.trace.sessions import Session, read_agreement, stretches
from tracer.trace.state import State as DialogueState
from tracer.trace.times import Timing

CACHED_MESSAGES = 4096
OVER_IO_URING = init_flag("OVER_IO_URING")
SHAPED_BY_REQUEST = frozenset(op.code for op in OPERATIONS if isinstance(op.reply, Either))


class Trace:
    """A recorded dialogue. `minor` overrules what INIT said, for a capture that began without it."""

    def __init__(self, file: TraceFile, *, minor: int | None = None) -> None:
        self.file = file
        self.records = Table(COLUMNS)
        self.sessions: list[Session] = []
        self.now_ns: int | None = None  # until when open requests have waited; None: until the last record
        self._first = Table({"first": "i4"})
        self._override_minor = minor
        self._orders: dict[int, bool] = {}
        self._pairing = Pairing(self.records, self._interrupt_target)
        self._state = DialogueState(self.records, self)
        self._deliveries = times.Deliveries(self.records)
        self._messages: OrderedDict[int, Message] = OrderedDict()

    @classmethod
    def open(
        cls, path: Path | str, *, minor: int | None = None, on_progress: Callable[[int, int], None] | None = None
    ) -> Trace:
        """Open a file and index all of it; `on_progress` hears (bytes done, bytes in all).

        Raises TraceFileError when it is no trace, one of a newer version, or a capture of something else.
        """
        trace = cls(TraceFile.open(Path(path)), minor=minor)
        is_cached = cache.load(trace.file, trace.records)
        if is_cached:
            trace._learn_again()
        while trace.take_in():
            if on_progress is not None:
                on_progress(trace.file.scanned, len(trace.file.content))
        if not is_cached:
            cache.save(trace.file, trace.records)
        if trace.file.is_foreign:
            raise TraceFileError(
                f"{path} holds no FUSE messages, only packets of another kind",
                "fusewire opens what fusewire record or fusewire import wrote",
            )
        return trace

    # ---- growing ---------------------------------------------------------------------------------------------------

    def refresh(self) -> int:
        """Take in what was appended to the file; return how many records are new."""
        before = self.records.count
        self.file.remap()
        while self.take_in():
            pass
        return self.records.count - before

    def take_in(self) -> int:
        """Index the next piece of the file as it is mapped; return how many records it held."""
        first = self.records.count
        # Requests that are never answered are sorted again with every piece: the more there are, the longer the pieces.
        while self.records.count - first <= self._pairing.open_count // 2:
            packets = self.file.scan()
            if not len(packets.at):
                break
            index.append(self.records, self.file, packets, self._orders)
        self._meet_channels()
        new = slice(first, self.records.count)
        if new.start < new.stop:
            self._note_agreements(self._pairing.feed(new))
            self._append_exchanges(new)
        return new.stop - new.start

    def _learn_again(self) -> None:
        """Learn from columns that were scanned before what else a scan would have told."""
        table, all_rows = self.records, slice(0, self.records.count)
        self._orders.update(index.known_orders(table))
        self._meet_channels()
        self._pairing.resume()
        self._note_agreements(np.flatnonzero((table["kind"] == Kind.REPLY) & (table["mate"] >= 0)))
        self._append_exchanges(all_rows)

    def _meet_channels(self) -> None:
        for info in self.file.channels[len(self.sessions) :]:
            number = len(self.sessions)
            big = self._orders.get(number, info.big_endian)
            self.sessions.append(Session(info, big, self._override_minor))
        for number, big in self._orders.items():
            self.sessions[number].use_order(big)

    def _interrupt_target(self, row: int) -> int:
        """Return the unique an INTERRUPT names. Since Linux 4.20 its own is that with bit 0 set; before, any."""
        target = self.values(row).get("unique")
        return target if isinstance(target, int) else int(self.records["unique"][row]) & ~1

    def _note_agreements(self, replies: Rows) -> None:
        for row in sorted(replies[self.records["opcode"][replies] == INIT].tolist()):
            request = int(self.records["mate"][row])
            session = self.sessions[int(self.records["channel"][row])]
            session.agree(read_agreement(self.message(request), self.message(row), int(self.records["t_ns"][row])))
            self._messages.clear()  # what was decoded before it was known how

    def _append_exchanges(self, new: slice) -> None:
        kind, mate = self.records["kind"][new], self.records["mate"][new]
        begins = (kind != Kind.DELIVERY) & ((kind != Kind.REPLY) | (mate < 0))
        rows = np.flatnonzero(begins) + new.start
        where = self._first.extend(len(rows))
        self._first["first"][where] = rows

    # ---- what there is ---------------------------------------------------------------------------------------------

    @property
    def channels(self) -> list[ChannelInfo]:
        """Every channel, by number."""
        return self.file.channels

    @property
    def gaps(self) -> list[Gap]:
        """What is known to be lost."""
        return self.file.gaps

    @property
    def exchange_count(self) -> int:
        """How many exchanges there are; they are numbered from 0 in the order of their first record."""
        return self._first.count

    @property
    def first_rows(self) -> Array:
        """The row each exchange begins with."""
        return self._first["first"]

    @property
    def nbytes(self) -> int:
        """Bytes of memory the index takes."""
        return self.records.nbytes + self._first.nbytes

    def states(self, numbers: Rows | slice = slice(None)) -> Array:
        """Return the pairing.State value of exchanges."""
        return states(self.records, self.first_rows[numbers])

    def latencies_ns(self, numbers: Rows | slice = slice(None)) -> Array:
        """Return how long exchanges took; -1 where there is no reply or no time."""
        return times.latencies_ns(self.records, self.first_rows[numbers])

    def pending_ns(self, numbers: Rows | slice = slice(None)) -> Array:
        """Return how long open requests have waited, by `now_ns` or the last record; -1 where none waits or no time."""
        waiting = self.states(numbers) == State.PENDING.value
        return times.pending_ns(self.records, self.first_rows[numbers], waiting, self.now_ns)

    def queue_waits_ns(self, numbers: Rows | slice = slice(None)) -> Array:
        """Return how long requests waited until the server read them; -1 where the capture does not tell."""
        return self._deliveries.waits_ns(self.first_rows[numbers])

    def service_ns(self, numbers: Rows | slice = slice(None)) -> Array:
        """Return how long the server took once it had read the request; -1 where the capture does not tell."""
        latency_ns, wait_ns = self.latencies_ns(numbers), self.queue_waits_ns(numbers)
        return np.where((latency_ns >= 0) & (wait_ns >= 0), np.maximum(latency_ns - wait_ns, 0), np.int64(-1))

    def state(self, number: int) -> State:
        """Return how one exchange stands."""
        return State(int(self.states(np.array([number], dtype=np.int64))[0]))

    def latency_ns(self, number: int) -> int | None:
        """Return how long one exchange took; None where there is no reply or no time."""
        latency_ns = int(self.latencies_ns(np.array([number], dtype=np.int64))[0])
        return latency_ns if latency_ns >= 0 else None

    def timing(self, number: int) -> Timing:
        """Return how one exchange stands, and where its time went."""
        one = np.array([number], dtype=np.int64)
        waits_ns, pending_ns = int(self.queue_waits_ns(one)[0]), int(self.pending_ns(one)[0])
        return Timing(
            self.state(number),
            self.latency_ns(number),
            waits_ns if waits_ns >= 0 else None,
            pending_ns if pending_ns >= 0 else None,
            True if waits_ns >= 0 else False if self.tells_deliveries(int(self.first_rows[number])) else None,
        )

    @property
    def has_deliveries(self) -> bool:
        """Whether the capture shows of any channel when its server took requests."""
        return any(info.deliveries or self._deliveries.are_of(number) for number, info in enumerate(self.channels))

    def tells_deliveries(self, row: int) -> bool:
        """Tell whether the capture would show that the server took the request in `row`: not through io_uring."""
        channel = int(self.records["channel"][row])
        if not self.channels[channel].deliveries and not self._deliveries.are_of(channel):
            return False
        is_request = int(self.records["kind"][row]) == Kind.REQUEST
        return is_request and not (self.context(row).init_flags or 0) & OVER_IO_URING

    def exchange_of(self, row: int) -> int:
        """Return the number of the exchange that a record belongs to."""
        mate = int(self.records["mate"][row])
        if mate >= 0 and self.records["kind"][row] != Kind.REQUEST:
            row = mate
        return int(np.searchsorted(self.first_rows, row))

    # ---- one record ------------------------------------------------------------------------------------------------

    def record(self, row: int) -> RawRecord:
        """Return a record as its bridge made it."""
        at = int(self.records["at"][row])
        start = at - FUSE_AT + PREFIX_AT
        prefix = PREFIX.unpack(self.file.content[start : start + PREFIX.size].tobytes())
        _, _, direction, bridge, _, queue, flags, wire_len, pid, tid, comm, result, head = prefix
        kinds = BridgeKind._value2member_map_
        return RawRecord(
            int(self.records["t_ns"][row]),
            int(self.records["channel"][row]),
            Direction.TO_KERNEL if direction == Direction.TO_KERNEL else Direction.TO_SERVER,
            self.content(row),
            wire_len,
            BridgeKind(bridge) if bridge in kinds else BridgeKind.UNKNOWN,
            flags,
            pid,
            tid,
            comm.rstrip(b"\0"),
            queue,
            head,
            result,
        )

    def refusal(self, row: int) -> int:
        """Return the negative errno with which the kernel refused this write of the server, 0 when it took it."""
        return self.record(row).result if int(self.records["flags"][row]) & RecordFlag.REJECTED else 0

    def content(self, row: int) -> bytes:
        """Return the FUSE bytes that were kept of a record."""
        at = int(self.records["at"][row])
        kept: bytes = self.file.content[at : at + int(self.records["kept"][row])].tobytes()
        return kept

    def context(self, row: int) -> Context:
        """Return what the record's session had agreed on when it was sent."""
        return self.sessions[int(self.records["channel"][row])].context(row)

    def stretches(self, rows: Rows) -> Iterator[tuple[Rows, Context]]:
        """Split `rows` by what their session had agreed on; yield (places in `rows`, context)."""
        return stretches(self.sessions, self.records["channel"][rows], rows)

    def message(self, row: int) -> Message:
        """Decode a record. Never raises for what is in it: see Message.problems."""
        # Taken out and put back: another thread may evict it between a look and a move.
        message = self._messages.pop(row, None) or self._decode(row)
        self._messages[row] = message
        if len(self._messages) > CACHED_MESSAGES:
            self._messages.popitem(last=False)
        return message

    def _decode(self, row: int) -> Message:
        content, wire_len, context = self.content(row), int(self.records["wire_len"][row]), self.context(row)
        match int(self.records["kind"][row]):
            case Kind.REQUEST:
                return decode_request(content, wire_len, context, row)
            case Kind.NOTIFICATION:
                return decode_notification(content, wire_len, context, row)
            case _:
                mate = int(self.records["mate"][row])
                return decode_reply(content, wire_len, context, self.message(mate) if mate >= 0 else None, row)

    def values(self, row: int) -> dict[str, Value]:
        """Return the body values of a record, as many as could be read; padding may be left out."""
        fast = self.fast_values(row)
        return self.message(row).values if fast is None else fast

    def fast_values(self, row: int, asked: dict[str, Value] | None = None) -> dict[str, Value] | None:
        """Return the values of a well-formed record, None of any other; `asked` saves reading a reply's request."""
        table = self.records
        start = int(table["at"][row])
        end, wire_len = start + int(table["kept"][row]), int(table["wire_len"][row])
        read = reader(self.context(row))
        opcode, kind = int(table["opcode"][row]), int(table["kind"][row])
        if kind == Kind.REQUEST:
            return read.request(self.file.mapped, start, end, opcode, wire_len)
        if kind == Kind.NOTIFICATION:
            return read.notification(self.file.mapped, start, end, opcode, wire_len)
        mate = int(table["mate"][row])
        if asked is None and opcode in SHAPED_BY_REQUEST and mate >= 0:
            asked = self.fast_values(mate)
        return read.reply(self.file.mapped, start, end, opcode, asked, wire_len)

    # ---- one exchange ----------------------------------------------------------------------------------------------

    def exchange(self, number: int) -> Exchange:
        """Return an exchange with its messages decoded."""
        row = int(self.first_rows[number])
        table = self.records
        mate = int(table["mate"][row])
        first = self.message(row)
        kind = int(table["kind"][row])
        request = first if kind == Kind.REQUEST else None
        reply = self.message(mate) if request is not None and mate >= 0 else first if kind == Kind.REPLY else None
        record = self.record(row)
        return Exchange(
            number,
            request,
            reply,
            first if kind == Kind.NOTIFICATION else None,
            self.timing(number),
            int(table["t_ns"][row]),
            int(table["channel"][row]),
            self.submount(row),
            self.path(row),
            record.comm,
            record.server_pid,
            record.server_tid,
        )

    def exchanges(self) -> Iterator[Exchange]:
        """Yield every exchange there is now."""
        return (self.exchange(number) for number in range(self.exchange_count))

    # ---- names and submounts ---------------------------------------------------------------------------------------

    def advance_state(self) -> None:
        """Follow names and submounts up to the last record. Done by itself where it is needed."""
        self._state.advance()

    @property
    def submounts(self) -> list[tuple[int, int]]:
        """Every (channel, root nodeid) met so far; the number in the `submount` column is the place in this list."""
        self._state.advance()
        return self._state.submounts

    def names(self, channel: int) -> Names:
        """Return the nodes of a channel."""
        self._state.advance()
        return self._state.names.get(channel) or Names()

    def submount(self, row: int) -> int | None:
        """Return the root nodeid of the submount that a record is about."""
        submounts = self.submounts
        number = int(self.records["submount"][row])
        return submounts[number][1] if number >= 0 else None

    def path(self, row: int) -> bytes | None:
        """Return the path of the record's node at that time; None when it is not known."""
        nodeid = int(self.records["nodeid"][row])
        return self.names(int(self.records["channel"][row])).path(nodeid, row) if nodeid else None

    def paths(self) -> Paths:
        """Return a reader of paths for many records in a row."""
        self._state.advance()
        return Paths(self._state.names)

    def has_pid(self, rows: Rows) -> Array:
        """Tell of which records the caller is known: of requests whose header was kept that far."""
        table = self.records
        known: Array = (table["kind"][rows] == Kind.REQUEST) & (table["kept"][rows] >= index.ENOUGH_FOR_PID)
        return known

    def desc_heads(self, rows: Rows, bridge: BridgeKind) -> Array:
        """Return `RawRecord.desc_head` of records, 0 of those by another bridge: there it means another thing."""
        at = self.records["at"][rows] // 4 - FUSE_AT // 4
        made = self.file.words[at + index.PREFIX] >> index.BRIDGE_SHIFT
        return np.where(made == bridge, self.file.words[at + index.DESC_HEAD], np.uint32(0))

    def comm(self, row: int) -> bytes:
        """Return the name of the process that sent a record, empty where unknown."""
        at = int(self.records["at"][row]) - FUSE_AT + 4 * index.COMM
        return bytes(self.file.mapped[at : at + 16]).rstrip(b"\0")

    def comms(self, rows: Rows) -> list[str]:
        """Return the names of the processes that sent records, escaped, empty where unknown."""
        at = self.records["at"][rows] // 4 - FUSE_AT // 4 + index.COMM
        raw = self.file.words[at[:, None] + np.arange(4)].tobytes()
        found: dict[bytes, str] = {}
        names = [raw[start : start + 16] for start in range(0, len(raw), 16)]
        for name in set(names):
            found[name] = escape(name.rstrip(b"\0"))
        return [found[name] for name in names]

    # ---- loss ------------------------------------------------------------------------------------------------------

    def cut_listings(self, channel: int | None = None) -> int:
        """Count READDIRPLUS replies of which the end was not kept: names, and submounts, in it are unknown."""
        return loss.cut_listings(self.records, channel)

    def missing_uniques(self) -> list[MissingUniques]:
        """Report gaps in the uniques of each channel: possible loss (fuse_get_unique() counts without a hole)."""
        return loss.missing_uniques(self.records, len(self.sessions))
