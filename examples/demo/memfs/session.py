"""One mount: reads requests from /dev/fuse, answers them, and stops when the kernel says so."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from memfs import syscalls, wire
from memfs.journal import Journal
from memfs.operations import Operations
from memfs.tree import sample_tree

READ_ROOM_BYTES = 8192  # above max_write: header, arguments and names of any request


@dataclass(frozen=True, slots=True)
class Options:
    """How a mount behaves; see server.py for what each means."""

    syncfs: str = "ok"
    write_delay_s: float = 0.0
    max_write: int = 131072
    writeback_cache: bool = False
    readdirplus: bool = True
    cache_s: float = 1.0
    submount: bool = False
    minor: int = 45
    threads: int = 1
    clone_fd: bool = False


class Session:
    """A FUSE connection from mount(2) to its end. `on_end` is called once, from a reader thread."""

    def __init__(self, number: int, options: Options, journal: Journal, on_end: Callable[[], None]) -> None:
        self.number = number
        self.options = options
        self.mount_point = ""
        self._journal = journal
        self._on_end = on_end
        self._ended = threading.Lock()
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self.operations = Operations(sample_tree(submount=options.submount), options)

    def mount(self, mount_point: str, fstype: str, source: str, block_bytes: int) -> None:
        """Mount and begin to serve; OSError when mount(2) is refused."""
        data = f"fd={self._fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
        if fstype == "fuseblk":
            data += f",blksize={block_bytes}"
        syscalls.mount(source, mount_point, fstype, data=data)
        self.mount_point = mount_point
        for number in range(self.options.threads):
            fd = self._clone() if self.options.clone_fd and number else self._fd
            threading.Thread(target=self._serve, args=(fd,), name=f"memfs-{number}", daemon=True).start()

    def unmount(self) -> None:
        """Unmount, at once or (busy) as soon as nobody uses it; nothing to do when somebody else did."""
        try:
            syscalls.umount(self.mount_point)
        except OSError as refusal:
            if refusal.errno == errno.EBUSY:
                syscalls.umount(self.mount_point, syscalls.MNT_DETACH)
            elif refusal.errno != errno.EINVAL:
                raise

    @property
    def ended(self) -> bool:
        """Return whether the kernel has closed the connection."""
        return self._ended.locked()

    def notify(self, code: wire.Notify, payload: bytes) -> None:
        """Tell the kernel something unasked; its refusal (ENOENT: not cached) goes to the journal only."""
        self._send(self._fd, wire.OUT_HEADER.pack(wire.OUT_HEADER.size + len(payload), code, 0), payload)

    def _clone(self) -> int:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(fd, wire.FUSE_DEV_IOC_CLONE, struct.pack("=I", self._fd))
        return fd

    def _serve(self, fd: int) -> None:
        room_bytes = self.options.max_write + READ_ROOM_BYTES
        while True:
            try:
                message = os.read(fd, room_bytes)
            except OSError as end:
                if end.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # the request was taken back
                    continue
                if end.errno != errno.ENODEV:
                    sys.stderr.write(f"memfs: read of /dev/fuse: {end}\n")
                break
            self._journal.note(time.time_ns(), self.number, "server", message)
            self._take(fd, message)
        if self._ended.acquire(blocking=False):
            self._on_end()

    def _take(self, fd: int, message: bytes) -> None:
        delay_s = self.operations.delay_s(wire.IN_HEADER.unpack_from(message)[1])
        if delay_s > 0:
            timer = threading.Timer(delay_s, self._answer, (fd, message))
            timer.daemon = True
            timer.start()
        elif delay_s == 0:
            self._answer(fd, message)

    def _answer(self, fd: int, message: bytes) -> None:
        opcode, unique = wire.IN_HEADER.unpack_from(message)[1:3]
        error, body = self.operations.answer(message)
        if opcode not in wire.WITHOUT_REPLY:
            self._send(fd, wire.OUT_HEADER.pack(wire.OUT_HEADER.size + len(body), -error, unique), body)

    def _send(self, fd: int, header: bytes, body: bytes) -> None:
        t_ns, refused = time.time_ns(), 0
        try:
            os.writev(fd, [header, body]) if body else os.write(fd, header)
        except OSError as refusal:
            refused = refusal.errno or errno.EIO
            if refused not in (errno.ENOENT, errno.ENODEV):  # taken back, or the mount is gone
                sys.stderr.write(f"memfs: write of {(header + body)[:64].hex()} to /dev/fuse: {refusal}\n")
        self._journal.note(t_ns, self.number, "kernel", header + body, refused)
