"""What is written on the right of an operator, as a constant of the field's kind; or what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction

from dissectors.catalog import FilterField, ValueKind
from dissectors.errnos import error_value
from dissectors.fields import Show
from dissectors.names import Flags
from tracer.filters.errors import FilterError
from tracer.filters.patterns import Pattern, PatternError, text_of
from tracer.filters.tree import FieldName, Value, Written
from tracer.filters.units import DURATIONS_NS, SIZES, read_number, read_time

ERROR = "fuse.error"
TEXTS = (ValueKind.NAME, ValueKind.STRING, ValueKind.BYTES)
_TRUTHS = {"true": 1, "false": 0}
_CONTROLS = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", '"': b'"', "\\": b"\\"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|[^\\]+", re.DOTALL)


def is_text(field: FilterField) -> bool:
    """Whether values of the field are bytes or text."""
    return field.kind in TEXTS


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the values that a field is compared with. `text` is the whole filter, for its errors.

    `verb` is what the errors say the field does: one that is assigned to is not compared.
    """

    text: str
    name: FieldName
    field: FilterField
    verb: str = "is compared with"

    def fault(self, reason: str, at: Value | Written | FieldName) -> FilterError:
        """Return the error to raise about a part of the text."""
        return FilterError(reason, self.text, at.start, at.end)

    # ---- numbers ----

    def number(self, value: Value) -> Fraction:
        """Read a number in the field's own unit: names, sizes, durations and times included."""
        if len(value.parts) == 1:
            return self._number(value.parts[0])
        if not isinstance(self.field.names, Flags):
            raise self.fault(
                f"| joins flags, and {self.name.name} has none; for several values write in {{...}}", value
            )
        joined = 0
        for part in value.parts:
            joined |= self.bits(part)
        return Fraction(joined)

    def bits(self, part: Written) -> int:
        """Read one mask."""
        found = self._number(part)
        if found.denominator != 1 or not -(1 << 63) <= found < 1 << 64:
            raise self.fault("a mask is a whole number of 64 bits", part)
        return int(found) & 0xFFFF_FFFF_FFFF_FFFF

    def is_since_start(self, value: Value) -> bool:
        """Whether a value for a time is a duration since the first record."""
        return all(part.kind == "NUMBER" for part in value.parts)

    def _number(self, part: Written) -> Fraction:
        if part.kind in ("STRING", "RAW"):
            return self._time(part)
        named = self.named(part.text)
        if named is not None:
            return Fraction(named)
        if part.kind == "WORD":
            raise self.fault(self._unknown(part.text), part)
        found = read_number(part.text)
        if found is None:
            raise self.fault(f"no number that can be read; {self._wanted()}", part)
        value, unit = found
        scaled = value * self._scale(unit, part, value)
        return -abs(scaled) if self.field.name == ERROR else scaled

    def _scale(self, unit: str, part: Written, value: Fraction) -> Fraction:
        """Return by what a number with `unit` is multiplied to be in the field's own."""
        if self.field.unit in ("ns", "s"):
            return self._duration_scale(unit, part, value)
        if not unit:
            return Fraction(1)
        factor = SIZES.get(unit.lower()) if self.field.unit == "B" else None
        if factor is None:
            units = "B, KiB, MiB, GiB, TiB, kB, MB, GB" if self.field.unit == "B" else "none"
            raise self.fault(f"{self.name.name} has no unit {unit}; units it takes: {units}", part)
        return Fraction(factor)

    def _duration_scale(self, unit: str, part: Written, value: Fraction) -> Fraction:
        own_ns = DURATIONS_NS[self.field.unit]
        if not unit:
            if value and self.field.kind in (ValueKind.DURATION, ValueKind.TIME):
                raise self.fault("a duration needs a unit: ns, us, ms, s, min or h", part)
            return Fraction(1)
        factor = DURATIONS_NS.get(unit) or DURATIONS_NS.get(unit.lower())
        if factor is None:
            raise self.fault(f"no unit {unit} of time: ns, us, ms, s, min, h", part)
        return Fraction(factor, own_ns)

    def _time(self, part: Written) -> Fraction:
        field = self.field
        seconds = field.field is not None and field.field.show is Show.SECONDS
        if field.kind is not ValueKind.TIME and not seconds:
            raise self.fault(self._wanted(), part)
        found = read_time(part.text.removeprefix("r")[1:-1])
        if found is None:
            raise self.fault('a time is written "2026-01-02T03:04:05", with Z behind it for UTC', part)
        return Fraction(found, 10**9) if seconds else Fraction(found)

    def named(self, word: str) -> int | None:
        """Return the number that the field knows by a name; its C prefix (FUSE_, O_, FOPEN_) may stand before it."""
        names = self.field.names
        if names is None:
            return _TRUTHS.get(word.lower()) if self.field.kind is ValueKind.BOOLEAN else None
        for candidate in (word, _without(word, "FUSE_"), _without(word, f"{names.name}_")):
            if not candidate:
                continue
            if self.field.name == ERROR:
                error = 0 if candidate.upper() == "OK" else error_value(candidate)
                found = None if error is None else -error
            else:
                found = names.value(candidate)
            if found is None and isinstance(names, Flags) and candidate.upper() == names.zero.upper():
                found = 0
            if found is not None:
                return found
        return None

    def _unknown(self, word: str) -> str:
        names = self.field.names
        if names is None:
            return self._wanted()
        near = get_close_matches(word.upper()[:40], list(names.words.values()), 1)
        return f"{self.name.name} has no value {word}" + (
            f": did you mean {near[0]}?" if near else f"; {self._wanted()}"
        )

    def _wanted(self) -> str:
        """Say what the field is compared with."""
        name, field = self.name.name, self.field
        if field.names is not None:
            some = ", ".join(list(field.names.words.values())[:3])
            return f"{name} {self.verb} a number or a name: {some} ..."
        if field.kind is ValueKind.BOOLEAN:
            return f"{name} {self.verb} true or false"
        if field.kind is ValueKind.TIME:
            return f'{name} {self.verb} a time, "2026-01-02T03:04:05", or with a duration since the start, 1.5s'
        if field.unit in ("ns", "s"):
            return f"{name} {self.verb} a duration, such as 10ms"
        return f"{name} {self.verb} a number, such as " + ("4096 or 64KiB" if field.unit == "B" else "5 or 0x1f")

    # ---- text ----

    def content(self, value: Value) -> bytes:
        """Read the bytes of a text in quotes, escapes undone."""
        part = self._quoted(value)
        inner = part.text.removeprefix("r")[1:-1]
        return (
            self._encoded(inner.replace('\\"', '"'), part)
            if part.kind == "RAW"
            else self._unescaped(part, inner, False)
        )

    def pattern(self, value: Value) -> Pattern:
        """Read a regular expression. Escapes that a text does not know are the expression's own."""
        part = self._quoted(value)
        inner = part.text.removeprefix("r")[1:-1]
        raw = (
            self._encoded(inner.replace('\\"', '"'), part) if part.kind == "RAW" else self._unescaped(part, inner, True)
        )
        try:
            return Pattern(text_of(raw))
        except PatternError as error:
            raise self.fault(f"no regular expression: {error}", part) from None

    def _quoted(self, value: Value) -> Written:
        part = value.parts[0]
        if len(value.parts) > 1 or part.kind not in ("STRING", "RAW"):
            raise self.fault(f'{self.name.name} {self.verb} text in quotes: "{part.text[:20]}"', value)
        return part

    def _bytes(self, part: Written, *, is_pattern: bool) -> bytes:
        inner = part.text.removeprefix("r")[1:-1]
        if part.kind == "RAW":
            return self._encoded(inner.replace('\\"', '"'), part)
        return self._unescaped(part, inner, is_pattern)

    def _unescaped(self, part: Written, inner: str, is_pattern: bool) -> bytes:
        pieces: list[bytes] = []
        for found in _ESCAPE.finditer(inner):
            escape = found.group(1)
            if escape is None:
                pieces.append(self._encoded(found.group(), part))
            elif escape in _CONTROLS:
                pieces.append(_CONTROLS[escape])
            elif len(escape) > 1:
                pieces.append(self._coded(escape, part))
            elif is_pattern:
                pieces.append(self._encoded(found.group(), part))
            else:
                raise self.fault(f'no escape \\{escape}: there are \\\\ \\" \\n \\t \\r \\0 \\xNN \\uNNNN', part)
        return b"".join(pieces)

    def _coded(self, escape: str, part: Written) -> bytes:
        code = int(escape[1:], 16)
        if escape[0] == "x":
            return bytes([code])
        if code > 0x10FFFF:
            raise self.fault(f"no character \\{escape}", part)
        return self._encoded(chr(code), part)

    def _encoded(self, text: str, part: Written) -> bytes:
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise self.fault("half a surrogate pair is no text", part) from None


def _without(word: str, prefix: str) -> str:
    return word[len(prefix) :] if word.upper().startswith(prefix.upper()) else ""
