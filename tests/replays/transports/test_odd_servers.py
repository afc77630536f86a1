"""Servers that are missing, die, lie, hang or hide: one clear line each, and nothing of them is left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replays.transports import launcher, seqpacket
from replays.transports.base import Ending, ServerGone
from replays.transports.seqpacket import SocketTransport
from tests.replays.transports.kernel import HEADER, MEBIBYTE, ROOT, Kernel
from tests.unprivileged import ordinary
from tracer.errors import TracerError

ODD = Path(__file__).with_name("odd_server.py")
WAIT_S = 20.0
Start = Callable[..., SocketTransport]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function: a habit and a transport -> the conversation, ended with the test."""
    with contextlib.ExitStack() as started:

        def launch(habit: str, transport: str = "fd", timeout_s: float = WAIT_S) -> SocketTransport:
            launched = launcher.launch([sys.executable, str(ODD), habit, "{}"], transport, timeout_s)
            assert isinstance(launched.transport, SocketTransport)
            started.callback(launched.transport.close)
            return launched.transport

        yield launch


def wait_ended(pid: int) -> None:
    """Wait until a process that is no child of ours has ended."""
    with contextlib.suppress(ProcessLookupError):
        ended = select.poll()
        ended.register(os.pidfd_open(pid), select.POLLIN)
        assert ended.poll(WAIT_S * 1000), f"{pid} lives on"


def ask(transport: SocketTransport, room: int = HEADER) -> bytes:
    kernel = Kernel(transport)
    return kernel.answer_to(kernel.message("GETATTR", ROOT, getattr_flags=0, dummy=0, fh=0), room)


def ask_on(transport: SocketTransport) -> None:
    """Ask until the server is found out: some are only by what they do after an answer."""
    for _ in range(100):
        ask(transport)


@pytest.mark.parametrize(
    ("habit", "said"),
    [
        ("exits", 'ended with exit code 3, saying: "no such file system"'),
        ("crashes", "was killed by SIGSEGV"),
        ("garbage", "sent 7 bytes, which is no message: fuse_out_header alone has 16"),
        ("lies about the length", "sent 16 bytes that say they are 4000"),
        ("answers too much", "answered 116 bytes to a request that has room for 16"),
        ("longer than any reply", "sent a message of 1056784 bytes, longer than any reply (1052672 at most)"),
        ("answers what was not asked", "answered request 1002, which was not asked, or was answered before"),
        ("notifies of nothing", "sent a notification of code 0: there is none below 1"),
        (
            "becomes a daemon",
            "went to the background, where it can be neither watched nor ended in order: "
            "add its option to stay in the foreground (mostly -f or --foreground)",
        ),
    ],
)
def test_what_a_server_does_wrong_is_one_line(habit: str, said: str, start: Start) -> None:
    transport = start(habit)
    with pytest.raises(ServerGone) as gone:
        ask_on(transport)
    assert str(gone.value) == f"{Path(sys.executable).name} {said}"


@pytest.mark.parametrize("transport", ["fd", "seccomp"])
def test_a_server_that_closes_the_device_and_lives_on_is_found_out(transport: str, start: Start) -> None:
    with pytest.raises(ServerGone, match="closed its end of the connection, and runs on"):
        start("closes", transport).complete(WAIT_S)


def test_what_was_right_is_handed_over_before_the_fault_is_told(start: Start) -> None:
    transport = start("answers, then garbage")
    assert ask(transport) == bytes.fromhex("10000000000000000200000000000000")
    with pytest.raises(ServerGone, match="sent 7 bytes"):
        transport.complete(WAIT_S)
    with pytest.raises(ServerGone):
        transport.complete(WAIT_S)


def test_a_second_answer_is_told(start: Start) -> None:
    transport = start("answers twice")
    ask(transport)
    with pytest.raises(ServerGone, match="answered request 2, which was not asked, or was answered before"):
        transport.complete(WAIT_S)


def test_a_refusal_of_an_interrupt_is_an_answer(start: Start) -> None:
    transport = start("refuses an interrupt")
    kernel = Kernel(transport)
    assert transport.submit(kernel.message("INTERRUPT", 0, unique=2), 0)
    (answer,) = transport.complete(WAIT_S)
    assert answer.unique == 3  # as the kernel numbers the INTERRUPT of request 2


def test_a_server_that_never_answers_keeps_nobody_waiting(start: Start) -> None:
    transport = start("never answers")
    assert transport.submit(Kernel(transport).message("STATFS"), HEADER)
    assert transport.complete(0.05) == []


def test_a_server_that_never_reads_fills_up_and_keeps_nobody_waiting(start: Start) -> None:
    transport = start("never reads")
    kernel = Kernel(transport)
    io = {"fh": 0, "offset": 0, "write_flags": 0, "lock_owner": 0, "flags": 0}
    message = kernel.message("WRITE", ROOT, **io, size=MEBIBYTE // 2, data=bytes(MEBIBYTE // 2))
    taken = 0
    while transport.submit(message, HEADER + 8):
        taken += 1
        assert taken < 1000
    assert taken > 0
    assert transport.complete(0.05) == []


def test_there_is_place_again_when_a_slow_server_has_read(start: Start) -> None:
    transport = start("never answers")
    message = Kernel(transport).message("STATFS")
    refused = 0
    for _ in range(30_000):  # more than the socket holds
        while not transport.submit(message, 0):
            refused += 1
            assert transport.complete(WAIT_S) == []
    assert refused


@pytest.mark.parametrize(
    ("habit", "how"),
    [("answers", "by itself"), ("goes when it is told", "SIGTERM"), ("stays whatever it is told", "SIGKILL")],
)
def test_a_server_is_ended_as_gently_as_it_lets_us(habit: str, how: str, start: Start) -> None:
    transport = start(habit)
    ask(transport)
    pid = transport.process.pid
    ending = transport.close()
    assert ending.how == how
    assert transport.close() == ending
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_a_server_started_ends_with_it(start: Start) -> None:
    transport = start("leaves a child")
    ask(transport)
    wait_ended(int(transport.close().output))


@pytest.mark.parametrize("transport", ["fd", "seccomp"])
def test_a_daemon_is_told_apart_and_ended_too(transport: str, start: Start) -> None:
    conversation = start("becomes a daemon", transport)
    assert conversation.process.has_ended(WAIT_S)
    with pytest.raises(ServerGone, match="went to the background"):
        conversation.complete(WAIT_S)
    wait_ended(int(conversation.close().output))


def test_the_last_words_are_kept_bounded_and_harmless(start: Start) -> None:
    transport = start("talks")
    ask(transport)
    output = transport.close().output
    assert 1000 < len(output) < 20_000
    assert output.endswith("\\x1b[31m39999 of too many words")
    assert "\x1b" not in output


def test_a_reply_in_pieces_is_put_together_when_it_is_the_only_one(start: Start) -> None:
    transport = start("in pieces")
    assert len(ask(transport, HEADER + 200)) == HEADER + 200


def test_replies_in_pieces_that_could_be_mixed_are_refused(start: Start) -> None:
    transport = start("in pieces")
    kernel = Kernel(transport)
    for _ in range(2):
        assert transport.submit(kernel.message("STATFS"), HEADER + 200)
    with pytest.raises(ServerGone, match="splices its replies, which arrive here in pieces"):
        transport.complete(WAIT_S)


@pytest.mark.parametrize(("habit", "refusal"), [("mounts", "Operation not permitted"), ("splices", "Invalid argument")])
def test_a_server_on_a_descriptor_can_neither_mount_nor_splice(habit: str, refusal: str, start: Start) -> None:
    transport = start(habit)
    with pytest.raises(ServerGone, match=refusal):
        transport.complete(WAIT_S)


def test_the_mount_calls_of_linux_5_are_answered_too(start: Start) -> None:
    transport = start("mounts the new way", "seccomp")
    assert ask(transport) == bytes.fromhex("10000000000000000200000000000000")
    assert transport.close() == Ending(0, "by itself", "")


def test_a_server_that_ends_before_it_opens_the_device_is_quoted(start: Start) -> None:
    with pytest.raises(TracerError, match='ended with exit code 3, saying: "no such file system", before it opened'):
        start("exits", "seccomp")


def test_a_server_that_opens_nothing_is_given_up(start: Start) -> None:
    with pytest.raises(TracerError, match=r'did not open /dev/fuse within 1 s, and runs on, saying: "thinking"'):
        start("opens nothing", "seccomp", 1.0)


def test_a_server_that_is_missing_is_named() -> None:
    with pytest.raises(TracerError, match="no-such-server is not there, nor on PATH"):
        launcher.launch(["no-such-server", "mnt"])


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_bytes(b"\x7fELF and no more")
    program.chmod(0o755)
    with pytest.raises(TracerError, match=r"cannot start .*/server: Exec format error"):
        launcher.launch([str(program), "mnt"])


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: cannot make a program of another user")
def test_a_setuid_server_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\n")
    os.chown(program, 1, 1)
    program.chmod(0o4755)
    with pytest.raises(TracerError, match="is setuid, and gains no rights under a filter"):
        launcher.launch([str(program), "mnt"])


def test_an_unknown_transport_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TracerError, match=r"there is no transport 'cuse' \(one of: auto, fd, seccomp, vhost-user\)"):
        launcher.launch(["true", "mnt"], "cuse")


def test_a_request_too_long_for_the_socket_says_what_would_help(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seqpacket, "_BUFFER_BYTES", 64 << 10)
    transport = start("answers")
    assert transport.most_bytes == 2 * (64 << 10) - 32
    assert transport.submit(bytes(transport.most_bytes), 0)
    with pytest.raises(TracerError, match="131041 bytes is too long for this socket, which carries 131040"):
        transport.submit(bytes(transport.most_bytes + 1), 0)


STARTS_ONE = """
import sys
from replays.transports import launcher
launched = launcher.launch([sys.argv[1], sys.argv[2], "never reads", "{}"], sys.argv[3])
print(launched.transport.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("transport", ["fd", "seccomp"])
def test_a_server_dies_with_us(transport: str) -> None:
    user = ordinary()
    words = [*user.words, "-c", STARTS_ONE, user.words[-1], user.path(ODD), transport]
    with tempfile.TemporaryDirectory() as place:  # who is killed cannot clean up
        Path(place).chmod(0o777)
        environment = {**os.environ, "TMPDIR": place}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(words, **pipes, cwd="/", env=environment) as us:
            assert us.stdout is not None
            server = int(us.stdout.readline())
            os.kill(server, 0)
            us.send_signal(signal.SIGKILL)
        wait_ended(server)


@pytest.mark.parametrize("transport", ["fd", "seccomp"])
def test_a_conversation_leaves_neither_descriptors_nor_threads_nor_directories(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def held() -> tuple[int, int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), len(list(tmp_path.iterdir()))

    before = held()
    for habit in ("answers", "garbage", "closes", "exits"):
        # the last is found out while it starts, where it has to open the device
        with contextlib.suppress(ServerGone, TracerError), contextlib.closing(start(habit, transport)) as conversation:
            ask(conversation)
    assert held() == before


def test_a_message_of_a_mebibyte_fits_both_ways() -> None:
    ours, theirs, most_bytes = seqpacket.pair()
    with ours, theirs:
        wmem_max = int(Path("/proc/sys/net/core/wmem_max").read_text())
        if os.geteuid() == 0 or wmem_max >= 4 * MEBIBYTE:
            assert most_bytes == MEBIBYTE + 4096
        for sender, receiver in ((ours, theirs), (theirs, ours)):
            sender.send(bytes(most_bytes))
            assert len(receiver.recv(2 * MEBIBYTE, socket.MSG_DONTWAIT)) == most_bytes
