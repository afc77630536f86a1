"""The sample in examples/matrix, as a person runs it, against every server of it: what differs there is known."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import compiled, rust, rust_virtiofsd
from tests.servers.real import Bindfs, FuseOverlayfs, Squashfuse, Sshfs
from tests.servers.replayed import FuserSimple, Gocryptfs, Passthrough, PassthroughFh, Rclone, UnionfsFuse
from tests.unprivileged import ROOT, ordinary
from tests.vm import virtiofsd
from tracer.cli.main import main
from tracer.lab import daemons as lab_daemons
from tracer.trace.trace import Trace

pytestmark = pytest.mark.e2e

SAMPLE = ROOT / "examples/matrix"
NEEDED = (
    *(kind.lacks for kind in (Bindfs, FuseOverlayfs, Squashfuse, Sshfs, Passthrough, PassthroughFh)),
    *(kind.lacks for kind in (FuserSimple, Gocryptfs, Rclone, UnionfsFuse)),
    compiled.why_not,
)
DAEMONS = (virtiofsd.why_not, rust_virtiofsd.why_not)
EXAMPLES = ("passthrough_ll", "passthrough", "passthrough_fh")
FOR_READING, FOR_CHANGES = {"squashfuse"}, {"gocryptfs", "fuser, example simple"}


@dataclass
class Found:
    """What `fusewire matrix --json` left: its exit code, and each server's part of the document by name."""

    code: int
    servers: Mapping[str, Any]

    def verdicts(self) -> dict[str, str]:
        return {name: server["verdict"] for name, server in self.servers.items()}

    def differences(self, name: str) -> set[tuple[str, str, str, str]]:
        """Return operation, field, and both sides of what differs by itself."""
        return {
            (item["opcode"], item["field"], item["recorded_text"], item["live_text"])
            for item in self.servers[name]["replay"]["differences"]
            if item["follower_of"] is None
        }

    def notes(self, name: str) -> set[tuple[str, str, str]]:
        return {(note["opcode"], note["rule"], note["text"]) for note in self.servers[name]["replay"]["notes"]}


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """A directory for PATH with what the set-up builds, under the names that the sample has; any user may enter it."""
    for why_not in NEEDED:
        if (reason := why_not()) is not None:
            pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="fusewire-programs-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        for name in EXAMPLES:
            shutil.copy2(compiled.example(name), place / name)
        shutil.copy2(rust.example("simple"), place / "simple")
        yield place


@pytest.fixture
def daemons(tmp_path: Path) -> list[str]:
    """Where both virtiofsd are on this machine, as words of the command."""
    for why_not in DAEMONS:
        if (reason := why_not()) is not None:
            pytest.skip(reason)
    script = tmp_path / "virtiofsd"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(rust_virtiofsd.command())} "$@"\n')
    script.chmod(0o755)
    return ["--set", f"virtiofsd_c={lab_daemons.C_PROGRAM}", "--set", f"virtiofsd_rust={script}"]


@pytest.fixture
def matrix(programs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function: a trace of the sample and words -> what the command found."""
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def run(trace: str, *words: str) -> Found:
        code = main(["matrix", str(SAMPLE / trace), str(SAMPLE / "servers.toml"), "--json", *words])
        document = json.loads(capsys.readouterr().out)
        return Found(code, {server["name"]: server for server in document["servers"]})

    return run


@pytest.mark.root
def test_a_reading_workload_against_every_server_that_shows_a_directory(matrix: Any, daemons: list[str]) -> None:
    found: Found = matrix("reading.pcapng", *daemons)
    skipped = {name for name, verdict in found.verdicts().items() if verdict == "skipped"}
    assert (found.code, skipped) == (1, FOR_CHANGES)
    assert found.servers["passthrough_ll"]["cells"] == {}
    for name in ("passthrough_ll", "passthrough_ll, cache=always", "squashfuse", "bindfs", "virtiofsd (C)"):
        assert found.verdicts()[name] == "same"
    assert ("FLUSH", "enosys", "recorded success, live ENOSYS") in found.notes("bindfs")
    assert ("READDIRPLUS", "no-readdirplus", "READDIR was sent for READDIRPLUS") in found.notes("bindfs")
    assert ("GETXATTR", "error", "ENODATA", "ENOSYS") in found.differences("unionfs-fuse")
    assert ("READDIRPLUS", "entries", 'only here: "link"', "no other name") in found.differences("rclone")
    assert ("GETXATTR", "error", "ENODATA", "EOPNOTSUPP") in found.differences("virtiofsd (Rust)")


@pytest.mark.root
def test_a_changing_workload_against_every_server_that_can_be_written(
    matrix: Any, daemons: list[str], tmp_path: Path
) -> None:
    page, live = tmp_path / "page.html", tmp_path / "live"
    found: Found = matrix("changing.pcapng", *daemons, "--html", str(page), "--live", str(live), "--jobs", "2")
    skipped = {name for name, verdict in found.verdicts().items() if verdict == "skipped"}
    assert (found.code, skipped) == (1, FOR_READING)
    for name in ("passthrough_ll", "passthrough_ll, cache=always", "bindfs", "fuse-overlayfs", "virtiofsd (C)"):
        assert found.verdicts()[name] == "same"
    assert found.servers["passthrough_ll"]["cells"] == {}
    assert found.servers["passthrough_ll"]["replay"]["counts"]["skipped"] == {}
    assert ("FLUSH", "enosys", "recorded success, live ENOSYS") in found.notes("bindfs")
    assert ("READDIRPLUS", "no-readdirplus", "READDIR was sent for READDIRPLUS") in found.notes("bindfs")
    assert ("LINK", "attr.nlink", "2", "1") in found.differences("sshfs")
    assert ("SETXATTR", "error", "success", "ENOSYS") in found.differences("sshfs")
    assert ("SETXATTR", "error", "success", "ENOSYS") in found.differences("passthrough_fh")
    assert ("SYMLINK", "error", "success", "EIO") in found.differences("rclone")
    assert ("MKNOD", "error", "success", "ENOSYS") in found.differences("fuser, example simple")
    assert all(server["version"] for name, server in found.servers.items() if name not in FOR_READING)
    assert "/work/three" in page.read_text()
    opened = Trace.open(live / "01-passthrough_ll.pcapng")
    assert opened.exchange_count == Trace.open(SAMPLE / "changing.pcapng").exchange_count


def test_an_ordinary_user_needs_no_privilege_for_servers_that_need_none(programs: Path) -> None:
    user = ordinary()
    words = ["matrix", user.path(SAMPLE / "changing.pcapng"), user.path(SAMPLE / "servers.toml"), "--json"]
    for name in ("passthrough_ll", "sshfs", "bindfs"):
        words += ["--only", name]
    done = subprocess.run(
        ["env", f"PATH={programs}:{os.environ['PATH']}", *user.words, "-m", "tracer.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert done.returncode == 1, done.stderr
    servers = {server["name"]: server for server in json.loads(done.stdout)["servers"]}
    assert {name: server["verdict"] for name, server in servers.items()} == {
        "passthrough_ll": "same",
        "sshfs": "different",
        "bindfs": "same",
    }
