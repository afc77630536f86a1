"""The recorded side of one channel: what each step's request and reply say, read from the mapped trace."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from dissectors.fast import Reader, reader
from dissectors.layout import Context
from dissectors.message import Value
from dissectors.opcodes import OPS, ROOT_ID, Op
from dissectors.structs import REPLY_HEADER_SIZE
from replays.recorded.sites import ERROR_AT, NODE_AT, NOWHERE, Manner, RequestSites, reply_sites, sites_by_opcode
from tracer.trace.trace import Trace

Handle = tuple[int, int]  # the node it was opened on, and its number
HandleKey = int | Handle  # the step that opened it; where the recording has none, what it says


class Step(NamedTuple):
    """One request of the recording, and its answer. A tuple because a plan has very many."""

    number: int  # place in the plan
    exchange: int  # its number in the trace
    row: int
    opcode: int
    unique: int
    t_ns: int
    at: int  # where its bytes begin in the mapped file
    end: int
    wire_len: int
    reply_at: int  # NOWHERE: not answered by the server
    reply_end: int
    reply_wire_len: int
    latency_ns: int  # -1: not known
    turn: int  # how many answers came before its own; NOWHERE: none that is waited for
    after: int  # how many answers must have come, in the order of the recording, before it may go
    handles: tuple[HandleKey, ...] = ()  # that it names
    refusal: str = ""  # why it is not played whatever happens: a name in reasons.py


class Given(NamedTuple):
    """An id that a reply gives out."""

    node: int  # 0: none
    handle: Handle | None
    name: bytes = b""  # in a listing


@dataclass(frozen=True)
class Recording:
    """One channel of a trace; `context` is what its session had agreed on."""

    trace: Trace
    channel: int
    context: Context

    @cached_property
    def sites(self) -> dict[int, RequestSites]:
        """Return where requests of each opcode say ids."""
        return sites_by_opcode(self.context)

    @cached_property
    def _reader(self) -> Reader:
        return reader(self.context)

    @cached_property
    def order(self) -> str:
        """Return struct's mark of the byte order."""
        return self.context.order

    def request(self, step: Step) -> bytes:
        """Return the request's bytes as far as they were kept."""
        return self.trace.file.mapped[step.at : step.end]

    def whole_request(self, step: Step) -> bytes:
        """Return the request as long as it was, zeros where it was cut."""
        return self.request(step).ljust(step.wire_len, b"\0")

    def reply(self, step: Step) -> bytes:
        """Return the reply's bytes as far as they were kept; empty when there is none."""
        return self.trace.file.mapped[step.reply_at : step.reply_end] if step.reply_at != NOWHERE else b""

    def error(self, step: Step) -> int | None:
        """Return the reply's error, 0 or a negative errno; None when there is none."""
        if step.reply_at == NOWHERE or step.reply_end - step.reply_at < REPLY_HEADER_SIZE:
            return None
        (error,) = struct.unpack_from(self.order + "i", self.trace.file.mapped, step.reply_at + ERROR_AT)
        return int(error)

    def is_sound(self, step: Step) -> bool:
        """Tell whether the request is laid out as its operation is declared, to the byte."""
        mapped = self.trace.file.mapped
        return self._reader.request(mapped, step.at, step.end, step.opcode, step.wire_len) is not None

    def values(self, step: Step) -> Mapping[str, Value]:
        """Return the body values of the request, as many as can be read."""
        found = self._reader.request(self.trace.file.mapped, step.at, step.end, step.opcode, step.wire_len)
        return self.trace.message(step.row).values if found is None else found

    def reply_values(self, step: Step) -> Mapping[str, Value]:
        """Return the body values of the reply, as many as can be read; {} for an error or none."""
        if step.reply_at == NOWHERE:
            return {}
        found = self._reader.reply(
            self.trace.file.mapped, step.reply_at, step.reply_end, step.opcode, self.values(step), step.reply_wire_len
        )
        if found is not None:
            return found
        mate = int(self.trace.records["mate"][step.row])
        return self.trace.message(mate).values if mate >= 0 else {}

    # ---- ids -------------------------------------------------------------------------------------------------------

    def number(self, step: Step, at: int) -> int:
        """Return the 64-bit number at `at` in the request; 0 when it was cut off before."""
        if step.at + at + 8 > step.end:
            return 0
        (value,) = struct.unpack_from(self.order + "Q", self.trace.file.mapped, step.at + at)
        return int(value)

    def node(self, step: Step) -> int:
        """Return the header's nodeid."""
        return self.number(step, NODE_AT)

    def nodes(self, step: Step) -> Iterator[int]:
        """Yield the nodes a request names, the root aside; those of a FORGET too."""
        sites = self.sites.get(step.opcode)
        if sites is None:
            return
        if sites.manner is Manner.FORGET:
            yield from (node for node, _ in self.forgotten(step))
            return
        for at in sites.nodes:
            node = self.number(step, at)
            if node not in (0, ROOT_ID):
                yield node

    def handles(self, step: Step) -> Iterator[Handle]:
        """Yield the handles a request names."""
        sites = self.sites.get(step.opcode)
        if sites is None or not sites.handles:
            return
        request = self.request(step)
        for at, node_at, valid in sites.handles:
            if at + 8 <= len(request) and (valid is None or valid.holds(request, self.order)):
                yield self.number(step, node_at), self.number(step, at)

    def forgotten(self, step: Step) -> Iterator[tuple[int, int]]:
        """Yield (node, lookups given back) of a FORGET or BATCH_FORGET."""
        values = self.values(step)
        several = next((value for value in values.values() if isinstance(value, list)), None)
        if several is None:
            lookups = values.get("nlookup", 0)
            yield self.node(step), lookups if isinstance(lookups, int) else 0
            return
        for item in several:
            if isinstance(item, dict):
                node, count = item.get("nodeid"), item.get("nlookup")
                if isinstance(node, int) and isinstance(count, int):
                    yield node, count

    def given(self, step: Step) -> Iterator[Given]:
        """Yield the ids that the reply to a step gives out."""
        op = OPS.get(step.opcode)
        if op is None or step.reply_at == NOWHERE or self.error(step):
            return
        if self.sites[step.opcode].manner is Manner.LISTING:
            for entry in self.entries(step):
                if entry.node and entry.name not in (b".", b".."):
                    yield Given(entry.node, None, entry.name)
            return
        given = self.gift(op, step)
        if given is not None:
            yield given

    def gift(self, op: Op, step: Step) -> Given | None:
        """Return what a successful reply to a step gives out, that is no listing."""
        sites = reply_sites(op, self.context, step.reply_wire_len)
        node = self._reply_number(step, sites.node_at)
        if sites.handle_at == NOWHERE:
            return Given(node, None) if node else None
        if step.reply_at + sites.handle_at + 8 > step.reply_end:
            return Given(node, None) if node else None
        opened_on = node if sites.node_at != NOWHERE else self.node(step)
        return Given(node, (opened_on, self._reply_number(step, sites.handle_at)))

    def _reply_number(self, step: Step, at: int) -> int:
        if at == NOWHERE or step.reply_at + at + 8 > step.reply_end:
            return 0
        (value,) = struct.unpack_from(self.order + "Q", self.trace.file.mapped, step.reply_at + at)
        return int(value)

    def entries(self, step: Step) -> list[Entry]:
        """Return what a listing's reply holds, as far as it was kept."""
        return entries_of(self.reply_values(step))


class Entry(NamedTuple):
    """One name of a listing."""

    name: bytes
    cookie: int
    type: int  # DT_*
    node: int  # 0: none given
    mode: int
    values: Mapping[str, Value]


def entries_of(values: Mapping[str, Value]) -> list[Entry]:
    """Return the entries among the values of a READDIR or READDIRPLUS reply."""
    listed = values.get("entries")
    if not isinstance(listed, list):
        return []
    return [_entry(item) for item in listed if isinstance(item, dict)]


def _entry(item: Mapping[str, Value]) -> Entry:
    prefix = "dirent." if "dirent.off" in item else ""

    def number(name: str) -> int:
        value = item.get(name, 0)
        return value if isinstance(value, int) else 0

    name = item.get(f"{prefix}name", b"")
    return Entry(
        name if isinstance(name, bytes) else b"",
        number(f"{prefix}off"),
        number(f"{prefix}type"),
        number("nodeid"),
        number("attr.mode"),
        item,
    )
