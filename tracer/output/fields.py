"""Chosen fields of exchanges as columns of text: `show -T fields -e FIELD` and CSV."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping

from dissectors.catalog import CATALOG, FilterField
from dissectors.errnos import error_text
from dissectors.message import Message, MessageKind, Value
from dissectors.text import escape
from tracer.errors import TracerError
from tracer.trace.exchange import Exchange
from tracer.trace.trace import Trace

Getter = Callable[[Trace, Exchange], object]


def fields_named(names: Iterable[str]) -> list[FilterField]:
    """Return the catalog's fields; TracerError with the nearest name for one that does not exist."""
    return [_named(name) for name in names]


def _named(name: str) -> FilterField:
    found = CATALOG.get(name)
    if found is None:
        near = difflib.get_close_matches(name, CATALOG, 1)
        hint = f"did you mean {near[0]}?" if near else "all names: fusewire show --fields"
        raise TracerError(f"there is no field {name!a}", hint)
    return found


def rows(trace: Trace, numbers: Iterable[int], fields: list[FilterField]) -> Iterator[list[str]]:
    """Yield the texts of `fields` for each exchange; several values are joined by a comma, none is empty."""
    for number in numbers:
        exchange = trace.exchange(number)
        yield [",".join(_texts(trace, exchange, field)) for field in fields]


def _texts(trace: Trace, exchange: Exchange, field: FilterField) -> list[str]:
    if field.op is not None:
        return [_text(field, value) for value in _body_values(exchange, field)]
    value = _GETTERS[field.name](trace, exchange)
    return [] if value is None else [_text(field, value)]


def _text(field: FilterField, value: object) -> str:
    if isinstance(value, bytes):
        return escape(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and field.names is not None and field.name in ("fuse.opcode", "fuse.notify"):
        return field.names.text(value)
    return str(value)


def _body_values(exchange: Exchange, field: FilterField) -> list[Value]:
    message = _part(exchange, field.message)
    if message is None or message.op is not field.op:
        return []
    return list(
        _follow(message.values, field.field_path.split(".") if "[]." in field.field_path else [field.field_path])
    )


def _part(exchange: Exchange, kind: MessageKind | None) -> Message | None:
    if kind is MessageKind.REQUEST:
        return exchange.request
    return exchange.reply if kind is MessageKind.REPLY else exchange.notification


def _follow(values: Mapping[str, Value], path: list[str]) -> Iterator[Value]:
    """Yield what a path leads to: "name", "names[]" or "entries[].dirent.name" (the part after [] may have dots)."""
    head, rest = path[0], ".".join(path[1:])
    value = values.get(head.removesuffix("[]"))
    if value is None:
        return
    if not head.endswith("[]"):
        yield value
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _follow(item, [rest])
            else:
                yield item


def _first_name(_: Trace, exchange: Exchange) -> object:
    values = exchange.request.values if exchange.request is not None else {}
    return values.get("name", values.get("oldname"))


def _error(_: Trace, exchange: Exchange) -> object:
    return error_text(exchange.reply.error) if exchange.reply is not None else None


def _header(name: str) -> Getter:
    def get(_: Trace, exchange: Exchange) -> object:
        header = exchange.request.header if exchange.request is not None else ()
        return next((node.value for node in header if node.name == name), None)

    return get


def _pending_for(trace: Trace, exchange: Exchange) -> object:
    pending_ns = int(trace.pending_ns(slice(exchange.number, exchange.number + 1))[0])
    return pending_ns if pending_ns >= 0 else None


def _lost_bytes(_: Trace, exchange: Exchange) -> object:
    return sum(one.lost_bytes for one in _messages(exchange))


def _messages(exchange: Exchange) -> list[Message]:
    return [one for one in (exchange.request, exchange.reply, exchange.notification) if one is not None]


def _opcode(_: Trace, exchange: Exchange) -> object:
    return exchange.message.opcode if exchange.notification is None and exchange.message.opcode >= 0 else None


_GETTERS: dict[str, Getter] = {
    "fuse.opcode": _opcode,
    "fuse.notify": lambda _, exchange: exchange.notification.opcode if exchange.notification else None,
    "fuse.error": _error,
    "fuse.unique": lambda _, exchange: exchange.message.unique,
    "fuse.nodeid": lambda _, exchange: exchange.message.nodeid,
    "fuse.uid": _header("uid"),
    "fuse.gid": _header("gid"),
    "fuse.pid": _header("pid"),
    "fuse.len": lambda _, exchange: exchange.message.wire_len,
    "fuse.time": lambda _, exchange: f"{exchange.t_ns // 10**9}.{exchange.t_ns % 10**9:09d}",
    "fuse.latency": lambda _, exchange: exchange.latency_ns,
    "fuse.queue_wait": lambda _, exchange: exchange.timing.queue_wait_ns,
    "fuse.service": lambda _, exchange: exchange.timing.service_ns,
    "fuse.pending_for": _pending_for,
    "fuse.name": _first_name,
    "fuse.channel": lambda trace, exchange: _raw(trace.channels[exchange.channel].name),
    "fuse.mount": lambda trace, exchange: _raw(trace.channels[exchange.channel].mount_point),
    "fuse.queue": lambda trace, exchange: trace.record(exchange.message.number).queue,
    "fuse.lost_bytes": _lost_bytes,
    "fuse.malformed": lambda _, exchange: any(one.is_malformed for one in _messages(exchange)),
    "fuse.state": lambda _, exchange: exchange.state.name,
    "fuse.kind": lambda _, exchange: exchange.message.kind.name,
    "fuse.path": lambda _, exchange: exchange.path,
    "fuse.submount": lambda _, exchange: exchange.submount,
    "proc.pid": _header("pid"),
    "proc.comm": lambda _, exchange: exchange.comm or None,
    "server.pid": lambda _, exchange: exchange.server_pid or None,
    "server.tid": lambda _, exchange: exchange.server_tid or None,
}


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
