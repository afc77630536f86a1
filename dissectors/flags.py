"""The name tables of the protocol. Source: include/uapi/linux/fuse.h up to 7.46, fcntl.h and stat.h of x86-64."""

from dissectors.names import Enumeration, Flags

INIT_FLAG_NAMES = (
    # Bits 0-31 travel in `flags`, 32-63 in `flags2`, the latter only when INIT_EXT (bit 30) is set.
    "ASYNC_READ",
    "POSIX_LOCKS",
    "FILE_OPS",
    "ATOMIC_O_TRUNC",
    "EXPORT_SUPPORT",
    "BIG_WRITES",
    "DONT_MASK",
    "SPLICE_WRITE",
    "SPLICE_MOVE",
    "SPLICE_READ",
    "FLOCK_LOCKS",
    "HAS_IOCTL_DIR",
    "AUTO_INVAL_DATA",
    "DO_READDIRPLUS",
    "READDIRPLUS_AUTO",
    "ASYNC_DIO",
    "WRITEBACK_CACHE",
    "NO_OPEN_SUPPORT",
    "PARALLEL_DIROPS",
    "HANDLE_KILLPRIV",
    "POSIX_ACL",
    "ABORT_ERROR",
    "MAX_PAGES",
    "CACHE_SYMLINKS",
    "NO_OPENDIR_SUPPORT",
    "EXPLICIT_INVAL_DATA",
    "MAP_ALIGNMENT",
    "SUBMOUNTS",
    "HANDLE_KILLPRIV_V2",
    "SETXATTR_EXT",
    "INIT_EXT",
    "INIT_RESERVED",
    "SECURITY_CTX",
    "HAS_INODE_DAX",
    "CREATE_SUPP_GROUP",
    "HAS_EXPIRE_ONLY",
    "DIRECT_IO_ALLOW_MMAP",
    "PASSTHROUGH",
    "NO_EXPORT_SUPPORT",
    "HAS_RESEND",
    "ALLOW_IDMAP",
    "OVER_IO_URING",
    "REQUEST_TIMEOUT",
    "HAS_IO_URING_BUFPOOL",
)
INIT_FLAGS_BIT = {name: bit for bit, name in enumerate(INIT_FLAG_NAMES)}
INIT_ALL = Flags("INIT", {1 << bit: name for bit, name in enumerate(INIT_FLAG_NAMES)})
INIT = Flags("INIT", {1 << bit: name for bit, name in enumerate(INIT_FLAG_NAMES) if bit < 32})
INIT2 = Flags("INIT2", {1 << (bit - 32): name for bit, name in enumerate(INIT_FLAG_NAMES) if bit >= 32})


def init_flag(name: str) -> int:
    """Return the 64-bit mask of the INIT flag called `name`; KeyError when there is none."""
    return 1 << INIT_FLAGS_BIT[name]


FOPEN = Flags(
    "FOPEN",
    {
        0x1: "DIRECT_IO",
        0x2: "KEEP_CACHE",
        0x4: "NONSEEKABLE",
        0x8: "CACHE_DIR",
        0x10: "STREAM",
        0x20: "NOFLUSH",
        0x40: "PARALLEL_DIRECT_WRITES",
        0x80: "PASSTHROUGH",
        0x100: "IO_URING_ZERO_COPY",
    },
)
FATTR = Flags(
    "FATTR",
    {
        0x1: "MODE",
        0x2: "UID",
        0x4: "GID",
        0x8: "SIZE",
        0x10: "ATIME",
        0x20: "MTIME",
        0x40: "FH",
        0x80: "ATIME_NOW",
        0x100: "MTIME_NOW",
        0x200: "LOCKOWNER",
        0x400: "CTIME",
        0x800: "KILL_SUIDGID",
    },
)
FATTR_FH = 0x40
ATTR = Flags("ATTR", {0x1: "SUBMOUNT", 0x2: "DAX"})
GETATTR = Flags("GETATTR", {0x1: "FH"})
GETATTR_FH = 0x1
LK = Flags("LK", {0x1: "FLOCK"})
RELEASE = Flags("RELEASE", {0x1: "FLUSH", 0x2: "FLOCK_UNLOCK"})
READ = Flags("READ", {0x2: "LOCKOWNER"})
WRITE = Flags("WRITE", {0x1: "CACHE", 0x2: "LOCKOWNER", 0x4: "KILL_SUIDGID"})
FSYNC = Flags("FSYNC", {0x1: "FDATASYNC"})
OPEN_IN = Flags("OPEN", {0x1: "KILL_SUIDGID"})
SETXATTR = Flags("SETXATTR", {0x1: "ACL_KILL_SGID"})
XATTR = Flags("XATTR", {0x1: "CREATE", 0x2: "REPLACE"})
RENAME = Flags("RENAME", {0x1: "NOREPLACE", 0x2: "EXCHANGE", 0x4: "WHITEOUT"})
IOCTL = Flags(
    "IOCTL", {0x1: "COMPAT", 0x2: "UNRESTRICTED", 0x4: "RETRY", 0x8: "32BIT", 0x10: "DIR", 0x20: "COMPAT_X32"}
)
IOCTL_RETRY = 0x4
POLL = Flags("POLL", {0x1: "SCHEDULE_NOTIFY"})
SETUPMAPPING = Flags("SETUPMAPPING", {0x1: "WRITE", 0x2: "READ"})
EXPIRE = Flags("INVAL_ENTRY", {0x1: "EXPIRE_ONLY"})
CUSE = Flags("CUSE", {0x1: "UNRESTRICTED_IOCTL"})
FALLOC = Flags(
    "FALLOC",
    {
        0x1: "KEEP_SIZE",
        0x2: "PUNCH_HOLE",
        0x4: "NO_HIDE_STALE",
        0x8: "COLLAPSE_RANGE",
        0x10: "ZERO_RANGE",
        0x20: "INSERT_RANGE",
        0x40: "UNSHARE_RANGE",
    },
    zero="ALLOCATE",
)
ACCESS = Flags("ACCESS", {0x1: "X_OK", 0x2: "W_OK", 0x4: "R_OK"}, zero="F_OK")
STATX = Flags(
    "STATX",
    {
        0x1: "TYPE",
        0x2: "MODE",
        0x4: "NLINK",
        0x8: "UID",
        0x10: "GID",
        0x20: "ATIME",
        0x40: "MTIME",
        0x80: "CTIME",
        0x100: "INO",
        0x200: "SIZE",
        0x400: "BLOCKS",
        0x800: "BTIME",
        0x7FF: "BASIC_STATS",
    },
)
# STATX_ATTR_* of <linux/stat.h>; bits that a newer kernel adds print in hexadecimal.
STATX_ATTR = Flags(
    "STATX_ATTR",
    {
        0x4: "COMPRESSED",
        0x10: "IMMUTABLE",
        0x20: "APPEND",
        0x40: "NODUMP",
        0x800: "ENCRYPTED",
        0x1000: "AUTOMOUNT",
        0x2000: "MOUNT_ROOT",
        0x100000: "VERITY",
        0x200000: "DAX",
        0x400000: "WRITE_ATOMIC",
    },
)
EPOLL = Flags(
    "EPOLL",
    {
        0x1: "IN",
        0x2: "PRI",
        0x4: "OUT",
        0x8: "ERR",
        0x10: "HUP",
        0x20: "NVAL",
        0x40: "RDNORM",
        0x80: "RDBAND",
        0x100: "WRNORM",
        0x200: "WRBAND",
        0x400: "MSG",
        0x2000: "RDHUP",
    },
)
# O_* differ between architectures; these are x86-64's, the ones of nearly every captured client.
OPEN = Flags(
    "O",
    {
        0x1: "WRONLY",
        0x2: "RDWR",
        0x20: "EXEC",
        0x40: "CREAT",
        0x80: "EXCL",
        0x100: "NOCTTY",
        0x200: "TRUNC",
        0x400: "APPEND",
        0x800: "NONBLOCK",
        0x1000: "DSYNC",
        0x2000: "ASYNC",
        0x4000: "DIRECT",
        0x8000: "LARGEFILE",
        0x10000: "DIRECTORY",
        0x20000: "NOFOLLOW",
        0x40000: "NOATIME",
        0x80000: "CLOEXEC",
        0x101000: "SYNC",
        0x200000: "PATH",
        0x410000: "TMPFILE",
    },
    zero="RDONLY",
)
URING_ENT = Flags("URING_ENT", {0x1: "ZERO_COPY"})
URING_QUEUE = Flags("URING", {0x1: "ZERO_COPY"})

DIRENT = Enumeration("DT", {0: "UNKNOWN", 1: "FIFO", 2: "CHR", 4: "DIR", 6: "BLK", 8: "REG", 10: "LNK", 12: "SOCK"})
LOCK = Enumeration("F", {0: "RDLCK", 1: "WRLCK", 2: "UNLCK"})
LOCK_END = Enumeration("LOCK_END", {0x7FFF_FFFF_FFFF_FFFF: "EOF"}, is_open=True)
ID = Enumeration("ID", {0xFFFF_FFFF: "INVALID"}, is_open=True)  # FUSE_INVALID_UIDGID: on an id-mapped mount, 7.41
WHENCE = Enumeration("SEEK", {0: "SET", 1: "CUR", 2: "END", 3: "DATA", 4: "HOLE"})
URING_CMD = Enumeration(
    "URING_CMD",
    {0: "INVALID", 1: "REGISTER", 2: "COMMIT_AND_FETCH", 3: "ADD_QUEUE", 4: "ADD_BUFPOOL"},
)
EXTENSION = Enumeration("EXT", {32: "GROUPS"})

S_IFMT = 0o170000
FILE_TYPE = Enumeration(
    "S_IF",
    {
        0o010000: "FIFO",
        0o020000: "CHR",
        0o040000: "DIR",
        0o060000: "BLK",
        0o100000: "REG",
        0o120000: "LNK",
        0o140000: "SOCK",
    },
)
ATTR_SUBMOUNT = 0x1
UNIQUE_RESEND = 1 << 63  # 7.40: the kernel queued the request again after NOTIFY_RESEND
UNIQUE_INTERRUPT = 1  # since 4.20 the unique of an INTERRUPT is its target's | 1
