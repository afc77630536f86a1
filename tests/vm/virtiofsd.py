"""Debian's virtiofsd: serves a directory of this machine to one guest."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from examples.demo import mounts

# QEMU's own in C, up to QEMU 7 (qemu-system-common); its successor in Rust takes these options too (virtiofsd)
PROGRAMS = (Path("/usr/lib/qemu/virtiofsd"), Path("/usr/libexec/virtiofsd"))
LIFETIME_S = 900  # should this process be killed, the daemon ends by itself


def program() -> Path | None:
    """Return the daemon, or None."""
    return next((path for path in PROGRAMS if path.exists()), None)


def why_not() -> str | None:
    """Return why no virtiofsd can run here, or None."""
    if program() is None:
        return "virtiofsd is not installed (Debian package qemu-system-common up to bookworm, then virtiofsd)"
    return None if os.geteuid() == 0 else "virtiofsd's sandbox needs root"


@contextlib.contextmanager
def serving(source: Path, *options: str) -> Iterator[Path]:
    """Serve `source` to whoever connects first to the socket yielded; what it says goes to `source`.log.

    `options` are its -o words, announce_submounts for one. The daemon ends with its one connection.
    """
    daemon = program()
    assert daemon is not None, why_not()
    with contextlib.ExitStack() as stack:
        # a directory of its own: a socket's path must be short, and pytest's are long
        listen = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusewire-vm-"))) / "virtiofs"
        log = stack.enter_context(open(source.with_name(f"{source.name}.log"), "wb"))
        with socket.socket(socket.AF_UNIX) as listener:
            # it listens before the daemon runs: nobody has to wait until the daemon has made a socket of its own
            listener.bind(os.fspath(listen))
            listener.listen(1)
            words = [f"--fd={listener.fileno()}", "-f"]
            for option in (f"source={source}", "cache=auto", *options):
                words += ["-o", option]
            process = subprocess.Popen(
                ["timeout", "--foreground", str(LIFETIME_S), str(daemon), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )
        stack.callback(mounts.stop, process, timeout_s=2)
        yield listen
