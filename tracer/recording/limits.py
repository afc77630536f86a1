"""An amount of records, bytes or time as a person writes it: 1000, 100MiB, 512k, 10s, 5min."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tracer.filters.units import DURATIONS_NS, SIZES, read_number

DAY_NS = 86400 * 10**9
_DURATIONS_NS = {**DURATIONS_NS, "d": DAY_NS}
_LONGEST_NS = 366 * DAY_NS


class Unit(Enum):
    """What a limit counts."""

    RECORDS = "records"
    BYTES = "bytes"
    NS = "nanoseconds"


@dataclass(frozen=True, slots=True)
class Limit:
    """So many of a unit; `text` is what the user wrote."""

    unit: Unit
    amount: int
    text: str

    @property
    def described(self) -> str:
        """What the user wrote, with what it counts where that goes without a unit."""
        return self.text if self.unit is not Unit.RECORDS else f"{self.text} record{'s' * (self.amount != 1)}"


def read_limit(text: str, *units: Unit) -> Limit:
    """Read a limit in one of `units`. ValueError, with a sentence for the user, where it is none."""
    found = read_number(text)
    if found is None or (number := found[0]) <= 0:
        raise ValueError(f"{text!a} is no amount: write {_examples(units)}")
    unit, factor = _unit_of(found[1], text)
    amount = round(number * factor)
    if unit not in units:
        raise ValueError(f"{text!a} is a number of {unit.value} here: write {_examples(units)}")
    if amount < 1 or (amount != number * factor and unit is Unit.RECORDS):
        raise ValueError(f"{text!a} is no whole number of {unit.value}")
    if unit is Unit.NS and amount > _LONGEST_NS:
        raise ValueError(f"{text!a} is longer than a year")
    return Limit(unit, amount, text)


def _unit_of(name: str, text: str) -> tuple[Unit, int]:
    if not name:
        return Unit.RECORDS, 1
    if name == "m":
        raise ValueError(f"{text!a} may be minutes or mebibytes: write min, or MiB")
    if name in _DURATIONS_NS or name.lower() in _DURATIONS_NS:
        return Unit.NS, _DURATIONS_NS.get(name) or _DURATIONS_NS[name.lower()]
    if name.lower() in SIZES:
        return Unit.BYTES, SIZES[name.lower()]
    raise ValueError(f"no unit {name!a} in {text!a}: sizes are in B, k, MiB, GiB, times in ms, s, min, h, d")


def _examples(units: tuple[Unit, ...]) -> str:
    examples = {
        Unit.RECORDS: "a number of records (1000)",
        Unit.BYTES: "a size (100MiB, 512k)",
        Unit.NS: "a time (10s, 5min, 1h)",
    }
    *first, last = [examples[unit] for unit in units]
    return f"{', '.join(first)} or {last}" if first else last
