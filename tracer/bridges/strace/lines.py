"""Lines of a strace log, in every form strace has written them: who, when, which call.

The text of a call is left alone here; `messages` and `splices` read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from tracer.bridges.strace.strings import closing_quote

NS: Final = 1_000_000_000
HALF_DAY_NS: Final = 12 * 3600 * NS
DAY_NS: Final = 2 * HALF_DAY_NS
MAX_NS: Final = 9_000_000_000 * NS

# pid forms: "916   " (-o with -f), "[pid   916] " (stderr), "916<comm> " (-Y), none (-ff, or no -f).
# stamp forms: epoch with 0 to 9 decimals, "HH:MM:SS[.us]" (-t, -tt), seconds since the last line (-r),
# "(+  0.000123)" when -r comes with another. Then the call's number (-n) and the instruction pointer (-i).
# A pid has at most 7 digits (PID_MAX_LIMIT is 4194304) and an epoch at least 9: that tells them apart. An epoch
# past 8999999999 s (the year 2255) would not fit into a signed 64-bit count of ns.
_PREFIX: Final = re.compile(
    rb"[ ]*(?:\[pid +(\d{1,7})(?:<[^>\n]*>)?\] +|(\d{1,7})(?:<[^>\n]*>)? +)?"
    rb"(?:(\d\d:\d\d:\d\d(?:\.\d{1,9})?|[0-8]?\d{9}(?:\.\d{1,9})?|\d{1,8}\.\d{1,9}) )?"
    rb"(?:\(\+ *(\d{1,8}\.\d{1,9})\) )?"
    rb"(?:\[ *\d{1,4}\] )?(?:\[[0-9a-f?]{8,16}\] )?"
).match
_CALL: Final = re.compile(rb"([a-z_][a-z0-9_]{0,40})\(").match
_RESUMED: Final = re.compile(rb"<\.\.\. ([a-z_0-9?]{0,40}) ?resumed> ?").match
_OPEN_END: Final = re.compile(rb" *<(unfinished|detached) \.\.\.>(?:\) *= \?.*)?\s*$").search
# The end of a read or write: a buffer, then the result.
_REMAINDER: Final = re.compile(rb"(?:\"|\[\{|0x[0-9a-f]+, ).*\) += (?:-?\d|\?)").match
_COLOR: Final = re.compile(rb"\x1b\[[0-9;]*m")
# Where a line that was cut in the middle is followed by another one without a line break. Only forms with a pid and
# a stamp are looked for: anything shorter is found inside data too.
_GLUED: Final = re.compile(
    rb"(?:\[pid +\d{1,7}\] +|\d{1,7} +)(?:\d\d:\d\d:\d\d(?:\.\d{1,9})?|[0-8]?\d{9}\.\d{1,9}) "
    rb"(?:[a-z_][a-z0-9_]{0,40}\(|<\.\.\. |\+\+\+ |--- )"
).search


class Kind(Enum):
    """What a line of a strace log is."""

    CALL = auto()  # a system call with its result
    OPEN = auto()  # a call whose result is not known: unfinished, detached, or cut
    OTHER = auto()  # a signal, an exit, a word of strace itself
    FOREIGN = auto()  # not written by strace


class Line(NamedTuple):
    """One line, without its prefix."""

    kind: Kind
    tid: int  # 0: the log does not say
    stamp_ns: int  # when the call was entered; -1: the log does not say
    exit_ns: int  # when it returned, if a `resumed` line said so; else -1
    name: bytes
    text: bytes  # from behind the opening parenthesis


class ClockKind(Enum):
    """What the times of a log mean."""

    NONE = auto()
    EPOCH = auto()
    DAY = auto()  # time of day, without a date
    RELATIVE = auto()  # seconds since the line before


@dataclass(slots=True)
class Clock:
    """Turns the stamps of one log into ns that never lose their order over midnight.

    A time of day is counted from 1970-01-01, so that a clock still shows it; `first_day` shifts it by whole days.
    """

    kind: ClockKind = ClockKind.NONE
    resolution_ns: int = 1
    first_day: int = 0
    last_ns: int = -1

    def read(self, stamp: bytes | None, since_last: bytes | None) -> int:
        """Return the ns of a line's stamp, -1 when it has none. Must see every line of a log, in order."""
        stamp = stamp or since_last
        if stamp is None:
            return -1
        if b":" in stamp:
            return self._day(stamp)
        value, part = _ns(stamp)
        if len(stamp) - len(part) < 9:
            if self.kind is ClockKind.EPOCH:
                return -1  # a damaged line: no log has both
            self.kind = ClockKind.RELATIVE
            value = min(value + max(self.last_ns, 0), MAX_NS)
        else:
            self.kind = ClockKind.EPOCH
        self.resolution_ns = int(10 ** (9 - len(part)))
        self.last_ns = value
        return value

    def _day(self, stamp: bytes) -> int:
        hours, minutes, seconds = stamp.split(b":")
        value, part = _ns(seconds)
        value += (int(hours) * 60 + int(minutes)) * 60 * NS
        if self.last_ns < 0:
            value += self.first_day * DAY_NS
        else:
            # The day is the one that brings this line nearest to the last: lines may also step back a little, because
            # a call is stamped when it was entered and printed when it returned.
            day = (self.last_ns - value + HALF_DAY_NS) // DAY_NS
            value += day * DAY_NS
        self.kind = ClockKind.DAY
        self.resolution_ns = int(10 ** (9 - len(part)))
        self.last_ns = value
        return value


def _ns(seconds: bytes) -> tuple[int, bytes]:
    """Return the ns of a decimal number of seconds, and its decimals."""
    whole, _, part = seconds.partition(b".")
    return int(whole) * NS + int(part.ljust(9, b"0")), part


class LineReader:
    """Reads lines of one log one after the other, and joins calls that were printed in two parts."""

    def __init__(self, default_tid: int = 0, first_day: int = 0) -> None:
        self.clock = Clock(first_day=first_day)
        self.recognized = 0  # lines that strace wrote
        self._default_tid = default_tid
        self._unfinished: dict[int, Line] = {}

    def read(self, line: bytes) -> Line:
        """Return what `line` (with or without its line break) says."""
        if b"\x1b" in line:
            line = _COLOR.sub(b"", line)  # strace --color, since 7.0; strace escapes an ESC of the data
        line = line.rstrip(b"\r\n")
        prefix = _PREFIX(line)
        assert prefix is not None  # every part of the pattern is optional
        tid = int(prefix[1] or prefix[2] or self._default_tid)
        rest = prefix.end()
        if call := _CALL(line, rest):
            self.recognized += 1
            stamp_ns = self.clock.read(prefix[3], prefix[4])
            return self._call(tid, stamp_ns, call[1], line[call.end() :])
        if resumed := _RESUMED(line, rest):
            self.recognized += 1
            stamp_ns = self.clock.read(prefix[3], prefix[4])
            return self._resume(tid, stamp_ns, resumed[1], line[resumed.end() :])
        if line.startswith((b"+++ ", b"--- "), rest):
            self.recognized += 1
            stamp_ns = self.clock.read(prefix[3], prefix[4])
            if line.startswith(b"+++ ", rest):
                self._unfinished.pop(tid, None)
            return Line(Kind.OTHER, tid, stamp_ns, -1, b"", line[rest:])
        if self._unfinished and _REMAINDER(line):
            return self._continue(line)
        kind = Kind.OTHER if line.startswith(b"strace: ") else Kind.FOREIGN
        return Line(kind, tid, -1, -1, b"", line)

    def _continue(self, remainder: bytes) -> Line:
        """Join a call whose end stands on a line of its own, without pid and stamp.

        With `-e status=` strace 6.1 gathers each thread's line whole; but when another thread exits it still breaks off
        the line it printed last, and the end of that one then comes bare.
        """
        tid = next(reversed(self._unfinished))
        begun = self._unfinished.pop(tid)
        return begun._replace(kind=Kind.CALL, text=begun.text + remainder)

    def drain(self) -> list[Line]:
        """Return the calls that began and never ended, as OPEN lines, in the order they began."""
        left = sorted(self._unfinished.values(), key=lambda call: call.stamp_ns)
        self._unfinished.clear()
        return left

    def _call(self, tid: int, stamp_ns: int, name: bytes, text: bytes) -> Line:
        end = _OPEN_END(text) if b"...>" in text[-200:] else None
        if end is None:
            return Line(Kind.CALL, tid, stamp_ns, -1, name, text)
        line = Line(Kind.OPEN, tid, stamp_ns, -1, name, text[: end.start()])
        if end[1] == b"unfinished" and b"= ?" not in end[0]:
            self._unfinished[tid] = line
            return Line(Kind.OTHER, tid, stamp_ns, -1, name, b"")
        return line

    def _resume(self, tid: int, stamp_ns: int, name: bytes, text: bytes) -> Line:
        begun = self._unfinished.pop(tid, None)
        if begun is None or (name not in (b"", b"????") and begun.name != name):
            return Line(Kind.OPEN, tid, stamp_ns, stamp_ns, name, text)
        end = _OPEN_END(text)
        if end is not None:
            return begun._replace(text=begun.text + text[: end.start()])
        return Line(Kind.CALL, tid, begun.stamp_ns, stamp_ns, begun.name, begun.text + text)


def glued(text: bytes, start: int) -> int:
    """Return where another whole line begins inside `text` at or behind `start`; -1 when none does.

    Strings are passed over: the data of a message may itself be a strace log.
    """
    while found := _GLUED(text, start):
        quote = text.find(b'"', start, found.start())
        if quote < 0:
            return found.start()
        end = closing_quote(text, quote + 1)
        if end < 0:
            break
        start = end + 1
    return -1
