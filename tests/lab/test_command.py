"""fusewire lab on a machine, or with words, that it cannot run with: one line, and what to do next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab.conftest import skip_where_it_cannot_run
from tracer.lab.scenarios import SCENARIOS

PROGRAM = (sys.executable, "-m", "tracer.cli.main", "lab")


def refused(*words: str, within: Sequence[str] = (), **environment: str) -> list[str]:
    """Run a command that must not boot anything; return what it says."""
    ended = subprocess.run(
        [*within, *PROGRAM, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    return ended.stderr.splitlines()


def test_the_list_names_every_scenario_with_a_sentence() -> None:
    ended = subprocess.run([*PROGRAM, "--list"], capture_output=True, text=True, timeout=60, check=True)
    assert [line.split(maxsplit=1) for line in ended.stdout.splitlines()] == [[s.name, s.summary] for s in SCENARIOS]


def test_an_unknown_scenario_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    lines = refused("submount-sink", XDG_CACHE_HOME=str(tmp_path))
    assert lines == ["fusewire: there is no scenario 'submount-sink'", "  fusewire lab --list names them"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("all",)])
def test_without_qemu_its_package_is_named_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    lines = refused(*words, "-o", str(tmp_path), PATH=str(tmp_path))
    assert lines == ["fusewire: qemu-system-x86_64 is not installed", "  apt install qemu-system-x86"]


def test_without_root_it_says_who_needs_it(tmp_path: Path) -> None:
    skip_where_it_cannot_run("submount-sync", "6.1", "c")
    lines = refused("-o", str(tmp_path), within=("unshare", "--user"))  # where nobody is root
    assert lines == ["fusewire: virtiofsd's sandbox needs root", "  run it with sudo"]


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    skip_where_it_cannot_run("submount-sync", "6.1", "c")
    (tmp_path / "file").touch()
    first, hint = refused("-o", str(tmp_path / "file"))
    assert (first, hint) == (
        f"fusewire: cannot make {tmp_path}/file/submount-sync: Not a directory",
        "  give another directory with -o",
    )


def test_a_temporary_directory_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    skip_where_it_cannot_run("submount-sync", "6.1", "c")
    place = tmp_path / ("long" * 25)
    place.mkdir()
    *_, first, hint = refused("-o", str(tmp_path / "out"), TMPDIR=str(place))
    assert first.startswith(f"fusewire: cannot listen at {place}/")
    assert hint == "  set TMPDIR to another place"
    assert list(place.iterdir()) == []
