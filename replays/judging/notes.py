"""What is worth saying beside the differences, each thing once with how often it was met."""

from __future__ import annotations

from dataclasses import replace

from replays.judging.rules import RULES
from replays.report import NONE, Note

MOST = 1000  # different notes; a hostile server could make many


class Notes:
    """Collects notes."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, int, str], Note] = {}

    def add(self, rule: str, text: str, *, opcode: int = NONE, exchange: int = NONE) -> None:
        """Count a note; the same text of one operation is one note."""
        key = (rule, opcode, text)
        known = self._notes.get(key)
        if known is not None:
            self._notes[key] = replace(known, count=known.count + 1)
        elif len(self._notes) < MOST:
            self._notes[key] = Note(rule, RULES[rule].reason, opcode, text, exchange, 1)

    def all(self) -> tuple[Note, ...]:
        """Return the notes in the order they were first met."""
        return tuple(self._notes.values())
