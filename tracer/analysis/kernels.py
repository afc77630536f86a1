"""Which kernels send SYNCFS to what. Source: fuse_sync_fs(), fs/fuse/inode.c, and the commits that brought it."""

from __future__ import annotations

import re

from tracer.records import ChannelKind

# 2d82ab251ef0 "virtiofs: propagate sync() to file server", d3906d8f3cee "fuse: enable FUSE_SYNCFS for all fuseblk
# servers". Nothing brought it to plain fuse.
SYNCFS_SINCE = {ChannelKind.VIRTIOFS: (5, 14), ChannelKind.FUSEBLK: (6, 18)}


def kernel_version(release: str) -> tuple[int, int]:
    """Return (major, minor) of a kernel release; (0, 0) when it has none."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def is_too_old(kind: ChannelKind, release: str) -> bool:
    """Tell whether a kernel is known to be too old to send SYNCFS on a channel of this kind."""
    version = kernel_version(release)
    return version != (0, 0) and version < SYNCFS_SINCE.get(kind, (0, 0))
