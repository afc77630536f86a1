"""What a test asks of a value: functions of a whole column for integers, of one value for text."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor

import numpy as np

from tracer.filters.patterns import Pattern, text_of
from tracer.filters.sources import Bools
from tracer.trace.columns import Array

NumberCheck = Callable[[Array], Bools]
TextCheck = Callable[[bytes], bool]

MATCHED_BYTES = 4096  # of a value that a regular expression looks at; paths are no longer (PATH_MAX)
REMEMBERED = 1 << 16  # answers kept for text that repeats

_OPERATORS: dict[str, Callable[[Array, int], Bools]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compared(sign: str, constant: Fraction) -> NumberCheck:
    """Return the check `value sign constant`; of a constant that is no whole number, exactly so too."""
    if constant.denominator == 1:
        whole = int(constant)
        return lambda values: _OPERATORS[sign](values, whole)
    if sign in ("==", "!="):
        return lambda values: np.full(len(values), sign == "!=", dtype=np.bool_)
    # x < 1.5 is x <= 1, x > 1.5 is x >= 2
    return compared("<=", Fraction(floor(constant))) if sign[0] == "<" else compared(">=", Fraction(ceil(constant)))


def one_of(members: list[tuple[Fraction, Fraction]]) -> NumberCheck:
    """Return the check whether a value lies in one of the ranges, both ends included."""
    bounds = [(ceil(low), floor(high)) for low, high in members]
    single = sorted(low for low, high in bounds if low == high)
    wide = [(low, high) for low, high in bounds if low < high]

    def check(values: Array) -> Bools:
        mask = _among(values, single)
        for low, high in wide:
            mask |= (values >= low) & (values <= high)
        return mask

    return check


def _among(values: Array, single: list[int]) -> Bools:
    limits = np.iinfo(values.dtype)
    possible = [value for value in single if limits.min <= value <= limits.max]
    if len(possible) > 8:
        return np.isin(values, np.array(possible, dtype=values.dtype))
    mask = np.zeros(len(values), dtype=np.bool_)
    for value in possible:
        mask |= values == value
    return mask


def any_flag(masks: list[int]) -> NumberCheck:
    """Return the check whether all bits of at least one of `masks` are set: flags by name."""

    def check(values: Array) -> Bools:
        bits = values.astype(np.uint64)
        found = np.zeros(len(values), dtype=np.bool_)
        for mask in masks:
            found |= (bits & np.uint64(mask)) == np.uint64(mask)
        return found

    return check


def any_bit(mask: int) -> NumberCheck:
    """Return the check whether at least one bit of `mask` is set."""
    return lambda values: (values.astype(np.uint64) & np.uint64(mask)) != 0


def masked(mask: int, check: NumberCheck) -> NumberCheck:
    """Return `check` of what `mask` leaves of a value."""
    return lambda values: check(values.astype(np.uint64) & np.uint64(mask))


def found_in(pattern: Pattern) -> TextCheck:
    """Return the check whether a pattern is found."""
    search = pattern.search
    return lambda value: search(text_of(value[:MATCHED_BYTES]))


class Remembered(dict[bytes, bool]):
    """Answers of a check for values that repeat; call `answers[value]`."""

    def __init__(self, check: TextCheck) -> None:
        super().__init__()
        self._check = check

    def __missing__(self, value: bytes) -> bool:
        if len(self) >= REMEMBERED:
            self.clear()
        answer = self[value] = self._check(value)
        return answer
