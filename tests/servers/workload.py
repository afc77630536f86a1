"""What a test does to a mount: in a child process, with a deadline, telling afterwards exactly what was done.

As a program: `workload.py KIND MOUNT_POINT` prints its Tally as JSON; the file needs nothing but Python.
"""

# Names are bytes that a Path refuses, and each call is a system call to be counted:
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH116, PTH118, PTH208, PTH211
from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

BIG_BYTES = 300_000
ODD_NAME = b"bad\xffname\n\x01"
CLIENTS = 4
CLIENT_ROUNDS = 10
STAT_ROUNDS = 200


@dataclass
class Tally:
    """What one workload did.

    `requests` counts, by FUSE opcode, the requests the kernel must have sent for it, no more and no less: those
    that change names or attributes in a way it cannot answer from its caches. `refused` names the steps the server
    refused and why: {"link": "EPERM"}. `missing` are lookups that were answered ENOENT, as meant.
    """

    pid: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    written_bytes: int = 0
    read_bytes: int = 0


class WorkloadFailed(Exception):
    """The child hung or died; its output is the message."""


def run(mount_point: Path, kind: str = "mixed", timeout_s: float = 60) -> Tally:
    """Run a workload, one of KINDS, on a mount; WorkloadFailed when it does not come through."""
    from examples.demo import mounts  # not at the top: as a program this file stands alone

    ended = mounts.run_child([sys.executable, __file__, kind, mount_point], timeout_s)
    if ended.status != 0:
        how = "hung" if ended.status is None else f"ended with status {ended.status}"
        raise WorkloadFailed(f"{kind} {how}: {ended.output.decode(errors='backslashreplace')}")
    return Tally(**json.loads(ended.output))


def run_at_once(mount_points: Sequence[Path], kind: str = "mixed", timeout_s: float = 60) -> list[Tally]:
    """Run a workload on several mounts at the same time; WorkloadFailed when one does not come through."""
    with concurrent.futures.ThreadPoolExecutor(len(mount_points)) as pool:
        return list(pool.map(lambda place: run(place, kind, timeout_s), mount_points))


class Steps:
    """Does steps and counts them; a refusal is written down, not raised."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.tally = Tally(pid=os.getpid())
        self._requests: Counter[str] = Counter()
        self._steps: Counter[str] = Counter()

    def at(self, name: bytes) -> bytes:
        return os.path.join(self.root, name)

    @contextlib.contextmanager
    def step(self, name: str, *requests: str) -> Iterator[None]:
        try:
            yield
        except OSError as refusal:
            self.tally.refused[name] = errno.errorcode.get(refusal.errno or 0, str(refusal))
        else:
            self._steps[name] += 1
            self._requests.update(requests)

    def look_for_missing(self, name: bytes) -> None:
        try:
            os.lstat(self.at(name))
        except FileNotFoundError:
            self.tally.missing += 1

    def read(self, name: bytes) -> bytes:
        """Read a whole file anew, not from the page cache."""
        fd = os.open(self.at(name), os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            pieces = list(iter(lambda: os.read(fd, 131072), b""))
        finally:
            os.close(fd)
        content = b"".join(pieces)
        self.tally.read_bytes += len(content)
        return content

    def write_new(self, name: bytes, content: bytes, *, fsync: bool = False) -> None:
        fd = os.open(self.at(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self.tally.written_bytes += os.write(fd, content)
            if fsync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def result(self) -> Tally:
        self.tally.requests = dict(self._requests)
        self.tally.steps = dict(self._steps)
        return self.tally


def reading(s: Steps) -> None:
    """List, stat and read what every server shows."""
    with s.step("list"):
        for name in os.listdir(s.root):
            os.lstat(s.at(name))
    with s.step("stat"):
        os.stat(s.at(b"hello.txt"))
    with s.step("stat_missing"):
        s.look_for_missing(b"no-such-file")
    with s.step("read"):
        assert s.read(b"hello.txt") == b"hello from memfs\n"
        assert s.read(b"numbers.bin") == bytes(range(256)) * 256
        assert s.read(b"dir/inner.txt") == b"inside\n"
    with s.step("readlink"):
        assert os.readlink(s.at(b"link")) == b"hello.txt"
    with s.step("statfs"):
        os.statvfs(s.root)


def mixed(s: Steps) -> None:
    """Do everything a file system is for, once, and leave it as it was."""
    reading(s)
    big = bytes(i * 7 % 251 for i in range(BIG_BYTES))
    with s.step("mkdir", "MKDIR"):
        os.mkdir(s.at(b"work"), 0o755)
    with s.step("write", "CREATE", "FSYNC"):
        s.write_new(b"work/big.bin", big, fsync=True)
    with s.step("read_back"):
        assert s.read(b"work/big.bin") == big
    with s.step("rename", "RENAME"):
        os.rename(s.at(b"work/big.bin"), s.at(b"work/moved.bin"))
    with s.step("symlink", "SYMLINK"):
        os.symlink(b"moved.bin", s.at(b"work/soft"))
    with s.step("readlink_new"):
        assert os.readlink(s.at(b"work/soft")) == b"moved.bin"
    with s.step("truncate", "SETATTR"):
        os.truncate(s.at(b"work/moved.bin"), 1000)
    with s.step("chmod", "SETATTR"):
        os.chmod(s.at(b"work/moved.bin"), 0o600)
    with s.step("utime", "SETATTR"):
        os.utime(s.at(b"work/moved.bin"), ns=(10**18, 10**18))
    attributes(s, s.at(b"work/moved.bin"))
    with s.step("link", "LINK"):
        os.link(s.at(b"work/moved.bin"), s.at(b"work/hard"))
    with s.step("odd_name", "CREATE", "UNLINK"):
        s.write_new(b"work/" + ODD_NAME, b"odd")
        assert ODD_NAME in os.listdir(s.at(b"work"))
        os.unlink(s.at(b"work/" + ODD_NAME))
    for name in (b"work/hard", b"work/soft", b"work/moved.bin"):
        if os.path.lexists(s.at(name)):
            with s.step("unlink", "UNLINK"):
                os.unlink(s.at(name))
    with s.step("rmdir", "RMDIR"):
        os.rmdir(s.at(b"work"))


def attributes(s: Steps, path: bytes) -> None:
    """Set, get, list and remove an extended attribute."""
    with s.step("setxattr", "SETXATTR"):
        os.setxattr(path, b"user.fusewire", b"some\0value")
    with s.step("getxattr"):
        assert os.getxattr(path, b"user.fusewire") == b"some\0value"
    with s.step("listxattr"):
        assert "user.fusewire" in os.listxattr(path)
    with s.step("removexattr", "REMOVEXATTR"):
        os.removexattr(path, b"user.fusewire")


def _client(root: bytes, number: int) -> Tally:
    s = Steps(root)
    home = b"client-%d" % number
    with s.step("mkdir", "MKDIR"):
        os.mkdir(s.at(home))
    for turn in range(CLIENT_ROUNDS):
        name = home + b"/%d" % turn
        with s.step("write", "CREATE"):
            s.write_new(name, bytes([number]) * 10_000)
        with s.step("read"):
            assert s.read(name) == bytes([number]) * 10_000
        s.look_for_missing(name + b".missing")
        with s.step("unlink", "UNLINK"):
            os.unlink(s.at(name))
    with s.step("rmdir", "RMDIR"):
        os.rmdir(s.at(home))
    return s.result()


def parallel(s: Steps) -> None:
    """Let several processes create, write, read, miss and unlink at the same time."""
    with multiprocessing.get_context("fork").Pool(CLIENTS) as pool:
        tallies = pool.starmap(_client, [(s.root, number) for number in range(CLIENTS)])
    for tally in tallies:
        s.tally.missing += tally.missing
        s.tally.written_bytes += tally.written_bytes
        s.tally.read_bytes += tally.read_bytes
        s.tally.refused |= tally.refused
        s._requests.update(tally.requests)
        s._steps.update(tally.steps)


def stats(s: Steps) -> None:
    """Ask for attributes, names that are not there and listings, again and again."""
    for turn in range(STAT_ROUNDS):
        with s.step("stat"):
            os.stat(s.at(b"dir/inner.txt"))
        s.look_for_missing(b"missing-%d" % turn)
        with s.step("list"):
            os.listdir(s.at(b"dir"))


TREE = """
set -e
mkdir -p new/a/b new/c
cp -r dir hello.txt numbers.bin new/
for n in 1 2 3 4 5 6 7 8; do cp -r dir "new/a/copy-$n"; done
find . -type f | sort > new/list
find . -type f -print0 | xargs -0 -P4 -n3 md5sum > /dev/null
dd if=/dev/zero of=new/zeros bs=64k count=24 conv=fsync status=none
dd if=/dev/zero of=new/a/b/synced bs=4k count=16 oflag=sync status=none
mv new/zeros new/c/moved
mv new/a/copy-1 new/c/renamed
mv -n new/list new/c/
ln new/c/moved new/hard
ln -s c/moved new/soft
cat new/soft > new/again
truncate -s 1000 new/again
chmod 600 new/again
ls -lR . > /dev/null
cat numbers.bin > /dev/null & cat new/c/moved > /dev/null & cat new/hard > /dev/null & wait
rm -r new/a new/hard
"""


def tree(s: Steps) -> None:
    """Copy, find, read in parallel, write, fsync, rename, link and remove, with the programs people use."""
    with s.step("tree"):
        subprocess.run(["/bin/sh", "-c", TREE], cwd=s.root, check=True)


LINKS = """
set -e
mkdir links links/other
cd links
echo one > a
ln a b
ls -l . > /dev/null
rm b
cat a
echo two >> a
ln a c
ln a other/d
rm a
stat c other/d > /dev/null
cat c
echo three >> other/d
mv c other/e
cat other/d other/e
chmod 600 other/e
mv other/d d
rm other/e
truncate -s 5 d
cat d
ln d f
exec 9>>f
rm f
echo four >&9
exec 9>&-
cat d
echo new > g
ln d h
mv g d
cat d h
ln h i
rm h
ln i j
rm i
cat j
rm -r ../links
"""


def links(s: Steps) -> None:
    """Give files several names, lose and move either, and read and write by the one that is left."""
    with s.step("links"):
        subprocess.run(["/bin/sh", "-c", LINKS], cwd=s.root, check=True, stdout=subprocess.DEVNULL)


KINDS: dict[str, Callable[[Steps], None]] = {
    "links": links,
    "mixed": mixed,
    "reading": reading,
    "parallel": parallel,
    "stats": stats,
    "tree": tree,
}


def main() -> None:
    kind, mount_point = sys.argv[1:]
    steps = Steps(os.fsencode(mount_point))
    KINDS[kind](steps)
    json.dump(asdict(steps.result()), sys.stdout)


if __name__ == "__main__":
    main()
