"""Real FUSE servers as fixtures, and the promise that nothing stays mounted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from examples.demo import mounts, possible
from tests.servers.base import Server
from tests.servers.memfs import Memfs, MemfsBlk
from tests.servers.memory import Memory
from tests.servers.real import Bindfs, FuseOverlayfs, Mfusepy, PassthroughLl, Squashfuse, Sshfs
from tests.servers.splicing import Splicing

pytest_plugins = ["pytester"]

PACKAGED: tuple[type[Server], ...] = (Bindfs, Squashfuse, PassthroughLl, Sshfs, FuseOverlayfs, Mfusepy)
EVERY: tuple[type[Server], ...] = (*PACKAGED, Memfs, MemfsBlk, Memory, Splicing)
AnyServer = TypeVar("AnyServer", bound=Server)
MakeServer = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays_mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Unmount what tests left below the temporary directory, and fail for it."""
    yield
    base = tmp_path_factory.getbasetemp()
    left = [mount for mount in mounts.fuse_mounts() if Path(mount.mount_point).is_relative_to(base)]
    for mount in reversed(left):
        mounts.unmount(Path(mount.mount_point))
    assert not left, f"tests left these mounted (now unmounted): {left}"


@pytest.fixture
def make_server(tmp_path: Path) -> MakeServer:
    """Return a function: a Server class and its options -> the server, not started; skips with the true reason."""

    def make(kind: type[AnyServer], directory: str = "", **options: Any) -> AnyServer:
        server = kind(tmp_path / (directory or kind.name), **options)
        if (reason := server.needs()) is not None:
            pytest.skip(reason)
        server.directory.mkdir(parents=True, exist_ok=True)
        return server

    return make


@pytest.fixture(params=EVERY, ids=lambda kind: kind.name)
def any_server(request: pytest.FixtureRequest, make_server: MakeServer) -> Server:
    """Every server in turn, not started."""
    return make_server(request.param)


@pytest.fixture(params=PACKAGED, ids=lambda kind: kind.name)
def packaged_server(request: pytest.FixtureRequest, make_server: MakeServer) -> Server:
    """Every server of other people in turn, not started."""
    return make_server(request.param)


@pytest.fixture
def bindfs(make_server: MakeServer) -> Bindfs:
    return make_server(Bindfs)


@pytest.fixture
def squashfuse(make_server: MakeServer) -> Squashfuse:
    return make_server(Squashfuse)


@pytest.fixture
def passthrough_ll(make_server: MakeServer) -> PassthroughLl:
    return make_server(PassthroughLl)


@pytest.fixture
def sshfs(make_server: MakeServer) -> Sshfs:
    return make_server(Sshfs)


@pytest.fixture
def fuse_overlayfs(make_server: MakeServer) -> FuseOverlayfs:
    return make_server(FuseOverlayfs)


@pytest.fixture
def mfusepy_server(make_server: MakeServer) -> Mfusepy:
    return make_server(Mfusepy)


@pytest.fixture
def memfs(make_server: MakeServer) -> Memfs:
    """The project's own server, mounted as fuse: never sees SYNCFS."""
    return make_server(Memfs)


@pytest.fixture
def memfs_fuseblk(make_server: MakeServer) -> MemfsBlk:
    """The project's own server, mounted as fuseblk on a loop device; skips where no SYNCFS would be sent."""
    if (reason := possible.why_no_syncfs()) is not None:
        pytest.skip(reason)
    return make_server(MemfsBlk)


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    """A loop device on an empty image."""
    if (reason := possible.why_no_fuseblk()) is not None:
        pytest.skip(reason)
    with mounts.loop_device(tmp_path / "loop.img") as device:
        yield device
