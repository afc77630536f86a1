"""Whether two directories hold the same: names, types, permissions, content, targets of links."""

from __future__ import annotations

import stat
from pathlib import Path


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what there is below a directory, by path."""
    return {str(path.relative_to(root)): _one(path) for path in sorted(root.rglob("*"))}


def _one(path: Path) -> tuple[object, ...]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return mode, path.readlink()
    return (mode, path.read_bytes()) if stat.S_ISREG(mode) else (mode,)
