"""Programs that the recorder starts itself, and what they print."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO, Final

from tracer.bridges.host.words import printable
from tracer.errors import CaptureError

_LOG_LIMIT: Final = 1 << 20


class Log:
    """What the server, or strace, prints: an unlinked file, because a pipe would kill a server that outlives us."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the capture
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags | os.O_APPEND)
        self._read_to = 0
        self._rest = b""
        self.last_line = ""

    def fileno(self) -> int:
        """Return the descriptor for a child's stdout and stderr."""
        return self._file.fileno()

    def lines(self) -> list[str]:
        """Return the lines printed since the last call, safe to show."""
        new = os.pread(self.fileno(), _LOG_LIMIT, self._read_to)
        self._read_to += len(new)
        if self._read_to >= _LOG_LIMIT:  # the server appends, so cutting the file at 0 is safe
            os.ftruncate(self.fileno(), 0)
            self._read_to = 0
        *whole, self._rest = (self._rest + new).split(b"\n")
        shown = [printable(line, 300) for line in whole if line.strip()]
        if shown:
            self.last_line = shown[-1]
        return shown

    def finish(self) -> list[str]:
        """Return what is left, also without a line break."""
        shown = self.lines()
        if self._rest.strip():
            self.last_line = printable(self._rest, 300)
            shown.append(self.last_line)
            self._rest = b""
        return shown

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def check_server(argv: Sequence[str]) -> None:
    """Raise CaptureError when there is no such program."""
    program = argv[0]
    if shutil.which(program) is None:
        exists = os.access(program, os.F_OK)  # Path.exists raises where a directory on the way is closed to us
        raise CaptureError(
            f"{printable(program.encode(), 200)} {'is not executable' if exists else 'is not there, nor on PATH'}",
            "give the server's command behind --, as you would start it",
        )


def start_program(command: Sequence[str], log: Log) -> subprocess.Popen[bytes]:
    """Start a program that outlives us, its words in `log`. Raises CaptureError when it cannot be started."""
    try:
        # A session of its own: Ctrl-C in our terminal must not reach the server, which is to live on.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log.fileno(), stderr=log.fileno(), start_new_session=True
        )
    except OSError as error:
        log.close()
        raise CaptureError(f"cannot start {command[0]}: {error.strerror}", "") from error


def ended_early(argv: Sequence[str], code: int, log: Log) -> CaptureError:
    """Return what to tell a user whose server ended, with `code` (negative for a signal), before it served anything."""
    log.finish()
    shown = printable(os.fsencode(argv[0]), 200)
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = f": {log.last_line}" if log.last_line else ""
    return CaptureError(f"{shown} {ended} before it served FUSE{said}", "start it once without fusewire, to see why")
