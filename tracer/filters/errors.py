"""What is wrong with a filter, and where."""

from __future__ import annotations

import unicodedata

from tracer.errors import TracerError

EXCERPT_COLUMNS = 72  # of a long filter that are shown around the fault


class FilterError(TracerError):
    """A filter cannot be understood. Its message has two lines: the text, and a caret below the fault with the reason.

    `column` counts from 1; `length` is how many characters are at fault.
    """

    def __init__(self, reason: str, text: str, start: int, end: int) -> None:
        self.reason = reason
        self.text = text
        self.column = start + 1
        self.length = max(1, end - start)
        super().__init__(_pointed(reason, text, start, self.length))


def _pointed(reason: str, text: str, start: int, length: int) -> str:
    """Return the line around `start`, and the line that points into it."""
    first = max(0, start - EXCERPT_COLUMNS // 2)
    shown = text[first : first + EXCERPT_COLUMNS]
    lead = "... " if first else ""
    before = lead + _plain(shown[: start - first])
    marked = _plain(shown[start - first : start - first + length])
    after = _plain(shown[start - first + length :]) + (" ..." if first + EXCERPT_COLUMNS < len(text) else "")
    under = "^" + "~" * (_width(marked) - 1)
    return f"{before}{marked}{after}\n{' ' * _width(before)}{under} {reason}"


def _plain(text: str) -> str:
    """Return `text` without anything that could drive a terminal, as long as before."""
    return "".join(character if character.isprintable() else " " for character in text)


def _width(text: str) -> int:
    """Return how many columns `text` takes in a terminal."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
