"""A guest's sync, recorded on a virtqueue, played to both virtiofs daemons: each submount is reached."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.recorder import PROGRAM
from tests.replays.transports.virtiofs import KINDS, NAMES, argv, why_not
from tests.tracer.small_disk import small_disk
from tests.unprivileged import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.root]

RECORDED = ROOT / "examples" / "submount-sync.pcapng"
MEBIBYTE = 1 << 20


@pytest.mark.parametrize("kind", KINDS, ids=NAMES.get)
def test_syncfs_of_a_recorded_guest_reaches_every_submount(kind: str, tmp_path: Path) -> None:
    if (reason := why_not(kind)) is not None:
        pytest.skip(reason)
    source, log = tmp_path / "share", tmp_path / "strace.log"
    source.mkdir()
    with small_disk(source / "mnt1", MEBIBYTE) as one, small_disk(source / "mnt2", MEBIBYTE) as two:
        for place in (source, one, two):
            place.chmod(0o1777)
        (one / "THIS_IS_MNT1").touch()
        (two / "THIS_IS_MNT2").touch()
        watched = ["strace", "-f", "-yy", "-e", "trace=syncfs", "-o", str(log), *argv(kind, source)]
        words = [*PROGRAM, "replay", str(RECORDED), "--allow-writes", "--json", "--", *watched]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert json.loads(ended.stdout)["differences"] == []
        assert (one / "numbers").stat().st_size == 2 * 4096 + 701
    synced = Counter(re.findall(r"syncfs\(\d+<([^>]*)>\) += 0", log.read_text()))
    assert synced == {"/": 2, "/mnt1": 1, "/mnt2": 2}
