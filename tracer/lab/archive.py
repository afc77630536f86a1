"""Debian packages unpacked into a cache, never installed: the newest that the mirror of this machine's apt offers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tracer.errors import TracerError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LISTS_AGE_S = 24 * 3600  # apt's own daily habit
UPDATE_TIMEOUT_S = 120.0
DOWNLOAD_TIMEOUT_S = 300.0  # a kernel of 110 MB over a slow line


class Unavailable(TracerError):
    """A package or a program cannot be had here; the text is a whole reason, fit for a skip."""


def cache() -> Path:
    """Return the directory all of it is kept in, which may be removed at any time."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".cache") / "fusewire" / "kernels"


def unpacked(
    suite: str,
    package: str,
    members: Sequence[str],
    beside: Sequence[str] = (),
    prepare: Callable[[Path], None] | None = None,
) -> Path:
    """Return the directory with `members` (tar wildcards) of the newest version of a package; fetches it if need be.

    A package that holds no file of its own but depends on linux-image-VERSION is followed to that one. The packages
    `beside` it are unpacked into the same directory, and `prepare` may change what is in it before anybody uses it.
    Offline, the newest that was fetched before will do. Raises Unavailable.
    """
    with locked(suite):
        try:
            return _newest(suite, package, members, beside, prepare)
        except Unavailable:
            if (kept := _fetched_before(suite, f"{package}-{contents_id(members, beside)}")) is not None:
                return kept
            raise


def _newest(
    suite: str, package: str, members: Sequence[str], beside: Sequence[str], prepare: Callable[[Path], None] | None
) -> Path:
    kind = contents_id(members, beside)
    link = cache() / suite / f"{package}-{kind}.newest"
    if _age_s(link) < LISTS_AGE_S and link.is_dir():
        return link.resolve()
    apt = _apt_options(suite)
    updated = cache() / suite / "apt" / "updated"
    if _age_s(updated) > LISTS_AGE_S:
        _run(["apt-get", *apt, "update", "-qq", "--error-on=any"], UPDATE_TIMEOUT_S)
        updated.touch()
    names, stem = _offered(apt, package)
    place = cache() / suite / f"{stem}-{kind}"
    if not place.is_dir():
        _fetch(apt, [*names, *beside], place, members, prepare)
    link.unlink(missing_ok=True)
    link.symlink_to(place.name)
    return place


def _age_s(path: Path) -> float:
    """Return how long ago a file was written, or a link was made."""
    return time.time() - path.lstat().st_mtime if path.is_symlink() or path.exists() else float("inf")


def _offered(apt: list[str], package: str) -> tuple[list[str], str]:
    """Return the names of the packages that really have the files, and the first one's file name without .deb."""
    names = [package]
    if series := re.search(r"Depends: (linux-image-\d\S*)", _run(["apt-cache", *apt, "depends", package], 60)):
        depends = _run(["apt-cache", *apt, "depends", series[1]], 60)
        # from Linux 7 on the files are in packages beside that one
        names = [series[1], *re.findall(r"Depends: (linux-(?:base|binary|modules)-\d\S*)", depends)]
    uris = _run(["apt-get", *apt, "download", "--print-uris", *names], 60)
    stems = [stem for stem in re.findall(r"^'\S+' (\S+)\.deb ", uris, re.MULTILINE) if stem.startswith(f"{names[0]}_")]
    if not stems:
        raise Unavailable(f"Debian's mirror has no package {names[0]}")
    return names, stems[0]


def version(place: Path) -> str:
    """Return the version of the package that `unpacked` returned, as Debian writes it; colons are %3a."""
    return place.name.split("_")[1]


def contents_id(members: Sequence[str], beside: Sequence[str] = ()) -> str:
    """Return the end of a directory's name: who asks for more of a package does not find what is there of it."""
    return f"{zlib.crc32(repr((*members, None, *beside)).encode()):08x}"


def _fetched_before(suite: str, name: str) -> Path | None:
    link = cache() / suite / f"{name}.newest"
    return link.resolve() if link.is_dir() else None


def _fetch(
    apt: list[str], names: list[str], place: Path, members: Sequence[str], prepare: Callable[[Path], None] | None
) -> None:
    """Download and unpack beside the place and rename: what is there is whole."""
    with tempfile.TemporaryDirectory(dir=place.parent) as directory:
        _run(["apt-get", *apt, "download", "-qq", *names], DOWNLOAD_TIMEOUT_S, Path(directory))
        files = Path(directory) / "files"
        files.mkdir()
        for package in Path(directory).glob("*.deb"):
            _extract(package, files, members)
        if not any(files.iterdir()):
            raise Unavailable(f"nothing of {names} could be unpacked into {place.parent}")
        if prepare is not None:
            prepare(files)
        files.rename(place)


def _extract(package: Path, files: Path, members: Sequence[str]) -> None:
    """Unpack some members. Not every version has every one, and tar fails for that: who uses one sees it missing."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as contents:
        subprocess.run(
            ["tar", "-x", "-C", str(files), "--wildcards", *members],
            stdin=contents.stdout,
            stderr=subprocess.DEVNULL,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )


def _apt_options(suite: str) -> list[str]:
    """Return options that make apt look at one suite only, and write nothing outside the cache."""
    directory = cache() / suite / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    sources = directory / "sources.list"
    sources.write_text(_sources(suite))
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",  # root's cache cannot be read by apt's own account
        "Acquire::Languages": "none",
        "Acquire::GzipIndexes": "true",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",  # pictures and descriptions of programs
        "Acquire::Retries": "1",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _sources(suite: str) -> str:
    """Return lines for a suite and its security updates, from the mirrors that this machine's apt uses."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed: kernels for the guest come as Debian packages")
    targets = _run(["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)"], 60).splitlines()
    mirrors = dict(line.split("|", 1) for line in targets)
    if "Debian" not in mirrors:
        raise Unavailable("apt knows no Debian mirror here: kernels for the guest come from one (run apt-get update)")
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    lines = [f"deb {signed}{mirrors['Debian']} {suite} main"]
    if "Debian-Security" in mirrors and suite != "sid":
        lines.append(f"deb {signed}{mirrors['Debian-Security']} {suite}-security main")
    return "\n".join((*lines, ""))


def _run(argv: list[str], timeout_s: float, directory: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{argv[0]} did not reach Debian's mirror within {timeout_s:.0f} s") from None
    if done.returncode:
        words = " ".join(word for word in argv if "=" not in word and word != "-o")
        raise Unavailable(f"{words} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time change a part of the cache: that of a suite, or what was built."""
    directory = cache() / name
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
