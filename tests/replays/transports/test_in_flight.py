"""Many large requests under way at once: every reply comes whole, whatever the server would rather do with it."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import pytest

from replays.transports import fd, launcher
from replays.transports.base import ServerGone
from tests.conftest import MakeServer
from tests.replays.transports.kernel import HEADER, MEBIBYTE, OFFERED, TIMEOUT_S, Kernel
from tests.servers.real import Bindfs, FuseOverlayfs, PassthroughLl, WithSource
from tests.servers.splicing import Splicing

SPLICES = ("SPLICE_READ", "SPLICE_WRITE", "SPLICE_MOVE")
IN_FLIGHT = 32
READ_BYTES = 128 << 10
CONTENT = random.Random(5).randbytes(4 * MEBIBYTE)
OFFSETS = random.Random(7).sample(range(len(CONTENT) - READ_BYTES), 1000)


@contextlib.contextmanager
def serving(server: WithSource, way: str) -> Iterator[Kernel]:
    """Start a server that has CONTENT in a file, and offer it everything about splicing."""
    argv = server.command(server.mount_point)
    (server.source / "large").write_bytes(CONTENT)
    transport = launcher.launch(argv, way).transport
    try:
        kernel = Kernel(transport)
        kernel.begin(*OFFERED, *SPLICES)
        yield kernel
    finally:
        ending = transport.close()
    assert ending.how == "by itself", ending


def opened(kernel: Kernel) -> tuple[int, int]:
    """Open that file; return node and handle."""
    node = kernel.number("LOOKUP", "nodeid", 1, name=b"large")
    return node, kernel.number("OPEN", "fh", node, flags=os.O_RDONLY, open_flags=0)


def read_all_at_once(kernel: Kernel, node: int, handle: int, offsets: list[int]) -> list[bytes]:
    """Keep READs of all offsets under way, and return what each was answered."""
    transport = kernel.transport
    got: dict[int, bytes] = {}
    wanted: dict[int, int] = {}
    waiting = list(enumerate(offsets))
    while len(got) < len(offsets):
        while waiting and len(wanted) - len(got) < IN_FLIGHT:
            number, offset = waiting[0]
            io = {"fh": handle, "offset": offset, "size": READ_BYTES, "read_flags": 0, "lock_owner": 0, "flags": 0}
            if not transport.submit(kernel.message("READ", node, **io), HEADER + READ_BYTES):
                break
            wanted[kernel.unique] = number
            del waiting[0]
        answers = transport.complete(TIMEOUT_S)
        assert answers
        for answer in answers:
            got[wanted[answer.unique]] = answer.data[HEADER:]
    return [got[number] for number in range(len(offsets))]


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        (Splicing, "fd"),
        (Splicing, "seccomp"),
        (FuseOverlayfs, "fd"),
        (FuseOverlayfs, "seccomp"),
        (PassthroughLl, "fd"),
        (Bindfs, "seccomp"),
    ],
)
def test_large_replies_of_several_threads_come_whole(kind: type[WithSource], way: str, make_server: MakeServer) -> None:
    with serving(make_server(kind), way) as kernel:
        node, handle = opened(kernel)
        for offset, data in zip(OFFSETS, read_all_at_once(kernel, node, handle, OFFSETS), strict=True):
            assert data == CONTENT[offset : offset + READ_BYTES]


@pytest.mark.parametrize("way", ["fd", "seccomp"])
def test_a_server_with_a_device_for_each_thread_is_answered_on_all_of_them(way: str, make_server: MakeServer) -> None:
    with serving(make_server(PassthroughLl, options=("clone_fd",)), way) as kernel:
        node, handle = opened(kernel)
        for offset, data in zip(OFFSETS, read_all_at_once(kernel, node, handle, OFFSETS), strict=True):
            assert data == CONTENT[offset : offset + READ_BYTES]
    # of a descriptor libfuse cannot make another one, says so, and goes on with the first
    said = kernel.transport.close().output
    assert ("trying to continue without -o clone_fd" in said) == (way == "fd"), said


def test_without_its_filter_a_splicing_server_is_refused_when_its_pieces_could_be_mixed(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fd, "WHOLE_REPLIES", ())
    with serving(make_server(Splicing), "fd") as kernel:
        node, handle = opened(kernel)
        data = kernel.read(node, handle, 4096, READ_BYTES).values["data"]  # alone, its pieces are put together
        assert data == CONTENT[4096 : 4096 + READ_BYTES]
        with pytest.raises(ServerGone, match="splices its replies, which arrive here in pieces"):
            read_all_at_once(kernel, node, handle, OFFSETS)
