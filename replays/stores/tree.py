"""Whether two directories hold the same: the check of two backing stores that needs no protocol.

Compared are types, permissions, owners, sizes, contents, targets of symlinks, device numbers, extended attributes, and
which names are the same file. Not compared are times and inode numbers, which nothing can keep equal, and sizes and
link counts of directories, which each file system counts in its own way. Nothing is followed, nothing is written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from dissectors.text import escape, mode_text, payload_text
from replays.stores.tree_content import first_difference
from tracer.errors import TracerError

MOST_DIFFERENCES: Final = 100
MOST_DEPTH: Final = 128  # each level keeps a descriptor of either tree open
_NAME_SHOWN: Final = 200  # bytes
_IGNORED_ATTRIBUTES: Final = (b"security.selinux",)  # given by where a file lies, not by who wrote it
_NONE: Final = "none"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link is followed, no pipe waited for


@dataclass(frozen=True, slots=True)
class TreeDifference:
    """One thing that is not the same, safe to show. `path` is relative; `what` says which property."""

    path: str
    what: str
    first: str
    second: str  # empty when `first` says why it was not compared

    def __str__(self) -> str:
        return f"{self.path}: {self.what}: {self.first}" + (f" | {self.second}" if self.second else "")


@dataclass(slots=True)
class TreeComparison:
    """What was found. `differences` holds the first of them, in the order of names, `difference_count` counts all."""

    entry_count: int = 0  # names that both have
    byte_count: int = 0  # of content that was compared; holes in both are not read
    difference_count: int = 0
    differences: list[TreeDifference] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the differences, a line each, and how many more there are."""
        shown = [str(one) for one in self.differences]
        more = self.difference_count - len(self.differences)
        return [*shown, f"... and {more} more"] if more else shown


def compare_trees(first: Path, second: Path, *, owners: bool = True, most: int = MOST_DIFFERENCES) -> TreeComparison:
    """Compare two directories whose servers have ended. `owners`: also whose the files are.

    Raises TracerError when either is no directory that can be read, or both are the same.
    """
    roots = _opened(first), -1
    try:
        roots = roots[0], _opened(second)
        if os.path.sameopenfile(*roots):
            raise TracerError(f"{_shown(first)} and {_shown(second)} are the same directory", "name two to compare")
        walk = _Walk(owners, most)
        walk.entry(_Pair(b".", *roots, os.fstat(roots[0]), os.fstat(roots[1])))
        walk.directory(b"", *roots, depth=0)
        return walk.result
    except OSError as error:  # of the two themselves
        raise TracerError(f"cannot compare {_shown(first)} and {_shown(second)}: {error.strerror}") from None
    finally:
        for root in roots:
            if root >= 0:
                os.close(root)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TracerError(f"cannot compare {_shown(path)}: {error.strerror}", "name two directories") from None


def _shown(path: Path) -> str:
    return escape(os.fsencode(path), _NAME_SHOWN)


class _Pair(NamedTuple):
    """A name that both trees have: where it is, the directories it is in, and what lstat says of either."""

    name: bytes
    first_dir: int
    second_dir: int
    first: os.stat_result
    second: os.stat_result


class _Walk:
    """Goes through both trees at once, in the order of names."""

    def __init__(self, owners: bool, most: int) -> None:
        self.result = TreeComparison()
        self._owners, self._most = owners, most
        self._path = b""  # of what is being compared
        self._seen: tuple[dict[tuple[int, int], bytes], ...] = ({}, {})  # the first path of each file with several

    def directory(self, path: bytes, first: int, second: int, depth: int) -> None:
        """Compare what two directories hold."""
        for name in sorted(_names(first) | _names(second)):
            self._path = path + name
            try:
                self._name(name, first, second, depth)
            except OSError as error:
                self._path = path + name
                self._differ("reading", f"not compared: {os.strerror(error.errno or 0)}", "")

    def _name(self, name: bytes, first: int, second: int, depth: int) -> None:
        """Compare what a name stands for in two directories. Raises OSError when it cannot be read."""
        found = _status(name, first), _status(name, second)
        if found[0] is None or found[1] is None:
            self._differ("name", *(_kind(status) if status is not None else "missing" for status in found))
            return
        self.result.entry_count += 1
        pair = _Pair(name, first, second, found[0], found[1])
        self.entry(pair)
        if stat.S_ISDIR(pair.first.st_mode) and stat.S_ISDIR(pair.second.st_mode):
            if depth == MOST_DEPTH:
                self._differ("depth", f"not compared below {MOST_DEPTH} directories", "")
                return
            path = self._path + b"/"
            self._with_both(pair, os.O_DIRECTORY, lambda one, two: self.directory(path, one, two, depth + 1))

    def _with_both(self, pair: _Pair, flags: int, work: Callable[[int, int], None]) -> None:
        first = os.open(pair.name, _READ | flags, dir_fd=pair.first_dir)
        try:
            second = os.open(pair.name, _READ | flags, dir_fd=pair.second_dir)
            try:
                work(first, second)
            finally:
                os.close(second)
        finally:
            os.close(first)

    # ---- one entry ----

    def entry(self, pair: _Pair) -> None:
        """Compare all but what a directory holds."""
        first, second = pair.first, pair.second
        if stat.S_IFMT(first.st_mode) != stat.S_IFMT(second.st_mode):
            self._differ("type", _kind(first), _kind(second))
            return
        is_directory = stat.S_ISDIR(first.st_mode)
        if not is_directory and self._is_known_file(first, second):
            return
        if not stat.S_ISLNK(first.st_mode):  # of a symlink, permissions mean nothing
            self._same("mode", mode_text(first.st_mode), mode_text(second.st_mode))
        if self._owners:
            self._same("owner", f"{first.st_uid}:{first.st_gid}", f"{second.st_uid}:{second.st_gid}")
        self._attributes(pair)
        if not is_directory:
            self._what_it_holds(pair)

    def _what_it_holds(self, pair: _Pair) -> None:
        kind = stat.S_IFMT(pair.first.st_mode)
        if kind == stat.S_IFREG and self._same("size", str(pair.first.st_size), str(pair.second.st_size)):
            self._with_both(pair, 0, self._content)
        elif kind == stat.S_IFLNK:
            targets = (os.fsencode(os.readlink(pair.name, dir_fd=fd)) for fd in (pair.first_dir, pair.second_dir))
            self._same("target", *(escape(target) for target in targets))  # escape() keeps all of the longest, 4095
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            self._same("device", *(f"{os.major(s.st_rdev)}:{os.minor(s.st_rdev)}" for s in (pair.first, pair.second)))

    def _content(self, first: int, second: int) -> None:
        difference, byte_count = first_difference(first, second)
        self.result.byte_count += byte_count
        if difference is not None:
            self._differ("content", f"{difference.first:#04x} at byte {difference.offset}", f"{difference.second:#04x}")

    def _is_known_file(self, first: os.stat_result, second: os.stat_result) -> bool:
        """Compare of which earlier names this one is another. Returns whether the two files were compared there."""
        if first.st_nlink < 2 and second.st_nlink < 2:
            return False
        earlier = [
            seen.setdefault((status.st_dev, status.st_ino), self._path)
            for seen, status in zip(self._seen, (first, second), strict=True)
        ]
        is_own = [path == self._path for path in earlier]
        if earlier[0] == earlier[1]:
            return not any(is_own)
        self._differ("link", *(_NONE if own else escape(path) for own, path in zip(is_own, earlier, strict=True)))
        return False

    # ---- extended attributes ----

    def _attributes(self, pair: _Pair) -> None:
        first, second = (dict(_extended(pair.name, fd)) for fd in (pair.first_dir, pair.second_dir))
        for name in sorted(first.keys() | second.keys()):
            values = (first.get(name), second.get(name))
            if values[0] != values[1]:
                shown = (_NONE if value is None else payload_text(value) for value in values)
                self._differ(f"attribute {escape(name, _NAME_SHOWN)}", *shown)

    # ---- what is found ----

    def _same(self, what: str, first: str, second: str) -> bool:
        if first != second:
            self._differ(what, first, second)
        return first == second

    def _differ(self, what: str, first: str, second: str) -> None:
        result = self.result
        result.difference_count += 1
        if len(result.differences) < self._most:
            path = escape(self._path) if self._path else "."
            result.differences.append(TreeDifference(path, what, first, second))


def _names(directory: int) -> set[bytes]:
    with os.scandir(directory) as entries:
        return {os.fsencode(entry.name) for entry in entries}


def _status(name: bytes, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "unknown")


def _extended(name: bytes, directory: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the extended attributes of what a name stands for, a symlink's own too."""
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    try:
        attributes = [os.fsencode(attribute) for attribute in os.listxattr(path, follow_symlinks=False)]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return
        raise
    for attribute in attributes:
        if attribute not in _IGNORED_ATTRIBUTES:
            yield attribute, os.getxattr(path, attribute, follow_symlinks=False)
