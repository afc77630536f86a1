"""A VMM and a daemon that speak vhost-user over sockets, as far as a tap between them can tell."""

from __future__ import annotations

import array
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.tracer.bridges.vhost_user.rings import Device, Driver, GuestMemory

HEADER = struct.Struct("=III")
REPLY, NEED_REPLY = 4, 8
EVENT_IDX = 1 << 29
INDIRECT_DESC, PROTOCOL, VERSION_1, LOG_ALL, PACKED = 1 << 28, 1 << 30, 1 << 32, 1 << 26, 1 << 34
OFFERED = LOG_ALL | INDIRECT_DESC | EVENT_IDX | PROTOCOL | VERSION_1 | PACKED
REPLY_ACK, SLOTS, LOG_SHMFD = 1 << 3, 1 << 15, 1 << 1
PROTOCOL_OFFERED = 1 | LOG_SHMFD | REPLY_ACK | 1 << 5 | SLOTS
TIMEOUT_S = 20.0


def receive(connection: socket.socket) -> tuple[int, int, bytes, list[int]]:
    head, fds, _, _ = socket.recv_fds(connection, HEADER.size, 9)
    while head and len(head) < HEADER.size:
        head += connection.recv(HEADER.size - len(head))
    if not head:
        raise EOFError
    request, flags, size = HEADER.unpack(head)
    payload = b""
    while len(payload) < size:
        payload += connection.recv(size - len(payload))
    return request, flags, payload, list(fds)


def send(connection: socket.socket, request: int, flags: int, payload: bytes, fds: list[int] | None = None) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([HEADER.pack(request, flags | 1, len(payload)) + payload], rights)


@dataclass
class DaemonQueue:
    device: Device | None = None
    size: int = 0
    base: int = 0
    parts: tuple[int, int, int] = (0, 0, 0)
    kick: int = -1
    call: int = -1


@dataclass
class Daemon:
    """Serves one connection in a thread; `answer` makes the reply of a request, in the order it likes."""

    path: Path
    answer: Callable[[bytes], bytes]
    seen: list[tuple[int, bytes, int]] = field(default_factory=list)
    regions: list[tuple[int, int, int, mmap.mmap]] = field(default_factory=list)
    queues: dict[int, DaemonQueue] = field(default_factory=dict)
    features: int = 0

    def __enter__(self) -> Daemon:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.fspath(self.path))
        self.listener.listen(1)
        self.quit = os.eventfd(0)
        self.failures: list[BaseException] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        os.close(self.quit)
        self.listener.close()
        assert not self.failures, self.failures

    def die(self) -> None:
        os.eventfd_write(self.quit, 1)
        self.thread.join(TIMEOUT_S)
        assert not self.thread.is_alive()

    def _run(self) -> None:
        ready, _, _ = select.select([self.listener, self.quit], [], [])
        if self.quit in ready:
            return
        connection = self.listener.accept()[0]
        try:
            while True:
                kicks = {queue.kick: queue for queue in self.queues.values() if queue.kick >= 0}
                ready, _, _ = select.select([connection.fileno(), self.quit, *kicks], [], [])
                if self.quit in ready:
                    return
                if connection.fileno() in ready:
                    self._serve(connection, *receive(connection))
                for kick in ready:
                    if kick in kicks and kicks[kick].kick == kick:  # else the queue was stopped just now
                        self._work(kicks[kick], kick)
        except (EOFError, ConnectionError):
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            for queue in self.queues.values():
                for fd in (queue.kick, queue.call):
                    if fd >= 0:
                        os.close(fd)
            connection.close()

    def _work(self, queue: DaemonQueue, kick: int) -> None:
        os.eventfd_read(kick)
        device = queue.device
        assert device is not None
        while True:
            held, old = [], device.used
            while (taken := device.take()) is not None:
                held.append(taken)
            if not held:
                return
            for head, request, room in reversed(held):
                device.complete(head, room, self.answer(request))
            if device.must_call(old):
                os.eventfd_write(queue.call, 1)

    def _serve(self, connection: socket.socket, request: int, flags: int, payload: bytes, fds: list[int]) -> None:
        self.seen.append((request, payload, len(fds)))
        reply = {1: OFFERED, 15: PROTOCOL_OFFERED, 17: 2, 36: 32}.get(request)
        if reply is not None:
            send(connection, request, REPLY, struct.pack("=Q", reply))
            return
        if request == 11:
            (index, _) = struct.unpack("=II", payload)
            queue = self.queues[index]
            taken = queue.device.taken if queue.device else 0
            os.close(queue.kick)
            queue.kick = -1
            send(connection, 11, REPLY, struct.pack("=II", index, taken))
            return
        self._set(request, payload, fds)
        if flags & NEED_REPLY:
            send(connection, request, REPLY, bytes(8))

    def _set(self, request: int, payload: bytes, fds: list[int]) -> None:
        if request == 2:
            (self.features,) = struct.unpack("=Q", payload)
        elif request in (5, 37):
            for at, fd in zip(range(8, len(payload), 32), fds, strict=True):
                guest, size, user, offset = struct.unpack_from("=QQQQ", payload, at)
                self.regions.append((guest, size, user, mmap.mmap(fd, size, offset=offset)))
                os.close(fd)
        elif request in (8, 10):
            index, number = struct.unpack("=II", payload)
            queue = self.queues.setdefault(index, DaemonQueue())
            queue.size, queue.base = (number, queue.base) if request == 8 else (queue.size, number)
        elif request == 9:
            index, _, descriptors, used, available, _ = struct.unpack("=IIQQQQ", payload)
            self.queues[index].parts = (descriptors, available, used)
        elif request == 12:
            queue = self.queues[payload[0]]
            queue.kick = fds[0]
            has_events = bool(self.features & EVENT_IDX)
            queue.device = Device(queue.size, queue.parts, self._read, self._write, has_events, queue.base, queue.base)
        elif request == 13:
            queue = self.queues.setdefault(payload[0], DaemonQueue())
            if queue.call >= 0:
                os.close(queue.call)
            queue.call = fds[0]

    def _find(self, address: int) -> tuple[mmap.mmap, int]:
        for guest, size, user, mapped in self.regions:
            for base in (guest, user):
                if base <= address < base + size:
                    return mapped, address - base
        raise AssertionError(f"{address:#x} is nowhere")

    def _read(self, address: int, length: int) -> bytes:
        mapped, at = self._find(address)
        piece = mapped[at : at + length]
        return piece if len(piece) == length else piece + self._read(address + len(piece), length - len(piece))

    def _write(self, address: int, data: bytes) -> None:
        mapped, at = self._find(address)
        room = len(mapped) - at
        mapped[at : at + len(data[:room])] = data[:room]
        if data[room:]:
            self._write(address + room, data[room:])


class Vmm:
    """QEMU's part, in the order of QEMU 7.2."""

    def __init__(self, path: Path, guest: GuestMemory, *, event_idx: bool = True, by_table: bool = False) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(TIMEOUT_S)
        self.connection.connect(os.fspath(path))
        self.guest, self.event_idx, self.by_table = guest, event_idx, by_table
        self.kick, self.call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)  # one for all queues

    def close(self) -> None:
        self.connection.close()
        os.close(self.kick)
        os.close(self.call)

    def ask(self, request: int, payload: bytes = b"", fds: list[int] | None = None, flags: int = 0) -> bytes:
        send(self.connection, request, flags, payload, fds)
        number, got, answer, _ = receive(self.connection)
        assert (number, got) == (request, REPLY | 1)
        return answer

    def say(self, request: int, payload: bytes, fds: list[int] | None = None) -> None:
        send(self.connection, request, 0, payload, fds)

    def number(self, request: int) -> int:
        return int.from_bytes(self.ask(request), "little")

    def negotiate(self) -> None:
        self.offered, self.protocol = self.number(1), self.number(15)
        self.say(16, struct.pack("=Q", self.protocol & ~(SLOTS if self.by_table else 0)))
        self.queues, self.slots = self.number(17), self.number(36)
        wanted = INDIRECT_DESC | PROTOCOL | VERSION_1 | (EVENT_IDX if self.event_idx else 0)
        self.say(2, struct.pack("=Q", wanted))

    def share(self) -> None:
        regions = [struct.pack("=QQQQ", p.guest, p.size, p.user, p.offset) for p in self.guest.places]
        if self.by_table:
            table = struct.pack("=II", len(regions), 0) + b"".join(regions)
            assert self.ask(5, table, [self.guest.fd] * len(regions), NEED_REPLY) == bytes(8)
            return
        for region in regions:
            assert self.ask(37, bytes(8) + region, [self.guest.fd], NEED_REPLY) == bytes(8)

    def start(self, driver: Driver, base: int = 0, index: int = 1) -> None:
        descriptors, available, used = driver.user_addresses
        self.say(8, struct.pack("=II", index, driver.size))
        self.say(10, struct.pack("=II", index, base))
        self.say(9, struct.pack("=IIQQQQ", index, 0, descriptors, used, available, 0))
        self.say(13, struct.pack("=Q", index), [self.call])
        self.ask(12, struct.pack("=Q", index), [self.kick], NEED_REPLY)
        self.ask(18, struct.pack("=II", index, 1), flags=NEED_REPLY)

    def stop(self, index: int = 1) -> int:
        self.say(18, struct.pack("=II", index, 0))
        answer = struct.unpack("=II", self.ask(11, struct.pack("=II", index, 0)))
        assert answer[0] == index
        return int(answer[1])

    def wait(self) -> None:
        """Wait until the guest is told something."""
        ready, _, _ = select.select([self.call, self.connection], [], [], TIMEOUT_S)
        assert self.call in ready, "the guest was never told"
        os.eventfd_read(self.call)
