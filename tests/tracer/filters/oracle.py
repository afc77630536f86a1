"""What a field's values are, taken from decoded exchanges one by one: slow, and nothing in common with the columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from dissectors.catalog import FilterField
from dissectors.message import Message, MessageKind
from tracer.filters.compiler import source_for
from tracer.filters.values import is_text
from tracer.records import RecordFlag
from tracer.trace.exchange import Exchange
from tracer.trace.pairing import State
from tracer.trace.trace import Trace


def expected(trace: Trace, field: FilterField, exchanges: Iterable[Exchange] | None = None) -> dict[int, list[Any]]:
    """Return the values of every exchange that has the field; `exchanges` saves decoding them again."""
    found = {}
    for exchange in trace.exchanges() if exchanges is None else exchanges:
        values = list(_body_values(exchange, field)) if field.op is not None else list(_known(trace, exchange, field))
        if values:
            found[exchange.number] = values
    return found


def gathered(trace: Trace, field: FilterField) -> dict[int, list[Any]]:
    """Return the same as filters read it."""
    numbers = np.arange(trace.exchange_count, dtype=np.int64)
    source: Any = source_for(field)
    found: dict[int, list[Any]] = {}
    if not is_text(field):
        result = source.find(trace, numbers)
        where = numbers if result.where is None else result.where
        pairs = list(zip(where.tolist(), result.values.tolist(), strict=True))
    elif hasattr(source, "groups"):
        pairs = [(place, text) for places, text in source.groups(trace, numbers) for place in places.tolist()]
    else:
        pairs = list(source.pairs(trace, numbers))
    for place, value in pairs:
        found.setdefault(place, []).append(value)
    return found


def _body_values(exchange: Exchange, field: FilterField) -> Iterator[Any]:
    message = {
        MessageKind.REQUEST: exchange.request,
        MessageKind.REPLY: exchange.reply,
        MessageKind.NOTIFICATION: exchange.notification,
    }[field.message or MessageKind.REQUEST]
    if message is None or message.op is not field.op:
        return
    values: Any = message.values
    if "[]" not in field.field_path:
        yield from [values[field.field_path]] if field.field_path in values else []
        return
    head, _, inner = field.field_path.partition("[]")
    for item in values.get(head, []):
        if not inner:
            yield item
        elif inner[1:] in item:
            yield item[inner[1:]]


def _messages(exchange: Exchange) -> list[Message]:
    return [one for one in (exchange.request, exchange.reply, exchange.notification) if one is not None]


def _header(name: str) -> Callable[[Trace, Exchange], Any]:
    def get(_: Trace, exchange: Exchange) -> Any:
        nodes = exchange.request.header if exchange.request else ()
        return next((node.value for node in nodes if node.name == name), None)

    return get


def _unique(_: Trace, exchange: Exchange) -> Any:
    if exchange.notification is not None:
        return None
    return next((node.value for node in exchange.message.header if node.name == "unique"), None)


def _error(_: Trace, exchange: Exchange) -> Any:
    nodes = exchange.reply.header if exchange.reply else ()
    return next((node.value for node in nodes if node.name == "error"), None)


def _notify(_: Trace, exchange: Exchange) -> Any:
    return exchange.notification.opcode if exchange.notification else None


def _first_name(_: Trace, exchange: Exchange) -> Any:
    values = exchange.request.values if exchange.request else {}
    return values.get("name", values.get("oldname"))


def _latency(_: Trace, exchange: Exchange) -> Any:
    return exchange.latency_ns


def _pending_for(trace: Trace, exchange: Exchange) -> Any:
    if exchange.state is not State.PENDING or _time(trace, exchange) is None:
        return None
    return trace.record(trace.records.count - 1).t_ns - exchange.t_ns


def _time(trace: Trace, exchange: Exchange) -> Any:
    return None if trace.record(exchange.message.number).flags & RecordFlag.TIME_UNKNOWN else exchange.t_ns


def _malformed(_: Trace, exchange: Exchange) -> Any:
    return int(any(one.is_malformed for one in _messages(exchange)))


_KNOWN: dict[str, Callable[[Trace, Exchange], Any]] = {
    "fuse.opcode": _header("opcode"),
    "fuse.notify": _notify,
    "fuse.error": _error,
    "fuse.unique": _unique,
    "fuse.nodeid": _header("nodeid"),
    "fuse.uid": _header("uid"),
    "fuse.gid": _header("gid"),
    "fuse.pid": _header("pid"),
    "proc.pid": _header("pid"),
    "fuse.len": lambda _, exchange: exchange.message.wire_len,
    "fuse.time": _time,
    "fuse.latency": _latency,
    "fuse.queue_wait": lambda _, exchange: exchange.timing.queue_wait_ns,
    "fuse.service": lambda _, exchange: exchange.timing.service_ns,
    "fuse.pending_for": _pending_for,
    "fuse.name": _first_name,
    "fuse.channel": lambda trace, exchange: trace.channels[exchange.channel].name.encode() or None,
    "fuse.mount": lambda trace, exchange: trace.channels[exchange.channel].mount_point.encode() or None,
    "fuse.queue": lambda trace, exchange: trace.record(exchange.message.number).queue,
    "fuse.lost_bytes": lambda _, exchange: sum(one.lost_bytes for one in _messages(exchange)),
    "fuse.malformed": _malformed,
    "fuse.state": lambda _, exchange: exchange.state.value,
    "fuse.kind": lambda _, exchange: list(MessageKind).index(exchange.message.kind),
    "fuse.path": lambda _, exchange: exchange.path,
    "fuse.submount": lambda _, exchange: exchange.submount,
    "proc.comm": lambda _, exchange: exchange.comm or None,
    "server.pid": lambda _, exchange: exchange.server_pid or None,
    "server.tid": lambda _, exchange: exchange.server_tid or None,
}


def _known(trace: Trace, exchange: Exchange, field: FilterField) -> Iterator[Any]:
    value = _KNOWN[field.name](trace, exchange)
    if value is not None:
        yield value
