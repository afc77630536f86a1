"""The filter language: Wireshark's display filter syntax over exchanges, compiled to column expressions."""

from tracer.filters.completion import Completion, complete
from tracer.filters.errors import FilterError
from tracer.filters.filter import Filter, compile_filter

__all__ = ["Completion", "Filter", "FilterError", "compile_filter", "complete"]
