"""Load through the tap: nothing is lost, doubled or damaged, whatever the daemon and the notifications."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.conftest import Ran, RunLab
from tests.tracer.dialogue import READ, WRITE, Dialogue
from tracer.lab.archive import Unavailable
from tracer.lab.patterns import Block, read, written
from tracer.lab.scenario import Evidence, Variant
from tracer.lab.scenarios import load
from tracer.records import RawRecord
from tracer.trace.trace import Trace

FILE = 5  # its nodeid
NUMBER = 7
VARIANTS = {
    "c": ("6.1", "c"),
    "c-no-event-idx": ("6.1", "c", "--no-event-idx"),
    "rust": ("6.1", "rust"),
    "rust-no-event-idx": ("6.1", "rust", "--no-event-idx"),
    "newest-rust-twice": ("newest", "rust", "--scale", "2"),
}


def content(number: int, offset: int, size: int) -> bytes:
    """Return what a file has at an offset, worked out word by word as the guest's program does."""
    return b"".join((number << 40 | at).to_bytes(8, "little") for at in range(offset, offset + size, 8))


@pytest.fixture
def talk() -> Dialogue:
    """A file, written and read back in two messages each."""
    talk = Dialogue()
    talk.create(1, b"file-%d" % NUMBER, FILE)
    for offset in (0, 4096):
        data = content(NUMBER, offset, 4096)
        talk.talk(WRITE, FILE, talk.pack("QQIIQII", 1, offset, 4096, 0, 0, 0, 0) + data, talk.pack("II", 4096, 0))
    for offset in (0, 4096):
        data = content(NUMBER, offset, 4096)
        talk.talk(READ, FILE, talk.pack("QQIIQII", 1, offset, 4096, 0, 0, 0, 0), data)
    return talk


def blocks(trace: Trace) -> list[Block]:
    return [*written(trace), *read(trace)]


def changed(record: RawRecord, at: int, byte: int) -> RawRecord:
    return record._replace(data=record.data[:at] + bytes([byte]) + record.data[at + 1 :])


def test_what_was_carried_whole_is_intact_at_its_own_offset(talk: Dialogue, tmp_path: Path) -> None:
    found = blocks(talk.trace(tmp_path))
    assert [(block.offset, block.number, len(block.data), block.is_intact) for block in found] == [
        (0, NUMBER, 4096, True),
        (4096, NUMBER, 4096, True),
    ] * 2


@pytest.mark.parametrize("at", [0, 2047, 4095])
def test_one_wrong_byte_anywhere_is_damage(at: int, talk: Dialogue, tmp_path: Path) -> None:
    places = {2: 80 + at, 7: 16 + at}  # the first WRITE, the first answer to READ
    for row, where in places.items():
        record = talk.records[row]
        talk.entries[row] = changed(record, where, record.data[where] ^ 0x10)
    assert [block.is_intact for block in blocks(talk.trace(tmp_path))] == [False, True, False, True]


def test_data_of_another_place_or_another_file_is_damage(talk: Dialogue, tmp_path: Path) -> None:
    swapped = talk.records
    talk.entries[7] = swapped[7]._replace(data=swapped[7].data[:16] + content(NUMBER, 4096, 4096))
    talk.entries[9] = swapped[9]._replace(data=swapped[9].data[:16] + content(NUMBER + 1, 4096, 4096))
    assert [block.is_intact for block in blocks(talk.trace(tmp_path))] == [True, True, False, False]


def test_data_that_ends_early_or_has_no_name_is_damage(talk: Dialogue, tmp_path: Path) -> None:
    block = blocks(talk.trace(tmp_path))[0]
    assert block.is_intact
    assert not replace(block, data=block.data[:-1]).is_intact
    assert not replace(block, data=block.data[:0]).is_intact
    assert not replace(block, number=0).is_intact


def test_a_request_that_is_there_twice_and_a_reply_to_nothing_are_found(talk: Dialogue, tmp_path: Path) -> None:
    assert load.once(talk.trace(tmp_path)).holds
    talk.entries.append(talk.records[2])
    assert "1 doubled" in load.once(talk.trace(tmp_path)).words
    talk.answer(4711)
    found = load.once(talk.trace(tmp_path))
    assert (found.holds, "1 replies to none" in found.words) == (False, True)


def test_requests_that_overlap_are_counted(talk: Dialogue, tmp_path: Path) -> None:
    one, two = talk.ask(READ, FILE), talk.ask(READ, FILE)
    talk.answer(two)
    three = talk.ask(READ, FILE)
    talk.answer(one)
    talk.answer(three)
    assert load.most_open(talk.trace(tmp_path)) == 2


def test_without_a_compiler_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match=r"gcc is not installed \(apt install gcc\)"):
        load.program()


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def ran(request: pytest.FixtureRequest, run_lab: RunLab) -> Ran:
    return run_lab("load", *request.param)


@pytest.mark.vm
def test_every_promise_holds(ran: Ran) -> None:
    assert (ran.broken(), ran.status) == ([], 0)
    assert len(ran.verdict["findings"]) == 10


@pytest.mark.vm
def test_every_request_but_a_forget_has_its_answer(ran: Ran) -> None:
    without = {one.message.name for one in ran.trace.exchanges() if one.reply is None}
    assert without == {"FORGET"}


@pytest.fixture
def evidence(run_lab: RunLab, tmp_path: Path) -> Evidence:
    """A good run, whose daemon's log may be changed."""
    ran = run_lab("load", "6.1", "c")
    shutil.copy(ran.directory / "daemon.log", tmp_path)
    return Evidence(tmp_path, ran.trace, (ran.step("boot"), ran.step("load")), Variant(), "6.1", "c")


def broken(evidence: Evidence) -> set[str]:
    return {finding.promise for finding in load.check(evidence) if not finding.holds}


@pytest.mark.vm
@pytest.mark.parametrize(
    ("line", "promise"),
    [
        (b"unique: 8, opcode: GETATTR (3), nodeid: 1, insize: 56, pid: 1", "the daemon's log names the same requests"),
        (b"unique: 8, success, outsize: 120", "the daemon's log names the same replies"),
    ],
    ids=["request", "reply"],
)
def test_a_message_that_the_daemon_had_and_the_trace_has_not_is_missed(
    evidence: Evidence, line: bytes, promise: str
) -> None:
    assert broken(evidence) == set()
    with open(evidence.directory / "daemon.log", "ab") as log:
        log.write(line + b"\n")
    assert broken(evidence) == {promise}


@pytest.mark.vm
def test_fewer_messages_than_the_program_made_are_missed(evidence: Evidence) -> None:
    assert broken(replace(evidence, variant=Variant(scale=2))) == {
        "the guest reads back what it wrote",
        "every WRITE carries what belongs there, and none is missing",
        "every READ carries what belongs there, and none is missing",
    }
