"""A table of a TOML file, from which typed values are taken; a mistake is told with its table, key and what fits."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeVar

from tracer.errors import TracerError

Value = object
Choice = TypeVar("Choice", bound=Enum)
T = TypeVar("T")
Default = TypeVar("Default")


class Table:
    """One table. Every key that is asked for is known from then on; `refuse_others` refuses the rest."""

    def __init__(self, name: str, values: Mapping[str, Value], beneath: Table | None = None) -> None:
        """`name` is what a message calls it; a key that it has not is looked for in `beneath`."""
        self.name = name
        self._values = values
        self._beneath = beneath
        self._known: set[str] = set()

    def refuse_others(self) -> None:
        """Raise TracerError for a key that nobody asked for."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(sorted(self._known))}"
                raise TracerError(f"{self.name}: there is no key {key!a}", hint)

    def text(self, key: str, default: str = "") -> str:
        """Take a text."""
        return self._taken(key, default, "a text", _text)

    def flag(self, key: str, default: bool) -> bool:
        """Take true or false."""
        return self._taken(key, default, "true or false", lambda value: value if isinstance(value, bool) else None)

    def number(self, key: str, default: Default, unit: str = "a number above 0") -> float | Default:
        """Take a number above 0."""
        return self._taken(key, default, unit, _positive)

    def count(self, key: str, default: Default) -> int | Default:
        """Take a whole number above 0."""
        return self._taken(key, default, "a whole number above 0", _count)

    def words(self, key: str, what: str = "a list of words") -> tuple[str, ...]:
        """Take a list of texts, none of them empty."""
        return self._taken(key, (), what, _words)

    def command(self, key: str) -> tuple[str, ...]:
        """Take a command."""
        return self.words(key, 'a list of words: ["program", "-f"]; a shell only runs where you write ["sh", "-c", ..]')

    def commands(self, key: str) -> tuple[tuple[str, ...], ...]:
        """Take one command, or a list of them."""
        return self._taken(key, (), "a list of words, or a list of such lists", _commands)

    def one_of(self, key: str, default: Choice) -> Choice:
        """Take one value of an Enum of texts."""
        kind = type(default)
        choices = {member.value: member for member in kind}
        wanted = f"one of {', '.join(choices)}"
        return self._taken(key, default, wanted, lambda value: choices.get(_text(value) or ""))

    def texts(self, key: str) -> dict[str, str]:
        """Take a table of texts, over the same table of `beneath`."""
        below = self._beneath.texts(key) if self._beneath is not None else {}
        return {**below, **self._taken(key, below, "a table of texts", _texts)}

    def mapping(self, key: str) -> Mapping[str, Value]:
        """Take a table of whatever."""
        return self._taken(key, {}, "a table", lambda value: value if isinstance(value, dict) else None)

    def ids(self, key: str, mine: int) -> dict[int, int]:
        """Take a table of user or group ids: {"1000" = 0}, or "me" for ours; ids that stay are left out."""
        none: dict[int, int] = {}
        found = self._taken(key, none, 'a table of ids: {"1000" = 0}, or = "me"', lambda value: _ids(value, mine))
        return {recorded: live for recorded, live in found.items() if recorded != live}

    def _taken(self, key: str, default: Default, wanted: str, read: Callable[[Value], T | None]) -> T | Default:
        self._known.add(key)
        if key not in self._values:
            if self._beneath is None:
                return default
            return self._beneath._taken(key, default, wanted, read)
        found = read(self._values[key])
        if found is None:
            raise TracerError(f"{self.name}: {key} is {_shown(self._values[key])}", f"it must be {wanted}")
        return found


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) and "\0" not in value else None


def _positive(value: Value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value > 0 and math.isfinite(value) else None


def _count(value: Value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _words(value: Value) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(map(_text, value)):
        return None
    return tuple(value)


def _commands(value: Value) -> tuple[tuple[str, ...], ...] | None:
    if not isinstance(value, list):
        return None
    listed = value if value and isinstance(value[0], list) else [value]
    found = [words for item in listed if (words := _words(item))]
    return tuple(found) if len(found) == len(listed) else None


def _texts(value: Value) -> dict[str, str] | None:
    if not isinstance(value, dict) or any(_text(text) is None for text in value.values()):
        return None
    return value


def _ids(value: Value, mine: int) -> dict[int, int] | None:
    if not isinstance(value, dict):
        return None
    found = {}
    for recorded, live in value.items():
        number = mine if live == "me" else live
        if not (recorded.isascii() and recorded.isdigit() and isinstance(number, int) and 0 <= number < 1 << 32):
            return None
        found[int(recorded)] = number
    return found


def _shown(value: Value) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
