"""What the other calls in a log tell about the server: its command line, its mounts, its descriptors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from tracer.bridges.strace.lines import Line
from tracer.bridges.strace.strings import unescape

_STRING: Final = rb'"((?:[^"\\]|\\.){0,4096})"'
_OPEN: Final = re.compile(rb"[^\"]{0,200}" + _STRING + rb"[^\n]*\) *= (\d{1,10})").match
_CLOSE: Final = re.compile(rb"(\d{1,10})\) *= 0").match
_EXECVE: Final = re.compile(_STRING + rb", \[([^\n]*?)\](?:, |\.\.\.)").match
_ARGUMENT: Final = re.compile(_STRING).findall
_MOUNT: Final = re.compile(
    _STRING + rb", " + _STRING + rb", \"((?:fuse|fuseblk)(?:\.[^\"\\]{1,255})?)\", ([A-Z0-9_|x]{1,300})"
    rb"(?:, \"([^\"]{0,4096})\")?[^\n]*\) *= 0"
).match
_FD_OPTION: Final = re.compile(rb"(?:^|,)fd=(\d{1,10})").search
_MAX_FACTS: Final = 256

NAMES: Final = frozenset({b"open", b"openat", b"close", b"execve", b"mount"})


@dataclass(frozen=True, slots=True)
class MountCall:
    """A mount(2) of a FUSE file system that the log shows."""

    mount_point: str
    fstype: str
    is_read_only: bool
    fd: int  # -1: the log cut it off


@dataclass(slots=True)
class LogContext:
    """Facts gathered while a log is read."""

    server_command: str = ""
    mounts: list[MountCall] = field(default_factory=list)
    device_fds: set[int] = field(default_factory=set)  # opened by name; only of use in a log without -y

    def note(self, line: Line) -> None:
        """Take what `line`, a call that moves no message, tells."""
        if line.name in (b"open", b"openat"):
            self._opened(line.text)
        elif line.name == b"close":
            if closed := _CLOSE(line.text):
                self.device_fds.discard(int(closed[1]))
        elif line.name == b"execve":
            self._executed(line.text)
        elif line.name == b"mount":
            self._mounted(line.text)

    def mount_of(self, fd: int) -> MountCall | None:
        """Return the mount that was made with descriptor `fd`; the only mount there is, when none names it."""
        for mount in reversed(self.mounts):
            if mount.fd == fd:
                return mount
        unnamed = [mount for mount in self.mounts if mount.fd < 0]
        return unnamed[0] if len(self.mounts) == 1 and unnamed else None

    def _opened(self, text: bytes) -> None:
        if b"fuse" not in text and b"\\x66\\x75\\x73\\x65" not in text:
            return
        found = _OPEN(text)
        path = unescape(found[1]) if found else None
        if found and path and path.endswith((b"/dev/fuse", b"/dev/cuse")) and len(self.device_fds) < _MAX_FACTS:
            self.device_fds.add(int(found[2]))

    def _executed(self, text: bytes) -> None:
        found = _EXECVE(text)
        if found and not self.server_command:
            words = [unescape(word) or b"" for word in _ARGUMENT(found[2])]
            self.server_command = b" ".join(words).decode("utf-8", "backslashreplace")

    def _mounted(self, text: bytes) -> None:
        found = _MOUNT(text)
        path = unescape(found[2]) if found else None
        if not found or not path or not path.startswith(b"/") or len(self.mounts) >= _MAX_FACTS:
            return  # fusermount mounts on "."
        fd = _FD_OPTION(found[5] or b"")
        self.mounts.append(
            MountCall(
                path.decode("utf-8", "surrogateescape"),
                found[3].decode("ascii", "backslashreplace"),
                b"MS_RDONLY" in found[4].split(b"|"),
                int(fd[1]) if fd else -1,
            )
        )
