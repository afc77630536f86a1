"""Real servers, whatever they are made of, talk to us instead of the kernel: as root and as an ordinary user."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from replays.transports import launcher
from tests.conftest import MakeServer
from tests.replays.transports.conversation import Heard, Order, converse
from tests.replays.transports.kernel import MEBIBYTE, Kernel
from tests.servers.base import Server
from tests.servers.real import Bindfs, FuseOverlayfs, Mfusepy, PassthroughLl, Squashfuse, Sshfs
from tests.servers.replayed import (
    FuserHello,
    FuserSimple,
    Gocryptfs,
    HelloLl,
    Passthrough,
    PassthroughFh,
    Rclone,
    UnionfsFuse,
)
from tests.unprivileged import Ordinary, ordinary

BY_DESCRIPTOR = (PassthroughLl, Passthrough, PassthroughFh, Sshfs, Squashfuse, FuseOverlayfs, Gocryptfs)
BY_THEIR_CALLS = (Bindfs, UnionfsFuse, Rclone, FuserSimple, FuserHello, Mfusepy)
EACH = [
    *[(kind, "auto", "fd") for kind in BY_DESCRIPTOR],
    *[(kind, "auto", "seccomp") for kind in BY_THEIR_CALLS],
    *[(kind, "seccomp", "seccomp") for kind in (PassthroughLl, Passthrough, Sshfs, Squashfuse, FuseOverlayfs)],
]
SEEDED = ("dir", "hello.txt", "link", "numbers.bin")
NO_LINKS = (Rclone,)
ONE_FILE = (Gocryptfs, FuserSimple, FuserHello)  # made in the conversation, or built in
NO_READDIRPLUS = (Bindfs, UnionfsFuse, Rclone, FuserSimple, FuserHello, Mfusepy)
FOR_ROOT = (FuserSimple,)


def name_of(case: tuple[type[Server], str, str]) -> str:
    return f"{case[0].name}-{case[2]}"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that the ordinary user can reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="fusewire-replayed-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def as_user(user: Ordinary, server: Server) -> Heard:
    """Hold the conversation as an ordinary user, who owns the server's directory, and a copy of its program."""
    argv = server.command(server.mount_point)
    if argv[0] == sys.executable:
        argv[0] = user.words[-1]
    elif Path(argv[0]).is_relative_to(Path.home()):
        argv[0] = str(shutil.copy2(argv[0], server.directory))
    user.own(server.directory)
    order = json.dumps(asdict(Order([user.path(word) for word in argv], "auto", server.writable)))
    words = [*user.words, "-m", "tests.replays.transports.conversation"]
    done = subprocess.run(words, input=order, capture_output=True, text=True, timeout=120, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    return Heard(**{**heard, "names": tuple(heard["names"]), "mounted": tuple(heard["mounted"])})


def check(heard: Heard, server: Server, transport: str) -> None:
    kind = type(server)
    assert heard.transport == transport, heard.how
    assert heard.hello == ("Hello World!\n" if kind is FuserHello else "hello from memfs\n")
    names = ("hello.txt",) if kind in ONE_FILE else SEEDED
    assert heard.names == tuple(name for name in names if not (name == "link" and kind in NO_LINKS))
    assert (heard.listed_by == "READDIR") == (kind in NO_READDIRPLUS)
    assert 250 < heard.namelen <= 256
    if server.writable:
        assert (heard.written_bytes, heard.read_back) == (MEBIBYTE, True)
    assert heard.destroyed
    assert heard.mounted == ()
    assert heard.ended in ("by itself", "SIGTERM")


@pytest.mark.parametrize("case", EACH, ids=name_of)
def test_a_server_answers_a_whole_session_and_nothing_is_mounted(
    case: tuple[type[Server], str, str], make_server: MakeServer
) -> None:
    kind, asked, transport = case
    server = make_server(kind)
    heard = converse(Order(server.command(server.mount_point), asked, server.writable))
    check(heard, server, transport)
    assert not server.mount_point.exists()  # nobody needed it


@pytest.mark.parametrize("case", [case for case in EACH if case[1] == "auto" and case[0] not in FOR_ROOT], ids=name_of)
def test_an_ordinary_user_may_do_all_of_it(case: tuple[type[Server], str, str], open_directory: Path) -> None:
    kind, _, transport = case
    server = kind(open_directory / kind.name)
    if (reason := server.lacks()) is not None:
        pytest.skip(reason)
    server.directory.mkdir()
    user = ordinary()
    heard = as_user(user, server)
    assert heard.uid == user.uid
    check(heard, server, transport)


@pytest.mark.parametrize("transport", ["fd", "seccomp"])
def test_a_server_of_one_file_and_few_operations_answers(transport: str, make_server: MakeServer) -> None:
    server = make_server(HelloLl)
    launched = launcher.launch(server.command(server.mount_point), transport)
    kernel = Kernel(launched.transport)
    kernel.begin()
    node = kernel.number("LOOKUP", "nodeid", 1, name=b"hello")
    assert kernel.read(node, 0, 0, 4096).values["data"] == b"Hello World!\n"
    launched.transport.close()
