"""Every opcode and notification, declared once. Source: include/uapi/linux/fuse.h and fs/fuse, 7.12 to 7.46."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dissectors import structs as s
from dissectors.fields import Field, Role, When, body, data, integers, name, records, strings, u64


class NodeIs(Enum):
    """What the header's nodeid stands for."""

    NODE = "node"
    PARENT = "parent"  # the directory in which the name is looked up or changed
    SUPERBLOCK = "superblock"  # the root of the mount or of one submount
    NONE = "none"


class Answer(Enum):
    """Whether the server answers."""

    REPLY = "reply"
    NEVER = "never"  # FORGET, BATCH_FORGET, NOTIFY_REPLY
    SELDOM = "seldom"  # INTERRUPT: only ENOSYS or EAGAIN; the target is answered instead


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """A body with two shapes; `when` looks at the request, or at fields read before."""

    when: When
    then: tuple[Field, ...]
    otherwise: tuple[Field, ...]


Body = tuple[Field, ...] | Either


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Op:
    """One opcode, as declared: what is sent, what comes back, what the header's nodeid means."""

    code: int
    name: str
    since: int
    request: tuple[Field, ...] = ()
    reply: Body = ()
    node: NodeIs = NodeIs.NODE
    answer: Answer = Answer.REPLY
    extensible: bool = False  # may carry an extension area
    short_reply: bool = False  # the reply may end after any field, the rest counts as 0 (INIT)
    sticky_enosys: bool = False  # after one ENOSYS the kernel never asks this connection again
    mutates: bool = False  # changes what the server stores
    summary: str = ""  # one line for a list: {name} is a value of the request, {one|other} the one that is there
    reply_summary: str = ""
    doc: str = ""

    def __repr__(self) -> str:
        return f"<Op {self.name}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Notification:
    """A message the server sends unasked."""

    code: int
    name: str
    since: int
    payload: tuple[Field, ...] = ()
    summary: str = ""
    doc: str = ""

    def __repr__(self) -> str:
        return f"<Notification {self.name}>"


ENTRY, ENTRY_AND_OPEN = body(s.ENTRY_OUT), body(s.ENTRY_OUT, s.OPEN_OUT)
ATTRIBUTES = body(s.ATTR_OUT)
ENTRY_SUMMARY = "node={nodeid} {attr.mode} {attr.size}B"
NAME = name()

OPERATIONS = (
    Op(
        1,
        "LOOKUP",
        0,
        (NAME,),
        ENTRY,
        NodeIs.PARENT,
        summary="{name}",
        reply_summary=ENTRY_SUMMARY,
        doc="find a name in a directory",
    ),
    Op(
        2,
        "FORGET",
        0,
        body(s.FORGET_IN),
        answer=Answer.NEVER,
        summary="-{nlookup}",
        doc="take back lookups of a node",
    ),
    Op(
        3,
        "GETATTR",
        0,
        body(s.GETATTR_IN),
        ATTRIBUTES,
        reply_summary="{attr.mode} {attr.size}B",
        doc="read a node's attributes",
    ),
    Op(
        4,
        "SETATTR",
        1,
        body(s.SETATTR_IN),
        ATTRIBUTES,
        mutates=True,
        summary="{valid}",
        reply_summary="{attr.mode} {attr.size}B",
        doc="change a node's attributes",
    ),
    Op(
        5,
        "READLINK",
        0,
        (),
        (data("target", "what the link points to", role=Role.NAME),),
        reply_summary="{target}",
        doc="read a symbolic link",
    ),
    Op(
        6,
        "SYMLINK",
        1,
        body(NAME, name("target", "what the link points to")),
        ENTRY,
        NodeIs.PARENT,
        extensible=True,
        mutates=True,
        summary="{name} -> {target}",
        reply_summary=ENTRY_SUMMARY,
        doc="make a symbolic link",
    ),
    Op(
        8,
        "MKNOD",
        1,
        body(s.MKNOD_IN, NAME),
        ENTRY,
        NodeIs.PARENT,
        extensible=True,
        mutates=True,
        summary="{name} {mode}",
        reply_summary=ENTRY_SUMMARY,
        doc="make a file or device node",
    ),
    Op(
        9,
        "MKDIR",
        1,
        body(s.MKDIR_IN, NAME),
        ENTRY,
        NodeIs.PARENT,
        extensible=True,
        mutates=True,
        summary="{name} {mode}",
        reply_summary=ENTRY_SUMMARY,
        doc="make a directory",
    ),
    Op(
        10,
        "UNLINK",
        1,
        (NAME,),
        node=NodeIs.PARENT,
        mutates=True,
        summary="{name}",
        doc="remove a file's name",
    ),
    Op(11, "RMDIR", 1, (NAME,), node=NodeIs.PARENT, mutates=True, summary="{name}", doc="remove a directory"),
    Op(
        12,
        "RENAME",
        1,
        body(s.RENAME_IN, name("oldname", "name before"), name("newname", "name after")),
        node=NodeIs.PARENT,
        mutates=True,
        summary="{oldname} -> {newname} in node {newdir}",
        doc="move a name",
    ),
    Op(
        13,
        "LINK",
        1,
        body(s.LINK_IN, NAME),
        ENTRY,
        NodeIs.PARENT,
        sticky_enosys=True,
        mutates=True,
        summary="{name} = node {oldnodeid}",
        reply_summary=ENTRY_SUMMARY,
        doc="give a node a second name",
    ),
    Op(
        14,
        "OPEN",
        1,
        body(s.OPEN_IN),
        body(s.OPEN_OUT),
        sticky_enosys=True,
        summary="{flags}",
        reply_summary="fh={fh} {open_flags}",
        doc="open a file",
    ),
    Op(
        15,
        "READ",
        1,
        body(s.READ_IN),
        (data("data", "file bytes; fewer than asked for means end of file"),),
        summary="{size}B @{offset} fh={fh}",
        reply_summary="{data}",
        doc="read from a file",
    ),
    Op(
        16,
        "WRITE",
        1,
        body(s.WRITE_IN, data("data", "file bytes", size_from="size")),
        body(s.WRITE_OUT),
        mutates=True,
        summary="{size}B @{offset} fh={fh} {write_flags}",
        reply_summary="{size}B",
        doc="write to a file",
    ),
    Op(
        17,
        "STATFS",
        0,
        (),
        body(s.STATFS_OUT),
        reply_summary="{bfree} of {blocks} blocks free",
        doc="room and limits of the filesystem",
    ),
    Op(18, "RELEASE", 1, body(s.RELEASE_IN), summary="fh={fh} {release_flags}", doc="let a file handle go"),
    Op(
        20,
        "FSYNC",
        1,
        body(s.FSYNC_IN),
        sticky_enosys=True,
        summary="fh={fh} {fsync_flags}",
        doc="write a file to stable storage",
    ),
    Op(
        21,
        "SETXATTR",
        1,
        body(s.SETXATTR_IN, name("name", "name of the attribute"), data("value", "its value", size_from="size")),
        sticky_enosys=True,
        mutates=True,
        summary="{name} {size}B {flags}",
        doc="set an extended attribute",
    ),
    Op(
        22,
        "GETXATTR",
        1,
        body(s.GETXATTR_IN, name("name", "name of the attribute")),
        Either(When("request.size"), body(s.GETXATTR_OUT), (data("value", "the attribute's value"),)),
        sticky_enosys=True,
        summary="{name} {size}B",
        reply_summary="{value|size}",
        doc="read an extended attribute",
    ),
    Op(
        23,
        "LISTXATTR",
        1,
        body(s.GETXATTR_IN),
        Either(When("request.size"), body(s.GETXATTR_OUT), (strings("names", "names of the attributes"),)),
        sticky_enosys=True,
        summary="{size}B",
        reply_summary="{names|size}",
        doc="list the extended attributes",
    ),
    Op(
        24,
        "REMOVEXATTR",
        1,
        (name("name", "name of the attribute"),),
        sticky_enosys=True,
        mutates=True,
        summary="{name}",
        doc="remove an extended attribute",
    ),
    Op(
        25,
        "FLUSH",
        1,
        body(s.FLUSH_IN),
        sticky_enosys=True,
        summary="fh={fh}",
        doc="close(2) of a file descriptor",
    ),
    Op(
        26,
        "INIT",
        0,
        body(s.INIT_IN),
        body(s.INIT_OUT),
        NodeIs.NONE,
        short_reply=True,
        summary="{major}.{minor} max_readahead={max_readahead}",
        reply_summary="{major}.{minor} max_write={max_write} max_pages={max_pages}",
        doc="agree on version and features",
    ),
    Op(
        27,
        "OPENDIR",
        1,
        body(s.OPEN_IN),
        body(s.OPEN_OUT),
        sticky_enosys=True,
        summary="{flags}",
        reply_summary="fh={fh} {open_flags}",
        doc="open a directory",
    ),
    Op(
        28,
        "READDIR",
        1,
        body(s.READDIR_IN),
        (records("entries", "directory entries; none means the end", *s.DIRENT_RECORD, align=8),),
        summary="@{offset} {size}B fh={fh}",
        reply_summary="{entries}",
        doc="read directory entries",
    ),
    Op(29, "RELEASEDIR", 1, body(s.RELEASE_IN), summary="fh={fh}", doc="let a directory handle go"),
    Op(
        30,
        "FSYNCDIR",
        2,
        body(s.FSYNC_IN),
        sticky_enosys=True,
        summary="fh={fh} {fsync_flags}",
        doc="write a directory to stable storage",
    ),
    Op(
        31,
        "GETLK",
        7,
        body(s.LK_IN),
        body(s.LK_OUT),
        summary="{lk.type} {lk.start}-{lk.end}",
        reply_summary="{lk.type} {lk.start}-{lk.end}",
        doc="test a lock",
    ),
    Op(32, "SETLK", 7, body(s.LK_IN), summary="{lk.type} {lk.start}-{lk.end}", doc="take or give back a lock"),
    Op(
        33,
        "SETLKW",
        7,
        body(s.LK_IN),
        summary="{lk.type} {lk.start}-{lk.end}",
        doc="take a lock, waiting for it",
    ),
    Op(34, "ACCESS", 3, body(s.ACCESS_IN), sticky_enosys=True, summary="{mask}", doc="check permissions"),
    Op(
        35,
        "CREATE",
        3,
        body(s.CREATE_IN, NAME),
        ENTRY_AND_OPEN,
        NodeIs.PARENT,
        extensible=True,
        sticky_enosys=True,
        mutates=True,
        summary="{name} {mode} {flags}",
        reply_summary="node={nodeid} fh={fh} {open_flags}",
        doc="make and open a file",
    ),
    Op(
        36,
        "INTERRUPT",
        7,
        body(s.INTERRUPT_IN),
        node=NodeIs.NONE,
        answer=Answer.SELDOM,
        sticky_enosys=True,
        summary="of {unique}",
        doc="a signal came for the caller of a request",
    ),
    Op(
        37,
        "BMAP",
        8,
        body(s.BMAP_IN),
        body(s.BMAP_OUT),
        sticky_enosys=True,
        summary="block {block}",
        reply_summary="block {block}",
        doc="find a file's block on the device",
    ),
    Op(38, "DESTROY", 8, node=NodeIs.NONE, doc="the filesystem is unmounted"),
    Op(
        39,
        "IOCTL",
        11,
        body(s.IOCTL_IN, data("data", "the argument's content", size_from="in_size")),
        body(s.IOCTL_OUT, s.IOVECS, data("data", "the argument's new content", when=s.NOT_RETRY)),
        mutates=True,
        summary="cmd={cmd} {flags}",
        reply_summary="result={result} {flags}",
        doc="ioctl(2)",
    ),
    Op(
        40,
        "POLL",
        11,
        body(s.POLL_IN),
        body(s.POLL_OUT),
        sticky_enosys=True,
        summary="{events}",
        reply_summary="{revents}",
        doc="poll(2)",
    ),
    Op(
        41,
        "NOTIFY_REPLY",
        15,
        body(s.NOTIFY_RETRIEVE_IN, data("data", "bytes of the cache", size_from="size")),
        answer=Answer.NEVER,
        summary="{size}B @{offset}",
        doc="what NOTIFY_RETRIEVE asked for",
    ),
    Op(
        42,
        "BATCH_FORGET",
        16,
        body(s.BATCH_FORGET_IN, records("forgets", "nodes to forget", s.FORGET_ONE, count_from="count")),
        node=NodeIs.NONE,
        answer=Answer.NEVER,
        summary="{count} nodes",
        doc="take back lookups of many nodes",
    ),
    Op(
        43,
        "FALLOCATE",
        19,
        body(s.FALLOCATE_IN),
        sticky_enosys=True,
        mutates=True,
        summary="{mode} {length}B @{offset}",
        doc="reserve or free room",
    ),
    Op(
        44,
        "READDIRPLUS",
        21,
        body(s.READDIR_IN),
        (
            records(
                "entries",
                "directory entries with attributes; none means the end",
                *s.DIRENTPLUS_RECORD,
                align=8,
            ),
        ),
        summary="@{offset} {size}B fh={fh}",
        reply_summary="{entries}",
        doc="read directory entries and look them up",
    ),
    Op(
        45,
        "RENAME2",
        23,
        body(s.RENAME2_IN, name("oldname", "name before"), name("newname", "name after")),
        node=NodeIs.PARENT,
        sticky_enosys=True,
        mutates=True,
        summary="{oldname} -> {newname} in node {newdir} {flags}",
        doc="move a name, with flags",
    ),
    Op(
        46,
        "LSEEK",
        24,
        body(s.LSEEK_IN),
        body(s.LSEEK_OUT),
        sticky_enosys=True,
        summary="{whence} from {offset}",
        reply_summary="{offset}",
        doc="find data or a hole",
    ),
    Op(
        47,
        "COPY_FILE_RANGE",
        28,
        body(s.COPY_FILE_RANGE_IN),
        body(s.WRITE_OUT),
        sticky_enosys=True,
        mutates=True,
        summary="{len}B to node {nodeid_out}",
        reply_summary="{size}B",
        doc="copy inside the server",
    ),
    Op(
        48,
        "SETUPMAPPING",
        31,
        body(s.SETUPMAPPING_IN),
        summary="{len}B @{foffset} {flags}",
        doc="map a file into the DAX window: later reads and writes there are invisible",
    ),
    Op(
        49,
        "REMOVEMAPPING",
        31,
        body(s.REMOVEMAPPING_IN, records("mappings", "what to unmap", s.REMOVEMAPPING_ONE, count_from="count")),
        node=NodeIs.NODE,
        summary="{count} mappings",
        doc="take mappings out of the DAX window",
    ),
    Op(
        50,
        "SYNCFS",
        34,
        body(s.SYNCFS_IN),
        node=NodeIs.SUPERBLOCK,
        sticky_enosys=True,
        doc="write everything of one superblock to stable storage",
    ),
    Op(
        51,
        "TMPFILE",
        37,
        body(s.CREATE_IN, NAME),
        ENTRY_AND_OPEN,
        NodeIs.PARENT,
        extensible=True,
        sticky_enosys=True,
        mutates=True,
        summary="{name} {mode} {flags}",
        reply_summary="node={nodeid} fh={fh}",
        doc="make a file without a name",
    ),
    Op(
        52,
        "STATX",
        39,
        body(s.STATX_IN),
        body(s.STATX_OUT),
        sticky_enosys=True,
        summary="{sx_mask}",
        reply_summary="{stat.mode} {stat.size}B",
        doc="read a node's attributes, with btime",
    ),
    Op(
        53,
        "COPY_FILE_RANGE_64",
        45,
        body(s.COPY_FILE_RANGE_IN),
        body(s.COPY_FILE_RANGE_OUT),
        sticky_enosys=True,
        mutates=True,
        summary="{len}B to node {nodeid_out}",
        reply_summary="{bytes_copied}B",
        doc="copy inside the server, 64-bit length",
    ),
    Op(
        4096,
        "CUSE_INIT",
        11,
        body(s.CUSE_INIT_IN),
        body(s.CUSE_INIT_OUT, strings("info", "KEY=VALUE settings; DEVNAME is required")),
        NodeIs.NONE,
        summary="{major}.{minor}",
        reply_summary="{major}.{minor} {info}",
        doc="set up a character device",
    ),
)

NOTIFICATIONS = (
    Notification(
        1,
        "POLL",
        11,
        body(s.NOTIFY_POLL_WAKEUP_OUT),
        "kh={kh}",
        "a polled file became ready",
    ),
    Notification(
        2,
        "INVAL_INODE",
        12,
        body(s.NOTIFY_INVAL_INODE_OUT),
        "node={ino} {len}B @{off}",
        "drop cached data",
    ),
    Notification(
        3,
        "INVAL_ENTRY",
        12,
        body(s.NOTIFY_INVAL_ENTRY_OUT, data("name", "name to drop", size_from="namelen", role=Role.NAME), s.NUL),
        "{name} in node {parent} {flags}",
        "drop a cached name",
    ),
    Notification(
        4,
        "STORE",
        15,
        body(s.NOTIFY_STORE_OUT, data("data", "bytes for the cache", size_from="size")),
        "node={nodeid} {size}B @{offset}",
        "fill the kernel's cache",
    ),
    Notification(
        5,
        "RETRIEVE",
        15,
        body(s.NOTIFY_RETRIEVE_OUT),
        "node={nodeid} {size}B @{offset}",
        "ask for bytes of the kernel's cache",
    ),
    Notification(
        6,
        "DELETE",
        18,
        body(s.NOTIFY_DELETE_OUT, data("name", "name to drop", size_from="namelen", role=Role.NAME), s.NUL),
        "{name} in node {parent}",
        "a name was deleted",
    ),
    Notification(7, "RESEND", 40, (), "", "queue every unanswered request again"),
    Notification(8, "INC_EPOCH", 44, (), "", "every name known so far is stale"),
    Notification(
        9,
        "PRUNE",
        45,
        body(
            s.NOTIFY_PRUNE_OUT,
            integers("nodeids", "nodes to drop", u64("nodeid", "node"), count_from="count", role=Role.NODE),
        ),
        "{count} nodes",
        "drop nodes that nobody uses",
    ),
)

OPS = {op.code: op for op in OPERATIONS}
OPS_BY_NAME = {op.name: op for op in OPERATIONS}
NOTIFY = {notification.code: notification for notification in NOTIFICATIONS}

# INIT and CUSE_INIT in the other byte order; the kernel reserves both, so that they never mean anything else.
INIT_SWAPPED, CUSE_INIT_SWAPPED = 436207616, 1048576
ROOT_ID = 1
NEWEST_MINOR = 46


def op_name(code: int) -> str:
    """Name an opcode; an unknown one prints as its number."""
    op = OPS.get(code)
    return op.name if op else f"OPCODE_{code}"


def notify_name(code: int) -> str:
    """Name a notification's code; an unknown one prints as its number."""
    notification = NOTIFY.get(code)
    return f"NOTIFY_{notification.name}" if notification else f"NOTIFY_{code}"
