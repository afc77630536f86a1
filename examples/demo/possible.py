"""What this machine cannot do, as a sentence that says what is missing."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import tempfile
from pathlib import Path

from examples.demo.memfs import syscalls

SYNCFS_ON_FUSEBLK = (6, 18)  # "fuse: enable FUSE_SYNCFS for all fuseblk servers"


def why_no_program(program: str, package: str) -> str | None:
    """Return why a program cannot be run, or None."""
    return None if shutil.which(program) else f"{program} is not installed (Debian package {package})"


@functools.cache
def why_no_fuse() -> str | None:
    """Return why nothing can be mounted with FUSE here, or None."""
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse (modprobe fuse; in a container: --device /dev/fuse)"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as refusal:
        return f"/dev/fuse cannot be opened: {refusal.strerror}"
    if os.geteuid() == 0:
        return _why_no_mount()
    return why_no_program("fusermount3", "fuse3")


def _why_no_mount() -> str | None:
    """Try it: root inside a container may lack CAP_SYS_ADMIN."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        with tempfile.TemporaryDirectory(prefix="fusewire-probe-") as directory:
            syscalls.mount("probe", directory, "fuse", data=f"fd={fd},rootmode=40000,user_id=0,group_id=0")
            syscalls.umount(directory, syscalls.MNT_FORCE | syscalls.MNT_DETACH)
    except OSError as refusal:
        return f"mount(2) is refused even to root: {refusal.strerror} (in a container: --cap-add SYS_ADMIN)"
    finally:
        os.close(fd)
    return None


def why_not_root() -> str | None:
    """Return that this is not root, or None."""
    return None if os.geteuid() == 0 else "not root: mount(2) needs CAP_SYS_ADMIN"


def why_no_fuseblk() -> str | None:
    """Return why no fuseblk file system can be mounted on a loop device here, or None."""
    if (reason := why_not_root() or why_no_fuse()) is not None:
        return reason
    if "\tfuseblk\n" not in Path("/proc/filesystems").read_text():
        return "this kernel has no fuseblk (CONFIG_BLOCK is off, or the fuse module is old)"
    if not Path("/dev/loop-control").exists():
        return "there is no /dev/loop-control (modprobe loop; in a container: --privileged)"
    return why_no_program("losetup", "mount")


def why_no_syncfs() -> str | None:
    """Return why no FUSE_SYNCFS can be seen here, or None."""
    release = platform.release()
    major, minor = (int("".join(filter(str.isdigit, part)) or 0) for part in release.split(".")[:2])
    if (major, minor) < SYNCFS_ON_FUSEBLK:
        return f"Linux {release} sends no FUSE_SYNCFS to fuseblk (6.18 was the first)"
    return why_no_fuseblk()
