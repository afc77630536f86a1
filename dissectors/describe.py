"""A message for people: one line for a list, and the rows of the detail tree with the bytes each of them covers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from dissectors.errnos import error_text, error_value
from dissectors.fields import Field, Kind
from dissectors.message import Message, MessageKind, Node, Severity, Value
from dissectors.names import Flags
from dissectors.opcodes import Either, Notification, Op
from dissectors.text import escape, is_name, payload_text, short_formatter, value_text

__all__ = ["TreeRow", "error_text", "error_value", "escape", "summary", "tree", "value_text"]

ARROW = " → "

Values = Mapping[str, Value]
_Part = str | Callable[[Values], str]


# ---- one line ----


def summary(
    op: Op | Notification | None,
    request_values: Values | None,
    reply_values: Values | None = None,
    error: int = 0,
    lost: int = 0,
) -> str:
    """Return one line about an exchange: what was asked, an arrow, what was answered or the error's name.

    `lost` bytes at the end of the reply were not kept: they count where its file content is the last thing in it.
    Of a notification, `request_values` are its own values. Of an unknown opcode, how many bytes it carried.
    """
    asked = _filled(_request_template(op), request_values) if op is not None else _raw_text(request_values)
    if error:
        answered = error_text(error)
    elif reply_values and isinstance(op, Op):
        answered = _filled(_reply_template(op), reply_values, lost)
    else:
        answered = _raw_text(reply_values) if op is None else ""
    if not answered:
        return asked
    return asked + ARROW + answered if asked else ARROW[1:] + answered


def _raw_text(values: Values | None) -> str:
    raw = (values or {}).get("body")
    return payload_text(raw) if isinstance(raw, bytes) and raw else ""


def _filled(template: tuple[_Part, ...], values: Values | None, lost: int = 0) -> str:
    if not template:
        return ""
    known = values or {}
    if lost:
        parts = (part.cut(known, lost) if isinstance(part, _Content) else part for part in template)
        return "".join([part if isinstance(part, str) else part(known) for part in parts])
    return "".join([part if isinstance(part, str) else part(known) for part in template])


@cache
def _request_template(op: Op | Notification) -> tuple[_Part, ...]:
    fields = op.request if isinstance(op, Op) else op.payload
    return tuple(_template(op.summary, {field.name: field for field in fields}))


@cache
def _reply_template(op: Op) -> tuple[_Part, ...]:
    fields = op.reply.then + op.reply.otherwise if isinstance(op.reply, Either) else op.reply
    return tuple(_template(op.reply_summary, {field.name: field for field in fields}))


def _template(text: str, fields: Mapping[str, Field]) -> Iterator[_Part]:
    """Parse a declared summary: {name} is a value, {one|other} the one that is there."""
    pieces = re.split(r"\{([^}]*)\}", text)
    for literal, names in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        if not names:
            yield from [literal] if literal else []
            continue
        chosen = [fields[name] for name in names.split("|")]
        if literal.isspace() and _silent_when_zero(chosen[0]):
            yield _placeholder(chosen, literal)
        else:
            yield from [literal] if literal else []
            yield _placeholder(chosen)


def _silent_when_zero(field: Field) -> bool:
    return isinstance(field.names, Flags) and field.names.zero == "0"


class _Content:
    """Fills a placeholder with file content."""

    def __init__(self, name: str, lead: str) -> None:
        self._name, self._lead = name, lead

    def __call__(self, values: Values) -> str:
        return self.cut(values, 0)

    def cut(self, values: Values, lost: int) -> str:
        """Return the text for content of which the last `lost` bytes were not kept."""
        value = values.get(self._name)
        return self._lead + (payload_text(value, lost) if isinstance(value, bytes) else "?")


def _placeholder(fields: Sequence[Field], lead: str = "") -> Callable[[Values], str]:
    """Return what fills a placeholder. With a `lead`, flags of which none is set vanish together with it."""
    if len(fields) == 1 and fields[0].kind is Kind.DATA and not is_name(fields[0]):
        return _Content(fields[0].name, lead)
    pairs = [(field.name, short_formatter(field)) for field in fields]

    def fill(values: Values) -> str:
        for name, text in pairs:
            value = values.get(name)
            if value is not None:
                return "" if lead and not value else lead + text(value)
        return lead + "?"

    return fill


# ---- the detail tree ----


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One row of the detail tree. It covers the bytes [start, end) of the message's `data`."""

    depth: int
    name: str  # the declared name, "entries[3].name" inside a record; empty for a heading or a problem
    label: str  # the last part of the name, or the heading
    text: str
    start: int
    end: int
    doc: str = ""
    problem: bool = False


def tree(message: Message) -> list[TreeRow]:
    """Return the rows of the detail tree: header, body, extension area, problems. Padding shows only if not zero."""
    rows: list[TreeRow] = []
    heading = f"{message.kind.value} header"
    rows += _section(heading, message.header, _header_texts(message))
    rows += _section(f"{message.name} {message.kind.value}", message.body, {})
    if message.extension:
        rows += _section("extension area", message.extension, {})
    rows += _problem_rows(message)
    return rows


def _section(heading: str, nodes: Sequence[Node], texts: Mapping[str, str]) -> Iterator[TreeRow]:
    if not nodes:
        return
    length = nodes[-1].end - nodes[0].start
    yield TreeRow(0, "", heading, f"{length} bytes", nodes[0].start, nodes[-1].end)
    yield from _rows(nodes, 1, "", texts)


def _header_texts(message: Message) -> dict[str, str]:
    """Return the header's texts that only the whole message tells."""
    if message.kind is MessageKind.REQUEST:
        return {"opcode": f"{message.name} ({message.opcode})"}
    if message.kind is MessageKind.NOTIFICATION:
        return {"error": f"{message.name} ({message.opcode})"}
    named = error_text(message.error)
    return {"error": named if named == str(message.error) else f"{named} ({message.error})"}


def _rows(nodes: Sequence[Node], depth: int, path: str, texts: Mapping[str, str], group: str = "") -> Iterator[TreeRow]:
    """Yield the rows of `nodes`; those that share a prefix ("attr.") after `group` come under a row of its own."""
    siblings = {node.name: node.value for node in nodes if node.value is not None}
    at = 0
    while at < len(nodes):
        prefix = nodes[at].name[len(group) :].partition(".")
        if prefix[1] and not nodes[at].children:
            whole = f"{group}{prefix[0]}."
            members = _run(nodes, at, whole)
            yield TreeRow(depth, path + whole[:-1], prefix[0], "", members[0].start, members[-1].end)
            yield from _rows(members, depth + 1, path, texts, whole)
            at += len(members)
            continue
        yield from _node_rows(nodes[at], depth, path, siblings, texts, group)
        at += 1


def _run(nodes: Sequence[Node], at: int, prefix: str) -> Sequence[Node]:
    end = at
    while end < len(nodes) and nodes[end].name.startswith(prefix):
        end += 1
    return nodes[at:end]


def _node_rows(
    node: Node, depth: int, path: str, siblings: Values, texts: Mapping[str, str], group: str
) -> Iterator[TreeRow]:
    if _is_silent_padding(node):
        return
    label, doc = node.name[len(group) :], node.field.doc if node.field is not None else ""
    if node.children:
        text = _group_text(node)
        yield TreeRow(depth, path + node.name, label, text, node.start, node.end, "" if node.value is None else doc)
        inside = path if node.value is not None else f"{path}{node.name}."
        yield from _rows(node.children, depth + 1, inside, {})
        return
    text = texts.get(node.name) or _text(node, siblings)
    yield TreeRow(depth, path + node.name, label, text, node.start, node.end, doc)


def _group_text(node: Node) -> str:
    """Return what tells a record from its neighbours at a glance: its name."""
    if node.value is not None:
        return value_text(node.field, node.value) if node.field is not None else ""
    named = (child for child in node.children if child.name.rpartition(".")[2] == "name")
    return next((escape(child.value) for child in named if isinstance(child.value, bytes)), "")


def _text(node: Node, siblings: Values) -> str:
    if node.value is None:
        return ""
    if node.field is None or node.field.hidden:
        return payload_text(node.value) if isinstance(node.value, bytes) else str(node.value)
    return value_text(node.field, node.value, siblings)


def _is_silent_padding(node: Node) -> bool:
    hidden = node.name == "_pad" or (node.field is not None and node.field.hidden)
    return hidden and (not any(node.value) if isinstance(node.value, bytes) else not node.value)


def _problem_rows(message: Message) -> Iterator[TreeRow]:
    for problem in message.problems:
        at = min(problem.at, len(message.data))
        yield TreeRow(0, "", problem.severity.value, problem.text, at, at, problem=problem.severity is Severity.ERROR)
    if message.lost_bytes:
        at, text = len(message.data), f"{message.lost_bytes} bytes of {message.wire_len} were not captured"
        yield TreeRow(0, "", Severity.NOTE.value, text, at, at)
