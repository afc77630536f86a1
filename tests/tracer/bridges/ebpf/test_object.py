"""The package's build makes the object and ships it; without clang it says so and goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
MEMBER = "tracer/bridges/ebpf/fusewire.bpf.o"
BUILT = ("dissectors", "tracer", "replays", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE")
ELF, MACHINE_BPF = b"\x7fELF", 247


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build needs, without the object."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in BUILT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.bpf.o"))
        else:
            shutil.copy(source, copy / name)
    (copy / ".gitignore").write_text("/tracer/bridges/ebpf/*.bpf.o\n")  # hatchling leaves out what git ignores
    return copy


def build(checkout: Path, path: str = os.environ["PATH"]) -> tuple[zipfile.Path, str]:
    """Build a wheel; return its root and what was said."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(checkout / "dist")]
    ended = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (wheel,) = (checkout / "dist").iterdir()
    return zipfile.Path(wheel), ended.stdout + ended.stderr


def test_a_wheel_ships_the_object_for_one_processor_and_any_python(checkout: Path) -> None:
    if shutil.which("clang") is None:
        pytest.skip("there is no clang")
    wheel, _ = build(checkout)
    content = (wheel / MEMBER).read_bytes()
    assert content[:4] == ELF
    assert int.from_bytes(content[18:20], "little") == MACHINE_BPF
    assert str(checkout).encode() not in content
    assert wheel.root.filename is not None
    assert Path(wheel.root.filename).name.endswith(f"py3-none-manylinux_2_17_{os.uname().machine}.whl")


def test_a_build_without_clang_goes_on_and_says_what_is_missing(checkout: Path, tmp_path: Path) -> None:
    wheel, said = build(checkout, str(tmp_path))
    assert not (wheel / MEMBER).exists()
    assert (wheel / "tracer/bridges/ebpf/programs.py").exists()
    assert "apt-get install clang libbpf-dev" in said
    assert wheel.root.filename is not None
    assert wheel.root.filename.endswith("py3-none-any.whl")


def test_a_source_that_does_not_compile_fails_the_build(checkout: Path) -> None:
    if shutil.which("clang") is None:
        pytest.skip("there is no clang")
    with open(checkout / "tracer/bridges/ebpf/bpf/fusewire.bpf.c", "a") as source:
        source.write("not C\n")
    ended = subprocess.run(
        [sys.executable, "hatch_build.py"], cwd=checkout, capture_output=True, timeout=120, check=False
    )
    assert ended.returncode != 0
    assert not (checkout / MEMBER).exists()
