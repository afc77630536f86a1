"""Both sides of a replay as a table of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from replays.reasons import Skip
from replays.report import NONE
from replays.results.outcome import Fingerprint, KeptDifference, Outcome
from replays.results.replayed import Replayed
from replays.results.sides import Mark, Sides, side_by_side
from tests.replays.test_outcome import LIVE
from tests.tracer.tui.sample import NOTES, ROOT, inval_inode, reply, request
from tracer.records import BridgeKind, ChannelInfo, Direction, RawRecord
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

LOOKUP, GETATTR, READ, OPENDIR, READDIR, READDIRPLUS = 1, 3, 15, 27, 28, 44


def trace(
    path: Path,
    plays: Sequence[int | None],
    *,
    channel_of: Sequence[int] = (),
    opcodes: Sequence[int] = (),
    notified: bool = False,
) -> Trace:
    """Write requests (GETATTR if not told), each with its answer, that play a recorded exchange or (None) nothing."""
    with TraceWriter(path) as writer:
        for number in range(max(channel_of, default=0) + 1):
            writer.channel(ChannelInfo(f"/mnt/{number}", minor=31))
        for number, played in enumerate(plays):
            channel = channel_of[number] if channel_of else 0
            head = 0 if played is None else played + 1
            opcode = opcodes[number] if opcodes else GETATTR
            asked, answer = request(opcode, 2 + 2 * number, ROOT, bytes(16)), reply(2 + 2 * number, error=5)
            common = {"bridge": BridgeKind.REPLAY}
            writer.records(
                [
                    RawRecord(number, channel, Direction.TO_SERVER, asked, len(asked), desc_head=head, **common),
                    RawRecord(number, channel, Direction.TO_KERNEL, answer, len(answer), **common),
                ]
            )
        if notified:
            data = inval_inode(NOTES)
            writer.records([RawRecord(99, 0, Direction.TO_KERNEL, data, len(data))])
    return Trace.open(path)


def recorded(tmp_path: Path, count: int, **how: object) -> Trace:
    return trace(tmp_path / "recorded.pcapng", [None] * count, **how)


def outcome(*differences: KeptDifference, **skips: tuple[tuple[int, int], ...]) -> Outcome:
    return Outcome((), Fingerprint(0, ""), "fd", "", differences, skips)


def difference(exchange: int, live: int = NONE, follower_of: int | None = None) -> KeptDifference:
    return KeptDifference(exchange, live, "/a", "data", "data", "a", "b", follower_of)


def columns(sides: Sides) -> list[tuple[int, int, Mark]]:
    return [
        (left, right, Mark(mark))
        for left, right, mark in zip(sides.recorded.tolist(), sides.live.tolist(), sides.marks.tolist(), strict=True)
    ]


def test_what_was_added_stands_behind_what_was_sent_before_it(tmp_path: Path) -> None:
    live = trace(tmp_path / "live.pcapng", [None, 0, None, None, 2, 1, None])
    assert columns(side_by_side(recorded(tmp_path, 3), live, outcome())) == [
        (NONE, 0, Mark.ADDED),
        (0, 1, Mark.SAME),
        (NONE, 2, Mark.ADDED),
        (NONE, 3, Mark.ADDED),
        (1, 5, Mark.SAME),
        (NONE, 6, Mark.ADDED),
        (2, 4, Mark.SAME),
    ]


def test_what_was_not_sent_says_why_and_what_nobody_tells_of_was_not_reached(tmp_path: Path) -> None:
    live = trace(tmp_path / "live.pcapng", [0])
    sides = side_by_side(
        recorded(tmp_path, 5, notified=True), live, outcome(WRITES=((1, 2),), NEVER_HEARD_OF=((3, 3),))
    )
    assert [sides.skip(row) for row in range(len(sides))] == [None, Skip.WRITES, Skip.WRITES, None, None, None]
    assert sides.marks.tolist() == [Mark.SAME, *[Mark.NOT_SENT] * 4, Mark.ONE_SIDED]


def test_beside_an_exchange_stands_the_request_that_is_its_own_and_what_helped_is_added(tmp_path: Path) -> None:
    recorded = trace(tmp_path / "recorded.pcapng", [None] * 4, opcodes=[OPENDIR, LOOKUP, READDIRPLUS, READ])
    plays = [(0, LOOKUP), (0, LOOKUP), (0, OPENDIR), (1, LOOKUP), (1, LOOKUP), (2, READDIR), (2, LOOKUP)]
    plays += [(3, READ), (3, READ)]
    live = trace(tmp_path / "live.pcapng", [exchange for exchange, _ in plays], opcodes=[opcode for _, opcode in plays])
    sides = side_by_side(recorded, live, outcome())
    assert sides.live[sides.recorded != NONE].tolist() == [2, 4, 5, 7]
    assert sides.live.tolist() == list(range(9))


def test_what_was_sent_before_a_skip_stands_apart_from_what_was_skipped(tmp_path: Path) -> None:
    live = trace(tmp_path / "live.pcapng", [0, 1, 2], opcodes=[GETATTR, LOOKUP, GETATTR])
    sides = side_by_side(recorded(tmp_path, 3), live, outcome(UNKNOWN_NODE=((1, 1),)))
    assert columns(sides) == [(0, 0, Mark.SAME), (NONE, 1, Mark.ADDED), (1, NONE, Mark.NOT_SENT), (2, 2, Mark.SAME)]
    assert sides.skip(2) is Skip.UNKNOWN_NODE


def test_a_row_is_a_first_difference_when_one_of_its_differences_is(tmp_path: Path) -> None:
    live = trace(tmp_path / "live.pcapng", [0, 1, None])
    found = difference(0), difference(1, follower_of=0), difference(1), difference(NONE, live=2)
    sides = side_by_side(recorded(tmp_path, 2), live, outcome(*found))
    assert sides.marks.tolist() == [Mark.FIRST, Mark.FIRST, Mark.FIRST]
    assert sides.differences == {0: [found[0]], 1: [found[1], found[2]], 2: [found[3]]}


def test_another_mount_of_the_recording_has_no_rows(tmp_path: Path) -> None:
    live = trace(tmp_path / "live.pcapng", [1, 3])
    sides = side_by_side(recorded(tmp_path, 4, channel_of=[0, 1, 0, 1]), live, outcome(difference(0), difference(1)))
    assert columns(sides) == [(1, 0, Mark.FIRST), (3, 1, Mark.SAME)]
    assert sides.row_of_recorded.tolist() == [NONE, 0, NONE, 1]


@pytest.mark.parametrize("plays", [[], [0, 0, 0], [5, 1 << 31, (1 << 32) - 2], [None, None]])
def test_a_live_trace_that_plays_what_is_not_there_gets_rows_all_the_same(
    tmp_path: Path, plays: list[int | None]
) -> None:
    live = trace(tmp_path / "live.pcapng", plays)
    nowhere = difference(1 << 40), difference(-1, live=1 << 40), difference(-1)
    sides = side_by_side(recorded(tmp_path, 3), live, outcome(*nowhere, CUT=((0, 1 << 60),)))
    assert sorted(sides.live[sides.live >= 0].tolist()) == list(range(len(plays)))
    assert sides.recorded[sides.recorded >= 0].tolist() == [0, 1, 2]
    assert not sides.differences


def test_an_empty_recording_has_no_row(tmp_path: Path) -> None:
    assert len(side_by_side(recorded(tmp_path, 0), trace(tmp_path / "live.pcapng", []), outcome())) == 0


def test_the_sample_has_every_kind_of_row() -> None:
    replayed = Replayed.open(LIVE)
    assert replayed is not None
    sides = side_by_side(replayed.recorded, replayed.live, replayed.outcome)
    counts = np.bincount(sides.marks, minlength=len(Mark))
    assert {mark: int(counts[mark]) > 0 for mark in Mark} == {mark: mark is not Mark.ONE_SIDED for mark in Mark}
    skipped = sum(last - first + 1 for ranges in replayed.outcome.skips.values() for first, last in ranges)
    assert counts[Mark.NOT_SENT] == skipped
    firsts = [one.exchange for one in replayed.outcome.differences if one.follower_of is None]
    assert sides.recorded[sides.rows_marked(Mark.FIRST)].tolist() == firsts
