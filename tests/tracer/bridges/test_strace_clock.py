"""What the stamps of a log come to, in ns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tracer.bridges.collecting import Collected, import_log
from tracer.bridges.strace.lines import DAY_NS, NS, Clock, ClockKind

REQUEST = b'read(4</dev/fuse>, "(\\0\\0\\0\\3\\0\\0\\0\\%o\\0\\0\\0\\0\\0\\0\\0"..., 135168) = 40'
REPLY = b'write(4</dev/fuse>, "\\20\\0\\0\\0\\0\\0\\0\\0\\%o\\0\\0\\0\\0\\0\\0\\0", 16) = 16'


def _times(tmp_path: Path, *lines: bytes) -> list[int]:
    (tmp_path / "log").write_bytes(b"\n".join(lines) + b"\n")
    return [record.t_ns for record in import_log(tmp_path / "log").all]


@pytest.mark.parametrize(
    ("stamp", "t_ns", "kind"),
    [
        (b"1795332176.712168328", 1_795_332_176_712_168_328, ClockKind.EPOCH),
        (b"1795332176.712168", 1_795_332_176_712_168_000, ClockKind.EPOCH),
        (b"1795332176", 1_795_332_176 * NS, ClockKind.EPOCH),
        (b"00:00:01.5", 1_500_000_000, ClockKind.DAY),
        (b"23:59:59", 86_399 * NS, ClockKind.DAY),
        (b"0.000123", 123_000, ClockKind.RELATIVE),
    ],
)
def test_every_form_of_stamp_is_read(stamp: bytes, t_ns: int, kind: ClockKind) -> None:
    clock = Clock()
    assert clock.read(stamp, None) == t_ns
    assert clock.kind is kind


def test_a_time_of_day_goes_on_over_midnight() -> None:
    clock = Clock()
    times = [
        clock.read(stamp, None)
        for stamp in (b"23:59:58.9", b"23:59:59.1", b"00:00:00.2", b"12:00:00", b"23:00:00", b"01:00:00")
    ]
    assert times == sorted(times)
    assert times[-1] - times[0] < 2 * DAY_NS


def test_a_call_entered_before_midnight_and_printed_after_it_keeps_its_day() -> None:
    clock = Clock()
    before, after, late = (clock.read(stamp, None) for stamp in (b"23:59:59.0", b"00:00:01.0", b"23:59:59.5"))
    assert before < late < after


def test_relative_stamps_add_up_over_every_line_of_the_log(tmp_path: Path) -> None:
    times = _times(
        tmp_path,
        b'4711      0.000000 openat(AT_FDCWD, "x", O_RDONLY) = 3',
        b"4711      1.500000 " + REQUEST % 2 + b" <0.250000>",
        b"4711      0.500000 getpid() = 4711",
        b"4711      0.250000 " + REPLY % 2 + b" <0.000010>",
    )
    assert times == [1_750_000_000, 2_250_000_000]


@pytest.mark.parametrize("stamp", [b"1795332176", b"12:00:00"], ids=["quickly", "with-care"])
def test_a_request_came_after_the_replies_that_were_printed_before_it(stamp: bytes, tmp_path: Path) -> None:
    """strace lost the processor between its stamp of the second read and the start of its measurement: 0.3 ms."""
    first, reply, second = _times(
        tmp_path,
        b"4712 " + stamp + b".100000 " + REQUEST % 2 + b" <0.100000>",
        b"4712 " + stamp + b".500200 " + REPLY % 2 + b" <0.000010>",
        b"4711 " + stamp + b".000000 " + REQUEST % 4 + b" <0.500000>",
    )
    assert (reply - first, second - reply) == (300_200_000, 0)


def test_a_request_after_the_clock_was_set_back_keeps_its_time(tmp_path: Path) -> None:
    times = _times(
        tmp_path,
        b"4712 1795332176.500200 " + REPLY % 2 + b" <0.000010>",
        b"4711 1795332176.000000 " + REQUEST % 4 + b" <0.100000>",
    )
    assert times[1] - times[0] == 400_200_000


def test_with_whole_seconds_no_request_passes_its_reply(tmp_path: Path) -> None:
    """Entered at 10.0 for 0.9999 s is 10 in whole seconds, as its reply at 10.99995 is: not 10.9999."""
    times = _times(
        tmp_path, b"4711 12:00:10 " + REQUEST % 2 + b" <0.999900>", b"4711 12:00:10 " + REPLY % 2 + b" <0.000010>"
    )
    assert len(set(times)) == 1


def test_records_of_one_instant_keep_the_order_of_the_log(tmp_path: Path) -> None:
    lines = [b"4711 12:00:10 " + call % n for n in range(2, 8, 2) for call in (REQUEST, REPLY)]
    (tmp_path / "log").write_bytes(b"\n".join(lines) + b"\n")
    assert [int(record.direction) for record in import_log(tmp_path / "log").all] == [0, 1, 0, 1, 0, 1]


def test_lines_printed_late_find_their_place(tmp_path: Path) -> None:
    """A write that blocked is printed when it returned: behind what other threads did in the meantime."""
    times = _times(
        tmp_path,
        b"1 1795000000.000000000 " + REQUEST % 2 + b" <0.000000001>",
        b"2 1795000000.000000500 " + REQUEST % 4 + b" <0.000000001>",
        b"2 1795000000.000000700 " + REPLY % 4 + b" <0.000000001>",
        b"1 1795000000.000000100 " + REPLY % 2 + b" <0.000001000>",
    )
    assert [t % NS for t in times] == [1, 100, 501, 700]


def test_a_set_of_files_that_starts_around_midnight_is_merged_in_order(tmp_path: Path) -> None:
    (tmp_path / "log.10").write_bytes(
        b"23:59:59.000000 " + REQUEST % 2 + b" <0.1>\n00:00:03.000000 " + REPLY % 4 + b" <0.1>\n"
    )
    (tmp_path / "log.11").write_bytes(
        b"00:00:01.000000 " + REPLY % 2 + b" <0.1>\n00:00:02.000000 " + REQUEST % 4 + b" <0.1>\n"
    )
    collected: Collected = import_log(tmp_path / "log")
    assert [(int(r.direction), r.data[8], r.server_tid) for r in collected.all] == [
        (0, 2, 10),
        (1, 2, 11),
        (0, 4, 11),
        (1, 4, 10),
    ]
