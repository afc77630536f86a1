"""The filter language's two ends: compile a text once, ask it about as many exchanges as there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.filters.compiler import Compiler
from tracer.filters.sources import Bools
from tracer.filters.terms import Term
from tracer.trace.columns import Rows
from tracer.trace.trace import Trace

AGEING = "fuse.pending_for"  # the one field whose value grows without a record


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter. `text` is what it was made of; what `is_ageing` changes its mind as time goes by."""

    text: str
    term: Term
    is_ageing: bool = False

    def mask(self, trace: Trace, numbers: Rows | slice = slice(None)) -> Bools:
        """Tell which exchanges pass: a mask as long as `numbers`, by default of all there are now."""
        if isinstance(numbers, slice):
            numbers = np.arange(*numbers.indices(trace.exchange_count), dtype=np.int64)
        return self.term.mask(trace, numbers)

    def numbers(self, trace: Trace) -> Rows:
        """Return the numbers of all exchanges that pass, ascending."""
        return np.flatnonzero(self.mask(trace))


def compile_filter(text: str) -> Filter:
    """Compile a filter. FilterError, pointing at the column, where it cannot be understood."""
    # The parser takes a tenth of a second to load and to build, which only who filters should wait for.
    from tracer.filters.syntax import parse

    compiler = Compiler(text)
    term = compiler.term(parse(text))
    return Filter(text, term, AGEING in compiler.names)
