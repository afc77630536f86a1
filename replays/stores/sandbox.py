"""A server whose changes go nowhere: it finds an overlay over its files, and we find there what it changed.

The source stays as it is, whatever is replayed. Nobody but the server sees the overlay, which is mounted in a mount
namespace of its own; an ordinary user's in a user namespace too, where a directory of the source cannot be renamed
(EXDEV: overlayfs has no redirect_dir there) and files of other users seem to be nobody's.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from dissectors.text import escape
from replays.transports.process import Overlay
from tracer.errors import TracerError

_PREFIXES: Final = ("trusted.overlay.", "user.overlay.")  # of root's overlays, and of others' (option userxattr)
_OPAQUE, _REDIRECT = "opaque", "redirect"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one path: "created", "changed", "deleted" or "moved". `path` is below the source, escaped.

    `was` is where a moved directory came from, escaped. A directory that was deleted or moved stands for all in it.
    """

    what: str
    path: str
    was: str = ""


class Sandbox:
    """Room for the changes to one directory; give `overlay` to the launcher. Removed at the end of the with block."""

    def __init__(self, source: Path, below: Path | None = None) -> None:
        """Make room below `below`, the directory for temporary files if None. TracerError if that cannot be."""
        if not source.is_dir():
            raise TracerError(
                f"{escape(os.fsencode(source))} is no directory", "name the one that the server takes its files from"
            )
        try:
            self._place = Path(tempfile.mkdtemp(prefix="fusewire-sandbox-", dir=below))
        except OSError as error:
            raise TracerError(f"no room for a sandbox: {error.strerror}", "name another directory for it") from error
        self.overlay = Overlay(source.resolve(), self._place / "upper", self._place / "work")
        self.overlay.upper.mkdir()
        self.overlay.work.mkdir()
        shutil.copystat(self.overlay.source, self.overlay.upper)  # the root shows the upper directory's own mode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def changes(self) -> list[Change]:
        """Return what the server changed, by path; complete once it has ended."""
        found = list(_changes(self.overlay.upper, self.overlay.source))
        origins = {change.was for change in found if change.what == "moved"}
        gone = [change for change in found if not (change.what == "deleted" and change.path in origins)]
        return sorted(gone, key=lambda change: change.path)

    def remove(self) -> None:
        """Remove what was changed; nothing happens the second time."""
        remove_tree(self._place)


def remove_tree(place: Path) -> None:
    """Remove a directory of ours and all in it; nothing happens when it is gone."""
    for directory, names, _ in os.walk(place):
        for path in (Path(directory, name) for name in names):
            if not path.is_symlink():
                path.chmod(stat.S_IRWXU)  # overlayfs leaves one that nobody may enter, and a server may too
    shutil.rmtree(place, ignore_errors=True)


def _changes(upper: Path, source: Path) -> Iterator[Change]:
    """Walk the upper layer; every pair is a directory of it and the one that it lies over."""
    pairs = [(upper, source)]
    while pairs:
        directory, beneath = pairs.pop()
        for path in directory.iterdir():
            status, lower = path.lstat(), beneath / path.name
            name = _shown(path.relative_to(upper))
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:  # a whiteout
                yield Change("deleted", name)
                continue
            origin = _origin(path, directory, upper) if stat.S_ISDIR(status.st_mode) else None
            if origin is not None:
                lower = source / origin
                yield Change("moved", name, _shown(origin))
            elif not os.path.lexists(lower):
                yield Change("created", name)
            elif not _is_same(path, lower, status):
                yield Change("changed", name)
            if stat.S_ISDIR(status.st_mode):
                yield from _hidden(path, lower, name)
                pairs.append((path, lower))


def _hidden(path: Path, lower: Path, name: str) -> Iterator[Change]:
    """Tell what a directory that was made anew, in the place of another, hides of that."""
    if _attribute(path, _OPAQUE) == b"y" and lower.is_dir() and not lower.is_symlink():
        for old in lower.iterdir():
            if not os.path.lexists(path / old.name):
                yield Change("deleted", f"{name}/{_shown(Path(old.name))}")


def _origin(path: Path, directory: Path, upper: Path) -> Path | None:
    """Return where a directory that was moved came from, below the source."""
    text = _attribute(path, _REDIRECT)
    if not text:
        return None
    target = Path(os.fsdecode(text))
    if not target.is_absolute():
        target = directory.relative_to(upper) / target
    parts = [part for part in target.parts if part not in ("/", "..")]
    return Path(*parts)


def _attribute(path: Path, name: str) -> bytes:
    for prefix in _PREFIXES:
        with contextlib.suppress(OSError):
            return os.getxattr(path, prefix + name, follow_symlinks=False)
    return b""


def _is_same(path: Path, lower: Path, status: os.stat_result) -> bool:
    """Tell whether a file was only opened for writing, or a directory only written below."""
    before = lower.lstat()
    if (before.st_mode, before.st_uid, before.st_gid) != (status.st_mode, status.st_uid, status.st_gid):
        return False
    if stat.S_ISREG(status.st_mode):
        return before.st_size == status.st_size and filecmp.cmp(path, lower, shallow=False)
    return not stat.S_ISLNK(status.st_mode) or path.readlink() == lower.readlink()


def _shown(path: Path) -> str:
    return escape(os.fsencode(path))
