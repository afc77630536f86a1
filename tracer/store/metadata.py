"""ChannelInfo and Gap as JSON in pcapng comments, which every pcapng tool keeps and a person can read."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import orjson

from tracer.records import ChannelInfo, ChannelKind, Gap

CHANNEL_MARK = b"fusewire channel "
GAP_MARK = b"fusewire gap "
MAX_NAME = 255  # of an interface name, in bytes
MAX_TEXT = 4096  # of anything else a bridge says about a channel


def channel_comment(info: ChannelInfo) -> bytes:
    """Encode everything known about a channel."""
    values = asdict(info)
    values["kind"] = info.kind.name
    return CHANNEL_MARK + orjson.dumps({key: _bounded(value) for key, value in values.items() if value})


def _bounded(value: object) -> object:
    """Bound a text, and mend one that is no Unicode (a mount point may be any bytes)."""
    if isinstance(value, str):
        return value[:MAX_TEXT].encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value[:100]]
    return value


def read_channel(name: str, comments: list[bytes]) -> ChannelInfo:
    """Decode a channel from an interface's comments; fields a newer version added are left out."""
    for comment in comments:
        values = _json(comment, CHANNEL_MARK)
        if values is None:
            continue
        known = {field.name: field for field in fields(ChannelInfo)}
        kept = {key: value for key, value in values.items() if key in known}
        kind = kept.pop("kind", "")
        notes = kept.pop("notes", ())
        kept = {
            key: value for key, value in kept.items() if isinstance(value, type(known[key].default)) or key == "name"
        }
        kept["name"] = str(kept.get("name", name))
        return ChannelInfo(
            **kept,
            kind=ChannelKind.__members__.get(str(kind), ChannelKind.UNKNOWN),
            notes=tuple(str(note) for note in notes) if isinstance(notes, list) else (),
        )
    return ChannelInfo(name=name)


def gap_comment(gap: Gap) -> bytes:
    """Encode a gap: a sentence for a person, then the same for a program."""
    lost = f"{gap.count} records lost" if gap.count else "records lost"
    values = {"channel": gap.channel, "count": gap.count, "reason": gap.reason[:MAX_TEXT], "t_ns": gap.t_ns}
    return (
        f"{lost}: {gap.reason[:MAX_TEXT]}\n".encode("utf-8", "backslashreplace")
        + GAP_MARK
        + orjson.dumps({key: _bounded(value) for key, value in values.items()})
    )


def read_gap(channel: int, t_ns: int, comments: list[bytes]) -> Gap | None:
    """Decode a gap from statistics comments; None when they hold none."""
    for comment in comments:
        values = _json(comment[comment.find(GAP_MARK) :], GAP_MARK) if GAP_MARK in comment else None
        if values is None:
            continue
        count, stored = values.get("count"), values.get("t_ns")
        return Gap(
            stored if isinstance(stored, int) else t_ns,
            -1 if values.get("channel") == -1 else channel,
            count if isinstance(count, int) else 0,
            str(values.get("reason", "")),
        )
    return None


def _json(comment: bytes, mark: bytes) -> dict[str, Any] | None:
    if not comment.startswith(mark):
        return None
    try:
        values = orjson.loads(comment[len(mark) :])
    except orjson.JSONDecodeError:
        return None
    return values if isinstance(values, dict) else None
