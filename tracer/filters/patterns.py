r"""Regular expressions that take time linear in the text, whatever the pattern and whoever chose the text.

Names and paths come from servers and guests that may be hostile, and Python's `re` backtracks: `(a*)*b` needs longer
than anybody waits on 40 letters, `.*a.*b` still time cubed. Nested quantifiers could be refused, chains of `.*` could
not. So patterns become an automaton whose states are made as the text asks for them (Thompson's construction, as in
RE2). What needs backtracking (references back, look-around) is refused; whether a text matches needs none of it.

Understood: . [...] [^...] | ( ) (?: ) * + ? {m,n} ^ $ \d \w \s \D \W \S \n \t \r \xHH \uHHHH, and (?i) at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

MAX_PATTERN = 1000  # characters
MAX_STATES = 1000  # of the automaton; bounds what one character of a text can cost
MAX_REPEAT = 1000
MAX_NESTING = 50
MAX_TRANSITIONS = 50_000  # kept at once; a hostile text can ask for any number

Accepts = Callable[[str], bool]


class PatternError(Exception):
    """A pattern that is none, that is too large, or that needs backtracking."""


class Where(IntEnum):
    """Where in the text a step without a character may be taken."""

    ANYWHERE = 0
    AT_START = 1
    AT_END = 2


# ---- the pattern as a tree ----


@dataclass(frozen=True, slots=True)
class _Set:
    """One character that `accepts` takes."""

    accepts: Accepts


@dataclass(frozen=True, slots=True)
class _Anchor:
    where: Where


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: _Node
    least: int
    most: int | None


_Node = _Set | _Anchor | _Sequence | _Choice | _Repeat


def _is_word(character: str) -> bool:
    return character == "_" or character.isalnum()


_CLASSES: dict[str, Accepts] = {"d": str.isdecimal, "w": _is_word, "s": str.isspace}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_HEX_DIGITS = {"x": 2, "u": 4}
_QUANTIFIERS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self.ignore_case = pattern.startswith("(?i)")
        self._text = pattern
        self._at = 4 if self.ignore_case else 0
        self._nesting = 0

    def parse(self) -> _Node:
        node = self._choice()
        if self._at < len(self._text):
            raise PatternError("a ) without its (")
        return node

    @property
    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._next
        self._at += 1
        return character

    def _choice(self) -> _Node:
        parts = [self._sequence()]
        while self._next == "|":
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._next not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
        return _Sequence(tuple(parts))

    def _quantified(self, node: _Node) -> _Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        if self._next == "?":  # as few as possible: the same to one who only asks whether
            self._at += 1
        if self._next in ("*", "+", "?") or (self._next == "{" and self._braces() is not None):
            raise PatternError(f"nothing to repeat before {self._next or 'the end'}: put what is repeated in ( )")
        return _Repeat(node, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        if self._next in _QUANTIFIERS:
            return _QUANTIFIERS[self._take()]
        found = self._braces() if self._next == "{" else None
        if found is None:
            return None
        least, most, self._at = found
        if least > MAX_REPEAT or (most or 0) > MAX_REPEAT:
            raise PatternError(f"more than {MAX_REPEAT} repetitions")
        if most is not None and most < least:
            raise PatternError("repetitions from more to less")
        return least, most

    def _braces(self) -> tuple[int, int | None, int] | None:
        """Read {m}, {m,}, {,n} or {m,n}; None when the brace is a character like others."""
        close = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : close].partition(",")
        if close < 0 or not (_is_count(least) or (comma and not least)) or not (_is_count(most) or not most):
            return None
        if not comma:
            return int(least), int(least), close + 1
        return int(least or 0), int(most) if most else None, close + 1

    def _atom(self) -> _Node:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return _Set(self._class())
        if character == ".":
            return _Set(lambda character: character != "\n")
        if character in ("^", "$"):
            return _Anchor(Where.AT_START if character == "^" else Where.AT_END)
        if character in ("*", "+", "?"):
            raise PatternError(f"nothing to repeat before {character}")
        if character == "\\":
            return self._escape()
        return self._literal(character)

    def _literal(self, character: str) -> _Node:
        if self.ignore_case:
            return _Set(frozenset(_cases(character)).__contains__)
        return _Set(character.__eq__)

    def _group(self) -> _Node:
        if self._next == "?":
            if self._text[self._at : self._at + 2] != "?:":
                raise PatternError("of (?...) only (?:...) and a leading (?i) are understood")
            self._at += 2
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise PatternError(f"more than {MAX_NESTING} ( inside one another")
        node = self._choice()
        if self._take() != ")":
            raise PatternError("a ( is not closed")
        self._nesting -= 1
        return node

    def _escape(self) -> _Node:
        found = self._escaped()
        return self._literal(found) if isinstance(found, str) else _Set(found)

    def _escaped(self) -> str | Accepts:
        """Read what follows a backslash: one character, or a class."""
        letter = self._take()
        if letter.lower() in _CLASSES and letter:
            accepts = _CLASSES[letter.lower()]
            return accepts if letter.islower() else lambda character: not accepts(character)
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter in _HEX_DIGITS:
            return self._hex(_HEX_DIGITS[letter])
        if not letter:
            raise PatternError("a backslash at the end")
        if letter.isalnum():
            raise PatternError(f"\\{letter} is not understood")
        return letter

    def _hex(self, count: int) -> str:
        digits = self._text[self._at : self._at + count]
        self._at += count
        if len(digits) < count or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            raise PatternError(f"\\{'x' if count == 2 else 'u'} needs {count} hexadecimal digits")
        code = int(digits, 16)
        # A byte that is no ASCII stands for itself, as names are decoded: see `text_of`.
        return chr(0xDC00 + code) if count == 2 and code >= 0x80 else chr(code)

    def _class(self) -> Accepts:
        negated = self._next == "^"
        if negated:
            self._at += 1
        ranges: list[tuple[str, str]] = []
        classes: list[Accepts] = []
        first = True
        while self._next != "]" or first:
            first = False
            low = self._class_member()
            if not isinstance(low, str):
                classes.append(low)
                continue
            high = self._range_end(low)
            ranges.append((low, high))
        self._at += 1
        return _class_test(ranges, classes, negated, self.ignore_case)

    def _range_end(self, low: str) -> str:
        if self._next != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            return low
        self._at += 1
        high = self._class_member()
        if not isinstance(high, str) or high < low:
            raise PatternError("a range in [ ] goes from a lower character to a higher one")
        return high

    def _class_member(self) -> str | Accepts:
        character = self._take()
        if not character:
            raise PatternError("a [ is not closed")
        return self._escaped() if character == "\\" else character


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


def _cases(character: str) -> tuple[str, ...]:
    return character, character.lower(), character.upper()


def _class_test(ranges: list[tuple[str, str]], classes: list[Accepts], negated: bool, ignore_case: bool) -> Accepts:
    def inside(character: str) -> bool:
        return any(low <= character <= high for low, high in ranges) or any(test(character) for test in classes)

    def accepts(character: str) -> bool:
        found = any(map(inside, _cases(character))) if ignore_case else inside(character)
        return found != negated

    return accepts


# ---- the automaton ----


class _Machine:
    """States with steps that take a character, and steps that take none. State 0 is where every match ends."""

    def __init__(self) -> None:
        self.steps: list[list[tuple[Accepts, int]]] = [[]]
        self.free: list[list[tuple[Where, int]]] = [[]]

    def state(self) -> int:
        if len(self.steps) >= MAX_STATES:
            raise PatternError("the pattern is too large: repeat less")
        self.steps.append([])
        self.free.append([])
        return len(self.steps) - 1

    def build(self, node: _Node, then: int) -> int:
        """Add states that read `node` and go on at `then`; return where they begin."""
        match node:
            case _Set(accepts):
                start = self.state()
                self.steps[start].append((accepts, then))
            case _Anchor(where):
                start = self.state()
                self.free[start].append((where, then))
            case _Sequence(()):  # a state even so: what is repeated a thousand times must count
                start = self.state()
                self.free[start].append((Where.ANYWHERE, then))
            case _Sequence(parts):
                start = then
                for part in reversed(parts):
                    start = self.build(part, start)
            case _Choice(parts):
                targets = [self.build(part, then) for part in parts]
                start = self.state()
                self.free[start] += [(Where.ANYWHERE, target) for target in targets]
            case _Repeat(part, least, most):
                start = self._repeat(part, least, most, then)
        return start

    def _repeat(self, part: _Node, least: int, most: int | None, then: int) -> int:
        if most is None:
            start = self.state()
            self.free[start] += [(Where.ANYWHERE, self.build(part, start)), (Where.ANYWHERE, then)]
        else:
            start = then
            for _ in range(most - least):
                inner, start = start, self.state()
                self.free[start] += [(Where.ANYWHERE, self.build(part, inner)), (Where.ANYWHERE, then)]
        for _ in range(least):
            start = self.build(part, start)
        return start

    def closure(self, states: set[int], *allowed: Where) -> frozenset[int]:
        """Return `states` and all that can be reached from them without a character."""
        found, waiting = set(states), list(states)
        while waiting:
            for where, target in self.free[waiting.pop()]:
                if target not in found and (where is Where.ANYWHERE or where in allowed):
                    found.add(target)
                    waiting.append(target)
        return frozenset(found)


class _Situation(dict[str, "_Situation"]):
    """States the machine is in at once; a dictionary from the next character to where it leads."""

    __slots__ = ("found", "found_at_end", "states")

    def __init__(self, states: frozenset[int], found_at_end: bool) -> None:
        super().__init__()
        self.states = states
        self.found = 0 in states
        self.found_at_end = found_at_end


class Pattern:
    """A compiled pattern. PatternError when it is none, or too large."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN:
            raise PatternError(f"a pattern has at most {MAX_PATTERN} characters")
        machine = self._machine = _Machine()
        self._entry = machine.build(_Parser(pattern).parse(), 0)
        self._known: dict[frozenset[int], _Situation] = {}
        self._transitions = 0
        self._start = self._enter(machine.closure({self._entry}, Where.AT_START), at_start=True)

    def search(self, text: str) -> bool:
        """Tell whether the pattern is found anywhere in `text`."""
        now = self._start
        if now.found:
            return True
        for character in text:
            following = now.get(character)
            if following is None:
                following = self._step(now, character)
            now = following
            if now.found:
                return True
        return now.found_at_end if text else self._start.found_at_end

    def _step(self, now: _Situation, character: str) -> _Situation:
        if self._transitions >= MAX_TRANSITIONS:
            self._forget()
        steps = self._machine.steps
        reached = {target for state in now.states for accepts, target in steps[state] if accepts(character)}
        reached.add(self._entry)  # a match may begin anywhere
        following = now[character] = self._enter(self._machine.closure(reached))
        self._transitions += 1
        return following

    def _enter(self, states: frozenset[int], *, at_start: bool = False) -> _Situation:
        known = None if at_start else self._known.get(states)
        if known is None:
            places = (Where.AT_START, Where.AT_END) if at_start else (Where.AT_END,)
            known = _Situation(states, 0 in self._machine.closure(set(states), *places))
            if not at_start:
                self._known[states] = known
        return known

    def _forget(self) -> None:
        for known in self._known.values():
            known.clear()
        self._known.clear()
        self._start.clear()
        self._transitions = 0


def text_of(raw: bytes) -> str:
    """Return bytes as text to match: UTF-8, and what is none as one character a byte."""
    return raw.decode("utf-8", "surrogateescape")
