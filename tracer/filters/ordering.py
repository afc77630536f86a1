"""Exchanges in the order of a field: a 64-bit key for each, gathered from the same sources that filters read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from dissectors.catalog import CATALOG, FilterField, ValueKind
from dissectors.names import Enumeration
from tracer.errors import TracerError
from tracer.filters.compiler import source_for
from tracer.filters.names import suggestion
from tracer.filters.sources import Numbers, SharedTexts, Texts
from tracer.filters.values import ERROR, is_text
from tracer.trace.columns import Array, Rows
from tracer.trace.trace import Trace

Keys = npt.NDArray[np.uint64]

TIME = "time"
LAST = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
SIGN = np.uint64(1 << 63)


@dataclass(frozen=True, slots=True)
class SortKey:
    """What to sort by: a field, or the exchanges' own order where `field` is None."""

    name: str
    reverse: bool
    field: FilterField | None

    @property
    def is_lasting(self) -> bool:
        """Whether keys of now can be compared with keys of later: those of text are ranks among the texts of now."""
        return self.field is None or not is_text(self.field)

    def of(self, trace: Trace, numbers: Rows) -> Keys:
        """Return the key of each exchange; without the field, the last."""
        if self.field is None:
            keys = numbers.astype(np.uint64)
            return ~keys if self.reverse else keys
        where, keys = (
            _text_keys(self.field, trace, numbers) if is_text(self.field) else _keys(self.field, trace, numbers)
        )
        result = np.full(len(numbers), LAST, dtype=np.uint64)
        # The first of several values counts, so it is written last.
        result[where[::-1]] = (~keys if self.reverse else keys)[::-1]
        return result


def sort_key(name: str, reverse: bool = False) -> SortKey:
    """Return the key called `name`, with or without "fuse." or "proc."; TracerError when it cannot be sorted by."""
    if name == TIME:
        return SortKey(name, reverse, None)
    field = next((CATALOG[known] for known in (name, f"fuse.{name}", f"proc.{name}") if known in CATALOG), None)
    if field is None:
        raise TracerError(f"cannot sort by {name!a}", suggestion(name))
    if field.kind is ValueKind.BYTES:
        raise TracerError(f"cannot sort by {name}: it is file content", "sort by its size")
    return SortKey(name, reverse, field)


def _keys(field: FilterField, trace: Trace, numbers: Rows) -> tuple[Rows, Keys]:
    found = cast(Numbers, source_for(field)).find(trace, numbers)
    where = np.arange(len(numbers), dtype=np.int64) if found.where is None else found.where
    if isinstance(field.names, Enumeration) and field.name != ERROR:
        return where, _by_name(found.values, field.names)
    if found.values.dtype.kind == "u":
        return where, found.values.astype(np.uint64)
    return where, found.values.astype(np.int64).view(np.uint64) ^ SIGN


def _by_name(values: Array, names: Enumeration) -> Keys:
    """Return keys in the alphabetical order of the values' names; what has none follows by number."""
    ranks = {value: rank for rank, value in enumerate(sorted(names.words, key=names.text))}
    distinct, inverse = np.unique(values, return_inverse=True)
    keys = [ranks.get(value, len(ranks) + max(0, value)) for value in distinct.tolist()]
    return np.array(keys, dtype=np.uint64)[inverse]


def _text_keys(field: FilterField, trace: Trace, numbers: Rows) -> tuple[Rows, Keys]:
    source = source_for(field)
    if hasattr(source, "groups"):
        groups = list(cast(SharedTexts, source).groups(trace, numbers))
    else:
        groups = [(np.array([place]), text) for place, text in cast(Texts, source).pairs(trace, numbers)]
    if not groups:
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    ranks = {text: rank for rank, text in enumerate(sorted({text for _, text in groups}))}
    where = np.concatenate([places for places, _ in groups])
    keys = np.repeat([ranks[text] for _, text in groups], [len(places) for places, _ in groups])
    return where, keys.astype(np.uint64)
