"""The FUSE structures this server speaks, written down by hand.

Nothing here comes from the project's own dissectors: what the server says about a message must not depend on
the code that is tested against it. Layouts: `<linux/fuse.h>`, host byte order.
"""

from __future__ import annotations

import struct
from enum import IntEnum

IN_HEADER = struct.Struct("=IIQQIIIHH")  # len opcode unique nodeid uid gid pid total_extlen padding
OUT_HEADER = struct.Struct("=IiQ")  # len error unique
# ino size blocks, atime mtime ctime and then their nanoseconds, mode nlink uid gid rdev blksize flags
ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
ENTRY_OUT = struct.Struct("=QQQQII")  # nodeid generation entry_valid attr_valid, their ns; an ATTR follows
ATTR_OUT = struct.Struct("=QII")  # attr_valid attr_valid_nsec dummy; an ATTR follows
INIT_IN = struct.Struct("=IIII")  # major minor max_readahead flags; flags2 and a reserve follow since 7.36
INIT_OUT = struct.Struct("=IIIIHHIIHHIIH22x")
INIT_OUT_BEFORE_7_23_BYTES = 24
SETATTR_IN = struct.Struct("=IIQQQQQQIIIIIIII")
OPEN_OUT = struct.Struct("=QIi")  # fh open_flags backing_id
CREATE_IN = struct.Struct("=IIII")  # flags mode umask open_flags
MKNOD_IN = struct.Struct("=IIII")  # mode rdev umask padding
MKDIR_IN = struct.Struct("=II")  # mode umask
RENAME_IN = struct.Struct("=Q")  # newdir
RENAME2_IN = struct.Struct("=QII")  # newdir flags padding
LINK_IN = struct.Struct("=Q")  # oldnodeid
IO_IN = struct.Struct("=QQIIQII")  # READ, WRITE, READDIR: fh offset size io_flags lock_owner flags padding
WRITE_OUT = struct.Struct("=II")  # size padding
FH = struct.Struct("=Q")  # the first field of RELEASE, FLUSH, FSYNC
XATTR_SIZE = struct.Struct("=II")  # GETXATTR, LISTXATTR: size padding; SETXATTR (8 bytes): size flags
FORGET_IN = struct.Struct("=Q")  # nlookup
BATCH_FORGET_IN = struct.Struct("=II")  # count dummy
FORGET_ONE = struct.Struct("=QQ")  # nodeid nlookup
KSTATFS = struct.Struct("=QQQQQIIII24x")  # blocks bfree bavail files ffree bsize namelen frsize padding
DIRENT = struct.Struct("=QQII")  # ino off namelen type; the name follows, padded to 8

KERNEL_MAJOR = 7
ROOT_NODEID = 1
ATTR_SUBMOUNT = 1 << 0  # fuse_attr.flags: this directory is the root of another file system

ASYNC_READ = 1 << 0
BIG_WRITES = 1 << 5
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
WRITEBACK_CACHE = 1 << 16
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22

FATTR_MODE, FATTR_UID, FATTR_GID, FATTR_SIZE, FATTR_ATIME, FATTR_MTIME = (1 << bit for bit in range(6))
FATTR_ATIME_NOW, FATTR_MTIME_NOW, FATTR_CTIME = 1 << 7, 1 << 8, 1 << 10

FUSE_DEV_IOC_CLONE = 0x8004E500  # _IOR(229, 0, uint32_t)


class Op(IntEnum):
    """The requests this server knows; the answer to any other is ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    READDIRPLUS = 44
    RENAME2 = 45
    SYNCFS = 50


WITHOUT_REPLY = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT, Op.NOTIFY_REPLY})


class Notify(IntEnum):
    """What a server may tell the kernel unasked; the code stands where a reply has its error."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    STORE = 4
    RETRIEVE = 5
    DELETE = 6
    RESEND = 7
    INC_EPOCH = 8


def name_of(body: bytes) -> bytes:
    """Return the bytes before the first NUL."""
    return body.split(b"\0", 1)[0]


def two_names_of(body: bytes) -> tuple[bytes, bytes]:
    """Return the two NUL-terminated names a RENAME or SYMLINK carries."""
    first, second, _ = body.split(b"\0", 2)
    return first, second


def padded(record: bytes) -> bytes:
    """Return `record` filled with NUL to a multiple of 8, as directory entries are."""
    return record + bytes(-len(record) % 8)
