"""Numbers with names: flag sets and enumerations of the wire, and how they print.

Values stay raw everywhere; a table turns one into text at the edge. What has no name still prints, as a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Flags:
    """A set of bits. `bits` maps a mask to its name; a mask of several bits wins over its parts."""

    name: str
    bits: Mapping[int, str]
    zero: str = "0"

    def text(self, value: int) -> str:
        """Name the bits of `value`, lowest first; unknown bits follow in hexadecimal."""
        if value == 0:
            return self.zero
        rest, named = value, []
        for mask in sorted(self.bits, key=lambda mask: -mask.bit_count()):
            if rest & mask == mask:
                named.append((mask, self.bits[mask]))
                rest &= ~mask
        words = [word for _, word in sorted(named)]
        if rest:
            words.append(f"{rest:#x}")
        return "|".join(words)

    def value(self, word: str) -> int | None:
        """Return the mask called `word`, in any case; None when there is none."""
        return next((mask for mask, name in self.bits.items() if name.lower() == word.lower()), None)

    @property
    def words(self) -> Mapping[int, str]:
        """Every named value, for completion and documentation."""
        return self.bits


@dataclass(frozen=True, eq=False)
class Enumeration:
    """One value out of a list."""

    name: str
    values: Mapping[int, str]
    is_open: bool = False  # any other number is as good, only these have names

    def text(self, value: int) -> str:
        """Name `value`, or print it, with a question mark unless the enumeration is open."""
        word = self.values.get(value)
        if word is not None:
            return word
        return str(value) if self.is_open else f"{value} (?)"

    def value(self, word: str) -> int | None:
        """Return the number called `word`, in any case; None when there is none."""
        return next((number for number, name in self.values.items() if name.lower() == word.lower()), None)

    @property
    def words(self) -> Mapping[int, str]:
        """Every named value, for completion and documentation."""
        return self.values


Names = Flags | Enumeration
