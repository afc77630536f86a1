"""Logs that were cut, mutilated or made up: never an exception, never a message that was not there, no loss unsaid."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracer.bridges.collecting import LOGS, Collected, import_log
from tests.tracer.bridges.mini_strace import Call, Form, print_calls, quoted
from tracer.bridges import framing
from tracer.bridges.strace import StraceLog
from tracer.bridges.strace.assembler import DAMAGED, TOO_LONG
from tracer.bridges.strace.channels import ChannelBook
from tracer.bridges.strace.parser import LogParser
from tracer.bridges.strace.splitter import LineSplitter
from tracer.records import BridgeKind, ChannelInfo, Direction, RawRecord, RecordFlag

NAMES = sorted(path.name for path in LOGS.glob("*.strace*"))
# A piece of each kind of log, short enough to be cut everywhere.
PIECES = {
    "10-raw-failed-writes.strace": (0, 12),
    "4-libfuse3-splice-pipes.strace": (98, 112),
    "2-passthrough_ll-daemon-clonefd-mt-unfinished.strace": (6, 24),
    "bindfs-cut-at-64.strace": (4, 20),
    "bindfs-hex-strings.strace": (5, 9),
    "bindfs-everything-tt.strace": (80, 105),
    "bindfs-threads-no-y-no-time.strace": (8, 30),
    "bindfs-dump-s0.strace": (3, 45),
    "bindfs-comm-number-pointer.strace": (4, 10),
    "attach-glued.strace": (174, 190),
    "memfs-thread-exits.strace": (26, 36),
}
DEVICE = b"4</dev/fuse<char 10:229>>"
HEADER = framing.OUT_HEADER["little"]


def _content(record: RawRecord) -> tuple[object, ...]:
    return record.direction, record.data, record.wire_len, record.server_tid


def _parsed(text: bytes, *, slowly: bool = False) -> tuple[list[RawRecord], list[str]]:
    """Parse a log as it lies there, without channels: what the importer and the live bridge both stand on."""
    parser = LogParser(ChannelBook(lambda _: ChannelInfo("any")), BridgeKind.IMPORT, has_dumps=slowly)
    splitter = LineSplitter()
    parser.feed(splitter.feed(text))
    parser.finish(splitter.rest())
    return parser.take_records(), [loss.reason for loss in parser.take_losses()]


@pytest.mark.parametrize("name", PIECES)
def test_a_log_cut_at_every_byte_gives_every_whole_record_before_the_cut(name: str) -> None:
    first, last = PIECES[name]
    text = b"".join((LOGS / name).read_bytes().splitlines(keepends=True)[first:last])
    whole = Counter(map(_content, _parsed(text)[0]))
    assert whole
    before: Counter[tuple[object, ...]] = Counter()
    for cut in range(len(text) + 1):
        records, reasons = _parsed(text[:cut])
        found = Counter(map(_content, records))
        if text[cut - 1 : cut] == b"\n":
            before = found
        assert found >= before or _is_dumping(text, cut), f"cut at {cut}: a record before it is missing"
        assert not found - whole or _may_end_early(text, cut), f"cut at {cut}: a record that is not there"
        assert DAMAGED not in reasons


def _is_dumping(text: bytes, cut: int) -> bool:
    """In a hex dump a record grows with each row, so that one of an earlier cut is no more."""
    return b"\n | " in text[:cut]


def _may_end_early(text: bytes, cut: int) -> bool:
    """What a later line would have added is unknown: rows of a dump, payload in a pipe, the result of a write."""
    return b"\n | " in text or b"splice(" in text[:cut] or b"<unfinished" in text[:cut]


@pytest.mark.parametrize("name", NAMES)
def test_a_log_cut_anywhere_imports_what_lies_before_the_cut(name: str, tmp_path: Path) -> None:
    text = (LOGS / name).read_bytes()
    choose = random.Random(name)
    counts = []
    for cut in sorted(choose.sample(range(len(text)), 12)):
        (tmp_path / name).write_bytes(text[:cut])
        counts.append(len(import_log(tmp_path / name).all))
    assert counts == sorted(counts)


@given(data=st.data())
def test_no_damage_raises_or_breaks_a_promise_of_the_sink(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = (LOGS / data.draw(st.sampled_from(NAMES))).read_bytes()
    start = data.draw(st.integers(0, len(text)))
    damaged = bytearray(text[start : start + 6000])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged)))
        length = data.draw(st.sampled_from([0, 1, 2, 40, 400]))
        damaged[at : at + length] = data.draw(
            st.one_of(
                st.binary(max_size=4), st.sampled_from([b'"', b"\\", b"\n", b"<", b">", b"...", b"-1", b"99999999999"])
            )
        )
    log = tmp_path_factory.getbasetemp() / "damaged"
    log.write_bytes(damaged)
    collected = import_log(log)  # the sink checks order, channels and lengths
    assert collected.stats.messages == len(collected.all)


@given(data=st.data())
def test_the_short_way_and_the_long_way_give_the_same_records(data: st.DataObject) -> None:
    """A bare quote in place of one byte is left out: like any other wrong byte, the short way does not notice it."""
    name = data.draw(
        st.sampled_from(["bindfs-best.strace", "bindfs-cut-at-64.strace", "attach-best.strace", "squashfuse.strace"])
    )
    lines = (LOGS / name).read_bytes().splitlines(keepends=True)
    start = data.draw(st.integers(0, len(lines) - 1))
    text = bytearray(b"".join(lines[start : start + 6]))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"\\", b"0", b"]", b", ", b"..."])
        )
    text += b"\n"
    (short, short_losses), (long, long_losses) = _parsed(bytes(text)), _parsed(bytes(text), slowly=True)
    assert list(map(_timed, short)) == list(map(_timed, long))
    assert short_losses == long_losses


def _timed(record: RawRecord) -> RawRecord:
    return record._replace(t_ns=0) if record.flags & RecordFlag.TIME_UNKNOWN else record


@pytest.mark.parametrize(
    "line",
    [
        b"99 1795000000.000000001 read(" + DEVICE + b', "\\60\\0\\0\\0\\1", 4096) = 48 <0.1>',
        b"99 1795000000.000000001 read(" + DEVICE + b', "abc',
        b"99 1795000000.000000001 writev(" + DEVICE + b', [{iov_base="abc", iov_len=16}], 1) = 16 <0.1>',
        b"99 1795000000.000000001 writev(" + DEVICE + b", [{iov_bas",
        b'garbage in front read(4</dev/fuse>, "h", 9) = 104',
        b"99 1795000000.000000001 splice(" + DEVICE + b", NULL, 6<pipe:[1]>, NU = 80 <0.1>",
    ],
)
def test_a_damaged_line_about_the_device_is_a_gap_and_is_counted(line: bytes, tmp_path: Path) -> None:
    good = b"".join((LOGS / "bindfs-best.strace").read_bytes().splitlines(keepends=True)[5:9])
    log = tmp_path / "log"
    log.write_bytes(good + line + b"\n" + good)
    collected = import_log(log)
    assert len(collected.all) == 8
    assert [(gap.count, gap.reason) for gap in collected.gaps] == [(1, f"{DAMAGED} (line 5)")]
    assert collected.stats.unparsed_lines == 1


@pytest.mark.parametrize(
    "line",
    [
        b'99 1795000000.000000001 read(5</etc/passwd>, "abc, 4096) = 48 <0.1>',
        b"99 1795000000.000000001 futex(0x7f, FUTEX_WAI",
        b"99 1795000000.000000001 read(" + DEVICE + b", 0x7fdb5c201030, 135168) = -1 ENODEV (No such device) <0.1>",
        b"99 1795000000.000000001 read("
        + DEVICE
        + b", 0x7fdb5c201030, 135168) = ? ERESTARTSYS (To be restarted) <0.1>",
        b"99 1795000000.000000001 read(" + DEVICE + b",  <unfinished ...>",
        b"99 1795000000.000000001 read(" + DEVICE + b",  <detached ...>",
        b"strace: Process 4711 attached",
        b"--- SIGCHLD {si_signo=SIGCHLD} ---",
        b"",
        b"the server said something",
    ],
)
def test_lines_that_show_no_message_are_no_loss(line: bytes, tmp_path: Path) -> None:
    good = b"".join((LOGS / "bindfs-best.strace").read_bytes().splitlines(keepends=True)[5:9])
    log = tmp_path / "log"
    log.write_bytes(good + line + b"\n")
    collected = import_log(log)
    assert (len(collected.all), collected.gaps) == (4, [])


def _reply(unique: int, *, entered_ns: int = 1_795_000_000_000_000_000, body: bytes = b"") -> Call:
    header = HEADER.pack(16 + len(body), 0, unique)
    return Call(Direction.TO_KERNEL, 4711, 4, (header, body) if body else (header,), entered_ns, 1000)


def test_lines_glued_at_a_detach_are_taken_apart() -> None:
    """Real bytes of `-e status=!unfinished` under SIGINT: three calls begun, none ended, no line break between them."""
    cut_read = b"19444 1795367002.662007 read(4</dev/fuse<char 10:229>>, "
    other_read = b"19445 1795367002.661890 read(4</dev/fuse<char 10:229>>, "
    begun_write = (
        b'19449 1795367002.662092 writev(4</dev/fuse<char 10:229>>, [{iov_base="\\20\\0\\0\\0\\303\\377\\377\\377\\276'
        b'\\0\\0\\0\\0\\0\\0\\0", iov_len=16}], 1'
    )
    for text in (cut_read + other_read + begun_write, begun_write + cut_read + other_read + b"\n"):
        records, reasons = _parsed(text)
        assert [(r.server_tid, r.wire_len, len(r.data)) for r in records] == [(19449, 16, 16)]
        assert reasons == []
    records, _ = _parsed(begun_write + begun_write.replace(b"19449", b"19450") + b"\n")
    assert [record.server_tid for record in records] == [19449, 19450]


def test_a_strace_log_in_the_data_of_a_message_is_data() -> None:
    """A file that is itself a strace log, read through the mount, must not be taken for calls of the server."""
    inner = print_calls([_reply(2), _reply(4)], Form())
    text = print_calls([_reply(6, body=inner)], Form())
    shown = quoted(inner, Form()).encode()
    for end in (b", 99) = 99 <0.000001>\n", b", 9", b""):
        records, reasons = _parsed(text + b"4711  1795000000.1 read(5</srv/log>, " + shown + end)
        assert [len(record.data) for record in records] == [16 + len(inner)]
        assert reasons == []


def test_a_write_in_flight_when_its_server_was_killed_still_shows_its_bytes() -> None:
    line = print_calls([_reply(2)], Form()).partition(b") = ")[0]
    for end in (b" <unfinished ...>\n", b" <unfinished ...>) = ?\n", b" <detached ...>\n", b") = ?\n"):
        records, reasons = _parsed(line + end)
        assert [record.wire_len for record in records] == [16], end
        assert reasons == []


def test_an_interrupted_write_is_counted_once() -> None:
    line = print_calls([_reply(2)], Form()).partition(b" = ")[0]
    restarted = b" = ? ERESTARTSYS (To be restarted if SA_RESTART is set) <0.000001>\n"
    records, _ = _parsed(line + restarted + line + b" = 16 <0.000001>\n")
    assert len(records) == 1


def test_a_line_longer_than_any_message_is_a_gap_and_the_next_is_read() -> None:
    splitter = LineSplitter(max_line_bytes=1000)
    lines = [line for chunk in (b"a\n" + b"b" * 600, b"b" * 600, b"b\nc\n", b"d") for line in splitter.feed(chunk)]
    assert lines == [b"a", b"c"]
    assert (splitter.take_dropped(), splitter.take_dropped()) == (1, 0)
    assert splitter.rest() == b"d"
    assert "longer" in TOO_LONG


@given(text=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_lines_do_not_depend_on_where_the_chunks_end(text: bytes, cuts: list[int]) -> None:
    text = text.replace(b"\r", b"\n")
    splitter = LineSplitter()
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    lines = [line for a, b in itertools.pairwise(edges) for line in splitter.feed(text[a:b])]
    assert [*lines, splitter.rest()] == text.split(b"\n")


def test_an_import_may_be_stopped(tmp_path: Path) -> None:
    collected, stop = Collected(), threading.Event()
    stop.set()
    StraceLog(LOGS / "bindfs-best.strace").run(collected, stop)
    assert collected.all == []


def test_hostile_numbers_stay_within_what_a_trace_can_hold(tmp_path: Path) -> None:
    head = b'read(4</dev/fuse>, "(\\0\\0\\0\\32\\0\\0\\0\\2\\0\\0\\0"..., 99999999999999999999) = '
    log = tmp_path / "log"
    log.write_bytes(
        b"4711 8999999999.999999999 " + head + b"40 <99999999.999999999>\n"
        b"4711 8999999999.999999999 " + head + b"9999999999 <0.1>\n"
        b"4711 9999999999.999999999 " + head + b"40 <0.1>\n"
        b"4711 23:59:59 " + head + b"40 <0.1>\n"
        b"99999999999999 00:00:00 " + head + b"40\n"
    )
    for record in import_log(log).all:
        assert 0 <= record.t_ns < 1 << 63
        assert record.wire_len < 1 << 32
        assert record.server_tid < 1 << 32


def test_no_line_makes_the_patterns_search_without_end() -> None:
    """Each of these would take a pattern with two ways to read the same bytes longer than the test run may last."""
    for line in (b"4711 " + b"<" * 20000, b"4711 12:00:00 read(" + b"4<" * 9000, b" | " * 9000, b"[pid 1] " * 9000):
        records, _ = _parsed(line + b"\n" + line + b', "" = 1\n')
        assert records == []


@pytest.mark.parametrize("opcode", [3, 26])
def test_a_log_where_every_line_is_another_thread_or_mount_is_read_in_one_go(opcode: int, tmp_path: Path) -> None:
    """Thirty thousand streams: anything that looks at all of them for each of them would not come to an end."""
    log = tmp_path / "log"
    with open(log, "wb") as file:
        for number in range(30_000):
            request = framing.IN_HEADER["little"].pack(40, opcode, 2 + 2 * number, 1, 0, 0, 0, 0, 0)
            call = Call(Direction.TO_SERVER, 1 + number % 9000, number % 3000, (request,), 10**18 + number, 1)
            file.write(print_calls([call], Form()))
    assert import_log(log).stats.messages == 30_000
