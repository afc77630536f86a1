"""A load that goes on until it is told to stop, so that something can come and go beside it, and every step is counted.

    with load.on(running.mount_point) as busy:
        for _ in range(100):
            attach_and_detach()
            busy.wait_rounds(1)     # it went on: one more whole round since
    assert busy.tally.refused == {}

As a program: `python -m tests.servers.load MOUNT_POINT EVENTFD` goes on until its standard input ends, then prints
its Tally as JSON.
"""

# Each call is a system call to be counted:
# ruff: noqa: PTH100, PTH108, PTH116
from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.servers import workload
from tests.servers.base import end_child

ROOT = Path(__file__).parent.parent.parent
PIECE = bytes(range(256)) * 16
END_TIMEOUT_S = 30.0


class LoadFailed(Exception):
    """The child hung, died or read something wrong; its output is the message."""


@dataclass
class Busy:
    """A load under way. `tally`, a workload.Tally, is there once it has ended."""

    process: subprocess.Popen[bytes]
    counter: int
    rounds: int = 0  # that were waited for
    tally: workload.Tally = field(init=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_rounds(self, more: int, timeout_s: float = 30) -> int:
        """Wait until it did so many whole rounds since the last call; return how many. LoadFailed when it does not."""
        deadline, done = time.monotonic() + timeout_s, 0
        while done < more:
            left_s = deadline - time.monotonic()
            if not select.select([self.counter], [], [], max(0.0, min(left_s, 0.5)))[0]:
                if left_s <= 0 or self.process.poll() is not None:
                    raise LoadFailed(f"{done} of {more} rounds in {timeout_s} s; status {self.process.poll()}")
                continue
            done += os.eventfd_read(self.counter)
        self.rounds += done
        return done

    def end(self) -> None:
        """Let it finish its round and fill `tally`; LoadFailed when it hangs or something was wrong."""
        try:
            output, _ = self.process.communicate(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"it hung for {END_TIMEOUT_S} s") from None
        if self.process.returncode != 0:
            raise LoadFailed(output.decode(errors="backslashreplace"))
        self.tally = workload.Tally(**json.loads(output))


@contextlib.contextmanager
def on(mount_point: Path) -> Iterator[Busy]:
    """Run a load on a mount while the block runs; it has begun when the block begins, and is killed if it hangs.

    Each round: stat and read a file, write 4 KiB, read them back, look for a name that is not there. Contents are
    compared. Its Tally counts exactly one WRITE a round (a server without writeback cache), one CREATE, one UNLINK.
    """
    counter = os.eventfd(0, os.EFD_CLOEXEC)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, os.path.abspath(mount_point), str(counter)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[counter],
        start_new_session=True,
    )
    busy = Busy(process, counter)
    try:
        busy.wait_rounds(1)
        yield busy
        busy.end()
    finally:
        end_child(process)
        os.close(counter)


def _round(s: workload.Steps, fd: int, name: bytes, number: int) -> None:
    at = number % 16 * len(PIECE)
    piece = number.to_bytes(8, "little") + PIECE[8:]
    with s.step("stat"):
        assert os.stat(s.at(b"hello.txt")).st_size == 17
    with s.step("read"):
        assert s.read(b"numbers.bin") == bytes(range(256)) * 256
    with s.step("write", "WRITE"):
        s.tally.written_bytes += os.pwrite(fd, piece, at)
    with s.step("read_back"):
        os.posix_fadvise(fd, at, len(piece), os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, len(piece), at) == piece
        s.tally.read_bytes += len(piece)
    s.look_for_missing(name + b".missing-%d" % number)


def main() -> None:
    mount_point, counter = sys.argv[1:]
    s = workload.Steps(os.fsencode(mount_point))
    name = b"load-%d" % os.getpid()
    fd = os.open(s.at(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    number = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        _round(s, fd, name, number)
        number += 1
        os.eventfd_write(int(counter), 1)
    os.close(fd)
    os.unlink(s.at(name))
    tally = s.result()
    tally.requests = dict(Counter(tally.requests) + Counter({"CREATE": 1, "UNLINK": 1}))
    json.dump(asdict(tally), sys.stdout)


if __name__ == "__main__":
    main()
