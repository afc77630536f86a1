"""Structures of headers, nodes, names and attributes, field by field in wire order.

Source: include/uapi/linux/fuse.h, 7.12 to 7.46; the names are the kernel's. A field without a description is padding.
Sizes and offsets are compared with the C compiler's by tests/dissectors/test_c_header.py.
"""

from dissectors import flags
from dissectors.fields import Embed, Role, Show, When, i32, i64, spare, struct, u16, u32, u64

# ---- headers ----

IN_HEADER = struct(
    "fuse_in_header",
    u32("len", "length of the whole message", unit="B"),
    u32("opcode", "what is asked"),
    u64("unique", "identifies the request among those of its connection"),
    u64("nodeid", "the node it is about; 0 where the opcode has none", role=Role.NODE),
    u32("uid", "user of the caller, in the server's user namespace", names=flags.ID),
    u32("gid", "group of the caller", names=flags.ID),
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
GETATTR_FH = When("getattr_flags", mask=flags.GETATTR_FH, equals=flags.GETATTR_FH)
SETATTR_FH = When("valid", mask=flags.FATTR_FH, equals=flags.FATTR_FH)
GETATTR_IN = struct(
    "fuse_getattr_in",
    u32("getattr_flags", "FH: fh is valid", names=flags.GETATTR, since=9),
    u32("dummy", since=9),
    u64("fh", "handle of the open file", role=Role.HANDLE, valid=GETATTR_FH, show=Show.HEX, since=9),
    since=9,
)
SETATTR_IN = struct(
    "fuse_setattr_in",
    u32("valid", "which of the fields below to set", names=flags.FATTR),
    u32("padding"),
    u64("fh", "handle of the open file, with FH", role=Role.HANDLE, valid=SETATTR_FH, show=Show.HEX),
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
    u64("attributes", "what the file is marked as", names=flags.STATX_ATTR),
    u32("nlink", "number of hard links"),
    u32("uid", "owner"),
    u32("gid", "owner's group"),
    u16("mode", "file type and permissions", show=Show.MODE),
    spare("__spare0", 2),
    u64("ino", "inode number"),
    u64("size", "file size", unit="B"),
    u64("blocks", "blocks of 512 bytes in use"),
    u64("attributes_mask", "which attribute bits are supported", names=flags.STATX_ATTR),
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
    u64("fh", "handle of the open file", role=Role.HANDLE, valid=GETATTR_FH, show=Show.HEX),
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
