"""What strace wrote about a daemon's syncfs(2), line for line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer.lab import injection
from tracer.lab.archive import Unavailable
from tracer.lab.injection import Synced, synced

LOG = """\
12726 +++ exited with 0 +++
12730 syncfs(19</>) = -1 ENOSYS (Function not implemented) (INJECTED)
12730 syncfs(20</mnt1>) = 0 (DELAYED)
12730 syncfs(21</mnt2> <unfinished ...>
12733 +++ exited with 0 +++
12730 <... syncfs resumed>) = 0 (DELAYED)
12730 syncfs(19</>
"""


def test_each_syncfs_is_told_with_its_path_and_error_however_it_was_divided() -> None:
    assert list(synced(LOG)) == [Synced("/", "ENOSYS"), Synced("/mnt1", ""), Synced("/mnt2", ""), Synced("/", "")]


def test_without_strace_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match=r"strace is not installed \(apt install strace\)"):
        injection.refusing("ENOSYS", Path())
