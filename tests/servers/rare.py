"""What few programs do to a mount: poll, ioctl, locks, holes, copies inside the server; and what a server says unasked.

For the server of tests/servers/memory.py, whose ioctl NOTIFY makes it send a notification about the file by itself, so
that a replay of the same requests hears the same. As a program: `rare.py KIND PATH`, one of KINDS.
"""

# Each call is a system call that is meant:
# ruff: noqa: PTH113, PTH116, PTH208
from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

POLL, INVAL_INODE, INVAL_ENTRY, STORE, RETRIEVE, DELETE, RESEND = range(1, 8)
REVERSE, COUNT, NOTIFY = 0xC008F501, 0xF502, 0x4020F503  # tests/fixtures/ioctl.c
GETFLAGS = 0x80086601  # FS_IOC_GETFLAGS, which this server refuses
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD, AT_SYMLINK_FOLLOW, STATX_BTIME = -100, 0x400, 0x800
BLOCK = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def refused(call: int) -> str:
    """Return the name of the errno with which a call of libc failed, empty when it did not."""
    return errno.errorcode[ctypes.get_errno()] if call < 0 else ""


@contextlib.contextmanager
def opened(path: str, flags: int = os.O_RDWR) -> Iterator[int]:
    fd = os.open(path, flags, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def let_it_say(fd: int, code: int, size: int = 0, offset: int = 0, name: bytes = b"") -> None:
    """Make the server send a notification about an open file."""
    fcntl.ioctl(fd, NOTIFY, struct.pack("=IIQ16s", code, size, offset, name))


def polling(root: str) -> None:
    """Ask once without waiting, then wait for the notification."""
    with opened(f"{root}/pollable", os.O_RDONLY) as fd, contextlib.closing(select.epoll()) as epoll:
        once = select.poll()
        once.register(fd, select.POLLIN)
        assert once.poll(0) == []
        epoll.register(fd, select.EPOLLIN)
        let_it_say(fd, POLL)
        assert epoll.poll(20) == [(fd, select.EPOLLIN)]


def controlling(root: str) -> None:
    """Let data go in, come out, both and none."""
    with opened(f"{root}/numbers.bin") as fd:
        assert fcntl.ioctl(fd, REVERSE, b"in order") == b"redro ni"
        assert fcntl.ioctl(fd, COUNT) == 42
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, GETFLAGS, bytes(8))


def resending(root: str) -> None:
    """Let the server ask for everything again: it answers this ioctl only when it hears it the second time."""
    with opened(f"{root}/hello.txt") as fd:
        let_it_say(fd, RESEND)
        assert os.pread(fd, 100, 0) == b"hello from memfs\n"


def caching(root: str) -> None:
    """Let the server put data into the page cache, fetch it from there, and make the kernel forget."""
    with opened(f"{root}/hello.txt", os.O_RDONLY) as fd:
        os.pread(fd, 1, 0)
        let_it_say(fd, STORE, size=5)
        assert os.pread(fd, 100, 0) == b"SSSSS from memfs\n"
        let_it_say(fd, RETRIEVE, size=10)
        let_it_say(fd, INVAL_INODE)
        assert os.pread(fd, 100, 0) == b"hello from memfs\n"
        let_it_say(fd, RETRIEVE, size=10, offset=2)
        os.stat(f"{root}/numbers.bin")
        let_it_say(fd, INVAL_ENTRY, name=b"numbers.bin")
    with opened(f"{root}/numbers.bin", os.O_RDONLY) as fd:
        let_it_say(fd, DELETE, name=b"numbers.bin")
    os.stat(f"{root}/numbers.bin")


def shaping(root: str) -> None:
    """Holes, copies that never leave the server, and where data begins."""
    with opened(f"{root}/shaped", os.O_RDWR | os.O_CREAT) as fd, opened(f"{root}/copy", os.O_RDWR | os.O_CREAT) as copy:
        os.write(fd, b"data" * (BLOCK // 2))
        os.posix_fallocate(fd, 0, 8 * BLOCK)
        for mode in (FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE):
            assert not refused(_libc.fallocate64(fd, mode, ctypes.c_int64(0), ctypes.c_int64(BLOCK)))
        assert os.lseek(fd, 0, os.SEEK_DATA) == BLOCK
        assert os.lseek(fd, BLOCK, os.SEEK_HOLE) == 2 * BLOCK
        with contextlib.suppress(OSError):
            os.lseek(fd, 2 * BLOCK, os.SEEK_DATA)
        assert os.copy_file_range(fd, copy, 3 * BLOCK, 100, 0) == 3 * BLOCK
        assert os.pread(copy, 2 * BLOCK, 0)[:-100] == bytes(BLOCK - 100) + b"data" * (BLOCK // 4)


def naming(root: str) -> None:
    """RENAME2 with its flags, a file without a name that gets one, STATX, extended attributes."""
    old, new = os.fsencode(f"{root}/shaped"), os.fsencode(f"{root}/copy")
    rename = lambda flags: refused(_libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags))  # noqa: E731
    assert (rename(RENAME_NOREPLACE), rename(RENAME_EXCHANGE)) == ("EEXIST", "")
    with opened(f"{root}/dir", os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b"nameless\n")
        there = os.fsencode(f"{root}/named")
        assert not refused(_libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, there, AT_SYMLINK_FOLLOW))
    room = ctypes.create_string_buffer(256)
    assert not refused(_libc.statx(AT_FDCWD, new, 0, STATX_BTIME, room))
    for name, value in ((b"user.one", b"1"), (b"user.two", b"some\0value")):
        os.setxattr(new, name, value)
    assert os.getxattr(new, b"user.two") == b"some\0value"
    assert sorted(os.listxattr(new)) == ["user.one", "user.two"]
    os.removexattr(new, b"user.one")
    with contextlib.suppress(OSError):
        os.getxattr(new, b"user.one")


def locking(root: str) -> None:
    """Lock a part, see that another owner cannot have it, and give it back."""
    with opened(f"{root}/hello.txt") as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 5)
        child = os.fork()
        if not child:
            os._exit(_try_lock(f"{root}/hello.txt"))
        assert os.waitpid(child, 0)[1] == 0
        fcntl.lockf(fd, fcntl.LOCK_UN, 10, 5)


def _try_lock(path: str) -> int:
    """Be another owner: return 0 when everything was as it should be."""
    wanted = struct.pack("=hhxxxxqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 100, 0)
    with opened(path) as fd:
        in_the_way = struct.unpack("=hhxxxxqqixxxx", fcntl.fcntl(fd, fcntl.F_GETLK, wanted))
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        except BlockingIOError:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0)
            return int(in_the_way[:1] + in_the_way[2:4] != (fcntl.F_WRLCK, 5, 10))
    return 1


def everything(root: str) -> None:
    """Do all of it but for RESEND and locks that wait, and read in the end what is there."""
    for part in (polling, controlling, caching, shaping, naming, locking):
        part(root)
    for name in sorted(os.listdir(root)):
        if name not in ("held", "stubborn", "pollable") and os.path.isfile(f"{root}/{name}"):
            with opened(f"{root}/{name}", os.O_RDONLY) as fd:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.read(fd, 1 << 20)


# ---- a lock that is waited for -----------------------------------------------------------------------------------


@contextlib.contextmanager
def locker(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that waits for a lock of a whole file; SIGUSR1 interrupts it. A line tells: "locked" or EINTR.

    It keeps the lock until its standard input ends.
    """
    argv = [sys.executable, __file__, "lock", str(path)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
        process.communicate(timeout=20)
    finally:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def said(process: subprocess.Popen[str]) -> str:
    """Return the line that a locker printed."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wait_for_lock(path: str) -> None:
    """Wait for a lock of a whole file, and print what came of it."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR1, True)
    whole_file = ctypes.create_string_buffer(struct.pack("=hhxxxxqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    with opened(path) as fd:
        print(refused(_libc.fcntl(fd, fcntl.F_SETLKW, whole_file)) or "locked", flush=True)
        sys.stdin.read()


KINDS = {"everything": everything, "resending": resending, "lock": wait_for_lock}

if __name__ == "__main__":
    KINDS[sys.argv[1]](sys.argv[2])
