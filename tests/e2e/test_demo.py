"""`make demo` does what the README promises, against the real server on a loop device."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dissectors.opcodes import op_name
from examples.demo import mounts, possible
from scripts import demo
from tracer.trace.trace import Trace

pytestmark = [pytest.mark.e2e, pytest.mark.root]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """What the demo printed, itself and the commands it runs; its trace went to demo.TRACE."""
    if (reason := possible.why_no_program("strace", "strace") or possible.why_no_syncfs()) is not None:
        pytest.skip(reason)
    if not (demo.ROOT / demo.FUSEWIRE).exists():
        pytest.skip(f"{demo.FUSEWIRE} is not there: make venv")
    monkeypatch.chdir(tmp_path)  # the demo goes to the checkout: come back afterwards
    monkeypatch.setattr(demo, "TRACE", tmp_path / "traces" / "demo.pcapng")  # a person's own recording stays
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        status = demo.main()
    out, err = capfd.readouterr()
    assert status == 0, out + err
    return out


def test_the_demo_shows_that_sync_reached_the_root_of_the_mount_and_leaves_nothing_behind(told: str) -> None:
    listed, reported = told.split("Did sync reach the server?")
    (mount_point,) = set(re.findall(r"/\S*fusewire-demo-\w+/mnt\b", told))
    shown = [line for line in listed.splitlines() if "◆ " in line]
    assert len(shown) >= 2  # sync -f and sync
    assert all(" SYNCFS " in line for line in shown)
    assert f"{mount_point}  (fuseblk, " in reported
    assert re.search(r"root node 1 /, st_dev \S+, \d+ requests\n", reported)
    # The server takes 0.2 s. On a busy machine a name may be looked up too late.
    answers = re.findall(r"◆ SYNCFS \S+ by (?:sync|\?)\[\d+\]: answered in (\d{3}ms|[\d.]+s)", reported)
    assert len(answers) >= 2
    assert mounts.fuse_mount_at(Path(mount_point)) is None
    assert not Path(mount_point).parent.exists()
    trace = Trace.open(demo.TRACE)
    opcodes = {op_name(opcode) for opcode in set(trace.records["opcode"].tolist())}
    assert {"INIT", "MKDIR", "CREATE", "WRITE", "READ", "UNLINK", "SYNCFS", "DESTROY"} <= opcodes
    assert trace.gaps == []
    assert trace.file.finished
