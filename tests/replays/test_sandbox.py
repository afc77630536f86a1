"""What a server changes in a sandbox is told, and its source does not know of it: as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replays.stores.sandbox import Change, Sandbox
from replays.transports import launcher, process
from tests.conftest import MakeServer
from tests.replays.transports import virtiofs
from tests.replays.transports.kernel import Kernel
from tests.servers.base import seed
from tests.servers.real import Bindfs, PassthroughLl, WithSource
from tests.unprivileged import NOBODY_ID, ordinary
from tracer.errors import TracerError

WORK = """
import os, sys
os.chdir(sys.argv[1])
open("hello.txt", "a").write("more")
open("numbers.bin", "r+b").close()
os.mkdir("new"); open("new/file", "w").close()
os.remove("link")
os.symlink("dir", "other")
os.remove("dir/inner.txt"); os.rmdir("dir"); os.mkdir("dir"); open("dir/instead", "w").close()
os.chmod("kept", 0o711)
print("done", flush=True)
"""
EXPECTED = [
    Change("deleted", "dir/inner.txt"),
    Change("created", "dir/instead"),
    Change("changed", "hello.txt"),
    Change("changed", "kept"),
    Change("deleted", "link"),
    Change("created", "new"),
    Change("created", "new/file"),
    Change("created", "other"),
]
AS_USER = """
import json, sys
from pathlib import Path
from replays.stores.sandbox import Sandbox
from replays.transports import process
with Sandbox(Path(sys.argv[1])) as sandbox:
    child = process.start([sys.argv[2], "-c", sys.argv[3], sys.argv[1]], overlay=sandbox.overlay)
    assert child.has_ended(20)
    said = child.end()
    print(json.dumps([said.output, [[c.what, c.path, c.was] for c in sandbox.changes()]]))
print(sandbox.overlay.upper.exists())
"""
Run = Callable[[str, Sandbox], str]


@pytest.fixture
def source() -> Iterator[Path]:
    """A seeded directory that any user can reach."""
    with tempfile.TemporaryDirectory(prefix="fusewire-source-") as directory:
        Path(directory).chmod(0o755)
        place = Path(directory) / "so,urce: one"  # what means something in an overlay's options
        seed(place)
        (place / "kept").mkdir()
        yield place


def state(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return everything below a directory: mode, mtime and content."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


def run(program: str, sandbox: Sandbox, *words: str) -> str:
    child = process.start([sys.executable, "-c", program, *words], overlay=sandbox.overlay)
    child.has_ended(20)
    return child.end().output


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the ordinary user's sandbox is tried below")
class TestAsRoot:
    def test_every_change_is_told_and_the_source_stays(self, source: Path) -> None:
        before = state(source)
        with Sandbox(source) as sandbox:
            assert run(WORK, sandbox, str(source)) == "done"
            assert sandbox.changes() == EXPECTED
            assert state(source) == before
        assert not sandbox.overlay.upper.parent.exists()

    def test_a_directory_that_moves_is_told_once_with_what_changed_in_it(self, source: Path) -> None:
        with Sandbox(source) as sandbox:
            program = "os.chdir(sys.argv[1]); os.rename('dir', 'kept/moved'); os.mkdir('kept/moved/sub')"
            assert run(f"import os, sys; {program}", sandbox, str(source)) == ""
            assert sandbox.changes() == [Change("moved", "kept/moved", "dir"), Change("created", "kept/moved/sub")]

    def test_names_are_escaped(self, source: Path) -> None:
        with Sandbox(source) as sandbox:
            run("import os, sys; os.mkdir(os.fsencode(sys.argv[1]) + b'/\\x1b[2J\\xff')", sandbox, str(source))
            assert sandbox.changes() == [Change("created", "\\x1b[2J\\xff")]

    def test_a_server_that_works_below_its_source_sees_the_overlay(
        self, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(source)
        with Sandbox(source) as sandbox:
            run("open('here', 'w').close()", sandbox)
            assert sandbox.changes() == [Change("created", "here")]
        assert not (source / "here").exists()

    def test_what_is_closed_to_everybody_is_removed_too(self, source: Path) -> None:
        with Sandbox(source) as sandbox:
            run("import os, sys; os.chdir(sys.argv[1]); os.makedirs('a/b'); os.chmod('a', 0)", sandbox, str(source))
        assert not sandbox.overlay.upper.exists()

    def test_a_place_that_cannot_hold_an_overlay_is_told(self, source: Path) -> None:
        with Sandbox(source, Path("/dev")) as sandbox:
            broken = sandbox.overlay._replace(work=sandbox.overlay.source)
            with pytest.raises(TracerError, match=r"mount\(overlay\) is refused here") as refused:
                process.start(["true"], overlay=broken)
        assert "on a disk or tmpfs" in refused.value.hint


def test_an_ordinary_user_may_have_one(source: Path) -> None:
    user = ordinary()
    user.own(source)
    before = state(source)
    words = [*user.words, "-c", AS_USER, str(source), user.words[-1], WORK]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    heard, removed = done.stdout.splitlines()
    output, changes = json.loads(heard)
    assert output == "done"
    assert [Change(*words) for words in changes] == EXPECTED
    assert removed == "False"
    assert state(source) == before
    assert user.uid in (NOBODY_ID, os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the ordinary user's sandbox is tried above")
@pytest.mark.parametrize(("kind", "transport"), [(PassthroughLl, "fd"), (Bindfs, "seccomp")])
def test_a_real_server_writes_into_its_sandbox(kind: type[WithSource], transport: str, make_server: MakeServer) -> None:
    server = make_server(kind)
    argv = server.command(server.mount_point)
    before = state(server.source)
    with Sandbox(server.source) as sandbox:
        launched = launcher.launch(argv, overlay=sandbox.overlay)
        kernel = Kernel(launched.transport)
        kernel.begin()
        create = {"flags": os.O_RDWR | os.O_CREAT, "mode": 0o100644, "umask": 0, "open_flags": 0}
        assert kernel.ask("CREATE", 1, **create, name=b"made").error == 0
        kernel.number("LOOKUP", "nodeid", 1, name=b"link")  # a kernel always looks up first
        assert kernel.ask("UNLINK", 1, name=b"link").error == 0
        launched.transport.close()
        assert launched.transport.name == transport
        assert sandbox.changes() == [Change("deleted", "link"), Change("created", "made")]
    assert state(server.source) == before


@pytest.mark.parametrize("kind", virtiofs.KINDS)
def test_a_daemon_of_virtiofs_writes_into_its_sandbox(kind: str, tmp_path: Path) -> None:
    if (reason := virtiofs.why_not(kind)) is not None:
        pytest.skip(reason)
    seed(source := tmp_path / "source")
    before = state(source)
    with Sandbox(source) as sandbox:
        transport = launcher.launch(virtiofs.argv(kind, source), overlay=sandbox.overlay).transport
        kernel = Kernel(transport)
        kernel.begin()
        create = {"flags": os.O_RDWR | os.O_CREAT, "mode": 0o100644, "umask": 0, "open_flags": 0}
        assert kernel.ask("CREATE", 1, **create, name=b"made").error == 0
        transport.close()
        assert transport.name == "vhost-user"
        assert sandbox.changes() == [Change("created", "made")]
    assert state(source) == before


def test_a_source_that_is_no_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(TracerError, match="missing is no directory"):
        Sandbox(tmp_path / "missing")
