"""Messages as kernels and servers send them, written out field by field with struct.pack, without our own declarations.

Numbers are those of a mount of Linux 6.18 where that matters: 0x8042 is what open(O_RDWR|O_CREAT) becomes in CREATE,
0x73fffffb and 0x5fd are the features it offers in INIT.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dissectors.decode import decode_notification, decode_reply, decode_request
from dissectors.layout import Context
from dissectors.message import Message, MessageKind

NOW = Context(45, 0x5FD << 32 | 0x73FFFFFB)
REQUEST, REPLY, NOTIFICATION = MessageKind.REQUEST, MessageKind.REPLY, MessageKind.NOTIFICATION
T = 1_763_800_000  # 2025-11-22T08:26:40Z


@dataclass(frozen=True)
class Sample:
    """One whole message. A reply names the request it answers."""

    name: str
    kind: MessageKind
    data: bytes
    context: Context = NOW
    answers: str = ""


def le(codes: str, *values: int) -> bytes:
    return struct.pack("<" + codes, *values)


def asked(
    opcode: int, body: bytes = b"", nodeid: int = 1, unique: int = 0x1C4, ids: tuple[int, int, int] = (1000, 1000, 4242)
) -> bytes:
    return le("IIQQIIIHH", 40 + len(body), opcode, unique, nodeid, *ids, 0, 0) + body


def asked_with_extension(opcode: int, body: bytes, extension: bytes, nodeid: int = 1) -> bytes:
    length = 40 + len(body) + len(extension)
    return le("IIQQIIIHH", length, opcode, 0x1C4, nodeid, 1000, 1000, 4242, len(extension) // 8, 0) + body + extension


def answered(body: bytes = b"", error: int = 0, unique: int = 0x1C4) -> bytes:
    return le("IiQ", 16 + len(body), error, unique) + body


def told(code: int, body: bytes = b"") -> bytes:
    return le("IiQ", 16 + len(body), code, 0) + body


def attr(ino: int, mode: int, size: int, nlink: int = 1, rdev: int = 0, flags: int = 0) -> bytes:
    times = (T, T + 60, T + 61, 111_111_111, 222_222_222, 333_333_333)
    return le("6Q", ino, size, (size + 511) // 512, *times[:3]) + le(
        "10I", *times[3:], mode, nlink, 1000, 1000, rdev, 4096, flags
    )


def entry(nodeid: int, attributes: bytes, generation: int = 1) -> bytes:
    return le("QQQQII", nodeid, generation, 1, 1, 500_000_000, 0) + attributes


def dirent(ino: int, off: int, kind: int, name: bytes) -> bytes:
    return le("QQII", ino, off, len(name), kind) + name + bytes(-len(name) % 8)


FILE, FOLDER = attr(131, 0o100644, 5000), attr(130, 0o040755, 4096, nlink=3)
OLD_FILE = FILE[:80]  # before 7.9 there was neither blksize nor flags
OPENED = le("QIi", 0x55D0_1234_5678, 0x2, 0)  # KEEP_CACHE
FH = 0x55D0_1234_5678
LABEL = b"security.selinux\0" + b"unconfined_u:object_r:user_home_t:s0\0"
SECCTX = le("II", 37, 0) + LABEL  # 37: the label with its NUL, not the name before it
SECCTX += bytes(-len(SECCTX) % 8)
SECCTX_BLOCK = le("II", 8 + len(SECCTX), 1) + SECCTX
EMPTY_SECCTX_BLOCK = le("II", 8, 0)  # no security module has a label to give
GROUPS = le("IIII", 16, 32, 1, 5000)


def lookup_samples() -> Iterator[Sample]:
    yield Sample("lookup.request", REQUEST, asked(1, b"report.txt\0"))
    yield Sample("lookup.reply", REPLY, answered(entry(5, FILE)), answers="lookup.request")
    yield Sample("lookup_missing.reply", REPLY, answered(entry(0, bytes(88), 0)), answers="lookup.request")
    yield Sample("lookup_enoent.reply", REPLY, answered(error=-2), answers="lookup.request")
    submount = entry(9, attr(128, 0o040755, 4096, nlink=2, flags=1))
    yield Sample("lookup_submount.reply", REPLY, answered(submount), answers="lookup.request")
    old = le("QQQQII", 5, 1, 1, 1, 0, 0) + OLD_FILE
    yield Sample("lookup_7_8.reply", REPLY, answered(old), Context(8, 0), answers="lookup.request")
    yield Sample("forget.request", REQUEST, asked(2, le("Q", 3), nodeid=5, ids=(0, 0, 0)))
    forgets = le("II", 3, 0) + le("QQQQQQ", 5, 1, 6, 2, 7, 0xFFFF_FFFF_FFFF_FFFF)
    yield Sample("batch_forget.request", REQUEST, asked(42, forgets, nodeid=0, ids=(0, 0, 0)))


def attribute_samples() -> Iterator[Sample]:
    yield Sample("getattr.request", REQUEST, asked(3, le("IIQ", 1, 0, FH), nodeid=5))
    yield Sample("getattr_7_8.request", REQUEST, asked(3, nodeid=5), Context(8, 0))
    yield Sample("getattr.reply", REPLY, answered(le("QII", 1, 0, 0) + FILE), answers="getattr.request")
    old = le("QII", 1, 0, 0) + OLD_FILE
    yield Sample("getattr_7_8.reply", REPLY, answered(old), Context(8, 0), answers="getattr_7_8.request")
    times = le("QQQ", T, T + 60, 0) + le("III", 1, 2, 0)
    setattr_in = le("IIQQQ", 0x8 | 0x40 | 0x20 | 0x100 | 0x200, 0, FH, 4096, 0xDEAD_BEEF_0BAD_CAFE) + times
    setattr_in += le("IIIII", 0o100600, 0, 1000, 1000, 0)
    yield Sample("setattr.request", REQUEST, asked(4, setattr_in, nodeid=5))
    yield Sample("setattr.reply", REPLY, answered(le("QII", 1, 0, 0) + FILE), answers="setattr.request")
    yield Sample("statfs.request", REQUEST, asked(17))
    figures = le("QQQQQ", 1000000, 400000, 350000, 65536, 60000) + le("IIII", 4096, 255, 4096, 0) + bytes(24)
    yield Sample("statfs.reply", REPLY, answered(figures), answers="statfs.request")
    yield Sample("statfs_7_3.reply", REPLY, answered(figures[:48]), Context(3, 0), answers="statfs.request")
    yield Sample("access.request", REQUEST, asked(34, le("II", 6, 0), nodeid=5))
    yield Sample("access.reply", REPLY, answered(error=-13), answers="access.request")
    yield Sample("statx.request", REQUEST, asked(52, le("IIQII", 0, 0, 0, 0, 0xFFF), nodeid=5))
    sx_times = b"".join(le("qIi", T + i, 7 * i, 0) for i in range(4))
    statx = le("IIQIIIHH", 0xFFF, 4096, 0x20, 1, 1000, 1000, 0o100644, 0) + le("QQQQ", 131, 5000, 10, 0x74)
    statx += sx_times + le("IIII", 0, 0, 8, 1) + bytes(112)
    yield Sample("statx.reply", REPLY, answered(le("QIIQQ", 1, 0, 0, 0, 0) + statx), answers="statx.request")


def xattr_samples() -> Iterator[Sample]:
    name, value = b"user.comment\0", b"caf\xc3\xa9 \x00\x01"
    yield Sample("setxattr.request", REQUEST, asked(21, le("IIII", len(value), 1, 1, 0) + name + value, nodeid=5))
    short = asked(21, le("II", len(value), 2) + name + value, nodeid=5)
    yield Sample("setxattr_short.request", REQUEST, short, Context(45, 0))
    yield Sample("setxattr_short_init_unseen.request", REQUEST, short, Context())
    long = asked(21, le("IIII", len(value), 1, 0, 0) + name + value, nodeid=5)
    yield Sample("setxattr_long_init_unseen.request", REQUEST, long, Context())
    yield Sample("setxattr.reply", REPLY, answered(), answers="setxattr.request")
    yield Sample("getxattr.request", REQUEST, asked(22, le("II", 64, 0) + b"security.capability\0", nodeid=5))
    yield Sample("getxattr.reply", REPLY, answered(value), answers="getxattr.request")
    yield Sample("getxattr_size.request", REQUEST, asked(22, le("II", 0, 0) + name, nodeid=5))
    yield Sample("getxattr_size.reply", REPLY, answered(le("II", 8, 0)), answers="getxattr_size.request")
    yield Sample("listxattr.request", REQUEST, asked(23, le("II", 256, 0), nodeid=5))
    names = b"user.comment\0security.selinux\0"
    yield Sample("listxattr.reply", REPLY, answered(names), answers="listxattr.request")
    yield Sample("listxattr_size.request", REQUEST, asked(23, le("II", 0, 0), nodeid=5))
    yield Sample("listxattr_size.reply", REPLY, answered(le("II", 30, 0)), answers="listxattr_size.request")
    yield Sample("listxattr_erange.reply", REPLY, answered(error=-34), answers="listxattr.request")
    yield Sample("removexattr.request", REQUEST, asked(24, name, nodeid=5))
    yield Sample("removexattr.reply", REPLY, answered(error=-61), answers="removexattr.request")


def name_samples() -> Iterator[Sample]:
    yield Sample("readlink.request", REQUEST, asked(5, nodeid=6))
    yield Sample("readlink.reply", REPLY, answered(b"../share/doc"), answers="readlink.request")
    yield Sample("symlink.request", REQUEST, asked(6, b"link\0../share/doc\0"))
    link = attr(132, 0o120777, 12)
    yield Sample("symlink.reply", REPLY, answered(entry(6, link)), answers="symlink.request")
    yield Sample("mknod.request", REQUEST, asked(8, le("IIII", 0o020644, 0x10_0103, 0o022, 0) + b"null0\0"))
    yield Sample("mknod_7_11.request", REQUEST, asked(8, le("II", 0o010644, 0) + b"fifo\0"), Context(11, 0))
    device = attr(133, 0o020644, 0, rdev=0x103)
    yield Sample("mknod.reply", REPLY, answered(entry(7, device)), answers="mknod.request")
    yield Sample("mkdir.request", REQUEST, asked(9, le("II", 0o755, 0o022) + b"folder\0"))
    yield Sample("mkdir.reply", REPLY, answered(entry(8, FOLDER)), answers="mkdir.request")
    yield Sample("mkdir_7_36.request", REQUEST, asked(9, le("II", 0o755, 0o022) + b"folder\0" + SECCTX_BLOCK), WITH_36)
    yield Sample("unlink.request", REQUEST, asked(10, b"\x1b[2Jold\xff\n.txt\0"))
    yield Sample("unlink.reply", REPLY, answered(), answers="unlink.request")
    yield Sample("rmdir.request", REQUEST, asked(11, b"folder\0"))
    yield Sample("rmdir.reply", REPLY, answered(error=-39), answers="rmdir.request")
    yield Sample("rename.request", REQUEST, asked(12, le("Q", 8) + b"a.tmp\0a.txt\0"))
    yield Sample("rename.reply", REPLY, answered(), answers="rename.request")
    yield Sample("rename2.request", REQUEST, asked(45, le("QII", 8, 2, 0) + b"left\0right\0"))
    yield Sample("rename2.reply", REPLY, answered(error=-22), answers="rename2.request")
    yield Sample("link.request", REQUEST, asked(13, le("Q", 5) + b"second name\0", nodeid=8))
    yield Sample("link.reply", REPLY, answered(entry(5, attr(131, 0o100644, 5000, nlink=2))), answers="link.request")


WITH_36 = Context(36, 1 << 32 | 1 << 30)


def create_samples() -> Iterator[Sample]:
    create = le("IIII", 0x8042, 0o100644, 0o022, 0)
    yield Sample("create.request", REQUEST, asked(35, create + b"new.txt\0"))
    yield Sample("create.reply", REPLY, answered(entry(10, FILE) + OPENED), answers="create.request")
    yield Sample("create_7_11.request", REQUEST, asked(35, le("II", 0x8042, 0o100644) + b"new.txt\0"), Context(11, 0))
    old = le("QQQQII", 10, 1, 1, 1, 0, 0) + OLD_FILE + OPENED
    yield Sample("create_7_8.reply", REPLY, answered(old), Context(8, 0), answers="create_7_11.request")
    # the extension area follows the name's NUL at once, here at byte 61
    extended = asked_with_extension(35, create + b"abcd\0", SECCTX_BLOCK + GROUPS)
    yield Sample("create_extended.request", REQUEST, extended)
    unlabelled = asked_with_extension(35, create + b"abcd\0", EMPTY_SECCTX_BLOCK)
    yield Sample("create_no_label.request", REQUEST, unlabelled)
    yield Sample("tmpfile.request", REQUEST, asked(51, le("IIII", 0x418002, 0o100600, 0o022, 0) + b"/\0"))
    yield Sample("tmpfile.reply", REPLY, answered(entry(11, FILE) + OPENED), answers="tmpfile.request")


def file_samples() -> Iterator[Sample]:
    yield Sample("open.request", REQUEST, asked(14, le("II", 0x8002, 0), nodeid=5))
    yield Sample("open.reply", REPLY, answered(OPENED), answers="open.request")
    passthrough = le("QIi", FH, 0x80, 3)
    yield Sample("open_passthrough.reply", REPLY, answered(passthrough), answers="open.request")
    yield Sample("read.request", REQUEST, asked(15, le("QQIIQII", FH, 4096, 131072, 2, 0xABCD, 0x8000, 0), nodeid=5))
    yield Sample("read.reply", REPLY, answered(b"line one\nline two\n" * 20), answers="read.request")
    yield Sample("read_eof.reply", REPLY, answered(), answers="read.request")
    yield Sample("read_7_8.request", REQUEST, asked(15, le("QQII", FH, 0, 4096, 0), nodeid=5), Context(8, 0))
    write = le("QQIIQII", FH, 8192, 26, 0x1, 0, 0x8002, 0) + b"abcdefghijklmnopqrstuvwxyz"
    yield Sample("write.request", REQUEST, asked(16, write, nodeid=5, ids=(0, 0, 0)))
    old_write = le("QQII", FH, 0, 5, 0) + b"hello"
    yield Sample("write_7_8.request", REQUEST, asked(16, old_write, nodeid=5), Context(8, 0))
    yield Sample("write.reply", REPLY, answered(le("II", 26, 0)), answers="write.request")
    yield Sample("write_enospc.reply", REPLY, answered(error=-28), answers="write.request")
    release = le("QIIQ", FH, 0x8002, 0x2, 0xABCD)
    yield Sample("release.request", REQUEST, asked(18, release, nodeid=5, ids=(0, 0, 0)))
    yield Sample("release_7_7.request", REQUEST, asked(18, release[:16], nodeid=5), Context(7, 0))
    yield Sample("release.reply", REPLY, answered(), answers="release.request")
    yield Sample("fsync.request", REQUEST, asked(20, le("QII", FH, 1, 0), nodeid=5))
    yield Sample("fsync.reply", REPLY, answered(), answers="fsync.request")
    yield Sample("flush.request", REQUEST, asked(25, le("QIIQ", FH, 0, 0, 0xABCD), nodeid=5))
    yield Sample("flush.reply", REPLY, answered(error=-38), answers="flush.request")
    yield Sample("fallocate.request", REQUEST, asked(43, le("QQQII", FH, 4096, 8192, 3, 0), nodeid=5))
    yield Sample("fallocate.reply", REPLY, answered(error=-95), answers="fallocate.request")
    yield Sample("lseek.request", REQUEST, asked(46, le("QQII", FH, 100, 4, 0), nodeid=5))
    yield Sample("lseek.reply", REPLY, answered(le("Q", 4096)), answers="lseek.request")
    copy = le("QQQQQQQ", FH, 0, 8, FH + 1, 65536, 0x7FFF_F000, 0)
    yield Sample("copy_file_range.request", REQUEST, asked(47, copy, nodeid=5))
    yield Sample("copy_file_range.reply", REPLY, answered(le("II", 65536, 0)), answers="copy_file_range.request")
    yield Sample("copy_file_range_64.request", REQUEST, asked(53, copy, nodeid=5))
    copied = answered(le("Q", 0x1_0000_0000))
    yield Sample("copy_file_range_64.reply", REPLY, copied, answers="copy_file_range_64.request")
    yield Sample("bmap.request", REQUEST, asked(37, le("QII", 12, 512, 0), nodeid=5))
    yield Sample("bmap.reply", REPLY, answered(le("Q", 90210)), answers="bmap.request")
    mapping = le("QQQQQ", 0xFFFF_FFFF_FFFF_FFFF, 0x20_0000, 0x20_0000, 3, 0x40_0000)
    yield Sample("setupmapping.request", REQUEST, asked(48, mapping, nodeid=5))
    yield Sample("setupmapping.reply", REPLY, answered(), answers="setupmapping.request")
    unmapping = le("I", 2) + le("QQQQ", 0x40_0000, 0x20_0000, 0x80_0000, 0x20_0000)
    yield Sample("removemapping.request", REQUEST, asked(49, unmapping, nodeid=5))
    yield Sample("removemapping.reply", REPLY, answered(), answers="removemapping.request")


def lock_samples() -> Iterator[Sample]:
    lock = le("QQ", FH, 0x9E37_79B9_7F4A_7C15) + le("QQII", 0, 0x7FFF_FFFF_FFFF_FFFF, 1, 4242)
    for code, name in ((31, "getlk"), (32, "setlk"), (33, "setlkw")):
        yield Sample(f"{name}.request", REQUEST, asked(code, lock + le("II", code == 33, 0), nodeid=5))
    yield Sample("getlk_7_8.request", REQUEST, asked(31, lock, nodeid=5), Context(8, 0))
    yield Sample("getlk.reply", REPLY, answered(le("QQII", 100, 199, 0, 77)), answers="getlk.request")
    yield Sample("setlk.reply", REPLY, answered(error=-11), answers="setlk.request")
    yield Sample("setlkw.reply", REPLY, answered(error=-4), answers="setlkw.request")


def directory_samples() -> Iterator[Sample]:
    yield Sample("opendir.request", REQUEST, asked(27, le("II", 0x18800, 0)))
    yield Sample("opendir.reply", REPLY, answered(le("QIi", FH, 0xA, 0)), answers="opendir.request")
    yield Sample("readdir.request", REQUEST, asked(28, le("QQIIQII", FH, 0, 32768, 0, 0, 0x18800, 0)))
    listing = dirent(1, 1, 4, b".") + dirent(1, 2, 4, b"..") + dirent(131, 3, 8, b"12345678")
    yield Sample("readdir.reply", REPLY, answered(listing + dirent(132, 4, 10, b"link\t")), answers="readdir.request")
    yield Sample("readdir_end.reply", REPLY, answered(), answers="readdir.request")
    cut = listing + dirent(134, 4, 8, b"too long for the buffer")[:40]
    yield Sample("readdir_cut_entry.reply", REPLY, answered(cut), answers="readdir.request")
    yield Sample("readdirplus.request", REQUEST, asked(44, le("QQIIQII", FH, 2, 32768, 0, 0, 0x18800, 0)))
    dot = le("QQQQII", 0, 0, 0, 0, 0, 0) + bytes(88) + dirent(1, 1, 4, b".")
    child = entry(5, FILE) + dirent(131, 3, 8, b"report.txt")
    mount = entry(9, attr(128, 0o040755, 4096, flags=1)) + dirent(128, 4, 4, b"mnt1")
    yield Sample("readdirplus.reply", REPLY, answered(dot + child + mount), answers="readdirplus.request")
    yield Sample("releasedir.request", REQUEST, asked(29, le("QIIQ", FH, 0x18800, 0, 0), ids=(0, 0, 0)))
    yield Sample("releasedir.reply", REPLY, answered(), answers="releasedir.request")
    yield Sample("fsyncdir.request", REQUEST, asked(30, le("QII", FH, 0, 0)))
    yield Sample("fsyncdir.reply", REPLY, answered(), answers="fsyncdir.request")


def device_samples() -> Iterator[Sample]:
    ioctl = le("QIIQII", FH, 0, 0x8008_6601, 0x7FFD_1234_5678, 0, 4)
    yield Sample("ioctl.request", REQUEST, asked(39, ioctl, nodeid=5))
    yield Sample("ioctl.reply", REPLY, answered(le("iIII", 0, 0, 0, 0) + le("I", 0x80000)), answers="ioctl.request")
    with_data = le("QIIQII", FH, 0x2, 0x4004_E501, 0x7FFD_1234_5678, 4, 16) + b"\x2a\0\0\0"
    yield Sample("ioctl_with_data.request", REQUEST, asked(39, with_data, nodeid=0))
    retry = le("iIII", 0, 0x4, 1, 1) + le("QQQQ", 0x7FFD_1234_5678, 4, 0x7FFD_1234_6000, 16)
    yield Sample("ioctl_retry.reply", REPLY, answered(retry), answers="ioctl_with_data.request")
    old = le("iIII", 0, 0x4, 1, 1) + le("IIII", 0xBFFF_1000, 4, 0xBFFF_2000, 16)
    yield Sample("ioctl_retry_7_15_32_bit.reply", REPLY, answered(old), Context(15, 0), "ioctl_with_data.request")
    yield Sample("ioctl_retry_7_15_64_bit.reply", REPLY, answered(retry), Context(15, 0), "ioctl_with_data.request")
    yield Sample("poll.request", REQUEST, asked(40, le("QQII", FH, 0x77, 1, 0x1 | 0x40), nodeid=5))
    yield Sample("poll.reply", REPLY, answered(le("II", 0x41, 0)), answers="poll.request")
    yield Sample("cuse_init.request", REQUEST, asked(4096, le("IIII", 7, 45, 0, 1), nodeid=0, ids=(0, 0, 0)))
    cuse = le("IIIIIIII", 7, 45, 0, 1, 131072, 131072, 0, 0) + bytes(40) + b"DEVNAME=fusewire0\0MODE=0600\0"
    yield Sample("cuse_init.reply", REPLY, answered(cuse), answers="cuse_init.request")


def session_samples() -> Iterator[Sample]:
    unknown, nobody = Context(), (0, 0, 0)
    init = le("IIIII", 7, 45, 131072, 0x73FFFFFB, 0x5FD) + bytes(44)
    yield Sample("init.request", REQUEST, asked(26, init, 0, 2, nobody), unknown)
    reply = le("IIIIHHI", 7, 38, 131072, 0x4000_0041, 65535, 49149, 1 << 20)
    reply += le("IHHIIH", 1, 256, 0, 0x1, 0, 0) + bytes(22)
    yield Sample("init.reply", REPLY, answered(reply, unique=2), unknown, "init.request")
    unmapped = le("IIII", 7, 31, 131072, 0x03FF_FFFB)
    yield Sample("init_7_31.request", REQUEST, asked(26, unmapped, 0, 2, nobody), unknown)
    yield Sample("init_7_5.request", REQUEST, asked(26, le("II", 7, 5), 0, 1, nobody), unknown)
    old_reply = le("IIIIHHI", 7, 12, 65536, 0x3B, 12, 9, 131072)
    yield Sample("init_7_12.reply", REPLY, answered(old_reply), unknown, "init_7_31.request")
    yield Sample("init_7_4.reply", REPLY, answered(le("II", 7, 4)), unknown, "init_7_5.request")
    yield Sample("init_cut_in_padding.reply", REPLY, answered(reply[:50], unique=2), unknown, "init.request")
    yield Sample("init_other_major.reply", REPLY, answered(le("II", 8, 1)), unknown, "init.request")
    yield Sample("interrupt.request", REQUEST, asked(36, le("Q", 0x1C4), 0, 0x1C5, nobody))
    yield Sample("interrupt.reply", REPLY, answered(error=-38, unique=0x1C5), answers="interrupt.request")
    yield Sample("destroy.request", REQUEST, asked(38, nodeid=0, ids=nobody))
    yield Sample("destroy.reply", REPLY, answered(), answers="destroy.request")
    yield Sample("syncfs.request", REQUEST, asked(50, bytes(8), nodeid=9))
    yield Sample("syncfs.reply", REPLY, answered(), answers="syncfs.request")
    yield Sample("syncfs_enosys.reply", REPLY, answered(error=-38), answers="syncfs.request")
    retrieved = le("QQIIQQ", 0, 4096, 16, 0, 0, 0) + b"sixteen bytes it"
    yield Sample("notify_reply.request", REQUEST, asked(41, retrieved, nodeid=5, unique=0x77))
    yield Sample("resent.request", REQUEST, asked(1, b"report.txt\0", unique=1 << 63 | 0x1C4))
    yield Sample("unknown_opcode.request", REQUEST, asked(99, b"anything"))


def notification_samples() -> Iterator[Sample]:
    yield Sample("poll.notification", NOTIFICATION, told(1, le("Q", 0x77)))
    yield Sample("inval_inode.notification", NOTIFICATION, told(2, le("Qqq", 5, -1, 0)))
    yield Sample("inval_entry.notification", NOTIFICATION, told(3, le("QII", 1, 10, 1) + b"report.txt\0"))
    yield Sample("store.notification", NOTIFICATION, told(4, le("QQII", 5, 0, 5, 0) + b"hello"))
    yield Sample("retrieve.notification", NOTIFICATION, told(5, le("QQQII", 0x77, 5, 4096, 16, 0)))
    yield Sample("delete.notification", NOTIFICATION, told(6, le("QQII", 1, 5, 10, 0) + b"report.txt\0"))
    yield Sample("resend.notification", NOTIFICATION, told(7))
    yield Sample("inc_epoch.notification", NOTIFICATION, told(8))
    yield Sample("prune.notification", NOTIFICATION, told(9, le("IIQ", 2, 0, 0) + le("QQ", 5, 6)))
    yield Sample("unknown.notification", NOTIFICATION, told(77, b"?"))


def big_endian_samples() -> Iterator[Sample]:
    big = Context(45, NOW.init_flags, big_endian=True)
    header = struct.pack(">IIQQIIIHH", 40 + 19, 9, 0x1C4, 1, 1000, 1000, 4242, 1, 0)
    mkdir = struct.pack(">II", 0o755, 0o022) + b"be\0"
    yield Sample("mkdir_big_endian.request", REQUEST, header + mkdir + struct.pack(">II", 8, 0), big)
    attributes = struct.pack(">6Q10I", 131, 5000, 10, T, T, T, 1, 2, 3, 0o100644, 1, 0, 0, 0, 4096, 1)
    reply = struct.pack(">IiQ", 16 + 104, 0, 0x1C4) + struct.pack(">QII", 1, 0, 0) + attributes
    yield Sample("getattr_big_endian.reply", REPLY, reply, big, "getattr.request")
    listing = struct.pack(">QQII", 131, 1, 3, 8) + b"abc" + bytes(5)
    data = struct.pack(">IiQ", 16 + len(listing), 0, 0x1C4) + listing
    yield Sample("readdir_big_endian.reply", REPLY, data, big, "readdir.request")
    told_data = struct.pack(">IiQIIQQ", 16 + 24, 9, 0, 1, 0, 0, 5)
    yield Sample("prune_big_endian.notification", NOTIFICATION, told_data, big)


SOURCES = (
    lookup_samples,
    attribute_samples,
    xattr_samples,
    name_samples,
    create_samples,
    file_samples,
    lock_samples,
    directory_samples,
    device_samples,
    session_samples,
    notification_samples,
    big_endian_samples,
)
SAMPLES = {sample.name: sample for source in SOURCES for sample in source()}


def request_of(sample: Sample) -> Message | None:
    """Decode the request that a reply answers."""
    if not sample.answers:
        return None
    request = SAMPLES[sample.answers]
    return decode_request(request.data, len(request.data), request.context)


def decode(sample: Sample, data: bytes | None = None, wire_len: int | None = None) -> Message:
    """Decode a sample, or `data` in its place."""
    content = sample.data if data is None else data
    length = len(content) if wire_len is None else wire_len
    if sample.kind is REQUEST:
        return decode_request(content, length, sample.context)
    if sample.kind is REPLY:
        return decode_reply(content, length, sample.context, request_of(sample))
    return decode_notification(content, length, sample.context)
