"""Operations of the session itself, SYNCFS among them, and every notification.

Source: include/uapi/linux/fuse.h and fs/fuse, 7.12 to 7.46.
"""

from dissectors import structs_files as files
from dissectors import structs_session as session
from dissectors.fields import Role, body, data, integers, strings, u64
from dissectors.operation import Answer, Enosys, NodeIs, Notification, Op

SESSION_OPS = (
    Op(
        26,
        "INIT",
        0,
        body(session.INIT_IN),
        body(session.INIT_OUT),
        NodeIs.NONE,
        short_reply=True,
        summary="{major}.{minor} max_readahead={max_readahead}",
        reply_summary="{major}.{minor} max_write={max_write} max_pages={max_pages}",
        doc="agree on version and features",
    ),
    Op(
        36,
        "INTERRUPT",
        7,
        body(session.INTERRUPT_IN),
        node=NodeIs.NONE,
        answer=Answer.SELDOM,
        sticky_enosys=True,
        enosys=Enosys.SUCCESS,
        summary="of {unique}",
        doc="a signal came for the caller of a request",
    ),
    Op(38, "DESTROY", 8, node=NodeIs.NONE, doc="the filesystem is unmounted"),
    Op(
        41,
        "NOTIFY_REPLY",
        15,
        body(session.NOTIFY_RETRIEVE_IN, data("data", "bytes of the cache", size_from="size")),
        answer=Answer.NEVER,
        ring_payload_only=True,
        summary="{size}B @{offset}",
        doc="what NOTIFY_RETRIEVE asked for",
    ),
    Op(
        50,
        "SYNCFS",
        34,
        body(files.SYNCFS_IN),
        node=NodeIs.SUPERBLOCK,
        sticky_enosys=True,
        enosys=Enosys.SUCCESS,
        doc="write everything of one superblock to stable storage",
    ),
    Op(
        4096,
        "CUSE_INIT",
        11,
        body(session.CUSE_INIT_IN),
        body(session.CUSE_INIT_OUT, strings("info", "KEY=VALUE settings; DEVNAME is required")),
        NodeIs.NONE,
        summary="{major}.{minor}",
        reply_summary="{major}.{minor} {info}",
        doc="set up a character device",
    ),
)

DROPPED_NAME = data("name", "name to drop", size_from="namelen", role=Role.NAME)

NOTIFICATIONS = (
    Notification(
        1,
        "POLL",
        11,
        body(session.NOTIFY_POLL_WAKEUP_OUT),
        "kh={kh}",
        "a polled file became ready",
    ),
    Notification(
        2,
        "INVAL_INODE",
        12,
        body(session.NOTIFY_INVAL_INODE_OUT),
        "node={ino} {len}B @{off}",
        "drop cached data",
    ),
    Notification(
        3,
        "INVAL_ENTRY",
        12,
        body(
            session.NOTIFY_INVAL_ENTRY_OUT,
            data("name", "name to drop", size_from="namelen", role=Role.NAME),
            session.NUL,
        ),
        "{name} in node {parent} {flags}",
        "drop a cached name",
    ),
    Notification(
        4,
        "STORE",
        15,
        body(session.NOTIFY_STORE_OUT, data("data", "bytes for the cache", size_from="size")),
        "node={nodeid} {size}B @{offset}",
        "fill the kernel's cache",
    ),
    Notification(
        5,
        "RETRIEVE",
        15,
        body(session.NOTIFY_RETRIEVE_OUT),
        "node={nodeid} {size}B @{offset}",
        "ask for bytes of the kernel's cache",
    ),
    Notification(
        6,
        "DELETE",
        18,
        body(session.NOTIFY_DELETE_OUT, DROPPED_NAME, session.NUL),
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
            session.NOTIFY_PRUNE_OUT,
            integers("nodeids", "nodes to drop", u64("nodeid", "node"), count_from="count", role=Role.NODE),
        ),
        "{count} nodes",
        "drop nodes that nobody uses",
    ),
)
