"""Structures of the session itself: INIT, notifications, the extension area, io_uring; fields in wire order.

Source: include/uapi/linux/fuse.h, 7.12 to 7.46; the names are the kernel's. A field without a description is padding.
Sizes and offsets are compared with the C compiler's by tests/dissectors/test_c_header.py.
"""

from dissectors import flags
from dissectors.fields import Embed, Role, Show, data, i32, i64, name, spare, struct, u16, u32, u64

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
    spare("unused", 22, since=23, means=43),
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

# ---- notifications ----

NUL = spare("nul", 1)  # the kernel wants the NUL after the name, though namelen does not count it
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
SECCTX_RECORD = (
    SECCTX,
    name("name", "name of the security attribute", Role.ATTRIBUTE),
    data("label", "security label", size_from="size"),
)

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
URING_CMD_REQ_HEAD = (  # the whole struct up to 7.45
    u64("flags", "ADD_QUEUE: ZERO_COPY", names=flags.URING_QUEUE),
    u64("commit_id", "the request that is answered"),
    u16("qid", "queue, one for each CPU"),
    spare("padding", 6),
)
URING_CMD_REQ = struct(
    "fuse_uring_cmd_req",
    *URING_CMD_REQ_HEAD,
    u64("bufpool.uaddr", "ADD_BUFPOOL: address of the pool", show=Show.HEX, since=46),
    u32("bufpool.len", "ADD_BUFPOOL: length of the pool", unit="B", since=46),
    u32("bufpool.reserved", since=46),
    since=42,
)
URING_CMD_REQ_ENTRY = struct(  # what the union holds for every command but ADD_BUFPOOL
    "fuse_uring_cmd_req",
    *URING_CMD_REQ_HEAD,
    u16("ent_zero_copy_buf_index", "registered buffer of the entry, with ZERO_COPY", since=46),
    spare("rest", 14, since=46),
    since=42,
)
