"""The three ways a client asks for everything to be on disk, each in a child process with a deadline.

What they send is written in examples/demo/server.py. sync(2) reaches every mounted file system: somebody else's sends
this mount a SYNCFS too, so compare pids.
"""

from __future__ import annotations

from pathlib import Path

from examples.demo.mounts import Ended, run_child

TIMEOUT_S = 60.0


def sync_file_system(path: Path, timeout_s: float = TIMEOUT_S) -> Ended:
    """Call syncfs(2) on the file system a path is on; status 1 when the server refused."""
    return run_child(["sync", "-f", path], timeout_s)


def sync_everything(timeout_s: float = TIMEOUT_S) -> Ended:
    """Call sync(2), which cannot fail."""
    return run_child(["sync"], timeout_s)


def remount_read_only(mount_point: Path, timeout_s: float = TIMEOUT_S) -> Ended:
    """Make the superblock read-only; mount(8) also asks for the root's attributes."""
    return run_child(["mount", "-i", "-o", "remount,ro", mount_point], timeout_s)


def remount_read_write(mount_point: Path, timeout_s: float = TIMEOUT_S) -> Ended:
    """Make the superblock writable again; sends nothing."""
    return run_child(["mount", "-i", "-o", "remount,rw", mount_point], timeout_s)
