"""Daemons that break the rules, over real sockets and shared memory: one clear line, in time, and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import random
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from replays.transports.base import Answer, ServerGone
from replays.transports.vhost_user import VhostUserTransport, connect, launch
from tests.tracer.bridges.vhost_user import peers
from tests.tracer.bridges.vhost_user.rings import Device, reply_bytes, request_bytes
from tracer.errors import TracerError

Taken = tuple[int, bytes, list[tuple[int, int]]]  # head, request, room
ROOM = 64
SET_MEM_TABLE, SET_VRING_CALL, SET_VRING_ERR = 5, 13, 14


def echo(request: bytes) -> bytes:
    return reply_bytes(int.from_bytes(request[8:16], "little"), request[40:][:16])


Work = Callable[["Daemon", Device, list[Taken]], bool | None]


@dataclass
class Daemon(peers.Daemon):
    """Does `work` with what it was asked, then wakes the other side; closes when that says so."""

    work: Work = lambda *_: None
    memory: list[int] = field(default_factory=list)  # descriptors of the shared memory
    calls: dict[tuple[int, int], int] = field(default_factory=dict)  # by message and queue

    def _work(self, queue: peers.DaemonQueue, kick: int) -> None:
        os.eventfd_read(kick)
        device = queue.device
        assert device is not None
        held = []
        while (taken := device.take()) is not None:
            held.append(taken)
        if self.work(self, device, held):
            raise EOFError
        os.eventfd_write(queue.call, 1)

    def _set(self, request: int, payload: bytes, fds: list[int]) -> None:
        if request == SET_MEM_TABLE:
            self.memory = [os.dup(fd) for fd in fds]
        elif request == SET_VRING_ERR:
            self.calls[request, payload[0]] = fds[0]
        elif request == SET_VRING_CALL:
            self.calls[request, payload[0]] = os.dup(fds[0])
        super()._set(request, payload, fds)

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        for fd in (*self.memory, *self.calls.values()):
            os.close(fd)


@contextlib.contextmanager
def played(work: Work) -> Iterator[VhostUserTransport]:
    with tempfile.TemporaryDirectory() as directory, Daemon(Path(directory) / "s", echo, work=work) as daemon:
        transport = connect(daemon.path, most_bytes=8192)
        try:
            yield transport
        finally:
            transport.close()


def ask(transport: VhostUserTransport, *uniques: int, timeout_s: float = 5.0) -> list[Answer]:
    for unique in uniques:
        assert transport.submit(request_bytes(unique, b"body"), ROOM)
    return transport.complete(timeout_s)


def completing(head: int | None = None, reply: bytes = b"", length: int | None = None, times: int = 1) -> Work:
    """Make a daemon that completes every request like this, the default being what is right."""

    def work(_: Daemon, device: Device, held: list[Taken]) -> None:
        for own, request, room in held:
            for _time in range(times):
                device.complete(own if head is None else head, room, reply or echo(request), length)

    return work


def test_a_daemon_that_keeps_the_rules_is_answered_in_any_order() -> None:
    def backwards(_: Daemon, device: Device, held: list[Taken]) -> None:
        for head, request, room in reversed(held):
            device.complete(head, room, echo(request))

    with played(backwards) as transport:
        for unique in (2, 4, 6):
            assert transport.submit(request_bytes(unique, b"body"), ROOM)
        answers: list[Answer] = []
        while len(answers) < 3:
            answers += transport.complete(5)
        assert {answer.unique: answer.data for answer in answers} == {
            unique: reply_bytes(unique, b"body") for unique in (2, 4, 6)
        }


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (completing(head=9999), "the server gave back descriptor 9999 of queue 1, which it does not have"),
        (completing(head=0xFFFFFFFF), "gave back descriptor 4294967295 of queue 1, which it does not have"),
        (completing(head=1), "gave back descriptor 1 of queue 1, which it does not have"),
        (completing(head=2), "gave back descriptor 2 of queue 1, which it does not have"),
        (completing(times=2), "gave back 2 requests of queue 1, it has 1"),
        (completing(length=ROOM + 1), "wrote 65 bytes to answer request 2, which has room for 64"),
        (completing(length=0xFFFFFFFF), "wrote 4294967295 bytes to answer request 2, which has room for 64"),
        (completing(length=17), "wrote 17 bytes to answer request 2, and says they are 20"),
        (completing(reply=reply_bytes(8)), "answered request 8 in the place of request 2"),
        (completing(reply=bytes(40)), "answered request 0 in the place of request 2"),
    ],
)
def test_a_completion_that_cannot_be_is_told_in_one_line(work: Work, words: str) -> None:
    with played(work) as transport:
        with pytest.raises(ServerGone) as gone:
            ask(transport, 2)
        assert words in str(gone.value)
        assert "\n" not in str(gone.value)
        with pytest.raises(ServerGone, match=r"the server"):  # and stays so
            transport.submit(request_bytes(4), ROOM)


def test_an_index_that_jumps_is_told() -> None:
    def jump(_: Daemon, device: Device, held: list[Taken]) -> None:
        device.used += 500
        head, request, room = held[0]
        device.complete(head, room, echo(request))

    with played(jump) as transport, pytest.raises(ServerGone, match=r"gave back 501 requests of queue 1, it has 1"):
        ask(transport, 2)


def test_what_was_answered_before_the_fault_is_given_out_first() -> None:
    def second_is_wrong(daemon: Daemon, device: Device, held: list[Taken]) -> None:
        for number, (head, request, room) in enumerate(held):
            device.complete(head if number == 0 else 77, room, echo(request))

    with played(second_is_wrong) as transport:
        answers = ask(transport, 2, 4)
        assert [answer.unique for answer in answers] == [2]
        with pytest.raises(ServerGone, match=r"descriptor 77"):
            transport.complete(5)


def test_completed_with_length_0_is_no_answer_unless_one_was_written() -> None:
    with played(completing(reply=b"\0", length=0)) as transport:
        assert [(answer.unique, answer.data) for answer in ask(transport, 2)] == [(2, b"")]
    with played(completing(length=0)) as transport:  # kernels up to 7.0 do not look at the length
        assert [answer.data for answer in ask(transport, 2)] == [reply_bytes(2, b"body")]


def test_answers_that_came_before_the_daemon_went_count() -> None:
    def answer_and_go(_: Daemon, device: Device, held: list[Taken]) -> bool:
        for head, request, room in held:
            device.complete(head, room, echo(request))
        return True

    with played(answer_and_go) as transport:
        assert [answer.unique for answer in ask(transport, 2)] == [2]
        with pytest.raises(ServerGone, match=r"^the server closed the connection$"):
            transport.complete(5)


def test_a_daemon_that_goes_without_an_answer_is_told_at_once() -> None:
    with played(lambda *_: True) as transport:
        begin = time.monotonic()
        with pytest.raises(ServerGone, match=r"closed the connection"):
            ask(transport, 2, timeout_s=60)
        assert time.monotonic() - begin < 30


def test_waiting_for_a_daemon_that_never_answers_ends_in_time() -> None:
    with played(lambda *_: None) as transport:
        begin = time.monotonic()
        assert ask(transport, 2, timeout_s=0.2) == []
        assert 0.2 <= time.monotonic() - begin < 5


def test_a_daemon_that_takes_o_nonblock_away_holds_nobody_up() -> None:
    def block(daemon: Daemon, *_: object) -> None:
        for fd in daemon.calls.values():
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)

    with played(block) as transport:
        assert ask(transport, 2, timeout_s=0.1) == []
        assert ask(transport, 4, timeout_s=0.1) == []


def test_the_memory_cannot_shrink_below_its_readers() -> None:
    refused: list[int | None] = []

    def shrink(daemon: Daemon, device: Device, held: list[Taken]) -> None:
        for act in (lambda fd: os.ftruncate(fd, 0), lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)):
            with pytest.raises(OSError) as refusal:
                act(daemon.memory[0])
            refused.append(refusal.value.errno)
        completing()(daemon, device, held)

    with played(shrink) as transport:
        assert [answer.unique for answer in ask(transport, 2)] == [2]
    assert refused == [1, 1]  # EPERM


def test_a_ring_that_makes_no_sense_to_the_daemon_is_told() -> None:
    def complain(daemon: Daemon, *_: object) -> None:
        os.eventfd_write(daemon.calls[SET_VRING_ERR, 1], 1)

    with played(complain) as transport, pytest.raises(ServerGone, match=r"a ring makes no sense"):
        ask(transport, 2)


@pytest.mark.parametrize("seed", range(40))
def test_memory_written_all_over_gives_answers_or_one_line(seed: int) -> None:
    chance = random.Random(seed)

    def scribble(daemon: Daemon, device: Device, held: list[Taken]) -> None:
        (_, size, user, mapped) = daemon.regions[0]
        for head, request, room in held:
            device.complete(head, room, echo(request))
        for _ in range(chance.randrange(1, 40)):
            at = chance.choice((device.parts[0], device.parts[1], device.parts[2])) - user + chance.randrange(256)
            if chance.random() < 0.2:
                at = chance.randrange(size - 64)
            data = chance.randbytes(chance.randrange(1, 64))
            mapped[at : at + len(data)] = data

    with played(scribble) as transport:
        unique = 0
        with contextlib.suppress(ServerGone):
            for _ in range(20):
                unique += 2
                if transport.submit(request_bytes(unique, b"body"), ROOM):
                    for answer in transport.complete(0.02):
                        assert answer.data[8:16] in (b"", answer.unique.to_bytes(8, "little"))


# ---- before there are rings ----


@contextlib.contextmanager
def speaking(script: Callable[[socket.socket], None]) -> Iterator[Path]:
    """A peer that accepts one connection and says what it likes."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory) / "s"
        listener.bind(os.fspath(path))
        listener.listen(1)

        def run() -> None:
            with listener.accept()[0] as connection, contextlib.suppress(EOFError, OSError):
                script(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield path
        thread.join(10)
        assert not thread.is_alive()


def replying(payload: bytes, *, flags: int = 5, request: int | None = None) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        number = peers.receive(connection)[0] if request is None else request
        connection.sendall(struct.pack("=III", number, flags, len(payload)) + payload)
        connection.recv(1)  # until it is closed

    return script


def silent(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (lambda connection: None, "the server closed the connection"),
        (silent, "the server did not answer GET_FEATURES within 0.2 s"),
        (replying(bytes(8)), "the server offers features 0x0: no virtiofs daemon known offers so little"),
        (replying(bytes(4)), "GET_FEATURES with 4 bytes where one number was due"),
        (replying(bytes(8), flags=1), "sent GET_FEATURES where the answer to GET_FEATURES was due"),
        (replying(bytes(8), request=77), "sent message 77 where the answer to GET_FEATURES was due"),
        (replying(bytes(8), flags=6), "speaks version 2 of vhost-user"),
        (replying(bytes(5000)), "announced a message of 5000 bytes"),
        (lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "the server"),
    ],
)
def test_what_is_no_daemon_is_told_in_one_line(script: Callable[[socket.socket], None], words: str) -> None:
    with speaking(script) as path:
        with pytest.raises(ServerGone) as gone:
            connect(path, timeout_s=0.2)
        assert words in str(gone.value)
        assert "\n" not in str(gone.value)


@dataclass
class Refusing(peers.Daemon):
    """Acknowledges SET_MEM_TABLE with an error."""

    def _serve(self, connection: socket.socket, request: int, flags: int, payload: bytes, fds: list[int]) -> None:
        if request == SET_MEM_TABLE:
            for fd in fds:
                os.close(fd)
            peers.send(connection, request, peers.REPLY, struct.pack("=Q", 1))
        else:
            super()._serve(connection, request, flags, payload, fds)


@dataclass
class Plain(Daemon):
    """Offers nothing but what must be: no EVENT_IDX, no acknowledgements."""

    def _serve(self, connection: socket.socket, request: int, flags: int, payload: bytes, fds: list[int]) -> None:
        offered = {1: peers.VERSION_1 | peers.PROTOCOL, 15: 0}.get(request)
        if offered is None:
            assert not flags & peers.NEED_REPLY
            super()._serve(connection, request, flags, payload, fds)
        else:
            peers.send(connection, request, peers.REPLY, struct.pack("=Q", offered))


def test_a_daemon_that_offers_no_more_than_it_must_is_served() -> None:
    with tempfile.TemporaryDirectory() as directory, Plain(Path(directory) / "s", echo, work=completing()) as daemon:
        transport = connect(daemon.path, most_bytes=8192)
        for unique in range(2, 2000, 2):  # more often round the ring than it has slots
            assert [answer.data for answer in ask(transport, unique)] == [reply_bytes(unique, b"body")]
        transport.close()


def test_a_refused_message_is_named() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        Refusing(Path(directory) / "s", echo) as daemon,
        pytest.raises(ServerGone, match=r"^the server refused SET_MEM_TABLE$"),
    ):
        connect(daemon.path)


def open_descriptors() -> int:
    gc.collect()  # a mapping holds its file until it is collected
    return len([*Path("/proc/self/fd").iterdir()])


def end_badly() -> None:
    with played(completing(head=9999)) as transport, pytest.raises(ServerGone):
        ask(transport, 2)
    with speaking(replying(bytes(8))) as path, pytest.raises(ServerGone):
        connect(path)
    with pytest.raises(ServerGone):
        launch(["false"])


def test_nothing_is_left_open_however_it_ends() -> None:
    end_badly()  # what is imported late opens files of its own
    before = open_descriptors()
    end_badly()
    assert open_descriptors() == before


# ---- where there is nobody ----


def test_no_socket_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TracerError, match=r"cannot connect to .*gone: No such file .*--socket-path"):
        connect(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(TracerError, match=r"Connection refused"):
        connect(tmp_path / "file")
    with pytest.raises(TracerError, match=r"cannot connect to .*path too long"):
        connect(tmp_path / ("x" * 200))


def test_a_daemon_that_serves_somebody_else_is_told(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory) / "s"
        listener.bind(os.fspath(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(os.fspath(path))
            with pytest.raises(TracerError, match=r"is busy with somebody else"):
                connect(path)


def test_a_program_that_is_missing_or_ends_at_once_is_told() -> None:
    with pytest.raises(TracerError, match=r"no-such-virtiofsd"):
        launch(["no-such-virtiofsd"])
    with pytest.raises(ServerGone, match=r'^the server closed .*; sh ended with exit code 7, saying: "no share.x1b"$'):
        launch(["sh", "-c", "printf 'no share\\033\\n' >&2; exit 7"])


def test_a_program_that_never_listens_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(ServerGone, match=r"made no socket within 0.3 s"):
        launch(["sh", "-c", "sleep 100", "sh", f"--socket-path={path}"], timeout_s=0.3)
    with pytest.raises(ServerGone, match=r"did not answer GET_FEATURES"):
        launch(["sh", "-c", "sleep 100"], timeout_s=0.3)
    path.touch()
    with pytest.raises(TracerError, match=r"is there already"):
        launch(["sleep", "--socket-path", str(path)])
    with pytest.raises(TracerError, match=r"leave --fd out"):
        launch(["sleep", "--fd=3"])


def test_a_message_that_is_too_long_or_too_short_is_a_users_mistake() -> None:
    with played(lambda *_: None) as transport:
        with pytest.raises(TracerError, match="15 bytes is too short"):
            transport.submit(bytes(15), 16)
        for message, room in ((request_bytes(2, bytes(8192)), 16), (request_bytes(2), 8193)):
            with pytest.raises(TracerError, match=r"this transport carries 8192"):
                transport.submit(message, room)
