"""Programs that the lab starts: each ends with us, whatever becomes of us, and after a while by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tracer.errors import CaptureError
from tracer.lab.archive import Unavailable

GRACE_S = 2  # from SIGTERM to SIGKILL
END_S = 10.0


@contextlib.contextmanager
def child(
    argv: Sequence[str],
    said: IO[bytes] | int,
    *,
    lifetime_s: float,
    within: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and end it with all it started in its session when the block ends.

    What it says goes to `said`, a file or subprocess.PIPE. `within` are the words of a program that prepares
    something and then executes the rest, unshare for one. The program gets SIGTERM when the calling thread ends, so
    start none from a passing thread.
    """
    words = ["setpriv", "--pdeathsig", "TERM", *within, "timeout", f"--kill-after={GRACE_S}", str(lifetime_s), *argv]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        start_new_session=True,  # a Ctrl-C at our terminal is for us alone
    )
    try:
        yield process
    finally:
        stop(process)


def listener(path: Path) -> socket.socket:
    """Return a socket that listens at a path, for a program that connects there or takes it over."""
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(os.fspath(path))
    except OSError as error:
        listening.close()
        raise CaptureError(
            f"cannot listen at {path}: {error.strerror or error}", "set TMPDIR to another place"
        ) from None
    listening.listen(1)
    return listening


def stop(process: subprocess.Popen[bytes], wait_s: float = 0.0) -> int:
    """End a program that `child` started, if it does not end by itself within `wait_s`; return its status."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(wait_s)
    process.terminate()  # timeout passes it on to the whole session, and sends SIGKILL after its grace
    return process.wait(END_S)


def needed(program: str, package: str) -> str:
    """Return the path of a program; raises Unavailable with the package that has it."""
    found = shutil.which(program)
    if found is None:
        raise Unavailable(f"{program} is not installed", f"apt install {package}")
    return found
