"""The judgement on sync over submounts, from hand-made dialogues: each fault breaks the promise it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tracer.dialogue import SYNCFS, Dialogue
from tracer.lab.scenario import Evidence, Step, Variant
from tracer.lab.scenarios.submount_sync import check
from tracer.records import ChannelInfo, ChannelKind

ROOT, MNT1, MNT2 = 1, 7, 4
EARLY, SYNC, ONE, LOG, PROBE = (
    "sync before any access reaches the root alone",
    "sync reaches every superblock once",
    "sync -f in a submount reaches that one alone",
    "the daemon's log names the same requests",
    "a kprobe in the guest saw the same SYNCFS",
)
Sync = Callable[[Dialogue], None]


def every(talk: Dialogue) -> None:
    for nodeid in (ROOT, MNT2, MNT1):
        talk.syncfs(nodeid)


def unanswered(talk: Dialogue) -> None:
    talk.syncfs(ROOT)
    talk.syncfs(MNT1)
    talk.ask(SYNCFS, MNT2, bytes(8))


def judged(
    directory: Path, early: Sync, sync: Sync, one: Sync, logged: int | None = None, probed: int | None = None
) -> dict[str, bool]:
    """Return which promise holds; the log and the kprobe may know of the first few SYNCFS only."""
    talk = Dialogue(channels=[ChannelInfo("virtiofs tag shared", kind=ChannelKind.VIRTIOFS, minor=45)])
    steps = []
    for name, what in (("early-sync", early), ("list", listed), ("sync", sync), ("sync-one", one)):
        began = talk.t_ns
        what(talk)
        steps.append(Step(name, began + 1, talk.t_ns + 1, ()))
    asked = [record.data for record in talk.records if not record.direction]
    heads = [[int.from_bytes(data[at : at + 8], "little") for at in (8, 16)] for data in asked]
    opcodes = [int.from_bytes(data[4:8], "little") for data in asked]
    lines = [
        f"unique: {u}, opcode: X ({code}), nodeid: {n}, insize: 48" for (u, n), code in zip(heads, opcodes, strict=True)
    ]
    (directory / "daemon.log").write_text("\n".join(lines[:logged]))
    seen = [f"op=50 unique={u} nodeid={n}" for (u, n), code in zip(heads, opcodes, strict=True) if code == SYNCFS]
    steps.append(Step("kprobes", talk.t_ns, talk.t_ns + 1, tuple(seen[:probed])))
    evidence = Evidence(directory, talk.trace(directory), tuple(steps), Variant(), "6.1", "c")
    return {finding.promise: finding.holds for finding in check(evidence)}


def listed(talk: Dialogue) -> None:
    talk.lookup(ROOT, b"mnt1", MNT1, submount=True)
    talk.lookup(ROOT, b"mnt2", MNT2, submount=True)


def test_every_promise_holds_whatever_the_nodeids_and_their_order(tmp_path: Path) -> None:
    found = judged(tmp_path, to(ROOT), every, to(MNT2))
    assert all(found.values())
    assert {EARLY, SYNC, ONE, LOG, PROBE} < set(found)


def to(*nodeids: int, error: int = 0) -> Sync:
    def sync(talk: Dialogue) -> None:
        for nodeid in nodeids:
            talk.syncfs(nodeid, error=error)

    return sync


@pytest.mark.parametrize(
    ("early", "sync", "one", "broken"),
    [
        (to(), every, to(MNT2), EARLY),
        (to(ROOT, ROOT), every, to(MNT2), EARLY),
        (to(ROOT), to(ROOT, MNT1), to(MNT2), SYNC),
        (to(ROOT), to(ROOT, MNT1, MNT2, MNT2), to(MNT2), SYNC),
        (to(ROOT), to(ROOT, MNT1, MNT2, error=-5), to(MNT2), SYNC),
        (to(ROOT), unanswered, to(MNT2), SYNC),
        (to(ROOT), every, to(MNT1), ONE),
        (to(ROOT), every, to(ROOT, MNT2), ONE),
    ],
)
def test_a_syncfs_too_few_too_many_or_without_success_breaks_its_promise_alone(
    tmp_path: Path, early: Sync, sync: Sync, one: Sync, broken: str
) -> None:
    found = judged(tmp_path, early, sync, one)
    assert [promise for promise, holds in found.items() if not holds] == [broken]


def test_other_witnesses_that_saw_less_break_their_promise(tmp_path: Path) -> None:
    found = judged(tmp_path, to(ROOT), every, to(MNT2), logged=-1, probed=-1)
    assert [promise for promise, holds in found.items() if not holds] == [LOG, PROBE]
