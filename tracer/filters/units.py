"""Numbers and times as people write them: 0x1f, 0644, 64KiB, 10ms, 2026-01-02T03:04:05Z."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction

MAX_DIGITS = 40  # more are no 64-bit number, whatever the base

DURATIONS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
SIZES = {
    "b": 1,
    **{f"{letter}{suffix}": 1 << shift for letter, shift in zip("kmgt", (10, 20, 30, 40), strict=True)
       for suffix in ("", "i", "ib")},
    **{f"{letter}b": 10**power for letter, power in zip("kmgt", (3, 6, 9, 12), strict=True)},
}  # fmt: skip

_NUMBER = re.compile(r"([+-]?)(0x[0-9a-f]+|0o[0-7]+|0b[01]+|[0-9]+(?:\.[0-9]+)?)([a-zµ]*)", re.IGNORECASE | re.ASCII)
_OCTAL = re.compile(r"0[0-7]+")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_number(text: str) -> tuple[Fraction, str] | None:
    """Return the number and its unit, both as written; None when `text` is no number.

    0x, 0o and 0b begin another base, and as in C so does a 0 before other digits: 0644 is octal.
    """
    found = _NUMBER.fullmatch(text) if len(text) <= MAX_DIGITS else None
    if found is None:
        return None
    sign, digits, unit = found.groups()
    if not unit and _OCTAL.fullmatch(digits):
        value = Fraction(int(digits, 8))
    elif digits[:2].lower() in ("0x", "0o", "0b"):
        value = Fraction(int(digits, 0))
    else:
        value = Fraction(digits)
    return -value if sign == "-" else value, unit


def read_time(text: str) -> int | None:
    """Return nanoseconds since the epoch of an ISO 8601 time, or None. Without Z or an offset it is local time."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    whole, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(whole + (zone or "")).astimezone(UTC)
    except (ValueError, OverflowError, OSError):  # the calendar or the C library cannot hold it
        return None
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * 10**9 + int((fraction or "0").ljust(9, "0"))
