"""The virtiofsd written in Rust: it runs here from Debian's package, and says what cargo lacks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tracer.lab import rust_virtiofsd
from tracer.lab.archive import Unavailable


def test_debians_package_runs_here_without_being_installed() -> None:
    try:
        words, origin = rust_virtiofsd.packaged()
    except Unavailable as reason:
        pytest.skip(str(reason))
    said = subprocess.run([*words, "--version"], capture_output=True, text=True, timeout=30, check=True)
    name, version = said.stdout.split()
    assert (name, version in origin or origin == "installed") == ("virtiofsd", True)


def test_without_cargo_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(Unavailable, match=r"cargo is not installed \(apt install cargo\)"):
        rust_virtiofsd.built()


def test_libraries_that_cargo_lacks_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cargo").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rust_virtiofsd, "LINKED", {"libone-dev": "/nowhere/one.h", "libc6-dev": "/"})
    with pytest.raises(Unavailable, match=r"apt install libone-dev\)"):
        rust_virtiofsd.built()
