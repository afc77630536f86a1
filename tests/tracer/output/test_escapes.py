"""Whatever a name, a file or a bridge says: nothing that could drive a terminal reaches stdout or stderr."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.tracer.dialogue import GETATTR, LOOKUP, OPENDIR, READDIR, Dialogue
from tracer.cli.commands.show import DEFAULT_FIELDS
from tracer.cli.main import main
from tracer.records import ChannelInfo, Direction, Gap
from tracer.store.writer import TraceWriter

NASTY = [
    b"\x1b[31mred\x1b[0m",
    b"\x1b]0;title\x07",
    b"line\nfeed\rreturn\ttab",
    b"\xff\xfe invalid \xc3(",
    b"[bold]markup[/] [link=x]",
    "\u202ereversed\u2066 \u200bzero \u0085nel \x9bcsi".encode(),
    b"back\\slash \\x1b",
    b'quote " comma , semicolon ; = +1',
    b"\x00\x01\x7f",
]
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # each example is shown nine times
FORMATS = [
    [],
    ["-V"],
    ["--color", "always"],
    ["-T", "json"],
    ["-T", "json", "-V"],
    ["-T", "ndjson"],
    ["-T", "fields"],
    ["-T", "fields", "-e", "fuse.name", "-e", "fuse.path", "-e", "proc.comm", "-e", "fuse.channel", "-e", "fuse.mount"],
    ["-T", "csv", "-e", "fuse.lookup.name", "-e", "fuse.symlink.target", "-e", "fuse.setxattr.name"],
]


def dialogue(name: bytes, other: bytes) -> Dialogue:
    """Say a name in every place that can hold one."""
    text = name.decode("utf-8", "surrogateescape")
    talk = Dialogue(
        channels=[
            ChannelInfo(
                text, mount_point=text, fstype=text, server_command=text, kernel=text, st_dev=text, notes=(text,)
            )
        ]
    )
    comm = name[:16]
    talk.lookup(1, name, 2, comm=comm)
    talk.lookup(2, other, 3, submount=True)
    talk.symlink(1, other, name, 4)
    talk.rename((1, name), (2, other))
    talk.talk(21, 3, talk.pack("II", 4, 0) + name + b"\0" + b"x\0\x1b]", comm=comm)  # SETXATTR
    talk.readdirplus(2, [(name, 5, False)])
    talk.talk(OPENDIR, 2, bytes(8), bytes(16))
    listed = talk.pack("QQII", 9, 1, len(name), 4) + name
    talk.talk(READDIR, 2, talk.pack("QQIIQII", 1, 0, 4096, 0, 0, 0, 0), listed.ljust((len(listed) + 7) // 8 * 8, b"\0"))
    talk.notify(3, talk.pack("QII", 1, len(name), 0) + name + b"\0")
    talk.ask(4711, 3, name, comm=comm)
    talk.add(Direction.TO_SERVER, name)
    talk.talk(GETATTR, 3, bytes(3), name)
    talk.syncfs(3, comm=comm)
    talk.ask(LOOKUP, 3, name, comm=comm)
    return talk


def write(path: Path, name: bytes, other: bytes) -> Path:
    text = name.decode("utf-8", "surrogateescape")
    with TraceWriter(path, command=text) as writer:
        dialogue(name, other).feed(writer)
        writer.gap(Gap(1, 0, 3, text))
    with path.open("ab") as file:
        file.write(b"\x1b]0;garbage\x07\0" * 4)
    return path


def check(text: str, *, colour: bool, tabs: bool) -> None:
    if colour:
        for style in ("1;30;43", "1;31", "33", "2", "36", "1", "0"):
            text = text.replace(f"\x1b[{style}m", "")
    for line in text.split("\n"):
        shown = line.replace("\t", "") if tabs else line
        assert shown.isprintable(), ascii(line)


def shown(words: list[str], capsysbinary: pytest.CaptureFixture[bytes]) -> tuple[str, str]:
    assert main(words) in (0, 1)
    out, err = capsysbinary.readouterr()
    return out.decode(), err.decode()


@pytest.mark.parametrize("options", FORMATS, ids=" ".join)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(st.sampled_from(NASTY), st.binary(min_size=1, max_size=20)), other=st.sampled_from(NASTY))
@example(name=NASTY[0], other=NASTY[2])
@example(name=NASTY[5], other=NASTY[3])
def test_no_control_character_of_a_trace_reaches_the_terminal(
    name: bytes, other: bytes, options: list[str], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory) / "t.pcapng", name.replace(b"\0", b"\1"), other.replace(b"\0", b"\1"))
        out, err = shown(["show", str(path), *options], capsysbinary)
    check(out, colour="always" in options, tabs="fields" in options)
    check(err, colour=False, tabs=False)
    if "fields" in options or "csv" in options:
        columns = options.count("-e") or len(DEFAULT_FIELDS)
        if "fields" in options:
            assert {line.count("\t") for line in out.splitlines()} == {columns - 1}
    if "json" in options:
        assert len(json.loads(out)) > 10


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(st.sampled_from(NASTY), st.binary(min_size=1, max_size=20)))
def test_nor_does_it_through_the_sync_report(name: bytes, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory) / "t.pcapng", name.replace(b"\0", b"\1"), b"other")
        for options in ([], ["--json"]):
            out, err = shown(["sync", str(path), *options], capsysbinary)
            check(out, colour=False, tabs=False)
            check(err, colour=False, tabs=False)


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "\udcff\udcfe", "new\nline"])
def test_nor_does_the_name_of_a_file_on_the_command_line(
    name: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / name
    path.write_bytes(b"text")
    for words in (["show", str(path)], ["sync", str(path / "x")], ["import", str(tmp_path / "none" / name)]):
        assert main(words) == 2
        out, err = capsysbinary.readouterr()
        assert out == b""
        check(err.decode(), colour=False, tabs=False)


@settings(max_examples=60, phases=WITHOUT_SHRINKING, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(changes=[(8, 7, b"\x80")])  # an opcode above 2^31
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 200), st.binary(min_size=1, max_size=8)), min_size=1, max_size=8
    )
)
def test_messages_of_any_bytes_can_be_shown_in_every_form(
    changes: list[tuple[int, int, bytes]], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Damage within messages, not around them: what a hostile server or kernel sends."""
    records = dialogue(b"name", b"other").records
    for which, at, data in changes:
        record = records[which % len(records)]
        if record.data:
            at %= len(record.data)
            records[which % len(records)] = record._replace(
                data=(record.data[:at] + data + record.data[at + len(data) :])[: len(record.data)]
            )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "t.pcapng"
        with TraceWriter(path) as writer:
            writer.channel(ChannelInfo("a"))
            writer.records(records)
        for options in FORMATS:
            out, err = shown(["show", str(path), *options], capsysbinary)
            check(out, colour="always" in options, tabs="fields" in options)
            check(err, colour=False, tabs=False)
        out, _ = shown(["sync", str(path)], capsysbinary)
        check(out, colour=False, tabs=False)


def test_a_hostile_comment_in_the_file_is_harmless(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Written by hand into the file, past our writer's own escapes."""
    path = write(tmp_path / "t.pcapng", b"plain", b"other")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"plain", b"\x1b[2J\n"))
    for words in (["show", str(path)], ["sync", str(path)], ["sync", "--json", str(path)]):
        out, err = shown(words, capsysbinary)
        check(out, colour=False, tabs=False)
        check(err, colour=False, tabs=False)
