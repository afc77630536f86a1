"""ChannelInfo and Gap as JSON in pcapng comments, which every pcapng tool keeps and a person can read."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from typing import Any

from tracer.records import ChannelInfo, ChannelKind, Gap
from tracer.store.pcapng import MAX_OPTION

CHANNEL_MARK = b"fusewire channel "
GAP_MARK = b"fusewire gap "
MAX_NAME = 255  # of an interface name, in bytes
MAX_DESCRIPTION = 1024
MAX_TEXT = 4096  # of anything else a bridge says about a channel, in characters
MAX_NOTES = 100
_IMPOSSIBLE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def channel_comment(info: ChannelInfo) -> bytes:
    """Encode everything known about a channel; of texts too long for a comment the beginnings."""
    values = {**asdict(info), "kind": info.kind.name}
    limit = MAX_TEXT
    while True:
        comment = CHANNEL_MARK + encoded({key: _bounded(value, limit) for key, value in values.items() if value})
        if len(comment) <= MAX_OPTION:
            return comment
        limit //= 2


def _bounded(value: object, limit: int) -> object:
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, list | tuple):
        return [_bounded(item, limit) for item in value[:MAX_NOTES]]
    return value


def encoded(values: dict[str, object]) -> bytes:
    r"""Encode as JSON in UTF-8. Bytes that are no UTF-8 (a mount point may be any) become \udcXX, as JSON allows."""
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace")


def read_channel(name: str, comments: list[bytes]) -> ChannelInfo:
    """Decode a channel from an interface's comments; fields a newer version added are left out."""
    for comment in comments:
        values = read_json(comment, CHANNEL_MARK)
        if values is None:
            continue
        known = {field.name: field for field in fields(ChannelInfo)}
        kept = {key: value for key, value in values.items() if key in known}
        kind = kept.pop("kind", "")
        notes = kept.pop("notes", ())
        kept = {key: value for key, value in kept.items() if key == "name" or _is_like(value, known[key].default)}
        kept = {key: _text(value) if isinstance(value, str) else value for key, value in kept.items()}
        kept["name"] = _text(str(kept.get("name", name)))
        return ChannelInfo(
            **kept,
            kind=ChannelKind.__members__.get(str(kind), ChannelKind.UNKNOWN),
            notes=tuple(_text(str(note)) for note in notes) if isinstance(notes, list) else (),
        )
    return ChannelInfo(name=name)


def _is_like(value: object, default: object) -> bool:
    """Tell whether a value from a file may stand in a field of this default; numbers are unsigned, 64 bits wide."""
    return type(value) is type(default) and (not isinstance(value, int) or 0 <= value < 1 << 64)


def _text(text: str) -> str:
    """Return the text without the surrogates that os.fsdecode() never makes, so that os.fsencode() takes it."""
    return _IMPOSSIBLE.sub("\N{REPLACEMENT CHARACTER}", text)


def gap_comment(gap: Gap) -> bytes:
    """Encode a gap: a sentence for a person, then the same for a program."""
    lost = f"{gap.count} records lost" if gap.count else "records lost"
    reason = gap.reason[:MAX_TEXT]
    values: dict[str, object] = {"channel": gap.channel, "count": gap.count, "reason": reason, "t_ns": gap.t_ns}
    return f"{lost}: {reason}\n".encode("utf-8", "backslashreplace") + GAP_MARK + encoded(values)


def read_gap(channel: int, t_ns: int, comments: list[bytes]) -> Gap | None:
    """Decode a gap from statistics comments; None when they hold none."""
    for comment in comments:
        # The last line: the sentence before it may hold anything.
        values = read_json(comment[comment.rfind(b"\n") + 1 :], GAP_MARK)
        if values is None:
            continue
        return Gap(
            values["t_ns"] if _is_like(values.get("t_ns"), 0) else t_ns,
            -1 if values.get("channel") == -1 else channel,
            values["count"] if _is_like(values.get("count"), 0) else 0,
            _text(str(values.get("reason", ""))),
        )
    return None


def read_json(comment: bytes, mark: bytes) -> dict[str, Any] | None:
    """Decode what stands behind a mark; None when the mark is not there, or no object follows it. Trust no value."""
    if not comment.startswith(mark):
        return None
    try:
        values = json.loads(comment[len(mark) :].decode("utf-8", "replace"))
    except (ValueError, RecursionError):  # nested too deeply on purpose, or a number of thousands of digits
        return None
    return values if isinstance(values, dict) else None
