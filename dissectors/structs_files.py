"""Structures of open files and directories, locks, ioctl, poll and DAX, field by field in wire order.

Source: include/uapi/linux/fuse.h, 7.12 to 7.46; the names are the kernel's. A field without a description is padding.
Sizes and offsets are compared with the C compiler's by tests/dissectors/test_c_header.py.
"""

from dissectors import flags
from dissectors.fields import Embed, Role, Show, When, data, i32, records, struct, u32, u64
from dissectors.structs_nodes import ENTRY_OUT

# ---- open files ----

OPEN_IN = struct(
    "fuse_open_in",
    u32("flags", "open(2) flags", names=flags.OPEN),
    u32("open_flags", "FUSE_OPEN_* flags", names=flags.OPEN_IN, means=33),
)
OPEN_OUT = struct(
    "fuse_open_out",
    u64("fh", "handle the server chose", role=Role.NEW_HANDLE, show=Show.HEX),
    u32("open_flags", "FOPEN_* flags", names=flags.FOPEN),
    i32("backing_id", "backing file, with PASSTHROUGH", role=Role.BACKING_ID, means=40),
)
CREATE_IN = struct(
    "fuse_create_in",
    u32("flags", "open(2) flags", names=flags.OPEN),
    u32("mode", "file type and permissions", show=Show.MODE),
    u32("umask", "umask of the caller", show=Show.OCTAL, since=12),
    u32("open_flags", "FUSE_OPEN_* flags", names=flags.OPEN_IN, since=12, means=33),
)
RELEASE_IN = struct(
    "fuse_release_in",
    u64("fh", "handle to let go", role=Role.HANDLE, show=Show.HEX),
    u32("flags", "flags of the open file", names=flags.OPEN),
    u32("release_flags", "FUSE_RELEASE_* flags", names=flags.RELEASE),
    u64("lock_owner", "with FLOCK_UNLOCK", role=Role.LOCK_OWNER, show=Show.HEX, since=8),
)
FLUSH_IN = struct(
    "fuse_flush_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u32("unused"),
    u32("padding"),
    u64("lock_owner", "owner whose locks go", role=Role.LOCK_OWNER, show=Show.HEX),
)
READ_IN = struct(
    "fuse_read_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u64("offset", "first byte wanted", unit="B"),
    u32("size", "most bytes the reply may carry", unit="B"),
    u32("read_flags", "FUSE_READ_* flags", names=flags.READ, means=9),
    u64("lock_owner", "with LOCKOWNER", role=Role.LOCK_OWNER, show=Show.HEX, since=9),
    u32("flags", "flags of the open file", names=flags.OPEN, since=9),
    u32("padding", since=9),
)
READDIR_IN = struct(
    "fuse_read_in",
    u64("fh", "handle of the open directory", role=Role.HANDLE, show=Show.HEX),
    u64("offset", "cookie of the last entry read; 0: from the start", role=Role.COOKIE),
    u32("size", "most bytes the reply may carry", unit="B"),
    u32("read_flags", "FUSE_READ_* flags", names=flags.READ, means=9),
    u64("lock_owner", "with LOCKOWNER", role=Role.LOCK_OWNER, show=Show.HEX, since=9),
    u32("flags", "flags of the open directory", names=flags.OPEN, since=9),
    u32("padding", since=9),
)
WRITE_IN = struct(
    "fuse_write_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u64("offset", "where the first byte goes", unit="B"),
    u32("size", "bytes to write", unit="B", role=Role.LENGTH),
    u32("write_flags", "CACHE: written back from the page cache", names=flags.WRITE),
    u64("lock_owner", "with LOCKOWNER", role=Role.LOCK_OWNER, show=Show.HEX, since=9),
    u32("flags", "flags of the open file", names=flags.OPEN, since=9),
    u32("padding", since=9),
)
WRITE_OUT = struct("fuse_write_out", u32("size", "bytes written", unit="B"), u32("padding"))
FSYNC_IN = struct(
    "fuse_fsync_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u32("fsync_flags", "FDATASYNC: the data alone", names=flags.FSYNC),
    u32("padding"),
)
SYNCFS_IN = struct("fuse_syncfs_in", u64("padding"), since=34)
FALLOCATE_IN = struct(
    "fuse_fallocate_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u64("offset", "start of the range", unit="B"),
    u64("length", "length of the range", unit="B"),
    u32("mode", "FALLOC_FL_* flags", names=flags.FALLOC),
    u32("padding"),
    since=19,
)
LSEEK_IN = struct(
    "fuse_lseek_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u64("offset", "where to look from", unit="B"),
    u32("whence", "DATA or HOLE", names=flags.WHENCE),
    u32("padding"),
    since=24,
)
LSEEK_OUT = struct("fuse_lseek_out", u64("offset", "what was found", unit="B"), since=24)
COPY_FILE_RANGE_IN = struct(
    "fuse_copy_file_range_in",
    u64("fh_in", "handle to read from", role=Role.HANDLE, show=Show.HEX),
    u64("off_in", "where to read", unit="B"),
    u64("nodeid_out", "node to write to", role=Role.NODE),
    u64("fh_out", "handle to write to", role=Role.HANDLE, of="nodeid_out", show=Show.HEX),
    u64("off_out", "where to write", unit="B"),
    u64("len", "bytes to copy", unit="B"),
    u64("flags", "flags of copy_file_range(2)", show=Show.HEX),
    since=28,
)
COPY_FILE_RANGE_OUT = struct("fuse_copy_file_range_out", u64("bytes_copied", "bytes copied", unit="B"), since=45)
BMAP_IN = struct(
    "fuse_bmap_in",
    u64("block", "block of the file"),
    u32("blocksize", "block size", unit="B"),
    u32("padding"),
)
BMAP_OUT = struct("fuse_bmap_out", u64("block", "block of the device"))

# ---- locks ----

FILE_LOCK = struct(
    "fuse_file_lock",
    u64("start", "first byte", unit="B"),
    u64("end", "last byte; EOF: to the end of the file", names=flags.LOCK_END),
    u32("type", "kind of lock", names=flags.LOCK),
    u32("pid", "process that holds it"),
)
LK_IN = struct(
    "fuse_lk_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u64("owner", "who locks", role=Role.LOCK_OWNER, show=Show.HEX),
    Embed("lk", FILE_LOCK, "lk"),
    u32("lk_flags", "FLOCK: flock(2), else fcntl(2)", names=flags.LK, since=9),
    u32("padding", since=9),
)
LK_OUT = struct("fuse_lk_out", Embed("lk", FILE_LOCK, "lk"))

# ---- ioctl and poll ----

IOCTL_IN = struct(
    "fuse_ioctl_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u32("flags", "FUSE_IOCTL_* flags", names=flags.IOCTL),
    u32("cmd", "ioctl(2) command", show=Show.HEX),
    u64("arg", "ioctl(2) argument", show=Show.HEX),
    u32("in_size", "bytes that follow", unit="B", role=Role.LENGTH),
    u32("out_size", "most bytes the reply may carry", unit="B"),
    since=11,
)
IOCTL_IOVEC = struct(
    "fuse_ioctl_iovec",
    u64("base", "address in the caller", show=Show.HEX),
    u64("len", "length", unit="B"),
    since=16,
)
IOVEC_32 = struct(  # struct iovec of a 32-bit server; that of a 64-bit one is laid out as fuse_ioctl_iovec
    "iovec",
    u32("base", "address in the caller", show=Show.HEX),
    u32("len", "length", unit="B"),
)
IOCTL_OUT = struct(
    "fuse_ioctl_out",
    i32("result", "what ioctl(2) returns"),
    u32("flags", "RETRY: the call again, with the memory listed below", names=flags.IOCTL),
    u32("in_iovs", "pieces of memory to bring along, with RETRY"),
    u32("out_iovs", "pieces of memory to fill, with RETRY"),
    since=11,
)
RETRY = When("flags", mask=flags.IOCTL_RETRY, equals=flags.IOCTL_RETRY)
NOT_RETRY = When("flags", mask=flags.IOCTL_RETRY, equals=0)
IOVECS = records(
    "iovecs",
    "memory the kernel has to bring or fill",
    IOCTL_IOVEC,
    count_from="in_iovs+out_iovs",
    narrow=IOVEC_32,
    narrow_before=16,
    when=RETRY,
)
POLL_IN = struct(
    "fuse_poll_in",
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u64("kh", "handle that NOTIFY_POLL echoes", role=Role.POLL_HANDLE, show=Show.HEX),
    u32("flags", "FUSE_POLL_* flags", names=flags.POLL),
    u32("events", "events of interest", names=flags.EPOLL, means=21),
    since=11,
)
POLL_OUT = struct("fuse_poll_out", u32("revents", "events that are ready", names=flags.EPOLL), u32("padding"), since=11)

# ---- DAX ----

SETUPMAPPING_IN = struct(
    "fuse_setupmapping_in",
    u64("fh", "handle; Linux sends all ones", role=Role.HANDLE, show=Show.HEX),
    u64("foffset", "where in the file", unit="B"),
    u64("len", "length of the mapping", unit="B"),
    u64("flags", "FUSE_SETUPMAPPING_FLAG_*", names=flags.SETUPMAPPING),
    u64("moffset", "where in the DAX window", unit="B"),
    since=31,
)
REMOVEMAPPING_IN = struct("fuse_removemapping_in", u32("count", "how many mappings follow", role=Role.COUNT), since=31)
REMOVEMAPPING_ONE = struct(
    "fuse_removemapping_one",
    u64("moffset", "where in the DAX window", unit="B"),
    u64("len", "length of the mapping", unit="B"),
    since=31,
)

# ---- directory entries ----

DIRENT = struct(
    "fuse_dirent",
    u64("ino", "inode number"),
    u64("off", "cookie to go on reading after this entry", role=Role.COOKIE),
    u32("namelen", "length of the name", unit="B", role=Role.LENGTH),
    u32("type", "kind of file", names=flags.DIRENT),
)
DIRENTPLUS = struct("fuse_direntplus", Embed("entry_out", ENTRY_OUT), Embed("dirent", DIRENT, "dirent"), since=21)
DIRENT_RECORD = (DIRENT, data("name", "name of the entry", size_from="namelen", role=Role.NAME))
DIRENTPLUS_RECORD = (
    DIRENTPLUS,
    data("dirent.name", "name of the entry", size_from="dirent.namelen", role=Role.NAME),
)
