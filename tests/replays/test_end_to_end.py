"""A workload recorded from one server and replayed into others, with the commands people type."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.e2e.recorder import PROGRAM, launched
from tests.replays.trees import described
from tests.servers import workload
from tests.servers.base import Server, seed
from tests.servers.real import Bindfs, PassthroughLl
from tests.tracer.bridges.ebpf.possible import why_no_ebpf
from tests.unprivileged import ROOT, ordinary

pytestmark = [pytest.mark.e2e, pytest.mark.root]

TIMEOUT_S = 60


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that an ordinary user can reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="fusewire-replayed-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def record(server: PassthroughLl, out: Path, kind: str) -> Path:
    """Record a workload whole; what it left is in the server's source."""
    bridge = "strace" if why_no_ebpf() else "ebpf"
    with server.started(launched(out, "--bridge", bridge, "--snap", "all")) as running:
        workload.run(running.mount_point, kind)
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()
    return out


def replay(*words: str | Path, program: tuple[str, ...] = PROGRAM) -> subprocess.CompletedProcess[str]:
    argv = [*program, "replay", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=ROOT)


def into(server: Server) -> list[str]:
    return ["--", *server.command(Path("/nowhere"))]


@pytest.mark.parametrize("kind", ["tree", "mixed", "parallel"])
def test_a_workload_is_replayed_without_root_and_without_a_mount_and_nothing_differs(
    kind: str, make_server: MakeServer, open_directory: Path
) -> None:
    recorded = make_server(PassthroughLl, str(open_directory / "recorded"))
    path = record(recorded, open_directory / "t.pcapng", kind)
    fresh = make_server(PassthroughLl, str(open_directory / "fresh"))
    user = ordinary()
    words = into(fresh)
    words[1] = str(shutil.copy2(words[1], open_directory))
    user.own(open_directory)
    ended = replay(
        *(path, "--allow-writes", "--compare-tree", recorded.source, fresh.source),
        *("--uid-map", f"0={user.uid}", "--gid-map", f"0={user.uid}", *words),
        program=(*user.words, "-m", "tracer.cli.main"),
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("No difference in ")
    assert "\n  no difference in " in ended.stdout
    assert described(fresh.source) == described(recorded.source)


def test_in_a_sandbox_everything_is_played_and_nothing_is_changed(make_server: MakeServer, tmp_path: Path) -> None:
    path = record(make_server(PassthroughLl, "recorded"), tmp_path / "t.pcapng", "tree")
    fresh = make_server(PassthroughLl, "fresh")
    before = described(fresh.seeded())
    ended = replay(path, "--allow-writes", "--sandbox", fresh.source, "--json", *into(fresh))
    found = json.loads(ended.stdout)
    assert described(fresh.source) == before
    assert {"what": "created", "path": "new", "was": None} in found["sandbox"]
    assert {one["what"] for one in found["sandbox"]} == {"created"}
    assert (ended.returncode, found["differences"]) == (0, []), ended.stderr


def test_what_another_server_lacks_is_found_as_such(make_server: MakeServer, tmp_path: Path) -> None:
    """libfuse 2 has no READDIRPLUS and takes 128 KiB at a time, and bindfs has no FLUSH."""
    path = record(make_server(PassthroughLl, "recorded"), tmp_path / "t.pcapng", "mixed")
    found = json.loads(replay(path, "--allow-writes", "--json", *into(make_server(Bindfs))).stdout)
    assert "DO_READDIRPLUS" in found["init"]["recorded_alone"]
    assert found["init"]["live"]["max_write"] == 131072 < found["init"]["recorded"]["max_write"]
    notes = {(note["rule"], note["opcode"]): note["text"] for note in found["notes"]}
    assert notes["no-readdirplus", "READDIRPLUS"]
    assert notes["splitting", "WRITE"] == "requests of more than 131072 bytes"
    assert notes["enosys", "FLUSH"] == "recorded success, live ENOSYS"
    assert found["counts"]["added"]["LOOKUP"] > 0
    assert not [one for one in found["differences"] if one["opcode"] in ("READDIRPLUS", "WRITE", "READ", "FLUSH")]


def test_a_poorer_kernel_can_be_played(make_server: MakeServer, tmp_path: Path) -> None:
    path = record(make_server(PassthroughLl, "recorded"), tmp_path / "t.pcapng", "mixed")
    words = ("--allow-writes", "--json", "--init", "flags-=READDIRPLUS,minor=28")
    ended = replay(path, *words, *into(make_server(PassthroughLl, "fresh")))
    found = json.loads(ended.stdout)
    assert (ended.returncode, found["differences"]) == (0, [])
    assert "DO_READDIRPLUS" in found["init"]["not_offered"]
    assert found["init"]["live"]["minor"] == 28
    assert found["counts"]["added"]["LOOKUP"] > 0


def test_users_of_the_recording_become_ones_the_server_allows(make_server: MakeServer, tmp_path: Path) -> None:
    """What a replay sends for another user is owned by them where the server lets them."""
    server = make_server(PassthroughLl, "recorded")
    path = record(server, tmp_path / "t.pcapng", "reading")
    fresh = make_server(PassthroughLl, "fresh")
    seed(fresh.source)
    for place in (fresh.source, *fresh.source.rglob("*")):
        os.chown(place, 4242, 4242, follow_symlinks=False)
    owned: list[Any] = [replay(path, "--json", *words, *into(fresh)) for words in ((), MAPS)]
    assert [ended.returncode for ended in owned] == [1, 0]
    assert {one["rule"] for one in json.loads(owned[0].stdout)["differences"]} == {"owner"}


def test_a_difference_in_a_listing_names_the_file(make_server: MakeServer, tmp_path: Path) -> None:
    path = record(make_server(PassthroughLl, "recorded"), tmp_path / "t.pcapng", "stats")
    fresh = make_server(PassthroughLl, "fresh")
    (fresh.seeded() / "dir" / "inner.txt").chmod(0o604)
    found = json.loads(replay(path, "--json", "--order", "serial", *into(fresh)).stdout)["differences"]
    listed = {(one["path"], one["field"], one["live_text"]) for one in found if one["opcode"].startswith("READDIR")}
    assert listed == {("/dir/inner.txt", "attr.mode", "-rw----r-- 0100604")}


MAPS = ("--uid-map", "0=4242", "--gid-map", "0=4242")


def test_without_leave_to_write_nothing_changes_and_what_follows_is_no_difference(
    make_server: MakeServer, tmp_path: Path
) -> None:
    path = record(make_server(PassthroughLl, "recorded"), tmp_path / "t.pcapng", "tree")
    fresh = make_server(PassthroughLl, "fresh")
    before = described(fresh.seeded())
    ended = replay(path, "--json", *into(fresh))
    found = json.loads(ended.stdout)
    assert described(fresh.source) == before
    assert ended.returncode == 0, ended.stdout
    assert found["counts"]["skipped"]["WRITES"] > 50
    assert found["counts"]["compared"] > 20
    assert all(one["follower_of"] is not None for one in found["differences"])
