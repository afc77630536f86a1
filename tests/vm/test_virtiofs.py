"""virtiofs between this machine and a guest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.vm.conftest import TAG
from tests.vm.guest import Guest

pytestmark = pytest.mark.vm
LARGE_BYTES = 6 << 20


def in_guest(guest: Guest, script: str) -> str:
    """Run a shell script with the virtiofs mount as its directory; return what it printed."""
    whole = f"mkdir -p /mnt/v && mount -t virtiofs {TAG} /mnt/v && (cd /mnt/v && set -e && {script})"
    try:
        return guest.run(["sh", "-c", whole]).checked()
    finally:
        guest.run(["umount", "/mnt/v"]).checked()


def test_the_guest_lists_and_reads_what_the_host_has(running: Guest, shared: Path) -> None:
    (shared / "large.bin").write_bytes(os.urandom(LARGE_BYTES))
    names, text, digest = in_guest(running, "echo *; cat hello.txt; sha256sum < large.bin").splitlines()
    assert names.split() == sorted(path.name for path in shared.iterdir())
    assert text == "hello from memfs"
    assert digest.split()[0] == hashlib.sha256((shared / "large.bin").read_bytes()).hexdigest()


def test_the_host_has_what_the_guest_wrote(running: Guest, shared: Path) -> None:
    in_guest(running, "echo of the guest > written; mkdir made; sync -f written")
    assert (shared / "written").read_text() == "of the guest\n"
    assert (shared / "made").is_dir()
