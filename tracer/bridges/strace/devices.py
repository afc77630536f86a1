"""What a descriptor in a strace log stands for, from the text that -y and -yy put behind its number."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, NamedTuple

from tracer.bridges.strace.strings import unescape

_CACHE_LIMIT: Final = 4096
_PIPE: Final = re.compile(rb"pipe:\[(\d{1,20})\]").fullmatch
# misc devices (major 10) with numbers of their own: FUSE_MINOR 229 and CUSE_MINOR 203, include/linux/miscdevice.h
_DEVICE_NUMBERS: Final = {b"<char 10:229>": "FUSE", b"<char 10:203>": "CUSE"}
_DEVICE_PATHS: Final = {b"/dev/fuse": "FUSE", b"/dev/cuse": "CUSE"}


class Role(Enum):
    """What lies behind a descriptor."""

    FUSE = auto()
    CUSE = auto()
    PIPE = auto()
    OTHER = auto()
    UNNAMED = auto()  # the log was made without -y


class Descriptor(NamedTuple):
    """A descriptor of one call."""

    number: int
    role: Role
    inode: int  # of a pipe, else 0

    @property
    def is_device(self) -> bool:
        """Whether FUSE messages pass through it."""
        return self.role in (Role.FUSE, Role.CUSE)


class DescriptorReader:
    """Reads descriptors as strace prints them; remembers those it has seen."""

    def __init__(self) -> None:
        self._seen: dict[bytes, Descriptor] = {}

    def read(self, printed: bytes) -> Descriptor:
        """Return what `printed`, such as `4</dev/fuse<char 10:229>>`, stands for."""
        known = self._seen.get(printed)
        if known is None:
            if len(self._seen) >= _CACHE_LIMIT:
                self._seen.clear()
            known = self._seen[printed] = _read(printed)
        return known


def _read(printed: bytes) -> Descriptor:
    digits, bracket, rest = printed.partition(b"<")
    number = int(digits)
    if not bracket:
        return Descriptor(number, Role.UNNAMED, 0)
    path, device_bracket, device = rest.removesuffix(b"(deleted)").removesuffix(b">").partition(b"<")
    named = _DEVICE_NUMBERS.get(device_bracket + device)
    if named is None:
        path = unescape(path) or path  # -xx prints paths in hex too
        named = next((name for suffix, name in _DEVICE_PATHS.items() if path.endswith(suffix)), None)
    if named is not None:
        return Descriptor(number, Role[named], 0)
    if pipe := _PIPE(path):
        return Descriptor(number, Role.PIPE, int(pipe[1]))
    return Descriptor(number, Role.OTHER, 0)
