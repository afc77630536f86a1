"""Prints calls the way strace does, in any of its forms: real bytes for the parser, made to order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracer.records import Direction

_NAMED = {0x22: '\\"', 0x5C: "\\\\", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}


@dataclass(frozen=True)
class Call:
    """One message on its way through the device."""

    direction: Direction
    tid: int
    fd: int
    buffers: tuple[bytes, ...]  # of a write; a request has one
    entered_ns: int
    took_ns: int

    @property
    def data(self) -> bytes:
        return b"".join(self.buffers)

    @property
    def is_request(self) -> bool:
        return self.direction is Direction.TO_SERVER


@dataclass(frozen=True)
class Form:
    """How strace was told to print."""

    escapes: str = "default"  # default, x, xx
    limit: int = 1 << 20  # -s
    names: str = "yy"  # yy, y, none
    pid: str = "padded"  # padded, bracket, comm, none
    stamp: str = "ns"  # ns, us, day, none
    has_durations: bool = True
    is_split: bool = False  # reads are printed in two parts
    argument_names: bool = False  # -N
    line_end: bytes = field(default=b"\n")


def quoted(data: bytes, form: Form) -> str:
    """Return `data` as a strace string, cut as -s says."""
    kept = data[: form.limit]
    is_plain = all(byte in _NAMED or 0x20 <= byte < 0x7F for byte in kept)
    if form.escapes == "xx" or (form.escapes == "x" and not is_plain):
        body = "".join(f"\\x{byte:02x}" for byte in kept)
    else:
        body = "".join(_escaped(kept, at) for at in range(len(kept)))
    return f'"{body}"' + ("..." if len(kept) < len(data) else "")


def _escaped(data: bytes, at: int) -> str:
    byte = data[at]
    if byte in _NAMED:
        return _NAMED[byte]
    if 0x20 <= byte < 0x7F:
        return chr(byte)
    follows_digit = at + 1 < len(data) and chr(data[at + 1]) in "01234567"
    return f"\\{byte:03o}" if follows_digit else f"\\{byte:o}"


def print_calls(calls: Sequence[Call], form: Form) -> bytes:
    """Return the log of `calls`, which must be in the order in which they returned."""
    return b"".join(line.encode() + form.line_end for call in calls for line in _lines(call, form))


def _lines(call: Call, form: Form) -> list[str]:
    start = _prefix(call, form, call.entered_ns)
    device = f"{'fd=' if form.argument_names else ''}{call.fd}{_device(form)}"
    took = f" <{_decimal(call.took_ns, 9 if form.stamp == 'ns' else 6)}>" if form.has_durations else ""
    result = f" = {len(call.data)}{took}"
    name = "buf=" if form.argument_names else ""
    if not call.is_request:
        if len(call.buffers) == 1:
            return [f"{start}write({device}, {name}{quoted(call.data, form)}, {len(call.data)}){result}"]
        vectors = ", ".join(f"{{iov_base={quoted(b, form)}, iov_len={len(b)}}}" for b in call.buffers)
        name = "vec=" if form.argument_names else ""
        return [f"{start}writev({device}, {name}[{vectors}], {len(call.buffers)}){result}"]
    rest = f"{name}{quoted(call.data, form)}, 135168){result}"
    if not form.is_split:
        return [f"{start}read({device}, {rest}"]
    end = _prefix(call, form, call.entered_ns + call.took_ns)
    return [f"{start}read({device},  <unfinished ...>", f"{end}<... read resumed>{rest}"]


def _device(form: Form) -> str:
    path = "".join(f"\\x{byte:02x}" for byte in b"/dev/fuse") if form.escapes == "xx" else "/dev/fuse"
    return {"yy": f"<{path}<char 10:229>>", "y": f"<{path}>", "none": ""}[form.names]


def _prefix(call: Call, form: Form, t_ns: int) -> str:
    pid = {
        "padded": f"{call.tid:<5} ",
        "bracket": f"[pid {call.tid:5}] ",
        "comm": f"{call.tid}<server> ",
        "none": "",
    }[form.pid]
    if form.stamp == "none":
        return pid
    if form.stamp == "day":
        seconds = t_ns // 1_000_000_000 % 86400
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{pid}{clock}.{t_ns % 1_000_000_000 // 1000:06} "
    return f"{pid}{_decimal(t_ns, 9 if form.stamp == 'ns' else 6)} "


def _decimal(t_ns: int, digits: int) -> str:
    return f"{t_ns // 1_000_000_000}.{t_ns % 1_000_000_000 // 10 ** (9 - digits):0{digits}}"
