"""Debian's virtiofsd: serves a directory of this machine to one guest."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from examples.demo import mounts

# QEMU's own in C, up to QEMU 7 (qemu-system-common); its successor in Rust takes these options too (virtiofsd)
PROGRAMS = (Path("/usr/lib/qemu/virtiofsd"), Path("/usr/libexec/virtiofsd"))
LIFETIME_S = 900  # should this process be killed, the daemon ends by itself


def why_not() -> str | None:
    """Return why no virtiofsd can run here, or None."""
    if program() is None:
        return "virtiofsd is not installed (Debian package qemu-system-common up to bookworm, then virtiofsd)"
    return None if os.geteuid() == 0 else "virtiofsd's sandbox needs root"


def program() -> Path | None:
    """Return the daemon, or None."""
    return next((path for path in PROGRAMS if path.exists()), None)


@contextlib.contextmanager
def serving(source: Path, listen: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve `source` at the socket `listen` while the block runs; what the daemon says goes to `listen`.log.

    `options` are its -o words, announce_submounts for one. It serves one connection and ends with it.
    """
    daemon = program()
    assert daemon is not None, why_not()
    # The daemon gets a socket that listens already: nobody has to wait until it has made its own.
    with socket.socket(socket.AF_UNIX) as listener, open(listen.with_suffix(".log"), "wb") as log:
        listener.bind(os.fspath(listen))
        listener.listen(1)
        words = ["-f", f"--fd={listener.fileno()}"]
        for option in (f"source={source}", "cache=auto", *options):
            words += ["-o", option]
        process = subprocess.Popen(
            [shutil.which("timeout") or "timeout", "--foreground", str(LIFETIME_S), str(daemon), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(listener.fileno(),),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        mounts.stop(process, timeout_s=2)
