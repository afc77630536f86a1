"""Regular expressions that take time linear in the text, whatever the pattern and whoever chose the text.

Names and paths come from servers and guests that may be hostile, and Python's `re` backtracks: `(a*)*b` needs longer
than anybody waits on 40 letters, `.*a.*b` still time cubed. RE2 does not backtrack. Its syntax is that of `re` without
references back and look-around: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re2

MAX_PATTERN = 1000  # characters
MAX_MEMORY = 8 << 20  # bytes for one compiled pattern, what RE2 itself proposes
_ODD_BYTES = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}


class PatternError(Exception):
    """A pattern that is none, that is too large, or that needs backtracking."""


class Pattern:
    """A compiled pattern. PatternError when it is none, or too large."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN:
            raise PatternError(f"a pattern has at most {MAX_PATTERN} characters")
        options = re2.Options()
        options.log_errors = False
        options.max_mem = MAX_MEMORY
        try:
            self._search = re2.compile(pattern, options=options).search
        except re2.error as error:
            raise PatternError(_reason(error)) from None

    def search(self, text: str) -> bool:
        """Tell whether the pattern is found anywhere in `text`."""
        return self._search(text) is not None


def text_of(raw: bytes) -> str:
    """Return bytes as text to match: UTF-8, and what is none as one character of the private use area a byte."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape").translate(_ODD_BYTES)


def _reason(error: Exception) -> str:
    """Return RE2's words; its Python binding hands them over as bytes."""
    reason = error.args[0] if error.args else str(error)
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
