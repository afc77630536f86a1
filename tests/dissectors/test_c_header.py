"""The declarations against the C compiler's view of this machine's header, and against written figures beyond it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dissectors import flags
from dissectors.fields import Embed, Field, Struct
from dissectors.names import Enumeration, Flags
from dissectors.opcodes import NEWEST_MINOR, NOTIFY, OPS
from dissectors.structs import STRUCTS
from tests.dissectors import c_header

pytestmark = pytest.mark.skipif(c_header.COMPILER is None, reason="no C compiler on this machine")

# Our tables by the prefix their names have in C. The tables of other headers are in the second half.
TABLES: dict[str, Flags | Enumeration] = {
    "FOPEN_": flags.FOPEN,
    "FATTR_": flags.FATTR,
    "FUSE_ATTR_": flags.ATTR,
    "FUSE_GETATTR_": flags.GETATTR,
    "FUSE_LK_": flags.LK,
    "FUSE_RELEASE_": flags.RELEASE,
    "FUSE_READ_": flags.READ,
    "FUSE_WRITE_": flags.WRITE,
    "FUSE_FSYNC_": flags.FSYNC,
    "FUSE_OPEN_": flags.OPEN_IN,
    "FUSE_SETXATTR_": flags.SETXATTR,
    "FUSE_IOCTL_": flags.IOCTL,
    "FUSE_POLL_": flags.POLL,
    "FUSE_SETUPMAPPING_FLAG_": flags.SETUPMAPPING,
    "CUSE_": flags.CUSE,
}
FOREIGN_TABLES: dict[str, Flags | Enumeration] = {
    "O_": flags.OPEN,
    "FALLOC_FL_": flags.FALLOC,
    "STATX_": flags.STATX,
    "STATX_ATTR_": flags.STATX_ATTR,
    "EPOLL": flags.EPOLL,
    "RENAME_": flags.RENAME,
    "XATTR_": flags.XATTR,
    "F_": flags.LOCK,
    "SEEK_": flags.WHENCE,
}
# Names in the header that are not flags of INIT and have no table, or are second names of a flag.
NO_INIT_FLAG = re.compile(
    r"FUSE_(KERNEL_|ROOT_ID|MIN_READ_BUFFER|COMPAT_|NAME_OFFSET|DIRENT|REC_ALIGN|DEV_IOC|UNIQUE_|INVALID_|URING_"
    r"|REMOVEMAPPING_|EXPIRE_ONLY|IOCTL_MAX_IOV|DIRECT_IO_RELAX|WRITE_KILL_PRIV)"
)


@pytest.fixture(scope="module")
def minor(tmp_path_factory: pytest.TempPathFactory) -> int:
    values = c_header.evaluate(["FUSE_KERNEL_MINOR_VERSION"], tmp_path_factory.mktemp("minor"))
    return values["FUSE_KERNEL_MINOR_VERSION"]


@pytest.fixture(scope="module")
def defined() -> set[str]:
    return c_header.macros()


def members(struct: Struct, minor: int) -> Iterator[tuple[str, int, int, bool]]:
    """Yield name, offset, size and whether the header calls it so, of each member the header has."""
    at = 0
    for member in struct.members:
        if isinstance(member, Embed):
            size = sum(field.size for field in member.struct.fields)
            yield member.member, at, size, True
        elif member.since > minor:
            return
        else:
            size = member.size
            yield member.name, at, size, member.means <= minor
        at += size


def declared(minor: int) -> list[Struct]:
    """Return our structures that this machine's header should have.

    Linux 6.1 calls itself 7.38 and has nothing of the supplementary groups that came with 7.38.
    """
    in_header = c_header.structures()
    missing = {struct.name for struct in STRUCTS if struct.since <= minor} - in_header
    assert missing <= {"iovec", "fuse_ext_header", "fuse_supp_groups"}
    return [struct for struct in STRUCTS if struct.since <= minor and struct.name in in_header]


def test_every_structure_has_the_compilers_size_and_offsets(minor: int, tmp_path: Path) -> None:
    expected: dict[str, int] = {}
    for struct in declared(minor):
        total = 0
        for name, offset, size, same_name in members(struct, minor):
            total = offset + size
            if same_name:
                expected[f"offsetof(struct {struct.name}, {name})"] = offset
                expected[f"sizeof(((struct {struct.name} *)0)->{name})"] = size
        expected[f"sizeof(struct {struct.name})"] = total
    assert len(expected) > 500
    assert c_header.evaluate(expected, tmp_path) == expected


def test_every_opcode_of_the_header_is_declared_with_its_number(minor: int, tmp_path: Path) -> None:
    names = [name for name in c_header.enumerators("fuse_opcode") if not name.endswith("_BSWAP_RESERVED")]
    found = c_header.evaluate(names, tmp_path)
    ours = {f"FUSE_{op.name}".replace("FUSE_CUSE", "CUSE"): code for code, op in OPS.items() if op.since <= minor}
    if minor <= NEWEST_MINOR:
        assert found == ours
    else:
        assert found.items() >= ours.items()


def test_every_notification_of_the_header_is_declared_with_its_number(minor: int, tmp_path: Path) -> None:
    names = [name for name in c_header.enumerators("fuse_notify_code") if name != "FUSE_NOTIFY_CODE_MAX"]
    found = c_header.evaluate(names, tmp_path)
    ours = {f"FUSE_NOTIFY_{item.name}": code for code, item in NOTIFY.items() if item.since <= minor}
    if minor <= NEWEST_MINOR:
        assert found == ours
    else:
        assert found.items() >= ours.items()


def values_of(table: Flags | Enumeration) -> dict[str, int]:
    return {word: value for value, word in table.words.items()}


@pytest.mark.parametrize("prefix", [*TABLES, *FOREIGN_TABLES])
def test_every_flag_has_the_value_the_header_gives_it(prefix: str, defined: set[str], tmp_path: Path) -> None:
    table = {**TABLES, **FOREIGN_TABLES}[prefix]
    ours = {prefix + word: value for word, value in values_of(table).items() if prefix + word in defined}
    assert ours, f"the header defines nothing that begins with {prefix}"
    assert c_header.evaluate(ours, tmp_path) == ours


@pytest.mark.parametrize("prefix", TABLES)
def test_every_flag_of_the_header_is_declared(prefix: str, minor: int, defined: set[str]) -> None:
    if minor > NEWEST_MINOR:
        pytest.skip(f"this machine's fuse.h is 7.{minor}, the declarations end at 7.{NEWEST_MINOR}")
    longer = tuple(other for other in TABLES if other.startswith(prefix) and other != prefix)
    in_header = {name for name in defined if name.startswith(prefix) and not (longer and name.startswith(longer))}
    known = {prefix + word for word in values_of(TABLES[prefix])}
    other = {"CUSE_INIT_INFO_MAX", "FOPEN_MAX", "FUSE_IOCTL_MAX_IOV", "FUSE_SETXATTR_EXT", "FUSE_WRITE_KILL_PRIV"}
    assert {name for name in in_header if not name.startswith("FUSE_INIT")} - known - other == set()


def test_every_init_flag_has_the_bit_the_header_gives_it(minor: int, defined: set[str], tmp_path: Path) -> None:
    ours = {f"FUSE_{name}": 1 << bit for name, bit in flags.INIT_FLAGS_BIT.items() if f"FUSE_{name}" in defined}
    assert len(ours) >= 35
    # FUSE_INIT_RESERVED is written as 1 << 31, a negative int
    unsigned = {f"(unsigned int){name}" if value < 1 << 32 else name: value for name, value in ours.items()}
    assert c_header.evaluate(unsigned, tmp_path) == unsigned
    if minor <= NEWEST_MINOR:
        prefixes = (*(prefix for prefix in TABLES if prefix.startswith("FUSE_")),)
        rest = {name for name in defined if name.startswith("FUSE_") and not NO_INIT_FLAG.match(name)}
        assert {name for name in rest if not name.startswith(prefixes)} - set(ours) == set()


# ---- beyond this machine's header ----

# Sizes of every structure of fuse.h 7.46.
SIZES = {
    "fuse_attr": 88, "fuse_sx_time": 16, "fuse_statx": 256, "fuse_kstatfs": 80, "fuse_file_lock": 24,
    "fuse_entry_out": 128, "fuse_forget_in": 8, "fuse_forget_one": 16, "fuse_batch_forget_in": 8,
    "fuse_getattr_in": 16, "fuse_attr_out": 104, "fuse_statx_in": 24, "fuse_statx_out": 288, "fuse_mknod_in": 16,
    "fuse_mkdir_in": 8, "fuse_rename_in": 8, "fuse_rename2_in": 16, "fuse_link_in": 8, "fuse_setattr_in": 88,
    "fuse_open_in": 8, "fuse_create_in": 16, "fuse_open_out": 16, "fuse_release_in": 24, "fuse_flush_in": 24,
    "fuse_read_in": 40, "fuse_write_in": 40, "fuse_write_out": 8, "fuse_statfs_out": 80, "fuse_fsync_in": 16,
    "fuse_setxattr_in": 16, "fuse_getxattr_in": 8, "fuse_getxattr_out": 8, "fuse_lk_in": 48, "fuse_lk_out": 24,
    "fuse_access_in": 8, "fuse_init_in": 64, "fuse_init_out": 64, "cuse_init_in": 16, "cuse_init_out": 72,
    "fuse_interrupt_in": 8, "fuse_bmap_in": 16, "fuse_bmap_out": 8, "fuse_ioctl_in": 32, "fuse_ioctl_iovec": 16,
    "fuse_ioctl_out": 16, "fuse_poll_in": 24, "fuse_poll_out": 8, "fuse_notify_poll_wakeup_out": 8,
    "fuse_fallocate_in": 32, "fuse_in_header": 40, "fuse_out_header": 16, "fuse_dirent": 24, "fuse_direntplus": 152,
    "fuse_notify_inval_inode_out": 24, "fuse_notify_inval_entry_out": 16, "fuse_notify_delete_out": 24,
    "fuse_notify_store_out": 24, "fuse_notify_retrieve_out": 32, "fuse_notify_retrieve_in": 40,
    "fuse_notify_prune_out": 16, "fuse_backing_map": 16, "fuse_lseek_in": 24, "fuse_lseek_out": 8,
    "fuse_copy_file_range_in": 56, "fuse_copy_file_range_out": 8, "fuse_setupmapping_in": 40,
    "fuse_removemapping_in": 4, "fuse_removemapping_one": 16, "fuse_syncfs_in": 8, "fuse_secctx": 8,
    "fuse_secctx_header": 8, "fuse_ext_header": 8, "fuse_supp_groups": 4, "fuse_uring_ent_in_out": 32,
    "fuse_uring_req_header": 288, "fuse_uring_cmd_req": 40, "iovec": 8,
}  # fmt: skip

# Offsets of what came after 7.38, the header of Debian 12.
OFFSETS = {
    "fuse_open_out": {"fh": 0, "open_flags": 8, "backing_id": 12},
    "fuse_init_out": {"time_gran": 24, "max_pages": 28, "map_alignment": 30, "flags2": 32, "max_stack_depth": 36,
                      "request_timeout": 40, "unused": 42},
    "fuse_sx_time": {"tv_sec": 0, "tv_nsec": 8, "__reserved": 12},
    "fuse_statx": {"mask": 0, "blksize": 4, "attributes": 8, "nlink": 16, "uid": 20, "gid": 24, "mode": 28,
                   "__spare0": 30, "ino": 32, "size": 40, "blocks": 48, "attributes_mask": 56, "atime.tv_sec": 64,
                   "btime.tv_sec": 80, "ctime.tv_sec": 96, "mtime.tv_sec": 112, "rdev_major": 128,
                   "rdev_minor": 132, "dev_major": 136, "dev_minor": 140, "__spare2": 144},
    "fuse_statx_in": {"getattr_flags": 0, "reserved": 4, "fh": 8, "sx_flags": 16, "sx_mask": 20},
    "fuse_statx_out": {"attr_valid": 0, "attr_valid_nsec": 8, "flags": 12, "spare": 16, "stat.mask": 32},
    "fuse_backing_map": {"fd": 0, "flags": 4, "padding": 8},
    "fuse_copy_file_range_out": {"bytes_copied": 0},
    "fuse_notify_prune_out": {"count": 0, "padding": 4, "spare": 8},
    "fuse_uring_ent_in_out": {"flags": 0, "commit_id": 8, "payload_sz": 16, "offset": 20, "reserved": 24},
    "fuse_uring_req_header": {"in_out": 0, "op_in": 128, "ring_ent_in_out.flags": 256},
    "fuse_uring_cmd_req": {"flags": 0, "commit_id": 8, "qid": 16, "padding": 18},
}  # fmt: skip


def offsets(struct: Struct) -> dict[str, tuple[int, Field]]:
    at, found = 0, {}
    for field in struct.fields:
        found[field.name] = (at, field)
        at += field.size
    return found


def test_every_structure_has_the_size_of_7_46() -> None:
    assert {struct.name: sum(field.size for field in struct.fields) for struct in STRUCTS} == SIZES


@pytest.mark.parametrize("name", OFFSETS)
def test_fields_newer_than_the_header_lie_where_7_46_has_them(name: str) -> None:
    for struct in (struct for struct in STRUCTS if struct.name == name):
        found = {field: at for field, (at, _) in offsets(struct).items()}
        assert {field: found[field] for field in OFFSETS[name]} == OFFSETS[name]


def test_what_came_after_7_38_is_declared_with_its_number_and_minor() -> None:
    assert {name: (code, OPS[code].since) for name, code in (("STATX", 52), ("COPY_FILE_RANGE_64", 53))} == {
        "STATX": (52, 39),
        "COPY_FILE_RANGE_64": (53, 45),
    }
    assert [(code, NOTIFY[code].name, NOTIFY[code].since) for code in (7, 8, 9)] == [
        (7, "RESEND", 40),
        (8, "INC_EPOCH", 44),
        (9, "PRUNE", 45),
    ]
    bits = {name: flags.INIT_FLAGS_BIT[name] for name in ("DIRECT_IO_ALLOW_MMAP", "PASSTHROUGH", "ALLOW_IDMAP")}
    assert bits == {"DIRECT_IO_ALLOW_MMAP": 36, "PASSTHROUGH": 37, "ALLOW_IDMAP": 40}
    assert flags.INIT_FLAG_NAMES[38:40] == ("NO_EXPORT_SUPPORT", "HAS_RESEND")
    assert flags.INIT_FLAG_NAMES[41:] == ("OVER_IO_URING", "REQUEST_TIMEOUT", "HAS_IO_URING_BUFPOOL")
