"""A guest's sync, recorded on a virtqueue, played to both virtiofs daemons: each submount is reached."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.recorder import PROGRAM
from tests.replays.transports.virtiofs import KINDS, NAMES, argv, why_not
from tests.tracer.small_disk import small_disk
from tests.unprivileged import ROOT
from tests.vm import virtiofsd

pytestmark = [pytest.mark.e2e, pytest.mark.root]

RECORDED = ROOT / "examples" / "submount-sync.pcapng"
MEBIBYTE = 1 << 20


@contextlib.contextmanager
def share(directory: Path) -> Iterator[Path]:
    """Make what the guest saw: a directory with two file systems in it, each with a file of its own."""
    source = directory / "share"
    source.mkdir()
    with small_disk(source / "mnt1", MEBIBYTE) as one, small_disk(source / "mnt2", MEBIBYTE) as two:
        for place in (source, one, two):
            place.chmod(0o1777)
        (one / "THIS_IS_MNT1").touch()
        (two / "THIS_IS_MNT2").touch()
        yield source


def replay(*words: str | Path) -> dict[str, Any]:
    """Replay the recording; nothing may differ."""
    argv = [*PROGRAM, "replay", RECORDED, "--allow-writes", "--json", *words]
    ended = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    assert found["differences"] == []
    return found


@pytest.mark.parametrize("kind", KINDS, ids=NAMES.get)
def test_syncfs_of_a_recorded_guest_reaches_every_submount(kind: str, tmp_path: Path) -> None:
    if (reason := why_not(kind)) is not None:
        pytest.skip(reason)
    log = tmp_path / "strace.log"
    with share(tmp_path) as source:
        watched = ["strace", "-f", "-yy", "-e", "trace=syncfs", "-o", str(log), *argv(kind, source)]
        replay("--", *watched)
        assert (source / "mnt1" / "numbers").stat().st_size == 2 * 4096 + 701
    synced = Counter(re.findall(r"syncfs\(\d+<([^>]*)>\) += 0", log.read_text()))
    assert synced == {"/": 2, "/mnt1": 1, "/mnt2": 2}


def test_a_daemon_that_runs_already_is_played_to(tmp_path: Path) -> None:
    if (reason := virtiofsd.why_not()) is not None:
        pytest.skip(reason)
    with share(tmp_path) as source, virtiofsd.serving(source) as socket:
        found = replay("--vhost-user", socket)
        assert (found["transport"], found["server"]["status"]) == ("vhost-user", None)
        assert (source / "mnt2" / "numbers").stat().st_size == 1892
