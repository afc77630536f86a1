"""The forms of `fusewire show`: each says the same of the same trace, and looks as it was approved."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dissectors.catalog import CATALOG
from tests.tracer.dialogue import GETATTR, LOOKUP, READ, RESENT, SYNCFS, WRITE, Dialogue
from tracer.bridges.strace import StraceLog
from tracer.cli.main import main
from tracer.output.style import Painter, Style, byte_count, clock, counted, duration
from tracer.records import ChannelInfo, Direction, RecordFlag
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

GOLDEN = Path(__file__).parent / "golden"
SAMPLE = Path(__file__).parent.parent.parent / "data" / "strace" / "bindfs-best.strace"
Run = "pytest.CaptureFixture[bytes]"


def every_kind() -> Dialogue:
    """One of each thing a list can show."""
    talk = Dialogue(channels=[ChannelInfo("/mnt/a", mount_point="/mnt/a", minor=45)])
    talk.talk(GETATTR, 1, bytes(16), bytes(104), server_pid=7, server_tid=8)
    talk.init()
    talk.lookup(1, b"dir", 2)
    talk.create(2, b"tab\there\x1b", 3)
    talk.talk(LOOKUP, 2, b"missing\0", error=-2)
    talk.write(3, 4096)
    slow = talk.ask(READ, 3, talk.pack("QQIIQII", 7, 0, 131072, 0, 0, 0, 0), comm=b"reader")
    talk.interrupt(slow)
    talk.answer(slow, error=-4)
    talk.rename((2, b"tab\there\x1b"), (1, b"top"))
    talk.talk(GETATTR, 3, bytes(16), bytes(104))
    talk.notify(3, talk.pack("QII", 1, 3, 0) + b"dir\0")
    talk.lookup(1, b"sub", 9, submount=True)
    talk.syncfs(1)
    talk.syncfs(9, error=-38)
    talk.answer(4711, b"orphan")
    talk.talk(GETATTR, 3, b"short", bytes(104))
    refused = talk.ask(GETATTR, 3, bytes(16))
    talk.refused(refused, -22, body=bytes(200))
    talk.refused(815, -2)
    talk.ask(4242, 3, b"unknown")
    talk.forget(3)
    resent = talk.ask(WRITE, 9, talk.write_body(10))
    talk.ask(WRITE, 9, talk.write_body(10), unique=resent | RESENT)
    whole = talk.entries.pop()
    talk.entries.append(whole._replace(data=whole.data[:60]))
    talk.ask(SYNCFS, 9, bytes(8), pid=0, comm=b"")
    return talk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return every_kind().write_to(tmp_path / "t.pcapng")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of a real bindfs, imported."""
    import threading

    path = tmp_path_factory.mktemp("real") / "t.pcapng"
    with TraceWriter(path) as writer:
        StraceLog(SAMPLE, on_note=lambda _: None).run(writer, threading.Event())
    return path


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def show(path: Path, capsysbinary: pytest.CaptureFixture[bytes], *options: str) -> str:
    assert main(["show", str(path), *options]) == 0
    return capsysbinary.readouterr().out.decode()


FORMS = {
    "text": [],
    "ansi": ["--color", "always"],
    "verbose": ["-V"],
    "json": ["-T", "json"],
    "verbose.json": ["-T", "json", "-V", "-c", "3"],
    "ndjson": ["-T", "ndjson"],
    "fields": ["-T", "fields"],
    "csv": ["-T", "csv", "-e", "fuse.opcode", "-e", "fuse.path", "-e", "fuse.name", "-e", "fuse.state"],
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_as_it_was_approved(form: str, path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    found = show(path, capsysbinary, *FORMS[form])
    golden = GOLDEN / f"show.{form}"
    if os.environ.get("FUSEWIRE_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found)
    assert found == golden.read_text()


def test_all_forms_of_a_real_trace_agree(real: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    documents = json.loads(show(real, capsysbinary, "-T", "json"))
    lines = show(real, capsysbinary).splitlines()[1:]
    assert [json.loads(line) for line in show(real, capsysbinary, "-T", "ndjson").splitlines()] == documents
    names = ("fuse.opcode", "fuse.unique", "fuse.nodeid", "fuse.path", "fuse.state", "proc.comm", "fuse.submount")
    chosen = [word for name in names for word in ("-e", name)]
    columns = [line.split("\t") for line in show(real, capsysbinary, "-T", "fields", *chosen).splitlines()]
    table = list(csv.reader(io.StringIO(show(real, capsysbinary, "-T", "csv", *chosen))))
    assert (table[0], table[1:]) == (list(names), columns)
    assert len(documents) == len(lines) == len(columns) == Trace.open(real).exchange_count > 50
    for document, line, (opcode, unique, nodeid, where, state, comm, submount) in zip(
        documents, lines, columns, strict=True
    ):
        assert (document["opcode"] or "", str(document["unique"]), str(document["nodeid"])) == (opcode, unique, nodeid)
        assert (document["path"] or "", document["state"], document["comm"]) == (where, state, comm)
        assert str(document["submount"]) == submount
        assert opcode in line
        assert f"{document['exchange']:>6} " == line[:7]


PARTS = ("request", "reply", "notification")


def test_verbose_json_of_a_real_trace_holds_every_message(
    real: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    documents = json.loads(show(real, capsysbinary, "-T", "json", "-V"))
    for document in documents:
        message = next(document[f"{part}_message"] for part in PARTS if f"{part}_message" in document)
        assert message["header"]["unique"] == document["unique"]
        assert message["length"] >= 16


def test_the_tree_of_a_real_trace_covers_every_byte(real: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    shown = show(real, capsysbinary, "-V")
    assert "[   0:40  ]" in shown
    assert shown.count("request header") == len(
        [line for line in show(real, capsysbinary, "-T", "ndjson").splitlines() if '"request' in line]
    )


@pytest.mark.parametrize("name", sorted(name for name, field in CATALOG.items() if field.op is None))
def test_every_field_that_all_exchanges_have_can_be_a_column(
    name: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    talk = every_kind()
    read = talk.ask(GETATTR, 3, bytes(16))
    talk.add(Direction.TO_SERVER, talk.pack("IIQ", 16, GETATTR, read), flags=RecordFlag.DELIVERED)
    talk.answer(read, bytes(104))
    path = talk.write_to(tmp_path / "t.pcapng")
    shown = show(path, capsysbinary, "-T", "fields", "-e", name)
    assert len(shown.splitlines()) == Trace.open(path).exchange_count
    assert shown.strip()


def test_every_field_of_a_body_can_be_a_column(path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    names = [name for name, field in CATALOG.items() if field.op is not None]
    shown = show(path, capsysbinary, "-T", "fields", *[word for name in names for word in ("-e", name)])
    assert {line.count("\t") for line in shown.splitlines()} == {len(names) - 1}
    assert "4096" in shown


def test_entries_of_a_listing_are_one_column_joined_by_commas(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    talk = Dialogue()
    talk.readdirplus(1, [(b"a", 2, False), (b"b,c", 3, False)])
    path = talk.write_to(tmp_path / "t.pcapng")
    assert show(path, capsysbinary, "-T", "fields", "-e", "fuse.readdirplus.reply.entries.nodeid") == "2,3\n"


def test_no_exchange_gives_valid_output_in_every_form(path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert json.loads(show(path, capsysbinary, "-T", "json", "-c", "0")) == []
    assert show(path, capsysbinary, "-T", "ndjson", "-c", "0") == ""
    assert show(path, capsysbinary, "-T", "fields", "-c", "0") == ""
    assert show(path, capsysbinary, "-T", "csv", "-c", "0", "-e", "fuse.opcode") == "fuse.opcode\n"
    assert len(show(path, capsysbinary, "-c", "0").splitlines()) == 1


def test_a_count_stops_and_a_filter_chooses(path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert len(show(path, capsysbinary, "-T", "ndjson", "-c", "2").splitlines()) == 2
    shown = show(path, capsysbinary, "-T", "fields", "-Y", "fuse.opcode == SYNCFS", "-e", "fuse.submount")
    assert shown.split() == ["1", "9", "9"]
    assert len(show(path, capsysbinary, "-T", "ndjson", "-Y", "fuse.opcode == SYNCFS", "-c", "1").splitlines()) == 1


def test_syncfs_stands_out_with_and_without_colours(path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    marked = [line for line in show(path, capsysbinary).splitlines() if "◆" in line]
    assert len(marked) == 3
    assert all("SYNCFS" in line for line in marked)
    assert show(path, capsysbinary, "--color", "always").count("\x1b[1;30;43m") == 3
    assert "\x1b" not in show(path, capsysbinary, "--color", "never")


def test_two_channels_are_told_apart_in_the_list(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    talk = Dialogue(channels=[ChannelInfo("/a", minor=45), ChannelInfo("/b", minor=45)])
    talk.talk(GETATTR, channel=0)
    talk.talk(GETATTR, channel=1)
    shown = show(talk.write_to(tmp_path / "t.pcapng"), capsysbinary).splitlines()
    assert [line.split()[3] for line in shown[1:]] == ["0/1", "1/1"]


def test_times_that_are_unknown_are_numbers(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    talk = Dialogue(channels=[ChannelInfo("/a", clock="none", minor=45)], t_ns=0)
    talk.talk(GETATTR, flags=RecordFlag.TIME_UNKNOWN)
    shown = show(talk.write_to(tmp_path / "t.pcapng"), capsysbinary).splitlines()
    assert shown[1].split()[1:3] == ["#1000", "-"]


# ---- figures ----


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "-"),
        (0, "0ns"),
        (999, "999ns"),
        (1_000, "1.00µs"),
        (12_345, "12.3µs"),
        (123_456, "123µs"),
        (999_949, "1.00ms"),
        (1_234_567, "1.23ms"),
        (999_999_999, "1.00s"),
        (59_949_000_000, "59.9s"),
        (100_000_000_000_000, "100000s"),
    ],
)
def test_a_duration_has_three_digits_and_the_right_unit(ns: int | None, text: str) -> None:
    assert duration(ns) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (1_048_575, "1.0 MiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_a_number_of_bytes_has_a_binary_unit(count: int, text: str) -> None:
    assert byte_count(count) == text


@pytest.mark.parametrize("t_ns", [-(2**63), -1, 0, 2**63 - 1])
def test_any_time_can_be_shown(t_ns: int) -> None:
    assert clock(t_ns).isprintable()


def test_what_is_counted_agrees_with_its_number() -> None:
    assert [counted(count, "record") for count in (0, 1, 2)] == ["0 records", "1 record", "2 records"]


def test_a_painter_paints_only_where_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Painter(True)("x", Style.SYNC) == "\x1b[1;30;43mx\x1b[0m"
    assert Painter(True)("x", Style.PLAIN) == "x"
    assert not Painter.for_stream(io.StringIO()).enabled
    leader, follower = os.openpty()
    with open(follower, "w") as terminal, open(leader):
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert Painter.for_stream(terminal).enabled
        monkeypatch.setenv("NO_COLOR", "1")
        assert not Painter.for_stream(terminal).enabled
