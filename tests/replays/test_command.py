"""fusewire replay: every flag does what its help says, against a real process; stdout is data, the exit code tells."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dissectors.flags import init_flag
from tests.replays.small_talk import body, look, server, small_talk, stat
from tests.tracer.dialogue import LOOKUP, OPEN, Dialogue
from tracer.cli.main import main
from tracer.trace.trace import Trace

BLOCKS_AT = 40 + 16  # fuse_entry_out.attr.blocks
PROGRAM = (sys.executable, "-m", "tracer.cli.main")


@dataclass
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_talk().write_to(tmp_path / "t.pcapng")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "live.pcapng"


@pytest.fixture
def play(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function: words, and a habit of the server, None for no server -> what the command left."""

    def run(*words: str | Path, habit: str | None = "is honest") -> Ended:
        code = main(["replay", *map(str, words), *(server(habit) if habit else [])])
        return Ended(code, *capsys.readouterr())

    return run


def requests(live: Path, opcode: str) -> list[Any]:
    """Return the live requests of one operation."""
    trace = Trace.open(live)
    exchanges = (trace.exchange(number) for number in range(trace.exchange_count))
    return [exchange.request for exchange in exchanges if exchange.message.name == opcode]


# ---- outcome ----


def test_the_same_answers_exit_with_0_and_a_report(play: Any, path: Path) -> None:
    ended = play(path)
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "No difference in 4 answers.")
    assert ended.err == "fusewire: transport fd: as you said; its mount point {} stays untouched\n"


def test_other_answers_exit_with_1_and_say_what_differs(play: Any, path: Path) -> None:
    ended = play(path, habit="too little")
    assert ended.code == 1
    assert "  exchange 2  GETATTR /file  (live exchange 2)\n    malformed        live      " in ended.out
    assert "2 differences more in what followed from it" in ended.out
    assert ended.out.splitlines()[-1] == "1 request differs, 2 more in consequence, in 4 answers."


def test_json_is_one_document_on_stdout(play: Any, path: Path) -> None:
    found = play(path, "--json", habit="too little").json
    counted = {name: count for name, count in found["counts"].items() if count}
    assert counted == {"planned": 5, "sent": 5, "answered": 5, "compared": 4, "same": 1, "differing": 1}
    assert [(one["exchange"], one["follower_of"]) for one in found["differences"]] == [(2, None), (3, 2), (4, 2)]
    assert found["server"]["how"] in ("by itself", "SIGTERM")
    assert "serves" in found["server"]["output"]


def test_the_rules_are_listed_with_their_reasons_without_a_trace(play: Any) -> None:
    ended = play("--rules", habit=None)
    assert (ended.code, ended.err) == (0, "")
    assert "  owner               permissions are checked by it\n" in ended.out


def test_the_live_dialogue_is_written_as_a_trace(play: Any, path: Path, live: Path) -> None:
    ended = play(path, "-o", live)
    assert f"the live dialogue is in {live}" in ended.err
    trace = Trace.open(live)
    assert [trace.exchange(number).message.name for number in range(trace.exchange_count)] == [
        *("INIT", "LOOKUP", "GETATTR", "GETATTR", "GETATTR")
    ]
    assert trace.exchange(1).path == b"/"


# ---- what is played ----


@pytest.mark.parametrize("order", ["causal", "serial", "dependencies"])
def test_every_order_plays_everything(order: str, play: Any, path: Path) -> None:
    ended = play(path, "--order", order, "--window", "1")
    assert ended.code == 0
    assert ended.out.startswith(f"Replay over fd, order {order}\n")


@pytest.mark.parametrize(("words", "speed"), [(("--pace", "original"), 1), (("--speed", "0.5"), 0.5)])
def test_the_recorded_pace_is_kept_and_its_error_told(
    words: tuple[str, ...], speed: float, play: Any, tmp_path: Path
) -> None:
    talk = small_talk(0)
    for turn in range(1, 4):
        talk.t_ns += 30_000_000 * turn
        stat(talk)
    found = play(talk.write_to(tmp_path / "t.pcapng"), *words, "--json").json
    assert found["pacing"]["speed"] == speed
    assert found["duration_ns"] >= 180_000_000 / speed
    assert 0 <= found["pacing"]["late_median_ns"] <= found["pacing"]["late_most_ns"]


def test_as_fast_as_it_goes_takes_no_recorded_time(play: Any, tmp_path: Path) -> None:
    talk = small_talk()
    talk.t_ns += 3_600_000_000_000
    stat(talk)
    assert play(talk.write_to(tmp_path / "t.pcapng"), "--pace", "fast", "--json").json["pacing"] is None


def test_one_mount_of_several_is_chosen(play: Any, tmp_path: Path) -> None:
    path = small_talk(channels=2).write_to(tmp_path / "t.pcapng")
    ended = play(path)
    assert ended.code == 2
    assert "the trace holds 2 mounts: 0 (/mnt/0), 1 (/mnt/1)\n  choose one by its number: --channel N\n" in ended.err
    assert play(path, "--channel", "1").code == 0


def test_another_kernel_is_offered(play: Any, path: Path, live: Path) -> None:
    ended = play(path, "--init", "minor=23,flags+=READDIRPLUS,flags-=INIT_EXT,max_readahead=4096", "-o", live)
    (init,) = requests(live, "INIT")
    assert (init.values["minor"], init.values["max_readahead"]) == (23, 4096)
    assert init.values["flags"] == init_flag("DO_READDIRPLUS")
    assert "INIT, offered 7.23\n" in ended.out


def test_other_users_are_sent_and_their_files_are_not_held_against_the_server(
    play: Any, path: Path, live: Path
) -> None:
    play(path, "--uid-map", "1000=77", "--uid-map", "5=6", "--gid-map", "1000=88", "-o", live)
    assert {(ask.header_value("uid"), ask.header_value("gid")) for ask in requests(live, "GETATTR")} == {(77, 88)}


def test_an_edit_changes_and_drops_requests(play: Any, path: Path, live: Path, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks.py"
    hooks.write_text(
        "def odd(message):\n"
        "    if message[4] == 3:\n"
        "        odd.count += 1\n"
        "        return None if odd.count == 1 else message[:16] + bytes([1]) + message[17:]\n"
        "    return message\n"
        "odd.count = 0\n"
    )
    ended = play(path, "--edit", f"{hooks}:odd", "-o", live, "--json")
    assert ended.json["counts"]["skipped"] == {"EDITED_AWAY": 1}
    assert [request.nodeid for request in requests(live, "GETATTR")] == [1, 1]
    assert [one["field"] for one in ended.json["differences"]] == ["attr.mode"] * 4


@pytest.mark.parametrize(
    ("code", "said", "line"),
    [
        ("def hook(message):\n    return message[0] / 0\n", "ZeroDivisionError: division by zero", 2),
        ("\ndef hook(:\n", "SyntaxError: invalid syntax", 2),
        ("import no_such_module_at_all\n", "ModuleNotFoundError: No module named 'no_such_module_at_all'", 1),
    ],
)
def test_a_mistake_in_an_edit_is_told_with_its_place(code: str, said: str, line: int, play: Any, path: Path) -> None:
    hooks = path.parent / "hooks.py"
    hooks.write_text(code)
    ended = play(path, "--edit", f"{hooks}:hook")
    assert ended.code == 2
    first, hint = ended.err.splitlines()[-2:]
    assert first.startswith(f"fusewire: --edit {hooks}:hook: {said}")
    assert hint == f"  mend it at {hooks}:{line}"


def test_an_edit_may_be_an_expression(play: Any, path: Path, live: Path) -> None:
    ended = play(path, "--edit", "GETATTR: drop 1/2 seed=2; *.uid = 7", "-o", live, "--json")
    dropped = ended.json["counts"]["skipped"]["EDITED_AWAY"]
    assert 0 < dropped < 3
    assert [ask.header_value("uid") for ask in requests(live, "GETATTR")] == [7] * (3 - dropped)


def test_a_mistake_in_an_expression_is_pointed_at_before_a_server_is_started(play: Any, path: Path) -> None:
    ended = play(path, "--edit", "GETATTR: drop; READ.fh = 3")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(
        "fusewire: GETATTR: drop; READ.fh = 3\n" + " " * 25 + "^~~~~~~ ids are what servers believe"
    )


def cut_write(tmp_path: Path) -> Path:
    talk = small_talk(1)
    talk.talk(OPEN, 2, bytes(8), body(OPEN, 2))
    talk.write(2, 4096)
    whole = talk.entries[-2]
    talk.entries[-2] = whole._replace(data=whole.data[:-4000] + b"")  # type: ignore[union-attr]
    return talk.write_to(tmp_path / "cut.pcapng")


def test_cut_data_is_played_as_zeros_when_asked_and_only_then(play: Any, tmp_path: Path, live: Path) -> None:
    path = cut_write(tmp_path)
    ended = play(path, "--allow-writes")
    assert ended.code == 2
    assert "lost data they brought" in ended.err
    assert "record with --snap all, or play zeros instead: --zero-fill" in ended.err
    ended = play(path, "--allow-writes", "--zero-fill", "-o", live, "--json")
    (write,) = requests(live, "WRITE")
    assert write.values["data"] == bytes(4096)
    assert [note["rule"] for note in ended.json["notes"]] == ["zero-fill"]


def test_what_changes_files_is_left_out_unless_allowed(play: Any, tmp_path: Path) -> None:
    talk = small_talk(1)
    talk.unlink(1, b"file")
    path = talk.write_to(tmp_path / "t.pcapng")
    ended = play(path, "--json")
    assert (ended.code, ended.json["counts"]["skipped"]) == (0, {"WRITES": 1})
    assert "1 request that would change files left out: play them with --allow-writes, or" in ended.err
    assert play(path, "--allow-writes", "--json").json["counts"]["skipped"] == {}


def late(tmp_path: Path) -> Path:
    """A recording that began after a name was looked up, and shows it again in time to learn it."""
    talk = Dialogue()
    stat(talk)
    look(talk)
    return talk.write_to(tmp_path / "late.pcapng")


def test_nodes_a_late_recording_does_not_introduce_are_learnt_unless_told_not_to(play: Any, tmp_path: Path) -> None:
    path = late(tmp_path)
    learnt = play(path, "--minor", "31", "--json").json["counts"]
    assert (learnt["skipped"], learnt["added"]) == ({}, {"LOOKUP": 1})
    assert play(path, "--minor", "31", "--no-learn", "--json").json["counts"]["skipped"] == {"UNKNOWN_NODE": 1}


# ---- how it is compared ----


def test_a_rule_can_be_ignored(play: Any, path: Path) -> None:
    ended = play(path, "--ignore", "malformed", "--json", habit="too little")
    assert (ended.code, ended.json["differences"]) == (0, [])


def test_what_may_well_differ_counts_when_strict(play: Any, tmp_path: Path) -> None:
    talk = small_talk(0)
    known = bytearray(body(LOOKUP, 2))
    known[BLOCKS_AT] = 9
    talk.talk(LOOKUP, 1, b"file\0", bytes(known))
    path = talk.write_to(tmp_path / "t.pcapng")
    assert play(path).code == 0
    ended = play(path, "--strict", "--json")
    (blocks,) = [one for one in ended.json["differences"] if one["rule"] == "blocks"]
    assert (ended.code, blocks["recorded"], blocks["live"]) == (1, 9, 0)


def test_enough_differences_end_the_replay(play: Any, tmp_path: Path) -> None:
    talk = small_talk(1)
    for number in range(100):
        look(talk, b"name-%d" % number)
    stat(talk, 1)
    path = talk.write_to(tmp_path / "t.pcapng")
    ended = play(path, "--max-diffs", "1", "--order", "serial", "--json", habit="too little")
    assert (ended.code, ended.json["stopped"]) == (1, "ended after 1 difference")
    assert ended.json["counts"]["skipped"]["NOT_REACHED"] > 90


def test_two_directories_are_compared_afterwards(play: Any, path: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for place in (one, other):
        place.mkdir()
        (place / "f\x1b").write_bytes(b"x" * 10)
    ended = play(path, "--compare-tree", one, other)
    assert (ended.code, "  no difference in 1 name and 10 B of content compared\n" in ended.out) == (0, True)
    (other / "f\x1b").write_bytes(b"x" * 9 + b"y")
    ended = play(path, "--compare-tree", one, other)
    assert ended.code == 1
    assert "  f\\x1b: content: " in ended.out
    assert play(path, "--compare-tree", one, other, "--json").json["trees"]["difference_count"] == 1


# ---- usage ----


@pytest.mark.parametrize(
    ("words", "habit", "said", "hint"),
    [
        ((), None, "which trace?", "fusewire replay FILE -- SERVER ARGS"),
        (("FILE",), None, "say what to play against", "for example: fusewire replay FILE -- bindfs -f /srv /mnt"),
        (("FILE", "--vhost-user", "s"), "is honest", "play against one server: a command", "for"),
        (("FILE", "--vhost-user", "s", "--sandbox", "d"), None, "--vhost-user goes without --sandbox", "leave"),
        (("FILE", "--vhost-user", "s", "--transport", "fd"), None, "--vhost-user goes without --transport fd", "leave"),
        (("FILE", "--vhost-user", "no.sock"), None, "cannot connect to no.sock: No such file", "start virtiofsd"),
        (("FILE", "--ignore", "oner"), "is honest", "there is no rule 'oner'", "did you mean owner?"),
        (("FILE", "--init", "minor=99"), "is honest", "--init: 'minor=99' needs a number from 0 to", "for example"),
        (("FILE", "--init", "flags-=PLUS"), "is honest", "--init: there is no INIT flag 'PLUS'", ""),
        (("FILE", "--pace", "fast", "--speed", "2"), "is honest", "--pace and --speed say two things", "leave --pace"),
        (("FILE", "--speed", "0"), "is honest", "--speed 0 is no speed", "1 is as recorded"),
        (("FILE", "--speed", "nan"), "is honest", "--speed nan is no speed", "1 is as recorded"),
        (("FILE", "--edit", "no.py:f"), "is honest", "there is no file no.py", "write FILE.py:function"),
        (("FILE", "--edit", "f.py"), "is honest", "--edit 'f.py' names no function", "write FILE.py:function"),
        (("FILE", "--channel", "7"), "is honest", "the trace holds no request of a mount number 7", "it has [0]"),
        (("FILE", "--sandbox", "no-such"), "is honest", "no-such is no directory", "name the one that the server"),
        (("FILE", "--compare-tree", "no", "no"), "is honest", "no is no directory", "--compare-tree A B needs two"),
        (("FILE", "--compare-tree", ".", ".", "--sandbox", "."), "is honest", "--compare-tree cannot see into", ""),
        (("FILE", "-o", "FILE"), "is honest", "the live dialogue cannot replace the recording", "give another file"),
        (("FILE", "-o", "."), "is honest", ". is a directory", "give a file with -o"),
        (("no.pcapng",), "is honest", "cannot read no.pcapng: No such file or directory", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line_with_the_next_step(
    words: tuple[str, ...],
    habit: str | None,
    said: str,
    hint: str,
    play: Any,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(path.parent)
    ended = play(*(path if word == "FILE" else word for word in words), habit=habit)
    first, *rest = ended.err.splitlines()
    assert (ended.code, ended.out, len(rest) <= 1) == (2, "", True), ended.err
    assert first.startswith(f"fusewire: {said}")
    assert "".join(rest).strip().startswith(hint)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--uid-map", value) for value in ("1000", "1=x", "1=2=3", "1=4294967295", "-1=0")),
        *(("--timeout", value) for value in ("0", "x", "-1", "nan", "1e9")),
        *(("--window", value) for value in ("0", "x")),
        ("--order", "any"),
        ("--transport", "cuse"),
        ("--max-diffs", "0"),
    ],
)
def test_a_value_that_is_none_is_refused(
    option: str, value: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["replay", str(path), f"{option}={value}", *server()])
    assert refused.value.code == 2
    assert option in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda word: str(word)
)
def test_a_replay_that_is_ended_ends_its_server(number: signal.Signals, code: int, path: Path) -> None:
    words = [*PROGRAM, "replay", str(path), *server("hangs and ignores signals")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as us:
        assert us.stderr is not None
        assert us.stderr.readline().startswith("fusewire: transport fd")
        (child,) = Path(f"/proc/{us.pid}/task/{us.pid}/children").read_text().split()
        ended = select.poll()
        ended.register(os.pidfd_open(int(child)), select.POLLIN)
        us.send_signal(number)
        assert us.wait(20) == code
        assert ended.poll(5_000)


def test_a_name_in_a_directory_is_part_of_the_path_that_differs(play: Any, tmp_path: Path) -> None:
    talk = small_talk(1)
    talk.talk(LOOKUP, 1, b"gone\x07\0", error=-2)
    (one,) = play(talk.write_to(tmp_path / "t.pcapng"), "--json").json["differences"]
    assert (one["path"], one["recorded_text"], one["live_text"]) == ("/gone\\x07", "ENOENT", "success")
