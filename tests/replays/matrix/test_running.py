"""Each server has its own place and its own row; what is wrong with one of them ends nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from replays.matrix.reading import read_spec
from replays.matrix.result import Row, Verdict
from replays.matrix.running import Run, run_matrix
from replays.results.outcome import read
from tests.replays.matrix.servers import entry, play, recording
from tracer.errors import TracerError
from tracer.trace.trace import Trace

NOT_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="not root: the overlay of an ordinary user differs")


def rows(tmp_path: Path, text: str, **run: object) -> dict[str, Row]:
    return {row.server: row for row in play(tmp_path, text, **run).rows}


def test_a_server_that_fails_is_a_row_and_the_next_is_played(tmp_path: Path) -> None:
    habits = ("exits", "crashes", "garbage", "too little", "is honest")
    found = rows(tmp_path, "".join(map(entry, habits)))
    assert tuple(found) == habits
    assert [row.verdict for row in found.values()] == [Verdict.STOPPED] * 3 + [Verdict.DIFFERENT, Verdict.SAME]
    assert "ended with exit code 3" in found["exits"].why
    assert "killed by SIGSEGV" in found["crashes"].why
    assert not found["is honest"].why


def test_nobody_waits_for_a_server_longer_than_it_may_take(tmp_path: Path) -> None:
    text = entry("never", timeout="0.3") + entry("hangs and ignores signals", limit="0.4") + entry("is honest")
    found = rows(tmp_path, text)
    assert "no answer for 0.3 s to GETATTR" in found["never"].why
    assert found["hangs and ignores signals"].why == "not done within 0.4 s"
    assert found["is honest"].verdict is Verdict.SAME


def test_what_cannot_be_started_or_prepared_is_a_failed_row(tmp_path: Path) -> None:
    text = (
        entry("is honest", "no preparation", prepare='["sh", "-c", "echo no room; exit 4"]')
        + entry("is honest", "slow preparation", prepare='["sleep", "60"]', limit="0.2")
        + '[servers."no server"]\ncommand = ["true", "{mount}"]\n'
        + '[servers."no mount point"]\ncommand = ["true"]\n'
    )
    found = rows(tmp_path, text)
    assert {row.verdict for row in found.values()} == {Verdict.FAILED}
    assert found["no preparation"].why == 'sh ended with exit code 4, saying: "no room"'
    assert found["slow preparation"].why == "sleep did not end within 0.2 s"
    assert "before it opened /dev/fuse" in found["no server"].why
    assert "names no mount point" in found["no mount point"].why


def test_what_is_not_installed_or_not_meant_is_skipped_with_its_reason(tmp_path: Path) -> None:
    text = (
        '[servers.missing]\ncommand = ["no-such-server", "{mount}"]\n'
        + entry("is honest", "unprepared", prepare='["no-such-tool"]')
        + entry("is honest", "in need", needs='["no-such-helper"]')
        + entry("is honest", "other", traces='["big*"]')
        + entry("is honest", "this", traces='["sm*"]')
        + entry("is honest", "broken", skip='"crashes this machine"')
    )
    found = rows(tmp_path, text)
    assert found["missing"].why == "no-such-server is not there, nor on PATH"
    assert found["unprepared"].why == "no-such-tool is not there, nor on PATH"
    assert found["in need"].why == "no-such-helper is not there, nor on PATH"
    assert found["other"].why == "not for this trace, but for big*"
    assert found["broken"].why == "crashes this machine"
    assert [row.verdict for row in found.values()] == [Verdict.SKIPPED] * 4 + [Verdict.SAME, Verdict.SKIPPED]


@pytest.mark.parametrize("isolation", ["copy", pytest.param("overlay", marks=NOT_ROOT)])
def test_each_server_has_the_source_to_itself_and_leaves_it_as_it_was(
    isolation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, source = tmp_path / "tmp", tmp_path / "source"
    for directory in (temporary, source):
        directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (source / "file").write_text("whole")
    (source / "file").chmod(0o640)
    os.link(source / "file", source / "hard")
    spoil = "grep -q whole {source}/file; [ $(stat -c %a {source}/file) = 640 ]; echo spoilt > {source}/file"
    keys = {"prepare": f'["sh", "-ec", "{spoil}"]', "isolation": f'"{isolation}"'}
    found = rows(
        tmp_path, 'source = "source"\n' + entry("is honest", "one", **keys) + entry("is honest", "two", **keys)
    )
    assert [(row.verdict, row.why) for row in found.values()] == [(Verdict.SAME, "")] * 2
    assert (source / "hard").read_text() == "whole"
    assert list(temporary.iterdir()) == []


def test_the_source_may_be_made_once_for_all(tmp_path: Path) -> None:
    make = "[ ! -e {here}/made ] && touch {here}/made && echo made > {source}/file"
    check = '["grep", "-q", "made", "{source}/file"]'
    text = f"make_source = ['sh', '-c', '{make}']\n" + entry("is honest", "one", prepare=check)
    found = rows(tmp_path, text + entry("is honest", "two", prepare=check))
    assert [row.verdict for row in found.values()] == [Verdict.SAME] * 2, found


def test_a_server_has_its_environment_and_a_version_is_the_line_that_tells_it(tmp_path: Path) -> None:
    version = r"""["sh", "-c", "echo; echo library 3; echo server $TEXT; exit 1"]"""
    variables = "[variables]\nnumber = '1.2'\n"
    text = variables + entry("is honest", version=version, version_has='"server"', env='{ TEXT = "{number}\\u001b" }')
    (row,) = rows(tmp_path, text).values()
    assert row.version == "server 1.2\\x1b"


def test_several_at_once_come_out_in_the_order_of_the_file(tmp_path: Path) -> None:
    habits = ["never", "is honest", "exits", "too little", "garbage"]
    heard: list[str] = []
    path = tmp_path / "servers.toml"
    path.write_text("".join(entry(habit, timeout="0.5") for habit in habits))
    matrix = run_matrix(read_spec(path), Run(recording(tmp_path), jobs=3), lambda row: heard.append(row.server))
    assert [row.server for row in matrix.rows] == habits
    assert sorted(heard) == sorted(habits)
    assert heard[0] != "never"  # the others did not wait for it


def test_live_dialogues_are_traces_that_know_what_they_were_played_from(tmp_path: Path) -> None:
    text = entry("too little", "a/../b: ") + entry("is honest")
    found = rows(tmp_path, text, live=tmp_path / "live")
    paths = [row.live for row in found.values() if row.live is not None]
    assert [path.name for path in paths] == ["01-a-..-b-.pcapng", "02-is-honest.pcapng"]
    assert [Trace.open(path).exchange_count for path in paths] == [5, 5]
    outcome = read(paths[0])
    assert outcome is not None
    assert len(outcome.differences) == 3


def test_what_is_no_servers_fault_is_said_before_any_is_started(tmp_path: Path) -> None:
    path = tmp_path / "servers.toml"
    path.write_text('source = "nowhere"\n' + entry("is honest"))
    with pytest.raises(TracerError, match="nowhere is no directory"):
        run_matrix(read_spec(path), Run(recording(tmp_path)))
    path.write_text("make_source = ['false']\n" + entry("is honest"))
    with pytest.raises(TracerError, match="false ended with exit code 1"):
        run_matrix(read_spec(path), Run(recording(tmp_path)))
    path.write_text(entry("is honest"))
    with pytest.raises(TracerError, match="pcapng"):
        run_matrix(read_spec(path), Run(path))
    with pytest.raises(TracerError, match="no request of a mount number 7"):
        run_matrix(read_spec(path), Run(recording(tmp_path), channel=7))
    with pytest.raises(TracerError, match="no place for live traces"):
        run_matrix(read_spec(path), Run(recording(tmp_path), live=path / "below-a-file"))
