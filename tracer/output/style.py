"""Colours, only where somebody can see them, and figures a person can compare."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from enum import Enum
from typing import TextIO

from dissectors.text import escape


class Style(Enum):
    """What a piece of text is, as an SGR sequence (ECMA-48)."""

    PLAIN = ""
    SYNC = "1;30;43"  # black on yellow: the one thing nobody may miss
    ERROR = "1;31"
    WARNING = "33"
    DIM = "2"
    NAME = "36"
    HEADING = "1"


class Painter:
    """Paints text, or leaves it alone."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    @classmethod
    def for_stream(cls, stream: TextIO | None = None) -> Painter:
        """Paint on a terminal only (stdout, if no other is given), and not when NO_COLOR is set (no-color.org)."""
        return cls((stream or sys.stdout).isatty() and not os.environ.get("NO_COLOR"))

    def __call__(self, text: str, style: Style) -> str:
        """Return `text` in `style`."""
        return f"\x1b[{style.value}m{text}\x1b[0m" if self.enabled and style.value else text


def escape_text(text: str) -> str:
    """Return what a bridge or a file says, printable: it may hold any bytes (os.fsdecode()), and control characters."""
    return escape(text.encode("utf-8", "surrogateescape"))


def duration(ns: int | None) -> str:
    """Return a duration in the unit that gives one to three digits before the point; "-" for none."""
    if ns is None:
        return "-"
    value, units = float(ns), ("ns", "µs", "ms", "s")
    for unit in units:
        text = f"{value:.{0 if unit == 'ns' or value >= 100 else 1 if value >= 10 else 2}f}"
        if float(text) < 1_000 or unit == units[-1]:
            break
        value /= 1_000
    return text + unit


def byte_count(count: int) -> str:
    """Return a number of bytes with a binary unit."""
    value, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units:
        text = f"{value:.{0 if unit == 'B' else 1}f}"
        if float(text) < 1024 or unit == units[-1]:
            break
        value /= 1024
    return f"{text} {unit}"


def counted(count: int, noun: str) -> str:
    """Return a number with what it counts, in the plural unless it is one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def clock(t_ns: int, has_times: bool = True) -> str:
    """Return the local time of day with microseconds; the bare number where the source has no times."""
    if not has_times:
        return f"#{t_ns}"
    seconds, ns = divmod(t_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M:%S}.{ns // 1000:06d}"
    except (OverflowError, OSError, ValueError):
        return f"{seconds}.{ns:09d}"
