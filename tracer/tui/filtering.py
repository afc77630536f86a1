"""What the UI needs of the filter language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from dissectors.catalog import CATALOG
from dissectors.opcodes import OPS
from tracer.filters import FilterError, compile_filter
from tracer.filters.names import KINDS
from tracer.tui.sieve import Choice

_LAST_WORD = re.compile(r"[\w.]+\Z")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an expression; `column` counts from 1."""

    column: int
    length: int
    reason: str


def fault_of(text: str) -> Fault | None:
    """Return the first fault of an expression; none in an empty one, which lets everything through."""
    if not text.strip():
        return None
    try:
        compile_filter(text)
    except FilterError as error:
        return Fault(error.column, error.length, error.reason)
    return None


def choice_of(text: str) -> Choice | None:
    """Compile an expression; None for an empty one. Raises FilterError."""
    return Choice(text, compile_filter(text)) if text.strip() else None


@cache
def _words() -> list[str]:
    """Return the words of the language, the short ones first."""
    names = {*CATALOG, *KINDS, *(op.name for op in OPS.values())}
    return sorted(names, key=lambda name: (name.count("."), len(name), name))


def completion(text: str) -> str | None:
    """Return `text` with its last word completed, None when no name begins with it."""
    found = _LAST_WORD.search(text)
    if found is None:
        return None
    begun = found.group()
    whole = next((name for name in _words() if name.startswith(begun)), None)
    return None if whole is None or whole == begun else text + whole[len(begun) :]
