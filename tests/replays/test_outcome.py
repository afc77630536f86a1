"""What a replay came to lies in its live trace: found again, bound to its recording, and safe to read."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from replays.results.outcome import HEAD, MARK, Fingerprint, Outcome, read, recording_of
from replays.results.replayed import Replayed
from tests.replays.small_talk import server, small_talk
from tests.tracer.tui.sample import HOME
from tracer.cli.main import main
from tracer.errors import TraceFileError, TracerError
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

SAMPLES = Path(__file__).parent.parent.parent / "docs/samples"
RECORDED, LIVE = SAMPLES / "replay-recorded.pcapng", SAMPLES / "replay-live.pcapng"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The samples where they may be changed."""
    return Path(shutil.copy(RECORDED, tmp_path)), Path(shutil.copy(LIVE, tmp_path))


def outcome_of(live: Path) -> Outcome:
    found = read(live)
    assert found is not None
    return found


def test_a_replay_is_found_again_in_its_live_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded, live = small_talk().write_to(tmp_path / "t.pcapng"), tmp_path / "live.pcapng"
    assert main(["replay", str(recorded), "-o", str(live), "--json", *server("impossible error")]) == 1
    report = json.loads(capsys.readouterr().out)
    outcome = outcome_of(live)
    assert report["differences"]
    assert [(one.exchange, one.live_exchange, one.rule, one.field) for one in outcome.differences] == [
        (one["exchange"], one["live_exchange"], one["rule"], one["field"] or "") for one in report["differences"]
    ]
    assert {one.reason for one in outcome.differences} == {one["reason"] for one in report["differences"]}
    assert recording_of(live, outcome) == recorded
    assert outcome.report[0].startswith("Replay over fd")


def test_the_sample_tells_what_differs_what_follows_and_what_was_not_sent() -> None:
    outcome = outcome_of(LIVE)
    first = outcome.differences[0]
    assert (first.rule, first.recorded, first.live) == ("error", "ENODATA", "ENOSYS")
    assert [(one.exchange, one.follower_of) for one in outcome.differences if one.follower_of is not None]
    assert set(outcome.skips) == {"NEVER_AGAIN", "UNKNOWN_NODE"}
    assert outcome.stopped == ""


def test_a_pair_that_was_moved_together_is_found(pair: tuple[Path, Path], tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    for path in pair:
        path.rename(away / path.name)
    replayed = Replayed.open(away / LIVE.name)
    assert replayed is not None
    assert replayed.recorded.file.path == away / RECORDED.name


def test_another_recording_in_its_place_is_refused(pair: tuple[Path, Path]) -> None:
    recorded, live = pair
    content = bytearray(recorded.read_bytes())
    content[len(content) // 2] ^= 1  # as long as before
    recorded.write_bytes(content)
    with pytest.raises(TracerError, match="is not the recording that"):
        Replayed.open(live)
    with pytest.raises(TracerError, match="is not the recording that"):
        Replayed.open(live, recorded)


def test_a_recording_that_is_gone_can_be_named(pair: tuple[Path, Path]) -> None:
    recorded, live = pair
    elsewhere = recorded.rename(recorded.with_name("renamed.pcapng"))
    with pytest.raises(TracerError, match=r"is not at .*--with .*replay-live\.pcapng"):
        Replayed.open(live)
    assert Replayed.open(live, elsewhere) is not None


def test_a_trace_that_tells_of_no_replay_is_any_trace_and_no_partner() -> None:
    assert Replayed.open(RECORDED) is None
    with pytest.raises(TracerError, match="does not tell of a replay"):
        Replayed.open(RECORDED, RECORDED)


def test_a_live_trace_cut_anywhere_tells_all_or_nothing(tmp_path: Path) -> None:
    whole, path = LIVE.read_bytes(), tmp_path / "cut.pcapng"
    expected = outcome_of(LIVE).differences
    for length in range(len(whole) - 20_000, len(whole) + 1, 7):
        path.write_bytes(whole[:length])
        found = read(path)
        assert found is None or found.differences == expected


def test_flipped_bits_are_data_or_one_clear_line(tmp_path: Path) -> None:
    whole, path, chance = LIVE.read_bytes(), tmp_path / "bad.pcapng", random.Random(7)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(3):
            content[chance.randrange(len(content) - 12_000, len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        with contextlib.suppress(TracerError):
            read(path)


# ---- hostile ---------------------------------------------------------------------------------------------------------

SOUND: dict[str, Any] = {
    "part": HEAD,
    "version": 1,
    "recorded": "t.pcapng",
    "recorded_at": "/nowhere/t.pcapng",
    "size": 1,
    "digest": "00",
    "transport": "fd",
    "stopped": "",
    "count": 0,
}


def told(path: Path, *parts: Mapping[str, Any] | bytes) -> Path:
    """Write a trace that says this of a replay."""
    with TraceWriter(path) as writer:
        writer.channel(HOME)
        writer.remarks([MARK + (part if isinstance(part, bytes) else json.dumps(part).encode()) for part in parts])
    return path


def row(**changes: Any) -> list[Any]:
    values = {
        "exchange": 1,
        "live": 1,
        "path": "/a",
        "rule": "data",
        "field": "data",
        "recorded": "a",
        "now": "b",
        "follower": None,
    }
    return list((values | changes).values())


@pytest.mark.parametrize(
    "bad",
    [
        row(exchange="1"),
        row(exchange=-2),
        row(live=1 << 63),
        row(rule=None),
        row(path=5),
        row(recorded=["a"]),
        row(follower=True),
        row()[:-1],
        [],
        None,
        {"exchange": 1},
    ],
)
def test_a_difference_that_cannot_be_makes_the_whole_damaged(tmp_path: Path, bad: object) -> None:
    path = told(tmp_path / "t.pcapng", {"part": "differences", "rows": [row(), bad]}, SOUND | {"count": 2})
    with pytest.raises(TraceFileError, match="tells of its replay is damaged"):
        read(path)


@pytest.mark.parametrize(
    "head",
    [
        {"size": -1},
        {"size": "1"},
        {"digest": None},
        {"recorded": "a\0b"},
        {"recorded_at": 7},
        {"stopped": ["x"]},
        {"count": 1},
        {"count": None},
    ],
)
def test_a_head_that_cannot_be_is_said_in_one_line(tmp_path: Path, head: Mapping[str, Any]) -> None:
    with pytest.raises(TraceFileError, match="tells of its replay is damaged"):
        read(told(tmp_path / "t.pcapng", SOUND | head))


def test_a_newer_version_asks_for_an_update(tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match="kept by a newer fusewire"):
        read(told(tmp_path / "t.pcapng", {"part": HEAD, "version": 2}))


def test_what_is_no_json_or_nested_without_end_tells_of_nothing(tmp_path: Path) -> None:
    assert read(told(tmp_path / "t.pcapng", b"{")) is None
    assert read(told(tmp_path / "t.pcapng", b'{"part":' + b"[" * 30_000)) is None


def test_texts_can_drive_no_terminal_and_are_bounded(tmp_path: Path) -> None:
    evil = "\x1b[2J\u202e\n" + "x" * 10_000
    rows = [row(path=evil, rule=evil, field=evil, recorded=evil, now=evil)]
    parts = {"part": "differences", "rows": rows}, {"part": "report", "rows": [[evil]]}
    path = told(tmp_path / "t.pcapng", *parts, SOUND | {"count": 1, "stopped": evil, "transport": evil})
    outcome = outcome_of(path)
    one = outcome.differences[0]
    for text in (one.path, one.rule, one.field, one.recorded, one.live, one.reason, outcome.stopped, *outcome.report):
        assert text.isprintable()
        assert len(text) <= 400


def test_a_recording_at_an_impossible_place_is_just_not_there(tmp_path: Path) -> None:
    for place in ("x" * 100_000, "\udcff\ud800", "/dev/zero", str(tmp_path)):
        pipe = tmp_path / "pipe"
        if not pipe.exists():
            os.mkfifo(pipe)
        path = told(tmp_path / "t.pcapng", SOUND | {"recorded": place[:60_000], "recorded_at": str(pipe)})
        with pytest.raises(TracerError, match="is not at"):
            recording_of(path, outcome_of(path))


def test_a_recording_of_any_size_is_known_by_pieces_from_all_over_it(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(1 << 32)  # sparse
    before = Fingerprint.of(path)
    with open(path, "r+b") as file:
        file.seek((1 << 32) - 1)
        file.write(b"x")
    assert Fingerprint.of(path) != before


def test_the_live_trace_stays_a_trace_like_any_other() -> None:
    trace = Trace.open(LIVE)
    assert (trace.file.finished, trace.file.damaged, trace.file.unreadable_bytes, trace.gaps) == (True, False, 0, [])
