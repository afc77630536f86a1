"""The strace command lines of a live capture, and why each flag is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from tracer.errors import CaptureError

# Calls that move messages. Every call more costs the server two stops each time it makes it.
_CALLS: Final = "read,readv,?preadv,write,writev,?pwritev,splice,tee,vmsplice"
_MAX_PAGES_LIMIT: Final = Path("/proc/sys/fs/fuse/max_pages_limit")  # since 6.13
_DEFAULT_MAX_PAGES: Final = 256
_PAGE_BYTES: Final = 4096
_HEADROOM_BYTES: Final = 8192  # headers, and the page that the kernel asks a server's buffer to be longer
_VERSION: Final = re.compile(r"version (\d+)\.(\d+)").search
_NS_STAMPS: Final = (5, 6)  # --timestamps= and --syscall-times= came with 5.6, -e status= with 5.2
_STATUS_SETS: Final = (5, 2)
_APT: Final = "install it: apt-get install strace"


class Snap(IntEnum):
    """How many bytes of each buffer to keep; any other number does too."""

    HEADERS = 512  # headers, arguments and names; bulk payload is cut
    LISTINGS = 32784  # also what READDIR(PLUS) returns for the 32 KiB buffer of glibc's readdir(3), and GETXATTR
    ALL = 0  # every byte: bulk transfer gets about ten times slower


class Strace(NamedTuple):
    """The strace of this machine."""

    path: str
    version: tuple[int, int]


def find_strace() -> Strace:
    """Return the strace on PATH. Raises CaptureError, with the command that mends it, when there is none."""
    path = shutil.which("strace")
    if path is None:
        raise CaptureError("strace is not installed", _APT)
    try:
        answer = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CaptureError(f"{path} does not run: {error}", _APT) from error
    found = _VERSION(answer.stdout)
    if found is None:
        raise CaptureError(f"{path} does not say which version it is", _APT)
    return Strace(path, (int(found[1]), int(found[2])))


def string_limit(snap_bytes: int) -> int:
    """Return the -s for a snap length; the longest message this kernel can send for 0."""
    if snap_bytes > 0:
        return snap_bytes
    try:
        pages = int(_MAX_PAGES_LIMIT.read_text())
    except (OSError, ValueError):
        pages = _DEFAULT_MAX_PAGES
    return max(pages, _DEFAULT_MAX_PAGES) * _PAGE_BYTES + _HEADROOM_BYTES


def capture_options(strace: Strace, snap_bytes: int, extra: Sequence[str]) -> list[str]:
    """Return the flags shared by launch and attach.

    No -P /dev/fuse: it hides what passes through pipes, so a server that splices (fuse-overlayfs does for each READ)
    would seem never to answer. It saves the printing of other reads and writes, but not their stops: with bindfs and
    passthrough_ll, stat(2) and sequential reads were as fast with it as without.
    """
    options = [strace.path, "-f", "-q", "-yy", "-s", str(string_limit(snap_bytes)), "-e", f"trace={_CALLS}"]
    if strace.version >= _NS_STAMPS:
        options += ["--timestamps=unix,ns", "--syscall-times=ns"]  # entry and duration: both ends of a call
    else:
        options += ["-ttt", "-T"]
    if strace.version >= _STATUS_SETS:
        # Any set that leaves one status out makes strace print each call whole, when it ends: no `unfinished`.
        # This one drops nothing but the calls in flight when strace lets go; others glue lines together then.
        options += ["-e", "status=!detached"]
    return options + list(extra)


def launch_command(options: Sequence[str], output: Path, server: Sequence[str]) -> list[str]:
    """Return the command that starts a server under strace.

    -D makes the server our child and strace its grandchild, so that signals to the server reach the server, and it
    outlives strace; -I 2 lets a signal end strace, which then lets the server go.
    """
    return [*options, "-D", "-I", "2", "-o", str(output), "--", *server]


def attach_command(options: Sequence[str], output: Path, pids: Sequence[int]) -> list[str]:
    """Return the command that attaches strace to running servers."""
    targets = [word for pid in pids for word in ("-p", str(pid))]
    return [*options, "-o", str(output), *targets]


def makes_dumps(options: Sequence[str]) -> bool:
    """Tell whether the user asked strace for hex dumps, which follow their line."""
    return any(re.search(r"(?:^|=)(?:read|write|reads|writes)=", word.removeprefix("-e").strip()) for word in options)


def may_kill(options: Sequence[str]) -> bool:
    """Tell whether strace can be killed without harm: its seccomp filter would stay and break the server."""
    return not any(word.startswith("--seccomp-bpf") for word in options)
