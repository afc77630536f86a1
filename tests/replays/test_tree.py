"""Two directories are compared by what they hold; whatever differs is one line, and the number of lines is bounded."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.demo.memfs import syscalls
from replays.stores.tree import MOST_DEPTH, compare_trees
from tests.servers.base import seed
from tests.tracer.small_disk import small_disk
from tracer.errors import TracerError

MS_BIND = 4096

Change = Callable[[Path], object]


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories that hold the same, made one after the other."""
    both = tmp_path / "one", tmp_path / "two"
    for directory in both:
        seed(directory)
        os.link(directory / "hello.txt", directory / "second name")
        os.setxattr(directory / "hello.txt", "user.colour", b"red")
        os.mkfifo(directory / "pipe")
        (directory / "dir" / "empty").touch()
        for place, mode in ((directory, 0o755), (directory / "dir", 0o755), (directory / "hello.txt", 0o644)):
            place.chmod(mode)
    return both


def lines(one: Path, two: Path, most: int = 100) -> list[str]:
    comparison = compare_trees(one, two, most=most)
    assert bool(comparison.difference_count) == bool(comparison.lines())
    return comparison.lines()


def test_directories_that_hold_the_same_have_no_difference(trees: tuple[Path, Path]) -> None:
    comparison = compare_trees(*trees)
    assert (comparison.differences, comparison.difference_count) == ([], 0)
    assert comparison.entry_count == 8
    assert comparison.byte_count == len(b"hello from memfs\n") + 65536 + len(b"inside\n")  # second name counts once


def test_times_and_inode_numbers_do_not_count(trees: tuple[Path, Path]) -> None:
    os.utime(trees[1] / "hello.txt", (1, 1))
    content = (trees[1] / "numbers.bin").read_bytes()
    (trees[1] / "numbers.bin").rename(trees[1].parent / "old")
    (trees[1] / "numbers.bin").write_bytes(content)
    assert lines(*trees) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda d: (d / "dir/inner.txt").write_bytes(b"inRide\n"), "dir/inner.txt: content: 0x73 at byte 2 | 0x52"),
        (lambda d: (d / "dir/inner.txt").write_bytes(b"inside"), "dir/inner.txt: size: 7 | 6"),
        (lambda d: (d / "dir/empty").write_bytes(b"."), "dir/empty: size: 0 | 1"),
        (lambda d: (d / "dir/empty").unlink(), "dir/empty: name: file | missing"),
        (lambda d: (d / "dir/more").mkdir(), "dir/more: name: missing | directory"),
        (lambda d: (d / "dir").chmod(0o700), "dir: mode: drwxr-xr-x | drwx------"),
        (lambda d: (d / "hello.txt").chmod(0o4755), "hello.txt: mode: -rw-r--r-- | -rwsr-xr-x"),
        (lambda d: d.chmod(0o1777), ".: mode: drwxr-xr-x | drwxrwxrwt"),
        (lambda d: ((d / "link").unlink(), (d / "link").symlink_to("dir")), "link: target: hello.txt | dir"),
        (lambda d: ((d / "link").unlink(), (d / "link").touch()), "link: type: symlink | file"),
        (lambda d: ((d / "pipe").unlink(), (d / "pipe").mkdir()), "pipe: type: pipe | directory"),
        (
            lambda d: os.removexattr(d / "hello.txt", "user.colour"),
            'hello.txt: attribute user.colour: 3 bytes: "red" | none',
        ),
        (
            lambda d: os.setxattr(d / "hello.txt", "user.colour", b"r\x1bd"),
            'hello.txt: attribute user.colour: 3 bytes: "red" | 3 bytes: "r\\x1bd"',
        ),
        (lambda d: os.setxattr(d / "dir", "user.new", b""), "dir: attribute user.new: none | 0 bytes"),
        (
            lambda d: ((d / "second name").unlink(), (d / "second name").write_bytes(b"hello from memfs\n")),
            "second name: link: hello.txt | none",
        ),
    ],
)
def test_each_property_that_differs_is_told(trees: tuple[Path, Path], change: Change, line: str) -> None:
    change(trees[1])
    found = lines(*trees)
    assert line in found
    assert all(one.startswith(line.partition(":")[0]) for one in found), found
    swapped = lines(trees[1], trees[0])
    assert len(swapped) == len(found)


def test_a_name_that_became_another_file_is_told_once(trees: tuple[Path, Path]) -> None:
    (trees[1] / "dir" / "empty").unlink()
    os.link(trees[1] / "dir" / "inner.txt", trees[1] / "dir" / "empty")
    assert lines(*trees) == ["dir/inner.txt: link: none | dir/empty", "dir/empty: size: 0 | 7"][::-1]


@pytest.mark.root
def test_owners_and_devices_are_compared(trees: tuple[Path, Path]) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: chown(2) and mknod(2) need it")
    os.chown(trees[1] / "link", 12, 34, follow_symlinks=False)
    for tree, minor in zip(trees, (3, 5), strict=True):
        os.mknod(tree / "device", 0o20600, os.makedev(1, minor))
    assert lines(*trees) == ["device: device: 1:3 | 1:5", "link: owner: 0:0 | 12:34"]
    assert [one.what for one in compare_trees(*trees, owners=False).differences] == ["device"]


@pytest.mark.root
def test_attributes_of_a_symlink_are_its_own(trees: tuple[Path, Path]) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: a symlink has attributes of root's only (trusted.*)")
    os.setxattr(trees[1] / "link", "trusted.own", b"1", follow_symlinks=False)
    assert lines(*trees) == ['link: attribute trusted.own: none | 1 byte: "1"']


def test_nothing_is_followed_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    for name, secret in (("one", "a"), ("two", "b")):
        (tmp_path / f"outside {secret}").mkdir()
        (tmp_path / f"outside {secret}" / "file").write_text(secret)
        (tmp_path / name).mkdir()
        (tmp_path / name / "out").symlink_to("../outside", target_is_directory=True)
        os.mkfifo(tmp_path / name / "pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.fspath(Path(os.path.relpath(tmp_path / name / "socket"))))
    (tmp_path / "outside").symlink_to("outside a")
    assert lines(tmp_path / "one", tmp_path / "two") == []


def test_names_cannot_drive_a_terminal(trees: tuple[Path, Path]) -> None:
    name = b"\x1b[2Jred\n\xff\xe2\x80\xae"
    (trees[0] / os.fsdecode(name)).touch()
    assert lines(*trees) == ["\\x1b[2Jred\\n\\xff\\u202e: name: file | missing"]


def test_the_number_of_lines_is_bounded_and_the_rest_is_counted(trees: tuple[Path, Path]) -> None:
    for number in range(25):
        (trees[0] / f"more{number:02}").touch()
    found = lines(*trees, most=3)
    assert found == [*(f"more{number:02}: name: file | missing" for number in range(3)), "... and 22 more"]


def test_a_difference_far_into_a_large_file_is_found(trees: tuple[Path, Path]) -> None:
    content = bytearray(os.urandom((3 << 20) + 77))
    for tree in trees:
        (tree / "large").write_bytes(content)
        content[(2 << 20) + 5] ^= 1
    (one,) = compare_trees(*trees).differences
    assert (one.path, one.what, one.first.partition(" ")[2]) == ("large", "content", f"at byte {(2 << 20) + 5}")


def test_holes_are_content_and_are_not_read(trees: tuple[Path, Path]) -> None:
    huge = 1 << 42  # would take an hour
    for tree in trees:
        with open(tree / "sparse", "wb") as file:
            file.truncate(huge)
            file.seek(huge // 2)
            file.write(b"middle")
    begin_s = time.monotonic()
    assert lines(*trees) == []
    with open(trees[1] / "sparse", "r+b") as file:  # zeros that were written are the same as a hole
        file.seek(1 << 30)
        file.write(bytes(4096))
    assert lines(*trees) == []
    with open(trees[0] / "sparse", "r+b") as file:
        file.seek(huge - 1)
        file.write(b"!")
    assert lines(*trees) == [f"sparse: content: 0x21 at byte {huge - 1} | 0x00"]
    assert time.monotonic() - begin_s < 30


def test_long_targets_that_differ_at_their_ends_differ(trees: tuple[Path, Path]) -> None:
    for tree, end in zip(trees, "ab", strict=True):
        (tree / "long").symlink_to("x" * 4000 + end)
    assert lines(*trees) == [f"long: target: {'x' * 4000}a | {'x' * 4000}b"]


@pytest.mark.root
def test_what_cannot_be_read_is_not_called_the_same(trees: tuple[Path, Path]) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: mount(2) needs CAP_SYS_ADMIN")
    with contextlib.ExitStack() as stack:
        for tree in trees:  # whose first page is never mapped, so that reading it is EIO
            (tree / "unreadable").touch()
            syscalls.mount("/proc/self/mem", str(tree / "unreadable"), "", MS_BIND)
            stack.callback(syscalls.umount, str(tree / "unreadable"))
        assert lines(*trees) == ["unreadable: reading: not compared: Input/output error"]


def test_what_is_too_deep_is_not_called_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        deep = tmp_path / name
        deep.mkdir()
        deep.joinpath(*("d" for _ in range(MOST_DEPTH + 3))).mkdir(parents=True)
    (one,) = compare_trees(tmp_path / "one", tmp_path / "two").differences
    assert (one.what, one.path.count("d/")) == ("depth", MOST_DEPTH)


@pytest.mark.root
def test_submounts_are_compared_too(trees: tuple[Path, Path]) -> None:
    with small_disk(trees[0] / "mnt", 1 << 16) as one, small_disk(trees[1] / "mnt", 1 << 16):
        (one / "inside").touch()
        assert lines(*trees) == ["mnt/inside: name: file | missing"]


def test_what_is_no_pair_of_directories_is_a_users_mistake(trees: tuple[Path, Path]) -> None:
    for wrong, words in ((trees[0] / "hello.txt", "Not a directory"), (trees[0] / "gone", "No such file")):
        with pytest.raises(TracerError, match=f"cannot compare .*{words}"):
            compare_trees(trees[0], wrong)
        with pytest.raises(TracerError, match=f"cannot compare .*{words}"):
            compare_trees(wrong, trees[0])
    with pytest.raises(TracerError, match="are the same directory"):
        compare_trees(trees[0], trees[0] / "dir" / "..")
