"""mount(2) and umount2(2), which Python does not have."""

from __future__ import annotations

import ctypes
import os

MNT_FORCE = 1  # abort the connection first: every waiting client gets an error
MNT_DETACH = 2  # take it out of the tree now, let go when nobody uses it

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def _raise_last(path: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), path)


def mount(source: str, mount_point: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """Mount; OSError with the kernel's errno when it refuses."""
    texts = (os.fsencode(text) for text in (source, mount_point, fstype))
    if _libc.mount(*texts, flags, os.fsencode(data)) != 0:
        _raise_last(mount_point)


def umount(mount_point: str, flags: int = 0) -> None:
    """Unmount; OSError (EBUSY while a file is open, unless detached) when the kernel refuses."""
    if _libc.umount2(os.fsencode(mount_point), flags) != 0:
        _raise_last(mount_point)


def syncfs(fd: int) -> None:
    """Write back one file system and wait for it; OSError with the server's errno when it failed."""
    if _libc.syncfs(fd) != 0:
        _raise_last(f"fd {fd}")
