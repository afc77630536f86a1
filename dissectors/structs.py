"""The protocol's C structures, field by field in wire order. Source: include/uapi/linux/fuse.h, 7.12 to 7.46.

Names are the kernel's. A field without a description is padding. Sizes and offsets are compared with the C compiler's
by tests/dissectors/test_c_header.py.
"""

from dissectors import flags
from dissectors.fields import (
    Embed,
    Role,
    Show,
    When,
    data,
    i32,
    i64,
    name,
    records,
    spare,
    struct,
    u16,
    u32,
    u64,
)

# ---- headers ----

IN_HEADER = struct(
    "fuse_in_header",
    u32("len", "length of the whole message", unit="B"),
    u32("opcode", "what is asked"),
    u64("unique", "identifies the request among those of its connection"),
    u64("nodeid", "the node it is about; 0 where the opcode has none", role=Role.NODE),
    u32("uid", "user of the caller, in the server's user namespace"),
    u32("gid", "group of the caller"),
    u32("pid", "thread id of the caller, in the server's pid namespace; 0 when there is none"),
    u16("total_extlen", "length of the extension area, in units of 8 bytes", means=38),
    u16("padding"),
)
OUT_HEADER = struct(
    "fuse_out_header",
    u32("len", "length of the whole message", unit="B"),
    i32("error", "0, a negative errno, or the notification's code when unique is 0"),
    u64("unique", "copy of the request's unique; 0 for a notification"),
)

# ---- attributes ----

ATTR = struct(
    "fuse_attr",
    u64("ino", "inode number that stat(2) shows; not the nodeid"),
    u64("size", "file size", unit="B"),
    u64("blocks", "blocks of 512 bytes in use"),
    u64("atime", "last access", show=Show.SECONDS, unit="s", nanoseconds="atimensec"),
    u64("mtime", "last change of the content", show=Show.SECONDS, unit="s", nanoseconds="mtimensec"),
    u64("ctime", "last change of the inode", show=Show.SECONDS, unit="s", nanoseconds="ctimensec"),
    u32("atimensec", "nanoseconds of atime", unit="ns"),
    u32("mtimensec", "nanoseconds of mtime", unit="ns"),
    u32("ctimensec", "nanoseconds of ctime", unit="ns"),
    u32("mode", "file type and permissions", show=Show.MODE),
    u32("nlink", "number of hard links"),
    u32("uid", "owner"),
    u32("gid", "owner's group"),
    u32("rdev", "device number of a device node", show=Show.DEVICE),
    u32("blksize", "preferred size of I/O", unit="B", since=9),
    u32("flags", "SUBMOUNT marks the root of a submount", names=flags.ATTR, since=9, means=32),
)
ENTRY_OUT = struct(
    "fuse_entry_out",
    u64("nodeid", "the node found; 0: a cacheable 'does not exist'", role=Role.NEW_NODE),
    u64("generation", "tells reuses of a nodeid apart"),
    u64("entry_valid", "how long the name may be cached", unit="s", nanoseconds="entry_valid_nsec"),
    u64("attr_valid", "how long the attributes may be cached", unit="s", nanoseconds="attr_valid_nsec"),
    u32("entry_valid_nsec", "nanoseconds of entry_valid", unit="ns"),
    u32("attr_valid_nsec", "nanoseconds of attr_valid", unit="ns"),
    Embed("attr", ATTR, "attr"),
)
ATTR_OUT = struct(
    "fuse_attr_out",
    u64("attr_valid", "how long the attributes may be cached", unit="s", nanoseconds="attr_valid_nsec"),
    u32("attr_valid_nsec", "nanoseconds of attr_valid", unit="ns"),
    u32("dummy"),
    Embed("attr", ATTR, "attr"),
)
GETATTR_IN = struct(
    "fuse_getattr_in",
    u32("getattr_flags", "FH: fh is valid", names=flags.GETATTR, since=9),
    u32("dummy", since=9),
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX, since=9),
    since=9,
)
SETATTR_IN = struct(
    "fuse_setattr_in",
    u32("valid", "which of the fields below to set", names=flags.FATTR),
    u32("padding"),
    u64("fh", "handle of the open file, with FH", role=Role.HANDLE, show=Show.HEX),
    u64("size", "new size", unit="B"),
    u64("lock_owner", "with LOCKOWNER", role=Role.LOCK_OWNER, show=Show.HEX),
    u64("atime", "new access time", show=Show.SECONDS, unit="s", nanoseconds="atimensec"),
    u64("mtime", "new time of the content's change", show=Show.SECONDS, unit="s", nanoseconds="mtimensec"),
    u64("ctime", "new time of the inode's change", show=Show.SECONDS, unit="s", nanoseconds="ctimensec", means=23),
    u32("atimensec", "nanoseconds of atime", unit="ns"),
    u32("mtimensec", "nanoseconds of mtime", unit="ns"),
    u32("ctimensec", "nanoseconds of ctime", unit="ns", means=23),
    u32("mode", "new permissions", show=Show.MODE),
    u32("unused4"),
    u32("uid", "new owner"),
    u32("gid", "new group"),
    u32("unused5"),
)
SX_TIME = struct(
    "fuse_sx_time",
    i64("tv_sec", "seconds", show=Show.SECONDS, unit="s", nanoseconds="tv_nsec"),
    u32("tv_nsec", "nanoseconds", unit="ns"),
    i32("__reserved"),
    since=39,
)
STATX = struct(
    "fuse_statx",
    u32("mask", "which fields are filled", names=flags.STATX),
    u32("blksize", "preferred size of I/O", unit="B"),
    u64("attributes", "STATX_ATTR_* bits", show=Show.HEX),
    u32("nlink", "number of hard links"),
    u32("uid", "owner"),
    u32("gid", "owner's group"),
    u16("mode", "file type and permissions", show=Show.MODE),
    spare("__spare0", 2),
    u64("ino", "inode number"),
    u64("size", "file size", unit="B"),
    u64("blocks", "blocks of 512 bytes in use"),
    u64("attributes_mask", "which attribute bits are supported", show=Show.HEX),
    Embed("atime", SX_TIME, "atime"),
    Embed("btime", SX_TIME, "btime"),
    Embed("ctime", SX_TIME, "ctime"),
    Embed("mtime", SX_TIME, "mtime"),
    u32("rdev_major", "major number of a device node"),
    u32("rdev_minor", "minor number of a device node"),
    u32("dev_major", "major number of the filesystem's device"),
    u32("dev_minor", "minor number of the filesystem's device"),
    spare("__spare2", 112),
    since=39,
)
STATX_IN = struct(
    "fuse_statx_in",
    u32("getattr_flags", "FH: fh is valid", names=flags.GETATTR),
    u32("reserved"),
    u64("fh", "handle of the open file", role=Role.HANDLE, show=Show.HEX),
    u32("sx_flags", "AT_STATX_* flags; Linux sends 0", show=Show.HEX),
    u32("sx_mask", "which fields are wanted", names=flags.STATX),
    since=39,
)
STATX_OUT = struct(
    "fuse_statx_out",
    u64("attr_valid", "how long the attributes may be cached", unit="s", nanoseconds="attr_valid_nsec"),
    u32("attr_valid_nsec", "nanoseconds of attr_valid", unit="ns"),
    u32("flags", "reserved", show=Show.HEX),
    spare("spare", 16),
    Embed("stat", STATX, "stat"),
    since=39,
)
KSTATFS = struct(
    "fuse_kstatfs",
    u64("blocks", "size of the filesystem, in frsize units"),
    u64("bfree", "free blocks"),
    u64("bavail", "free blocks for an ordinary user"),
    u64("files", "inodes"),
    u64("ffree", "free inodes"),
    u32("bsize", "block size", unit="B"),
    u32("namelen", "longest name", unit="B"),
    u32("frsize", "fragment size", unit="B", since=4),
    u32("padding", since=4),
    spare("spare", 24, since=4),
)
STATFS_OUT = struct("fuse_statfs_out", Embed("st", KSTATFS))

# ---- names and nodes ----

FORGET_IN = struct("fuse_forget_in", u64("nlookup", "how many lookups to take back", role=Role.NLOOKUP))
FORGET_ONE = struct(
    "fuse_forget_one",
    u64("nodeid", "the node to forget", role=Role.NODE),
    u64("nlookup", "how many lookups to take back", role=Role.NLOOKUP),
    since=16,
)
BATCH_FORGET_IN = struct(
    "fuse_batch_forget_in", u32("count", "how many nodes follow", role=Role.COUNT), u32("dummy"), since=16
)
MKNOD_IN = struct(
    "fuse_mknod_in",
    u32("mode", "file type and permissions", show=Show.MODE),
    u32("rdev", "device number", show=Show.DEVICE),
    u32("umask", "umask of the caller", show=Show.OCTAL, since=12),
    u32("padding", since=12),
)
MKDIR_IN = struct(
    "fuse_mkdir_in",
    u32("mode", "permissions", show=Show.MODE),
    u32("umask", "umask of the caller", show=Show.OCTAL, means=12),
)
RENAME_IN = struct("fuse_rename_in", u64("newdir", "directory it moves to", role=Role.NODE))
RENAME2_IN = struct(
    "fuse_rename2_in",
    u64("newdir", "directory it moves to", role=Role.NODE),
    u32("flags", "RENAME_* of renameat2(2)", names=flags.RENAME),
    u32("padding"),
    since=23,
)
LINK_IN = struct("fuse_link_in", u64("oldnodeid", "the node that gets a second name", role=Role.NODE))

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
    u64("fh_out", "handle to write to", role=Role.HANDLE, show=Show.HEX),
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

# ---- extended attributes and access ----

SETXATTR_IN = struct(
    "fuse_setxattr_in",
    u32("size", "length of the value", unit="B", role=Role.LENGTH),
    u32("flags", "XATTR_* of setxattr(2)", names=flags.XATTR),
    u32("setxattr_flags", "FUSE_SETXATTR_* flags", names=flags.SETXATTR, needs="SETXATTR_EXT"),
    u32("padding", needs="SETXATTR_EXT"),
)
GETXATTR_IN = struct(
    "fuse_getxattr_in", u32("size", "room for the value; 0 asks for its size", unit="B"), u32("padding")
)
GETXATTR_OUT = struct("fuse_getxattr_out", u32("size", "size of the value", unit="B"), u32("padding"))
ACCESS_IN = struct("fuse_access_in", u32("mask", "permissions asked for", names=flags.ACCESS), u32("padding"))

# ---- locks ----

FILE_LOCK = struct(
    "fuse_file_lock",
    u64("start", "first byte", unit="B"),
    u64("end", "last byte; 0x7fffffffffffffff: to the end of the file", show=Show.HEX),
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

# ---- session ----

INIT_IN = struct(
    "fuse_init_in",
    u32("major", "protocol major of the kernel"),
    u32("minor", "protocol minor of the kernel"),
    u32("max_readahead", "most bytes the kernel reads ahead", unit="B", since=6),
    u32("flags", "features the kernel offers", names=flags.INIT, since=6),
    u32("flags2", "features 32-63, valid with INIT_EXT", names=flags.INIT2, since=36),
    spare("unused", 44, since=36),
)
INIT_OUT = struct(
    "fuse_init_out",
    u32("major", "protocol major of the server"),
    u32("minor", "protocol minor of the server"),
    u32("max_readahead", "most bytes the kernel may read ahead", unit="B", since=5),
    u32("flags", "features the server accepts", names=flags.INIT, since=5),
    u16("max_background", "most background requests at once", since=5, means=13),
    u16("congestion_threshold", "background requests from which it counts as congested", since=5, means=13),
    u32("max_write", "most bytes in one WRITE", unit="B", since=5),
    u32("time_gran", "granularity of times", unit="ns", since=23),
    u16("max_pages", "most pages in one message, valid with MAX_PAGES", since=23, means=28),
    u16("map_alignment", "log2 of the DAX mapping alignment, valid with MAP_ALIGNMENT", since=23, means=31),
    u32("flags2", "features 32-63, valid with INIT_EXT", names=flags.INIT2, since=23, means=36),
    u32("max_stack_depth", "depth of stacked filesystems, valid with PASSTHROUGH", since=23, means=40),
    u16("request_timeout", "valid with REQUEST_TIMEOUT", unit="s", since=23, means=43),
    spare("unused", 22, since=23),
)
CUSE_INIT_IN = struct(
    "cuse_init_in",
    u32("major", "protocol major of the kernel"),
    u32("minor", "protocol minor of the kernel"),
    u32("unused"),
    u32("flags", "CUSE_* flags", names=flags.CUSE),
    since=11,
)
CUSE_INIT_OUT = struct(
    "cuse_init_out",
    u32("major", "protocol major of the server"),
    u32("minor", "protocol minor of the server"),
    u32("unused"),
    u32("flags", "CUSE_* flags", names=flags.CUSE),
    u32("max_read", "most bytes in one READ", unit="B"),
    u32("max_write", "most bytes in one WRITE", unit="B"),
    u32("dev_major", "major number wanted; 0: any"),
    u32("dev_minor", "minor number wanted"),
    spare("spare", 40),
    since=11,
)
INTERRUPT_IN = struct("fuse_interrupt_in", u64("unique", "unique of the request to interrupt", role=Role.UNIQUE_REF))

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

# ---- notifications ----

NOTIFY_POLL_WAKEUP_OUT = struct(
    "fuse_notify_poll_wakeup_out",
    u64("kh", "handle the POLL request gave", role=Role.POLL_HANDLE, show=Show.HEX),
    since=11,
)
NOTIFY_INVAL_INODE_OUT = struct(
    "fuse_notify_inval_inode_out",
    u64("ino", "node whose cache goes", role=Role.NODE),
    i64("off", "from this byte on; negative: attributes only", unit="B"),
    i64("len", "bytes; 0 or less: to the end of the file", unit="B"),
    since=12,
)
NOTIFY_INVAL_ENTRY_OUT = struct(
    "fuse_notify_inval_entry_out",
    u64("parent", "directory whose entry goes", role=Role.NODE),
    u32("namelen", "length of the name", unit="B", role=Role.LENGTH),
    u32("flags", "EXPIRE_ONLY: look it up again, do not drop it", names=flags.EXPIRE, means=38),
    since=12,
)
NOTIFY_DELETE_OUT = struct(
    "fuse_notify_delete_out",
    u64("parent", "directory whose entry goes", role=Role.NODE),
    u64("child", "node that was deleted", role=Role.NODE),
    u32("namelen", "length of the name", unit="B", role=Role.LENGTH),
    u32("padding"),
    since=18,
)
NOTIFY_STORE_OUT = struct(
    "fuse_notify_store_out",
    u64("nodeid", "node whose cache is filled", role=Role.NODE),
    u64("offset", "where the first byte goes", unit="B"),
    u32("size", "bytes that follow", unit="B", role=Role.LENGTH),
    u32("padding"),
    since=15,
)
NOTIFY_RETRIEVE_OUT = struct(
    "fuse_notify_retrieve_out",
    u64("notify_unique", "unique the NOTIFY_REPLY request will carry"),
    u64("nodeid", "node whose cache is wanted", role=Role.NODE),
    u64("offset", "first byte wanted", unit="B"),
    u32("size", "bytes wanted", unit="B"),
    u32("padding"),
    since=15,
)
NOTIFY_RETRIEVE_IN = struct(
    "fuse_notify_retrieve_in",
    u64("dummy1"),
    u64("offset", "first byte", unit="B"),
    u32("size", "bytes that follow", unit="B", role=Role.LENGTH),
    u32("dummy2"),
    u64("dummy3"),
    u64("dummy4"),
    since=15,
)
NOTIFY_PRUNE_OUT = struct(
    "fuse_notify_prune_out",
    u32("count", "how many nodeids follow", role=Role.COUNT),
    u32("padding"),
    u64("spare"),
    since=45,
)

# ---- extension area ----

SECCTX = struct("fuse_secctx", u32("size", "length of the label", unit="B", role=Role.LENGTH), u32("padding"), since=36)
SECCTX_HEADER = struct(
    "fuse_secctx_header",
    u32("size", "length of the whole block", unit="B", role=Role.LENGTH),
    u32("nr_secctx", "how many labels follow", role=Role.COUNT),
    since=36,
)
EXT_HEADER = struct(
    "fuse_ext_header",
    u32("size", "length of the whole extension", unit="B", role=Role.LENGTH),
    u32("type", "kind of extension", names=flags.EXTENSION),
    since=38,
)
SUPP_GROUPS = struct("fuse_supp_groups", u32("nr_groups", "how many groups follow", role=Role.COUNT), since=38)

# ---- device ioctls and io_uring (not on the read/write path) ----

BACKING_MAP = struct(
    "fuse_backing_map",
    i32("fd", "file to back passthrough"),
    u32("flags", "must be 0", show=Show.HEX),
    u64("padding"),
    since=40,
)
URING_ENT_IN_OUT = struct(
    "fuse_uring_ent_in_out",
    u64("flags", "ZERO_COPY: the data is in registered pages", names=flags.URING_ENT),
    u64("commit_id", "the request's unique"),
    u32("payload_sz", "bytes in the payload area", unit="B"),
    u32("offset", "where in the buffer pool", unit="B", means=46),
    u64("reserved"),
    since=42,
)
URING_REQ_HEADER = struct(
    "fuse_uring_req_header",
    spare("in_out", 128),
    spare("op_in", 128),
    Embed("ring_ent_in_out", URING_ENT_IN_OUT, "ring_ent_in_out"),
    since=42,
)
URING_CMD_REQ = struct(
    "fuse_uring_cmd_req",
    u64("flags", "ADD_QUEUE: ZERO_COPY", names=flags.URING_QUEUE),
    u64("commit_id", "the request that is answered"),
    u16("qid", "queue, one for each CPU"),
    spare("padding", 6),
    u64("bufpool.uaddr", "ADD_BUFPOOL: address of the pool", show=Show.HEX, since=46),
    u32("bufpool.len", "ADD_BUFPOOL: length of the pool", unit="B", since=46),
    u32("bufpool.reserved", since=46),
    since=42,
)

STRUCTS = tuple(value for value in list(vars().values()) if type(value).__name__ == "Struct")

# What the variable tails are made of, shared by several opcodes.
DIRENT_RECORD = (DIRENT, data("name", "name of the entry", size_from="namelen", role=Role.NAME))
DIRENTPLUS_RECORD = (
    DIRENTPLUS,
    data("dirent.name", "name of the entry", size_from="dirent.namelen", role=Role.NAME),
)
SECCTX_RECORD = (
    SECCTX,
    name("name", "name of the security attribute"),
    data("label", "security label", size_from="size"),
)
NUL = spare("nul", 1)  # the kernel wants the NUL after the name, though namelen does not count it
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
