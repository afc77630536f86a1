"""Amounts as people write them."""

from __future__ import annotations

import pytest

from tracer.recording.limits import Limit, Unit, read_limit


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("1000", Unit.RECORDS, 1000),
        ("100MiB", Unit.BYTES, 100 << 20),
        ("100M", Unit.BYTES, 100 << 20),
        ("1MB", Unit.BYTES, 10**6),
        ("512k", Unit.BYTES, 512 << 10),
        ("1.5KiB", Unit.BYTES, 1536),
        ("10s", Unit.NS, 10**10),
        ("0.5s", Unit.NS, 5 * 10**8),
        ("5min", Unit.NS, 300 * 10**9),
        ("1h", Unit.NS, 3600 * 10**9),
        ("2d", Unit.NS, 172800 * 10**9),
    ],
)
def test_records_sizes_and_times_are_told_by_their_unit(text: str, unit: Unit, amount: int) -> None:
    assert read_limit(text, *Unit) == Limit(unit, amount, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no amount: write a size (100MiB, 512k) or a time (10s, 5min, 1h)"),
        ("lots", "is no amount"),
        ("-1s", "is no amount"),
        ("0", "is no amount"),
        ("100", "is a number of records here: write a size (100MiB, 512k) or a time"),
        ("5m", "may be minutes or mebibytes: write min, or MiB"),
        ("5parsecs", "no unit 'parsecs' in '5parsecs'"),
        ("800d", "is longer than a year"),
        ("0.1b", "is no whole number of bytes"),
        ("9" * 100, "is no amount"),
    ],
)
def test_what_is_no_size_and_no_time_is_refused_with_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as refusal:
        read_limit(text, Unit.BYTES, Unit.NS)
    assert reason in str(refusal.value)


def test_half_a_record_is_refused() -> None:
    with pytest.raises(ValueError, match="no whole number of records"):
        read_limit("1.5", *Unit)
