"""What programs ask of a filesystem: tasks that yield one request after another, as the kernel would send them."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from benchmarks import wire
from benchmarks.wire import File, body, code
from dissectors.opcodes import OPS_BY_NAME

ENOENT, ENODATA = 2, 61
PAYLOAD = bytes(random.Random(0).randbytes(512))  # the rest of any file content is cut off, as a recorder does
SIZES = [0, 37, 512, 1400, 4096, 4096, 16384, 65536, 262144, 1 << 20]
WRITES = [64, 512, 4096, 4096, 65536, 131072]

# opcode, nodeid, body, error (positive: an errno), reply's body, bytes of the reply that were cut off, of the request
Request = tuple[int, int, bytes, int, bytes, int, int]
Task = Iterator[Request]

LOOKUP, GETATTR, SETATTR, OPEN, READ, WRITE = map(code, ("LOOKUP", "GETATTR", "SETATTR", "OPEN", "READ", "WRITE"))
RELEASE, FLUSH, FSYNC, CREATE, UNLINK = map(code, ("RELEASE", "FLUSH", "FSYNC", "CREATE", "UNLINK"))
RENAME, FORGET, BATCH_FORGET, STATFS = map(code, ("RENAME", "FORGET", "BATCH_FORGET", "STATFS"))
OPENDIR, READDIRPLUS, RELEASEDIR = map(code, ("OPENDIR", "READDIRPLUS", "RELEASEDIR"))
GETXATTR, SYNCFS, INTERRUPT = map(code, ("GETXATTR", "SYNCFS", "INTERRUPT"))
NOT_ANSWERED = frozenset((FORGET, BATCH_FORGET, INTERRUPT))

_read_in = wire.request_struct("READ").pack
_write_in = wire.request_struct("WRITE").pack
_release_in = wire.request_struct("RELEASE").pack
_flush_in = wire.request_struct("FLUSH").pack
_fsync_in = wire.request_struct("FSYNC").pack
_open_out = wire.layout(wire.reply_fields("OPEN")).struct.pack
_write_out = wire.layout(wire.reply_fields("WRITE")).struct.pack
_forget_in = wire.request_struct("FORGET").pack
_forget_one = wire.layout(OPS_BY_NAME["BATCH_FORGET"].request[-1].record).struct.pack
_dirent = wire.layout(OPS_BY_NAME["READDIRPLUS"].reply[0].record).struct.pack  # type: ignore[index]
_xattr_in = wire.request_struct("GETXATTR").pack

GETATTR_IN = body(OPS_BY_NAME["GETATTR"].request)
OPEN_IN = body(OPS_BY_NAME["OPEN"].request, flags=0o100000)
CREATE_IN = body(OPS_BY_NAME["CREATE"].request, flags=0o101101, mode=0o100644, umask=0o022)
SYNCFS_IN = body(OPS_BY_NAME["SYNCFS"].request)
STATFS_OUT = body(wire.reply_fields("STATFS"), blocks=1 << 26, bfree=1 << 25, bsize=4096, namelen=255)


@dataclass(slots=True)
class Filesystem:
    """A server's tree as the tasks of one channel share it."""

    random: random.Random
    root: File
    dirs: list[File]
    next_nodeid: int = 0x7F31_0000_1000
    next_fh: int = 0x5581_0000_0000
    made: int = 0

    def handle(self) -> int:
        """Return a handle as servers make them: the address of a structure."""
        self.next_fh += 64
        return self.next_fh

    def below(self, count: int) -> int:
        """Return a random number below `count`."""
        return int(self.random.random() * count)

    def any_dir(self) -> File:
        return self.dirs[self.below(len(self.dirs))]

    def any_file(self) -> File:
        """Return a file or directory; some are wanted far more often than others."""
        while True:
            files = self.dirs[int(self.random.random() ** 2 * len(self.dirs))].files
            if files:
                return files[int(self.random.random() ** 2 * len(files))]

    def settle(self, file: File) -> None:
        """Give a node its nodeid when the kernel does not hold it yet."""
        if not file.nodeid:
            self.next_nodeid += 176
            file.settle(self.next_nodeid)
        file.nlookup += 1

    def look_up(self, file: File) -> Task:
        """Look up a node, and before it every directory above that the kernel does not know."""
        parent = file.parent
        if parent is None:
            return
        if not parent.nodeid:
            yield from self.look_up(parent)
        file.users += 1
        self.settle(file)
        yield LOOKUP, parent.nodeid, file.name + b"\0", 0, file.entry, 0, 0
        file.users -= 1

    # ---- tasks -----------------------------------------------------------------------------------------------------

    def stat(self) -> Task:
        file = self.any_file()
        file.users += 1
        yield from self.look_up(file)
        yield GETATTR, file.nodeid, GETATTR_IN, 0, file.attributes, 0, 0
        file.users -= 1

    def miss(self) -> Task:
        place = self.any_dir()
        if not place.nodeid:
            yield from self.look_up(place)
        name = b".hidden-%d\0" % self.below(100_000)
        yield LOOKUP, place.nodeid, name, ENOENT, b"", 0, 0

    def read(self) -> Task:
        file = self.any_file()
        if file.is_dir:
            return
        file.users += 1
        if not file.nodeid or self.below(2):
            yield from self.look_up(file)
        fh = self.handle()
        yield OPEN, file.nodeid, OPEN_IN, 0, _open_out(fh, 0, 0), 0, 0
        for offset in range(0, max(1, file.size), 131072):
            size = min(131072, file.size - offset)
            kept = PAYLOAD[: min(size, 496)]
            yield READ, file.nodeid, _read_in(fh, offset, 131072, 0, 0, 0o100000, 0), 0, kept, size - len(kept), 0
        yield from self.close(file, fh, 0o100000)
        file.users -= 1

    def close(self, file: File, fh: int, flags: int) -> Task:
        yield FLUSH, file.nodeid, _flush_in(fh, 0, 0, fh ^ 0x1234_5678), 0, b"", 0, 0
        yield RELEASE, file.nodeid, _release_in(fh, flags, 0, 0), 0, b"", 0, 0

    def write(self) -> Task:
        file = self.any_file()
        if file.is_dir:
            return
        file.users += 1
        yield from self.look_up(file)
        fh = self.handle()
        yield OPEN, file.nodeid, OPEN_IN, 0, _open_out(fh, 0, 0), 0, 0
        yield from self.put(file, fh, 1 + self.below(8))
        if self.below(2):
            yield FSYNC, file.nodeid, _fsync_in(fh, 1, 0), 0, b"", 0, 0
        yield from self.close(file, fh, 0o100001)
        file.users -= 1

    def put(self, file: File, fh: int, count: int) -> Task:
        size = WRITES[self.below(len(WRITES))]
        kept = PAYLOAD[: min(size, 432)]
        for n in range(count):
            content = _write_in(fh, n * size, size, 0, 0, 0o100001, 0) + kept
            yield WRITE, file.nodeid, content, 0, _write_out(size, 0), 0, size - len(kept)

    def make(self, place: File) -> Generator[Request, None, File]:
        """Make a file that no other task knows of, and return it."""
        if not place.nodeid:
            yield from self.look_up(place)
        self.made += 1
        name = b"draft-%d.tmp" % self.made
        yield LOOKUP, place.nodeid, name + b"\0", ENOENT, b"", 0, 0
        file = File(name, place)
        self.settle(file)
        content = CREATE_IN + name + b"\0"
        yield CREATE, place.nodeid, content, 0, file.entry + _open_out(file.nodeid ^ 0xFFFF, 0, 0), 0, 0
        return file

    def save(self) -> Task:
        """Write a new file and move it to its name, as editors do."""
        place = self.any_dir()
        file = yield from self.make(place)
        fh = file.nodeid ^ 0xFFFF
        yield from self.put(file, fh, 1 + self.below(3))
        setattr_in = body(OPS_BY_NAME["SETATTR"].request, valid=0x41, fh=fh, mode=0o100640)
        yield SETATTR, file.nodeid, setattr_in, 0, file.attributes, 0, 0
        yield FSYNC, file.nodeid, _fsync_in(fh, 0, 0), 0, b"", 0, 0
        yield from self.close(file, fh, 0o100001)
        new = b"report-%04d.txt" % (5000 + self.made)
        target = place.nodeid.to_bytes(8, "little") + file.name + b"\0" + new + b"\0"
        yield RENAME, place.nodeid, target, 0, b"", 0, 0
        file.name = new
        place.files.append(file)

    def scratch(self) -> Task:
        """Make a file, write to it and remove it: the kernel then forgets the node."""
        place = self.any_dir()
        file = yield from self.make(place)
        yield from self.put(file, file.nodeid ^ 0xFFFF, 1)
        yield from self.close(file, file.nodeid ^ 0xFFFF, 0o100001)
        yield UNLINK, place.nodeid, file.name + b"\0", 0, b"", 0, 0
        yield FORGET, file.nodeid, _forget_in(file.nlookup), 0, b"", 0, 0

    def ls(self) -> Task:
        place = self.any_dir()
        if not place.nodeid:
            yield from self.look_up(place)
        fh = self.handle()
        yield OPENDIR, place.nodeid, OPEN_IN, 0, _open_out(fh, 0, 0), 0, 0
        listing = self.listing(place, 1 + self.below(3) if self.below(4) else 20)
        kept = listing[:496]
        yield READDIRPLUS, place.nodeid, _read_in(fh, 0, 4096, 0, 0, 0, 0), 0, kept, len(listing) - len(kept), 0
        yield READDIRPLUS, place.nodeid, _read_in(fh, 99, 4096, 0, 0, 0, 0), 0, b"", 0, 0
        yield RELEASEDIR, place.nodeid, _release_in(fh, 0o200000, 0, 0), 0, b"", 0, 0

    def listing(self, place: File, count: int) -> bytes:
        parts = []
        for number, file in enumerate(place.files[:count]):
            self.settle(file)
            name = file.name
            ino = int.from_bytes(file.entry[:8], "little")
            values = _entry_values(file.entry)
            dirent = _dirent(*values, ino, number + 1, len(name), 4 if file.is_dir else 8)
            parts.append(dirent + name + bytes(-(len(dirent) + len(name)) % 8))
        return b"".join(parts)

    def xattr(self) -> Task:
        file = self.any_file()
        file.users += 1
        if not file.nodeid:
            yield from self.look_up(file)
        name = b"security.capability\0" if self.below(4) else b"user.mime_type\0"
        if name[0] == ord("s"):
            yield GETXATTR, file.nodeid, _xattr_in(24, 0) + name, ENODATA, b"", 0, 0
        else:
            yield GETXATTR, file.nodeid, _xattr_in(0, 0) + name, 0, _write_out(10, 0), 0, 0
            yield GETXATTR, file.nodeid, _xattr_in(10, 0) + name, 0, b"text/plain", 0, 0
        file.users -= 1

    def statfs(self) -> Task:
        yield STATFS, 1, b"", 0, STATFS_OUT, 0, 0

    def sync(self) -> Task:
        """sync(2): one SYNCFS for the mount and one for each submount the kernel knows."""
        yield SYNCFS, 1, SYNCFS_IN, 0, b"", 0, 0
        for place in self.dirs:
            if place.is_submount and place.nodeid:
                yield SYNCFS, place.nodeid, SYNCFS_IN, 0, b"", 0, 0

    def forget(self) -> Task:
        """Memory gets scarce: the kernel gives back the files of a directory that nobody uses."""
        place = self.any_dir()
        gone = [file for file in place.files if file.nodeid and not file.users and not file.is_dir][:30]
        if not gone:
            return
        forgets = b"".join(_forget_one(file.nodeid, file.nlookup) for file in gone)
        for file in gone:
            file.nodeid = file.nlookup = 0
        yield BATCH_FORGET, 0, len(gone).to_bytes(8, "little") + forgets, 0, b"", 0, 0

    def tasks(self) -> list[Callable[[], Task]]:
        """Return the kinds of task, each as often as its share."""
        shares = (
            (self.stat, 400), (self.miss, 80), (self.read, 200), (self.write, 50), (self.save, 25), (self.scratch, 25),
            (self.ls, 30), (self.xattr, 50), (self.statfs, 6), (self.sync, 1), (self.forget, 6),
        )  # fmt: skip
        return [task for task, share in shares for _ in range(share)]


_entry_out = wire.layout(wire.reply_fields("LOOKUP")).struct.unpack


def _entry_values(entry: bytes) -> tuple[int, ...]:
    return _entry_out(entry)
