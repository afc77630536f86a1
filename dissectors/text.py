"""Values as text for people: names escaped, numbers with their names, units and forms. Nothing raw gets through."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from dissectors.fields import Field, Kind, Role, Show
from dissectors.message import Value

EXCERPT_BYTES = 32  # of a payload that are shown beside its length
SHOWN_ELEMENTS = 8  # of a list that are shown before "..."

_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\\": "\\\\"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Formatter = Callable[[Any], str]  # of the field's own kind of value


def escape(raw: bytes, limit: int = 4096) -> str:
    r"""Return bytes from outside as printable text, at most `limit` of them; "..." follows what was longer.

    Printable UTF-8 stays. Control, format and bidi characters, invalid bytes and the backslash become \n, \t, \xNN,
    \uNNNN or \UNNNNNNNN: a file name can neither drive a terminal nor turn the text around it.
    """
    kept = raw[:limit]
    text = kept.decode("utf-8", "surrogateescape")
    if not text.isprintable() or "\\" in text:
        text = "".join(map(_escaped, text))
    return text if len(raw) <= limit else text + "..."


def _escaped(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def payload_text(raw: bytes, lost: int = 0) -> str:
    """Return the length of `raw` and its first bytes: `5 bytes: "hello"`. `lost` bytes followed and were not kept."""
    unit = "byte" if len(raw) + lost == 1 else "bytes"
    kept = f", {len(raw)} kept" if lost else ""
    excerpt = f': "{escape(raw, EXCERPT_BYTES)}"' if raw else ""
    return f"{len(raw) + lost} {unit}{kept}{excerpt}"


def mode_text(mode: int) -> str:
    """Return file type and permissions as ls prints them; without a type when there is none."""
    text = stat.filemode(mode & 0xFFFF)
    return text if stat.S_IFMT(mode) else text[1:]


def octal_text(number: int) -> str:
    """Return `number` as C writes it in octal."""
    return f"0{number:o}" if number else "0"


def device_text(device: int) -> str:
    """Return "major:minor" of the kernel's 32-bit dev_t (new_encode_dev in include/linux/kdev_t.h)."""
    return f"{(device >> 8) & 0xFFF}:{(device & 0xFF) | ((device >> 12) & 0xFFF00)}"


def time_text(seconds: int, nanoseconds: int | None = None) -> str:
    """Return a time since the epoch as ISO 8601 in UTC; seconds above 2^63 count as negative."""
    if seconds >= 1 << 63:
        seconds -= 1 << 64
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds} s"
    fraction = "" if nanoseconds is None else f".{nanoseconds:09d}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + "Z"


def value_text(field: Field, value: Value, siblings: Mapping[str, Value] | None = None) -> str:
    """Return `value` as a person reads it, with unit and number: the text of the detail view.

    `siblings` are the values around it: seconds are then shown with their nanoseconds.
    """
    if not isinstance(value, int):
        return _bulk_text(field, value)
    if field.nanoseconds:
        other = (siblings or {}).get(field.nanoseconds)
        return _seconds_text(field, value, other if isinstance(other, int) else None)
    if field.show is Show.MODE:
        return f"{mode_text(value)} {octal_text(value)}"
    if field.names is not None:
        text = short_formatter(field)(value)
        return text if text == str(value) or not value else f"{text} ({value:#x})"
    text = short_formatter(field)(value)
    return f"{text} {field.unit}" if field.unit else text


def _seconds_text(field: Field, seconds: int, nanoseconds: int | None) -> str:
    if field.show is Show.SECONDS:
        return time_text(seconds, nanoseconds)
    if nanoseconds:
        return f"{seconds}.{nanoseconds:09d}".rstrip("0") + " s"
    return f"{seconds} s"


def _bulk_text(field: Field, value: Value) -> str:
    if isinstance(value, bytes):
        return escape(value) if is_name(field) else payload_text(value)
    if isinstance(value, int):
        return str(value)
    if field.kind is Kind.RECORDS:
        return f"{len(value)} {field.name.rpartition('.')[2]}"
    shown = [escape(item) if isinstance(item, bytes) else str(item) for item in value[:SHOWN_ELEMENTS]]
    return ", ".join(shown) + (f", ... ({len(value)})" if len(value) > SHOWN_ELEMENTS else "")


def is_name(field: Field) -> bool:
    """Whether its bytes are a name, and not file content."""
    return field.kind is Kind.NAME or field.role in (Role.NAME, Role.TARGET)


@cache
def short_formatter(field: Field) -> Formatter:
    """Return what turns values of `field` into a few characters, without unit: the text of a list's row."""
    if field.names is not None:
        return lru_cache(4096)(field.names.text)
    by_show: dict[Show, Formatter] = {
        Show.HEX: "{:#x}".format,
        Show.OCTAL: octal_text,
        Show.MODE: mode_text,
        Show.DEVICE: device_text,
        Show.SECONDS: time_text,
        Show.DECIMAL: str,
    }
    if field.kind.is_integer:
        return by_show[field.show]
    return lambda value: _bulk_text(field, value)
