"""The mended virtiofs.ko: what is changed in the source, and what is said where it cannot be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer.lab import archive
from tracer.lab.archive import Unavailable
from tracer.lab.fixed_module import fixed_virtiofs, mended
from tracer.lab.kernels import Kernel

TEST_SUPER = """\
	struct fuse_mount *sb_fm = get_fuse_mount_super(sb);

	return fsc_fm->fc->iq.priv == sb_fm->fc->iq.priv;
}
"""
MENDED = """\
	struct fuse_mount *sb_fm = get_fuse_mount_super(sb);

	if (sb_fm->fc->mounts.next != &sb_fm->fc_entry)
		return 0;
	return fsc_fm->fc->iq.priv == sb_fm->fc->iq.priv;
}
"""


def test_only_the_first_superblock_of_a_connection_is_still_taken() -> None:
    assert mended(TEST_SUPER) == MENDED


@pytest.mark.parametrize("source", [MENDED, TEST_SUPER * 2, "return 1;\n"], ids=["mended", "twice", "not there"])
def test_a_source_that_reads_otherwise_is_refused(source: str) -> None:
    with pytest.raises(Unavailable, match=r"virtio_fs_test_super\(\) of this kernel is not the one"):
        mended(source)


def test_a_kernel_that_has_virtiofs_built_in_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/fs/fuse/fuse.ko\nkernel/fs/fuse/virtiofs.ko\n")
    kernel = Kernel("6.12", "6.12.1-amd64", tmp_path / "vmlinuz", tmp_path)
    with pytest.raises(Unavailable, match=r"virtiofs is built into Linux 6\.12\.1-amd64"):
        fixed_virtiofs(kernel)


@pytest.mark.parametrize("program", ["make", "gcc"])
def test_without_a_program_its_package_is_named(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/fs/fuse/fuse.ko\n")
    for there in {"make", "gcc"} - {program}:
        (tmp_path / there).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(Unavailable, match=rf"{program} is not installed \(apt install {program}\)"):
        fixed_virtiofs(Kernel("6.1", "6.1.0-1-amd64", tmp_path / "vmlinuz", tmp_path))


def test_a_source_of_another_version_than_the_kernel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fuse_i.h may lay out other structures than the fuse.ko that is loaded."""
    (tmp_path / "modules.builtin").write_text("kernel/fs/fuse/fuse.ko\n")
    versions = {"linux-headers-6.1.0-1-amd64": "6.1.2-1_amd64-1", "linux-source-6.1": "6.1.3-1_all-2"}
    monkeypatch.setattr(archive, "unpacked", lambda _, package, *__, **___: tmp_path / f"{package}_{versions[package]}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for program in ("make", "gcc"):
        (tmp_path / program).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"source of Linux 6\.1\.3-1, and 6\.1\.2-1 is booted"):
        fixed_virtiofs(Kernel("6.1", "6.1.0-1-amd64", tmp_path / "vmlinuz", tmp_path))
