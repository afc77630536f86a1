"""Bad traces and bad servers: one clear line with the next step, the server ended, exit code 2; never a harm done."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from replays.reasons import Skip
from tests.conftest import MakeServer
from tests.replays.small_talk import SERVER, look, server, small_talk, stat
from tests.servers.real import PassthroughLl
from tests.tracer.dialogue import (
    BATCH_FORGET,
    GETATTR,
    LOOKUP,
    OPEN,
    OPENDIR,
    READ,
    READDIR,
    RELEASE,
    SYMLINK,
    Dialogue,
)
from tracer.cli.main import main
from tracer.records import ChannelInfo, ChannelKind
from tracer.store.prefix import PREFIX_SIZE, PREFIX_VERSION
from tracer.trace.trace import Trace

MOST = (1 << 64) - 1


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[str]:
    """Replay what cannot be; return the lines that are said, the first without our name."""
    assert main(["replay", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    lines = [line.removeprefix("fusewire: ").strip() for line in err.splitlines()]
    assert all(line.isprintable() for line in (*lines, *out.splitlines()))
    return lines


# ---- traces that cannot be played ------------------------------------------------------------------------------------


def unanswered(talk: Dialogue) -> None:
    talk.ask(4242, 1, b"what is this")


def only_writes(talk: Dialogue) -> None:
    talk.unlink(1, b"file")


@pytest.mark.parametrize(
    ("make", "said", "hint"),
    [
        (lambda talk: None, "the trace holds no request that could be played", "record one: fusewire record -o FILE"),
        (unanswered, "no request of the recording can be played: no operation of that number is known", "record"),
        (only_writes, "no request of the recording can be played: it would change what the server stores", ""),
    ],
)
def test_a_trace_with_nothing_to_play_is_refused_before_a_server_is_started(
    make: Any, said: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = Dialogue()
    make(talk)
    lines = refused(capsys, talk.write_to(tmp_path / "t.pcapng"), "--", "false", "mnt")
    assert len(lines) == 2
    assert lines[0].startswith(said)
    assert lines[1].startswith(hint)


def test_a_character_device_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = small_talk()
    talk.channels = [ChannelInfo("/dev/cuse", ChannelKind.CUSE, minor=31)]
    lines = refused(capsys, talk.write_to(tmp_path / "t.pcapng"), "--", "false", "mnt")
    assert lines == ["this is a character device (CUSE)", "only filesystems are replayed"]


def test_a_trace_of_a_newer_fusewire_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_talk().write_to(tmp_path / "t.pcapng")
    ours = bytes([PREFIX_VERSION, PREFIX_SIZE])
    content = path.read_bytes()
    assert ours in content
    path.write_bytes(content.replace(ours, bytes([PREFIX_VERSION + 1, PREFIX_SIZE])))
    lines = refused(capsys, path, "--", "false", "mnt")
    assert lines == [f"{path} was made by a newer fusewire (record format 2, this one reads 1)", "update fusewire"]


def test_data_the_capture_cut_is_not_made_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = small_talk()
    talk.write(2, 4096)
    whole = talk.entries[-2]
    talk.entries[-2] = whole._replace(data=whole.data[:200])  # type: ignore[union-attr]
    path = talk.write_to(tmp_path / "t.pcapng")
    said, hint = refused(capsys, path, "--allow-writes", "--", "false", "mnt")
    assert "lost data" in said
    assert "--snap all" in hint
    assert "--zero-fill" in hint


def test_what_is_no_trace_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.pcapng"
    path.write_bytes(b"GIF89a" + bytes(100))
    assert len(refused(capsys, path, "--", "false", "mnt")) == 2


def test_nothing_compared_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = small_talk(0)
    talk.entries = talk.entries[:2]
    stat(talk, 77)
    lines = refused(capsys, talk.write_to(tmp_path / "t.pcapng"), *server())
    assert lines[-1].startswith("nothing was compared, so nothing is known of this server")


# ---- traces that lie, against a server that believes its kernel ------------------------------------------------------


@pytest.fixture
def real(make_server: MakeServer) -> PassthroughLl:
    """A real server, which would crash at an id it did not give out, and has a file beside its root."""
    found: PassthroughLl = make_server(PassthroughLl)
    found.seeded()
    (found.directory / "secret.txt").write_text("not for you\n")
    return found


def play(talk: Dialogue, server: PassthroughLl, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Play on the real server, which must come through; return the report."""
    import orjson

    path = talk.write_to(server.directory / "t.pcapng")
    live = server.directory / "live.pcapng"
    argv = ["replay", str(path), "--allow-writes", "--json", "--timeout", "10", "-o", str(live), *words]
    code = main([*argv, "--", *server.command(Path("/nowhere"))])
    out, err = capsys.readouterr()
    report: dict[str, Any] = orjson.loads(out)
    assert report["stopped"] is None, err
    assert report["server"]["how"] == "by itself"
    assert code in (0, 1, 2)
    return report


def asked(server: PassthroughLl) -> list[Any]:
    trace = Trace.open(server.directory / "live.pcapng")
    return [trace.exchange(number).request for number in range(trace.exchange_count)]


def begun() -> Dialogue:
    talk = Dialogue()
    talk.init(31)
    return talk


def test_names_that_lead_out_of_a_directory_are_never_sent(
    real: PassthroughLl, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = begun()
    names = (b"../secret.txt", b"..", b".", b"", b"a/b", b"/etc/passwd", b"x" * 5000)
    for name in names:
        look(talk, name)
        talk.unlink(1, name)
        talk.create(1, name, 9)
        talk.rename((1, b"hello.txt"), (1, name))
        talk.rename((1, name), (1, b"other"))
        talk.link(1, 1, name)
        talk.symlink(1, name, b"anywhere", 9)
    look(talk, b"nul\0inside")
    talk.talk(SYMLINK, 1, b"link2\0tar\0get\0")
    report = play(talk, real, capsys)
    skipped = report["counts"]["skipped"]
    assert report["counts"]["sent"] == 1
    assert skipped.keys() <= {Skip.HOSTILE_NAME.name, Skip.MALFORMED.name}
    assert skipped[Skip.HOSTILE_NAME.name] >= 7 * 6
    assert (real.directory / "secret.txt").read_text() == "not for you\n"
    assert sorted(path.name for path in real.source.iterdir()) == ["dir", "hello.txt", "link", "numbers.bin"]


def test_ids_that_were_never_introduced_are_never_sent(real: PassthroughLl, capsys: pytest.CaptureFixture[str]) -> None:
    talk = begun()
    for node in (2, 77, MOST, 0x7FFF_0000_1000):
        stat(talk, node)
        talk.talk(OPEN, node, bytes(8), talk.pack("QII", 7, 0, 0))
        talk.talk(READ, node, read_body(talk, 9, 4096), b"x")
        talk.forget(node)
        talk.talk(READDIR, node, read_body(talk, MOST, 4096), b"")
        talk.talk(RELEASE, node, talk.pack("QIIQ", 9, 0, 0, 0))
        talk.link(node, 1, b"new")
        talk.rename((1, b"hello.txt"), (node, b"new"))
    play(talk, real, capsys)
    assert {request.nodeid for request in asked(real)} <= {0, 1}  # INIT, and names looked up in the root
    assert {request.name for request in asked(real)} == {"INIT", "LOOKUP"}


def read_body(talk: Dialogue, handle: int, size: int, offset: int = 0) -> bytes:
    return talk.pack("QQIIQII", handle, offset, size, 0, 0, 0, 0)


def test_huge_counts_are_not_believed(real: PassthroughLl, capsys: pytest.CaptureFixture[str]) -> None:
    talk = begun()
    look(talk, b"hello.txt")
    talk.talk(OPEN, 2, bytes(8), talk.pack("QII", 7, 0, 0))
    talk.talk(READ, 2, read_body(talk, 7, 0xFFFF_FFFF), b"x")
    talk.talk(READ, 2, read_body(talk, 7, 4096, MOST), error=-22)
    talk.ask(BATCH_FORGET, 0, talk.pack("II", 0xFFFF_FFFF, 0) + talk.pack("QQ", 2, 1))
    talk.talk(OPENDIR, 1, bytes(8), talk.pack("QII", 8, 0, 0))
    talk.talk(READDIR, 1, read_body(talk, 8, 0xFFFF_FFFF), b"")
    skipped = play(talk, real, capsys)["counts"]["skipped"]
    assert skipped == {Skip.HOSTILE_SIZE.name: 2, Skip.MALFORMED.name: 1}


def test_a_server_is_never_told_to_forget_more_than_it_gave(
    real: PassthroughLl, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = begun()
    look(talk, b"hello.txt")
    for count in (MOST, 1, MOST):
        talk.forget(2, count)
    talk.batch_forget((2, 1 << 63), (2, 1 << 63), (1, 7), (99, MOST))
    talk.forget(1, 5)
    look(talk, b"hello.txt")
    talk.batch_forget((2, MOST), (2, MOST))
    play(talk, real, capsys)
    forgotten = [request.values for request in asked(real) if request.name in ("FORGET", "BATCH_FORGET")]
    assert sum(values.get("nlookup", len(values.get("forgets", ()))) for values in forgotten) <= 2


def test_handles_that_go_in_circles_are_never_confused(real: PassthroughLl, capsys: pytest.CaptureFixture[str]) -> None:
    talk = begun()

    def release(handle: int = 7, node: int = 2) -> None:
        talk.talk(RELEASE, node, talk.pack("QIIQ", handle, 0, 0, 0))

    look(talk, b"hello.txt")
    release()
    for _ in range(2):  # the same number, given out twice
        talk.talk(OPEN, 2, bytes(8), talk.pack("QII", 7, 0, 0))
    for _ in range(4):
        release()
        talk.talk(READ, 2, read_body(talk, 7, 10), b"hello from")
    talk.lookup(1, b"dir", 1)  # a name whose node is the root, one that is two things, one inside a file
    talk.lookup(1, b"dir", 2)
    talk.lookup(2, b"hello.txt", 2)
    talk.lookup(2, b"inner.txt", 1)
    talk.talk(OPENDIR, 2, bytes(8), talk.pack("QII", 7, 0, 0))
    talk.talk(READDIR, 2, read_body(talk, 7, 4096), b"")
    release(7, 1)
    talk.talk(READ, 2, read_body(talk, 7, 10), b"x")
    play(talk, real, capsys)


def test_the_other_byte_order_is_played_like_ours(real: PassthroughLl, capsys: pytest.CaptureFixture[str]) -> None:
    status = (real.source / "hello.txt").stat()
    talk = Dialogue(order=">")
    talk.init(31)
    times = (0, 0, 0)
    attr = talk.pack("6Q10I", 1, 17, 8, *times, 0, 0, 0, status.st_mode, 1, status.st_uid, status.st_gid, 0, 4096, 0)
    talk.talk(LOOKUP, 1, b"hello.txt\0", talk.pack("QQQQII", 2, 0, 1, 1, 0, 0) + attr)
    talk.talk(GETATTR, 2, bytes(16), talk.pack("QII", 1, 0, 0) + attr)
    talk.talk(OPEN, 2, bytes(8), talk.pack("QII", 7, 0, 0))
    talk.talk(READ, 2, read_body(talk, 7, 4096), b"hello from memfs\n")
    talk.talk(RELEASE, 2, talk.pack("QIIQ", 7, 0, 0, 0))
    counts = play(talk, real, capsys)["counts"]
    assert (counts["sent"], counts["same"], counts["compared"]) == (6, 5, 5)


# ---- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_talk().write_to(tmp_path / "t.pcapng")


PYTHON = re.escape(Path(sys.executable).name)


@pytest.mark.parametrize(
    ("habit", "said"),
    [
        ("garbage", "PYTHON sent 7 bytes, which is no message: fuse_out_header alone has 16"),
        ("too much", r"PYTHON answered 5120 bytes to a request that has room for \d+"),
        ("twice", r"PYTHON answered request \d+, which was not asked, or was answered before"),
        ("unasked", r"PYTHON answered request \d+, which was not asked, or was answered before"),
        ("never", r"no answer for 0.5 s to GETATTR \(exchange 2\)"),
        ("hangs and ignores signals", r"no answer for 0.5 s to GETATTR \(exchange 2\)"),
        ("exits", r'PYTHON ended with exit code 3, saying: "\\x1b\[31mno more of this"'),
        ("crashes", r'PYTHON was killed by SIGSEGV, saying: ".*"'),
    ],
)
def test_a_server_that_fails_is_told_in_one_line_and_ended(
    habit: str, said: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused(capsys, path, "--timeout", "0.5", *server(habit))
    assert re.fullmatch(said.replace("PYTHON", PYTHON), lines[1]), lines
    assert lines[2] == "to see what was said up to there: -o LIVE.pcapng"
    assert lines[3] == "the last of what the server printed:"
    pid = int(lines[4].removesuffix(" serves"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(("habit", "rule"), [("too little", "malformed"), ("impossible error", "malformed")])
def test_an_answer_no_kernel_would_take_is_a_difference(
    habit: str, rule: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(path), *server(habit)]) == 1
    assert f"rule      {rule}: the kernel refuses such a message, and its caller gets EIO\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (("no-such-server", "mnt"), "no-such-server is not there, nor on PATH", ""),
        (("false",), "the server's command names no mount point", "write the command as you would start it"),
        (("false", "mnt"), "false ended with exit code 1, before it opened /dev/fuse", ""),
        (("false", "{}", "{}"), "{} stands 2 times in the server's command", "write it once"),
    ],
)
def test_a_server_that_does_not_come_up_is_one_line(
    words: tuple[str, ...], said: str, hint: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused(capsys, path, "--", *words)
    assert lines[0].startswith(said)
    assert len(lines) <= 2
    assert "".join(lines[1:]).startswith(hint)


@pytest.mark.parametrize(
    ("habit", "said"),
    [
        ("exits", 'ended with exit code 3, saying: "no such file system"'),
        ("answers", "the server refused INIT of 7.31"),
    ],
)
def test_a_server_that_does_not_agree_in_init_is_one_line(
    habit: str, said: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Path(SERVER).parent / "transports" / "odd_server.py"
    lines = refused(capsys, path, "--transport", "fd", "--", sys.executable, str(odd), habit, "{}")
    assert len(lines) == 3
    assert said in lines[1]
    assert lines[2]
