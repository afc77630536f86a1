"""A virtiofs daemon as the server: its VMM and the guest's kernel are played, so no virtual machine is needed.

    submit -> request ring -> kick -> daemon -> used ring -> call -> complete

The daemon serves one connection, and ends with it. Requests of one queue may be answered in any order.
"""

from __future__ import annotations

import os
import platform
import select
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from replays.transports.base import Answer, Ending, ServerGone
from replays.transports.process import Overlay, ServerProcess
from replays.transports.seqpacket import MOST_BYTES
from replays.transports.vhost_control import Control
from replays.transports.vhost_daemon import connected, started
from replays.transports.virtqueue import DriverQueue, SharedMemory, queue_bytes
from tracer.bridges.framing import UNIQUE
from tracer.bridges.host.processor import is_strongly_ordered
from tracer.bridges.vhost_user.vring import barrier
from tracer.errors import TracerError

ANSWER_TIMEOUT_S: Final = 10.0  # for what is said over the socket
_SLOTS: Final = (32, 128)  # requests in flight: the queue of what is urgent, the queue of the others
_END_S: Final = 0.5  # for a process whose connection is closed
_LOOK_NS: Final = 30_000  # how long to look before waiting: a small request takes less, waking up takes longer


class VhostUserTransport:
    """One conversation with one daemon, over two virtqueues."""

    name: Final = "vhost-user"

    def __init__(
        self,
        connection: socket.socket,
        process: ServerProcess | None = None,
        *,
        most_bytes: int = MOST_BYTES,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        """Take over a connected socket, and start the queues. `process` is ended by `close`. Raises ServerGone."""
        self.most_bytes: Final = most_bytes
        self._gone = ""  # why nothing works any more
        self._was_refused = False
        self._ready: list[Answer] = []
        self.process = process
        self._ending: Ending | None = None
        self._control = Control(connection, timeout_s)
        self._call, self._failure = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        self._epoll = select.epoll()
        self._queues: list[DriverQueue] = []
        try:
            self._start()
        except ServerGone as gone:
            self._gone = self._explained(gone)
            self.close()
            raise ServerGone(self._gone) from None
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        event_idx = self._control.negotiate()
        sizes = [queue_bytes(slots, self.most_bytes) for slots in _SLOTS]
        memory = SharedMemory(sum(sizes))
        try:
            for index, (slots, size) in enumerate(zip(_SLOTS, sizes, strict=True)):
                part = memory.part(sum(sizes[:index]), size)
                self._queues.append(DriverQueue(index, part, slots, self.most_bytes, event_idx=event_idx))
            self._control.share(memory)
        finally:
            memory.close()
        self._control.start(self._queues, self._call, self._failure)
        for queue in self._queues:
            queue.want_no_call()
        self._urgent, self._usual = self._queues
        # edge-triggered and never read: a read could block, were the daemon to take the descriptor's O_NONBLOCK away
        self._epoll.register(self._call, select.EPOLLIN | select.EPOLLET)
        self._epoll.register(self._failure, select.EPOLLIN)
        self._epoll.register(self._control, select.EPOLLIN)

    @property
    def kick_count(self) -> int:
        """How many times the daemon was woken."""
        return sum(queue.kick_count for queue in self._queues)

    def submit(self, message: bytes | bytearray, room: int, *, urgent: bool = False) -> bool:
        """Take a whole request; see Transport. A request without room for a reply gives no Answer."""
        self._check()
        if len(message) > self.most_bytes or room > self.most_bytes:
            raise TracerError(
                f"a request of {len(message)} bytes with room for {room}: this transport carries {self.most_bytes}",
                "split it",
            )
        if len(message) < UNIQUE.stop:
            raise TracerError(f"a request of {len(message)} bytes is too short to have a unique", "send more of it")
        queue = self._urgent if urgent else self._usual
        unique = int.from_bytes(message[UNIQUE], "little")
        if queue.submit(message, room, unique):
            return True
        self._collect()
        self._was_refused = not queue.submit(message, room, unique)
        return not self._was_refused

    def flush(self) -> None:
        """Wake the daemon for what was submitted."""
        self._check()
        for queue in self._queues:
            queue.flush()

    def complete(self, timeout_s: float) -> list[Answer]:
        """Return what the daemon answered; see Transport.

        Also returns, with nothing, when `submit` had no place and there is one again.
        """
        if self._gone and self._ready:
            return self._taken()
        self.flush()
        if self._collect() or timeout_s <= 0:
            return self._taken()
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        look_until_ns = min(time.monotonic_ns() + _LOOK_NS, deadline_ns)
        while time.monotonic_ns() < look_until_ns:
            if self._collect():
                return self._taken()
        self._wait(deadline_ns)
        return self._taken()

    def close(self) -> Ending:
        """Close the connection, and wait for the daemon when it is ours; the second call returns the same."""
        if self._ending is not None:
            return self._ending
        self._gone = self._gone or "the conversation was closed"
        self._ready = []
        self._control.close()
        self._epoll.close()
        for fd in (self._call, self._failure):
            os.close(fd)
        for queue in self._queues:
            queue.close()
        self._ending = self.process.end() if self.process is not None else Ending(None, "not ours to end", "")
        return self._ending

    def _check(self) -> None:
        if self._gone:
            raise ServerGone(self._gone)

    def _taken(self) -> list[Answer]:
        taken, self._ready = self._ready, []
        return taken

    def _collect(self) -> bool:
        """Take what was given back. Returns whether a caller of `complete` has waited for it."""
        t_ns, done = time.monotonic_ns(), 0
        try:
            for queue in self._queues:
                done += queue.collect(self._ready, t_ns)
        except ServerGone as gone:
            self._gone = str(gone)
            if not self._ready:  # else what came before is given out first
                raise
        return bool(self._ready) or (bool(done) and self._was_refused)

    def _wait(self, deadline_ns: int) -> None:
        """Sleep until there is something, or time is over."""
        try:
            while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
                for queue in self._queues:
                    queue.want_call()
                barrier()
                if self._collect():
                    return
                events = self._epoll.poll(left_ns / 1e9)
                if self._collect():  # before all else: what it answered before it went counts
                    return
                self._look_at([fd for fd, _ in events])
        finally:
            for queue in self._queues:
                queue.want_no_call()

    def _look_at(self, ready: list[int]) -> None:
        if self._failure in ready:
            self._gone = "the server says that a ring makes no sense to it"
        elif self._control.fileno() in ready:
            self._gone = self._explained(self._control.broke_silence())
        self._check()

    def _explained(self, gone: ServerGone) -> str:
        """Return why it is gone, and how its process ended, if it did."""
        if self.process is None or not self.process.has_ended(_END_S):
            return str(gone)
        return f"{gone}; {self.process.name} {self.process.fate()}"


def connect(path: Path, *, most_bytes: int = MOST_BYTES, timeout_s: float = ANSWER_TIMEOUT_S) -> VhostUserTransport:
    """Connect to a daemon that listens at `path`. Raises TracerError when none does, ServerGone when it is none."""
    _refuse_weakly_ordered()
    return VhostUserTransport(connected(path), most_bytes=most_bytes, timeout_s=timeout_s)


def launch(
    argv: Sequence[str],
    *,
    most_bytes: int = MOST_BYTES,
    timeout_s: float = ANSWER_TIMEOUT_S,
    overlay: Overlay | None = None,
    environment: Mapping[str, str] | None = None,
) -> VhostUserTransport:
    """Start a daemon, over an overlay if there is one, and connect to it; it is ended with the transport.

    A socket that listens is added to its words (`--fd`), unless they hold `--socket-path`. Raises TracerError when it
    cannot be started, ServerGone, with the last it said, when it does not become a daemon of virtiofs.
    """
    _refuse_weakly_ordered()
    process, connection = started(argv, timeout_s, overlay, environment)
    return VhostUserTransport(connection, process, most_bytes=most_bytes, timeout_s=timeout_s)


def _refuse_weakly_ordered() -> None:
    if not is_strongly_ordered():
        raise TracerError(
            f"on {platform.machine()} rings cannot be shared from Python", "replay against a server of /dev/fuse"
        )
