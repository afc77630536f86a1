"""Values as text: nothing from outside reaches a terminal raw, and numbers read as a person expects."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors import flags
from dissectors.describe import summary, tree
from dissectors.errnos import ERRNO, error_text, error_value
from dissectors.fields import Field, Kind, Show, data, i64, name, u32, u64
from dissectors.names import Enumeration, Flags
from dissectors.opcodes import NOTIFY, OPS
from dissectors.text import device_text, escape, mode_text, time_text, value_text
from tests.dissectors.samples import SAMPLES, decode

# ---- escaping ----

UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def unescape(text: str) -> bytes:
    """Undo `escape`."""
    pattern = r"\\(?:([nt\\])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))|([^\\]+)"
    parts: list[bytes] = []
    for short, byte, four, eight, plain in re.findall(pattern, text, re.DOTALL):
        if short:
            parts.append({"n": b"\n", "t": b"\t", "\\": b"\\"}[short])
        elif byte:
            parts.append(bytes.fromhex(byte))
        elif four or eight:
            parts.append(chr(int(four or eight, 16)).encode("utf-8"))
        else:
            parts.append(plain.encode("utf-8"))
    return b"".join(parts)


hostile = st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(hostile)
@settings(max_examples=1000)
def test_no_control_or_format_character_comes_through(raw: bytes) -> None:
    text = escape(raw)
    assert not {unicodedata.category(character) for character in text} & UNPRINTABLE
    assert "\x1b" not in text
    assert "\n" not in text


@given(hostile)
@settings(max_examples=1000)
def test_an_escaped_name_tells_every_byte_of_it(raw: bytes) -> None:
    assert unescape(escape(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("naïve ☃ 文件 😀".encode(), "naïve ☃ 文件 😀"),
        (b"a\nb\tc\\d", "a\\nb\\tc\\\\d"),
        (b"\x1b[2J\x07\x7f", "\\x1b[2J\\x07\\x7f"),
        (b"\xff\xc3", "\\xff\\xc3"),
        (b"\xc2\x9b31m", "\\u009b31m"),  # the one-character form of ESC [
        ("gpj.\u202etxt".encode(), "gpj.\\u202etxt"),  # right-to-left override
        ("\U000e0041".encode(), "\\U000e0041"),
        (b"[bold]markup[/bold]", "[bold]markup[/bold]"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),  # half a surrogate pair is not UTF-8
        (b"", ""),
    ],
)
def test_names_are_escaped_as_documented(raw: bytes, text: str) -> None:
    assert escape(raw) == text


def test_a_long_name_is_cut_where_asked_and_says_so() -> None:
    assert escape(b"abcdef", limit=4) == "abcd..."
    assert escape("ab☃".encode(), limit=4) == "ab\\xe2\\x98..."
    assert len(escape(b"\x00" * 10_000)) == 4 * 4096 + 3


# ---- numbers ----


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (u32("size", "d", unit="B"), 12, "12 B"),
        (u64("fh", "d", show=Show.HEX), 255, "0xff"),
        (u32("mode", "d", show=Show.MODE), 0o100644, "-rw-r--r-- 0100644"),
        (u32("mode", "d", show=Show.MODE), 0o755, "rwxr-xr-x 0755"),
        (u32("mode", "d", show=Show.MODE), 0o41777, "drwxrwxrwt 041777"),
        (u32("umask", "d", show=Show.OCTAL), 0o22, "022"),
        (u32("umask", "d", show=Show.OCTAL), 0, "0"),
        (u32("rdev", "d", show=Show.DEVICE), 0x801, "8:1"),
        (u32("flags", "d", names=flags.OPEN), 0x8002, "RDWR|LARGEFILE (0x8002)"),
        (u32("flags", "d", names=flags.OPEN), 0, "RDONLY"),
        (u32("flags", "d", names=flags.FOPEN), 0x8000_0002, "KEEP_CACHE|0x80000000 (0x80000002)"),
        (u32("type", "d", names=flags.DIRENT), 4, "DIR (0x4)"),
        (u32("type", "d", names=flags.DIRENT), 99, "99 (?) (0x63)"),
        (u64("end", "d", names=flags.LOCK_END), 2**63 - 1, "EOF (0x7fffffffffffffff)"),
        (u64("end", "d", names=flags.LOCK_END), 99, "99"),
        (i64("off", "d", unit="B"), -1, "-1 B"),
    ],
)
def test_a_number_reads_as_a_person_expects(field: Field, value: int, text: str) -> None:
    assert value_text(field, value) == text


def test_seconds_are_shown_with_their_nanoseconds() -> None:
    mtime = u64("mtime", "d", show=Show.SECONDS, unit="s", nanoseconds="mtimensec")
    assert value_text(mtime, 1_763_800_000, {"mtimensec": 5}) == "2025-11-22T08:26:40.000000005Z"
    assert value_text(mtime, 1_763_800_000) == "2025-11-22T08:26:40Z"
    valid = u64("entry_valid", "d", unit="s", nanoseconds="entry_valid_nsec")
    assert value_text(valid, 1, {"entry_valid_nsec": 500_000_000}) == "1.5 s"
    assert value_text(valid, 0, {"entry_valid_nsec": 0}) == "0 s"


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_any_time_has_a_text(seconds: int, nanoseconds: int) -> None:
    assert time_text(seconds, nanoseconds)


def test_times_before_the_epoch_are_negative_on_the_wire() -> None:
    assert time_text(2**64 - 1) == "1969-12-31T23:59:59Z"
    assert time_text(2**63) == "-9223372036854775808 s"


@given(st.integers(0, 2**32 - 1))
def test_any_mode_and_device_has_a_text(number: int) -> None:
    assert mode_text(number)
    major, minor = map(int, device_text(number).split(":"))
    assert number == (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)  # new_encode_dev()


def test_content_is_shown_by_length_and_beginning_and_a_name_in_full() -> None:
    assert value_text(data("data", "d"), b"\0" * 4096) == '4096 bytes: "' + "\\x00" * 32 + '..."'
    assert value_text(data("data", "d"), b"") == "0 bytes"
    assert value_text(name(), b"a\nb") == "a\\nb"
    assert value_text(Field("names", Kind.STRINGS, "d"), [b"user.a", b"\x1b"]) == "user.a, \\x1b"
    assert value_text(Field("ids", Kind.INTEGERS, "d"), list(range(20))) == "0, 1, 2, 3, 4, 5, 6, 7, ... (20)"


# ---- flags and errors ----


def test_unknown_init_flags_print_as_a_number() -> None:
    assert flags.INIT_ALL.text(1 << 50 | 1) == "ASYNC_READ|0x4000000000000"
    assert flags.INIT2.text(1 << 20 | 1) == "SECURITY_CTX|0x100000"
    assert flags.INIT.text(flags.INIT.value("INIT_EXT") or 0) == "INIT_EXT"


TABLES = [value for value in vars(flags).values() if isinstance(value, Flags)]
ENUMERATIONS = [value for value in vars(flags).values() if isinstance(value, Enumeration)]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@given(value=st.integers(0, 2**64 - 1))
@settings(max_examples=50)
def test_the_text_of_flags_tells_every_bit(table: Flags, value: int) -> None:
    words = table.text(value).split("|")
    bits = 0
    for word in words:
        mask = 0 if word == table.zero else table.value(word)
        bits |= int(word, 16) if mask is None else mask
    assert bits == value


@pytest.mark.parametrize("table", [*TABLES, *ENUMERATIONS], ids=lambda table: table.name)
def test_every_name_of_a_table_leads_back_to_its_number(table: Flags | Enumeration) -> None:
    for number, word in table.words.items():
        assert table.value(word.lower()) == number
        assert table.text(number) == word


def test_errors_go_by_their_names_both_ways() -> None:
    assert [error_text(error) for error in (0, -2, -38, -95, -999, 5)] == [
        "0", "ENOENT", "ENOSYS", "EOPNOTSUPP", "-999", "5",
    ]  # fmt: skip
    assert [error_value(word) for word in ("ENOENT", "enosys", "ENOTSUP", "EWOULDBLOCK", "EFOO")] == [
        2, 38, 95, 11, None,
    ]  # fmt: skip
    for number, word in ERRNO.items():
        assert error_value(word) == number
        assert error_text(-number) == word


# ---- summaries and trees ----


def test_every_placeholder_of_a_summary_names_a_declared_field() -> None:
    for op in (*OPS.values(), *NOTIFY.values()):
        assert summary(op, {}, {}, 0) is not None
    assert summary(OPS[12], {}) == "? -> ? in node ?"


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        ("lookup.reply", "report.txt → node=5 -rw-r--r-- 5000B"),
        ("lookup_enoent.reply", "report.txt → ENOENT"),
        ("write.reply", "26B @8192 fh=0x55d012345678 CACHE → 26B"),
        ("release.reply", "fh=0x55d012345678 FLOCK_UNLOCK"),
        ("flush.reply", "fh=0x55d012345678 → ENOSYS"),
        ("getxattr.reply", 'security.capability 64B → 8 bytes: "café \\x00\\x01"'),
        ("getxattr_size.reply", "user.comment 0B → 8"),
        ("syncfs.reply", ""),
        ("syncfs_enosys.reply", "→ ENOSYS"),
        ("unlink.reply", "\\x1b[2Jold\\xff\\n.txt"),
    ],
)
def test_an_exchange_is_told_in_one_line(reply: str, line: str) -> None:
    sample = SAMPLES[reply]
    request, message = decode(SAMPLES[sample.answers]), decode(sample)
    assert summary(request.op, request.values, message.values, message.error) == line


def test_an_unknown_opcode_is_told_by_its_bytes() -> None:
    message = decode(SAMPLES["unknown_opcode.request"])
    assert summary(None, message.values) == '8 bytes: "anything"'
    assert summary(None, None, None, -38) == "→ ENOSYS"


def test_padding_shows_in_the_tree_only_when_it_is_not_zero() -> None:
    sample = SAMPLES["fsync.request"]
    assert "padding" not in [row.label for row in tree(decode(sample))]
    odd = sample.data[:-4] + b"\x07\0\0\0"
    rows = {row.label: row.text for row in tree(decode(sample, odd))}
    assert rows["padding"] == "7"


def test_rows_of_the_tree_have_the_declared_name_and_its_description() -> None:
    rows = {row.name: row for row in tree(decode(SAMPLES["readdirplus.reply"]))}
    row = rows["entries[1].attr.mode"]
    assert (row.label, row.text, row.doc) == ("mode", "-rw-r--r-- 0100644", "file type and permissions")
    assert rows["entries[2]"].text == "mnt1"


def test_a_fault_is_a_row_of_the_tree() -> None:
    rows = tree(decode(SAMPLES["unknown_opcode.request"]))
    assert [(row.label, row.text, row.problem) for row in rows[-1:]] == [("error", "unknown opcode 99", True)]
