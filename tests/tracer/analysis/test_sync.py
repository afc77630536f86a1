"""Did sync reach the server: every case of the report, from hand-made dialogues."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracer.dialogue import DESTROY, FSYNC, GETATTR, SYNCFS, WRITE, Dialogue
from tracer.analysis.sync import SubmountReport, SyncReport, SyncRequest, sync_report
from tracer.output.style import Painter
from tracer.output.sync_text import sync_json, sync_lines
from tracer.records import BridgeKind, ChannelInfo, ChannelKind, RecordFlag

GOLDEN = Path(__file__).parent / "golden"
EIO, ENOSYS, EINTR = -5, -38, -4


@pytest.fixture
def talk() -> Dialogue:
    return Dialogue(channels=[ChannelInfo("virtiofs tag home", kind=ChannelKind.VIRTIOFS, minor=45)])


def report_of(talk: Dialogue, directory: Path) -> SyncReport:
    return sync_report(talk.trace(directory))


def root_of(report: SyncReport) -> SubmountReport:
    return report.channels[0].submounts[0]


def only(report: SyncReport) -> SyncRequest:
    (request,) = report.requests
    return request


def text(report: SyncReport) -> str:
    return "\n".join(sync_lines(report, Painter(False)))


def test_an_answered_syncfs_is_told_with_who_asked_and_how_long_it_took(talk: Dialogue, tmp_path: Path) -> None:
    talk.init()
    talk.syncfs(pid=812, comm=b"sync")
    report = report_of(talk, tmp_path)
    request = only(report)
    assert (request.state.name, request.error, request.latency_ns, request.pid) == ("DONE", 0, 1_000, 812)
    assert (request.comm, request.succeeded, request.exchange) == (b"sync", True, 1)
    assert not report.has_finding
    assert "by sync[812]: answered in 1.00µs" in text(report)
    assert text(report).endswith("1 SYNCFS, 1 answered with success")


def test_a_submount_keeps_its_path_when_an_unmount_gave_its_node_back(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"sub", 5, submount=True)
    talk.syncfs(5)
    talk.forget(5)
    talk.talk(DESTROY)
    _, submount = report_of(talk, tmp_path).channels[0].submounts
    assert (submount.nodeid, submount.path) == (5, b"/sub")


def test_an_error_is_a_finding_and_covers_nothing(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"f", 2)
    talk.write(2, 1000)
    talk.syncfs(error=EIO)
    report = report_of(talk, tmp_path)
    assert (only(report).error, only(report).covered_bytes, root_of(report).unsynced_bytes) == (EIO, 1000, 1000)
    assert report.has_finding
    assert report.channels[0].enosys_t_ns is None
    assert "EIO after 1.00µs" in text(report)


def test_after_an_error_the_next_success_covers_what_both_should(talk: Dialogue, tmp_path: Path) -> None:
    talk.write(1, 1000)
    talk.syncfs(error=EIO)
    talk.write(1, 500)
    talk.syncfs()
    report = report_of(talk, tmp_path)
    assert [request.covered_bytes for request in report.requests] == [1000, 1500]
    assert root_of(report).unsynced_bytes == 0


def test_enosys_ends_it_for_the_connection_and_the_sentence_says_since_when(
    talk: Dialogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    talk.lookup(1, b"sub", 5, submount=True)
    talk.syncfs(error=ENOSYS)
    report = report_of(talk, tmp_path)
    (channel,) = report.channels
    assert channel.enosys_t_ns == talk.t_ns
    assert [one.nodeid for one in channel.left_out] == [5]
    assert report.has_finding
    assert "left out: the ENOSYS that another superblock got is one for the whole connection" in text(report)
    expected = "this server will never be asked again: sync(2) is a no-op on this connection since 22:13:20.000004"
    assert expected in text(report)
    assert "ENOSYS after 1.00µs" in text(report)


def test_a_syncfs_that_is_not_answered_is_pending_and_a_finding(talk: Dialogue, tmp_path: Path) -> None:
    talk.ask(SYNCFS, 1, bytes(8), pid=7, comm=b"sync")
    report = report_of(talk, tmp_path)
    assert (only(report).state.name, only(report).latency_ns) == ("PENDING", None)
    assert report.has_finding
    assert "not answered when the trace ends" in text(report)


def test_a_pending_syncfs_has_waited_until_the_trace_ends_or_until_now_while_somebody_records(
    talk: Dialogue, tmp_path: Path
) -> None:
    talk.ask(SYNCFS, 1, bytes(8), pid=7, comm=b"sync")
    talk.talk(GETATTR)
    trace = talk.trace(tmp_path)
    report = sync_report(trace)
    assert only(report).pending_ns == 2_000
    assert "by sync[7]: not answered when the trace ends, 2.00µs later" in text(report)
    trace.now_ns = only(report).t_ns + 3_000_000_000
    assert "by sync[7]: not answered, for 3.00s now" in text(sync_report(trace))


def test_a_superblock_whose_turn_has_not_come_is_said_to_wait_for_another_one(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"sub", 5, submount=True)
    talk.ask(SYNCFS, 1, bytes(8))
    report = report_of(talk, tmp_path)
    assert [one.nodeid for one in report.channels[0].left_out] == [5]
    assert "left out: sync(2) asks one superblock after another, and waits for another one's answer" in text(report)


def test_an_interrupted_and_a_lost_syncfs_did_not_succeed(talk: Dialogue, tmp_path: Path) -> None:
    unique = talk.ask(SYNCFS, 1, bytes(8))
    talk.interrupt(unique)
    talk.answer(unique, error=EINTR)
    again = talk.ask(SYNCFS, 1, bytes(8))
    talk.ask(GETATTR, unique=again)
    report = report_of(talk, tmp_path)
    assert [request.state.name for request in report.requests] == ["INTERRUPTED", "LOST"]
    assert not any(request.succeeded for request in report.requests)
    assert "interrupted" in text(report)


def test_an_answer_that_the_kernel_refused_is_no_success(talk: Dialogue, tmp_path: Path) -> None:
    """SYNCFS has an empty reply: one with a body makes the write fail and the caller get EIO."""
    talk.write(1, 10)
    unique = talk.ask(SYNCFS, 1, bytes(8))
    talk.refused(unique, -22, body=b"body")
    report = report_of(talk, tmp_path)
    assert not only(report).succeeded
    assert report.has_finding
    assert root_of(report).unsynced_bytes == 10
    assert "refused by the kernel" in text(report)


def test_writes_that_wait_for_an_answer_when_syncfs_is_sent_are_counted(talk: Dialogue, tmp_path: Path) -> None:
    answered = talk.write(1, 100)
    slow = talk.ask(WRITE, 1, talk.write_body(4096))
    talk.ask(WRITE, 1, talk.write_body(10))
    asked = talk.ask(SYNCFS, 1, bytes(8))
    late = talk.ask(WRITE, 1, talk.write_body(7))
    talk.answer(slow, talk.pack("II", 4096, 0))
    talk.answer(asked)
    talk.answer(late, talk.pack("II", 7, 0))
    report = report_of(talk, tmp_path)
    request = only(report)
    assert (request.open_writes, request.open_write_bytes, request.covered_bytes) == (2, 4106, 100)
    assert (root_of(report).written_bytes, root_of(report).unsynced_bytes) == (100 + 4096 + 7, 4096 + 7)
    assert "2 WRITEs (4.0 KiB) still unanswered" in text(report)
    assert answered == 0


def test_records_of_the_same_time_are_told_apart_by_their_order(talk: Dialogue, tmp_path: Path) -> None:
    """strace without -ttt gives no times at all; with -t, whole seconds."""
    now = talk.t_ns
    slow = talk.ask(WRITE, 1, talk.write_body(100), t_ns=now)
    done = talk.ask(WRITE, 1, talk.write_body(10), t_ns=now)
    talk.answer(done, talk.pack("II", 10, 0), t_ns=now)
    asked = talk.ask(SYNCFS, 1, bytes(8), t_ns=now)
    talk.answer(slow, talk.pack("II", 100, 0), t_ns=now)
    talk.answer(asked, t_ns=now)
    report = report_of(talk, tmp_path)
    request = only(report)
    assert (request.open_writes, request.open_write_bytes, request.covered_bytes) == (1, 100, 10)
    assert root_of(report).unsynced_bytes == 100


def test_bytes_are_those_the_server_said_it_wrote_and_never_less_than_none(talk: Dialogue, tmp_path: Path) -> None:
    unique = talk.ask(WRITE, 1, talk.write_body(1000))
    talk.answer(unique, talk.pack("II", 300, 0))
    unique = talk.ask(WRITE, 1, talk.write_body(1000))
    talk.answer(unique, talk.pack("II", 999_999, 0))
    talk.talk(WRITE, 1, talk.write_body(50), error=EIO)
    talk.talk(WRITE, 1, b"malformed")
    assert root_of(report_of(talk, tmp_path)).written_bytes == 1300


def test_a_cut_write_counts_with_all_its_bytes(talk: Dialogue, tmp_path: Path) -> None:
    unique = talk.ask(WRITE, 1, talk.write_body(4096))
    whole = talk.entries.pop()
    talk.entries.append(whole._replace(data=whole.data[:80]))
    talk.answer(unique, talk.pack("II", 4096, 0))
    assert root_of(report_of(talk, tmp_path)).written_bytes == 4096


def test_below_7_9_a_write_has_a_shorter_head(tmp_path: Path) -> None:
    talk = Dialogue(channels=[ChannelInfo("/mnt", minor=8)])
    talk.talk(WRITE, 1, talk.pack("QQII", 7, 0, 100, 0) + bytes(100), talk.pack("II", 100, 0))
    assert root_of(report_of(talk, tmp_path)).written_bytes == 100


def test_big_endian_writes_count_the_same(tmp_path: Path) -> None:
    talk = Dialogue(order=">")
    talk.write(1, 100)
    talk.syncfs()
    assert only(report_of(talk, tmp_path)).covered_bytes == 100


def test_fsync_covers_its_own_file_only(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"a", 2)
    talk.lookup(1, b"b", 3)
    talk.write(2, 100)
    talk.write(3, 10)
    talk.fsync(2)
    talk.write(2, 1)
    talk.fsync(3, error=EIO)
    report = report_of(talk, tmp_path)
    assert root_of(report).unsynced_bytes == 11
    assert "written 111 B, not yet synced at the end 11 B" in text(report)


def test_bytes_at_risk_are_those_acknowledged_and_not_yet_synced_before_and_after(
    talk: Dialogue, tmp_path: Path
) -> None:
    talk.write(1, 1000)
    talk.fsync(1)
    talk.write(1, 300)
    asked = talk.ask(SYNCFS, 1, bytes(8))
    talk.write(1, 20)  # the server may have synced before it
    talk.answer(asked)
    talk.write(1, 4)
    talk.syncfs(error=EIO)
    report = report_of(talk, tmp_path)
    risks = [(request.risk_before_bytes, request.risk_after_bytes) for request in report.requests]
    assert risks == [(300, 20), (24, 24)]
    assert "answered in 3.00µs, 300 B at risk before, 20 B after" in text(report)
    assert root_of(report).unsynced_bytes == 24


def test_an_fsync_makes_safe_what_was_acknowledged_before_it_and_only_from_its_answer_on(
    talk: Dialogue, tmp_path: Path
) -> None:
    first = talk.ask(WRITE, 2, talk.write_body(1))
    talk.write(2, 10)
    fsync = talk.ask(FSYNC, 2, talk.pack("QII", 7, 0, 0))
    talk.answer(first, talk.pack("II", 1, 0))
    talk.ask(SYNCFS, 1, bytes(8))
    talk.answer(fsync)
    talk.ask(SYNCFS, 1, bytes(8))
    report = report_of(talk, tmp_path)
    assert [(request.risk_before_bytes, request.risk_after_bytes) for request in report.requests] == [
        (11, None),
        (1, None),
    ]


def test_writes_from_the_page_cache_are_counted_before_and_after_each_syncfs(talk: Dialogue, tmp_path: Path) -> None:
    """fuse_write_in.write_flags, FUSE_WRITE_CACHE: fuse writes back what it has before it sends SYNCFS."""
    cached = talk.pack("QQIIQII", 7, 0, 4096, 1, 0, 0, 0) + bytes(4096)
    talk.talk(WRITE, 1, cached, talk.pack("II", 4096, 0))
    talk.talk(WRITE, 1, cached, talk.pack("II", 4096, 0))
    talk.write(1, 5)
    talk.syncfs()
    talk.talk(WRITE, 1, cached, talk.pack("II", 4096, 0))
    talk.syncfs()
    report = report_of(talk, tmp_path)
    counts = [(one.flushed_writes, one.flushed_bytes, one.late_writes, one.late_bytes) for one in report.requests]
    assert counts == [(2, 8192, 1, 4096), (1, 4096, 0, 0)]
    assert "the page cache sent 2 WRITEs (8.0 KiB) before it and 1 (4.0 KiB) after it" in text(report)


def test_a_hundred_thousand_fsyncs_are_counted_in_time(talk: Dialogue, tmp_path: Path) -> None:
    for nodeid in range(2, 20_002):
        talk.write(nodeid, 3)
        talk.fsync(nodeid)
        talk.write(nodeid, 1)
    assert root_of(report_of(talk, tmp_path)).unsynced_bytes == 20_000


def test_submounts_have_their_own_syncfs_and_bytes(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"sub", 5, submount=True)
    talk.lookup(5, b"file", 6)
    talk.write(6, 100)
    talk.write(1, 10)
    talk.syncfs(1)
    talk.syncfs(5)
    report = report_of(talk, tmp_path)
    root, sub = report.channels[0].submounts
    assert [request.covered_bytes for request in (*root.requests, *sub.requests)] == [10, 100]
    assert (root.path, sub.path, sub.nodeid) == (b"/", b"/sub", 5)
    assert (root.exchange_count, sub.exchange_count) == (3, 3)
    assert not report.has_finding


def test_a_submount_that_was_there_and_got_none_is_left_out(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"sub", 5, submount=True)
    talk.write(5, 100)
    talk.syncfs(1)
    report = report_of(talk, tmp_path)
    assert [one.nodeid for one in report.channels[0].left_out] == [5]
    assert report.has_finding
    assert "left out: others of this connection got a SYNCFS, this one none" in text(report)
    assert text(report).endswith("1 SYNCFS, 1 answered with success; 1 superblock left out")


def test_a_submount_that_was_met_after_the_last_syncfs_is_not_left_out(talk: Dialogue, tmp_path: Path) -> None:
    talk.syncfs(1)
    talk.lookup(1, b"sub", 5, submount=True)
    talk.talk(GETATTR, 5)
    report = report_of(talk, tmp_path)
    assert report.channels[0].left_out == []
    assert not report.has_finding


def test_a_root_that_got_none_while_a_submount_did_is_left_out(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"sub", 5, submount=True)
    talk.syncfs(5)
    assert [one.nodeid for one in report_of(talk, tmp_path).channels[0].left_out] == [1]


def test_a_submount_nobody_announced_is_reported_without_a_path(talk: Dialogue, tmp_path: Path) -> None:
    talk.write(9, 100)
    talk.syncfs(9)
    report = report_of(talk, tmp_path)
    _, sub = report.channels[0].submounts
    assert (sub.nodeid, sub.path, only(report).covered_bytes) == (9, None, 100)
    assert "submount node 9 path unknown" in text(report)


def test_thousands_of_submounts_are_reported_in_time(talk: Dialogue, tmp_path: Path) -> None:
    for nodeid in range(2, 5_002):
        talk.lookup(1, b"%d" % nodeid, nodeid, submount=True)
        talk.write(nodeid, nodeid)
        talk.syncfs(nodeid)
    report = report_of(talk, tmp_path)
    assert [request.covered_bytes for request in report.requests] == list(range(2, 5_002))
    assert [one.nodeid for one in report.channels[0].left_out] == [1]


def test_channels_are_reported_each_for_itself(tmp_path: Path) -> None:
    talk = Dialogue(
        channels=[
            ChannelInfo("/a", kind=ChannelKind.FUSEBLK, st_dev="7:0", minor=45),
            ChannelInfo("/b", kind=ChannelKind.DEV_FUSE, minor=45),
            ChannelInfo("/silent", minor=45),
        ]
    )
    talk.syncfs(channel=0)
    talk.talk(GETATTR, channel=1)
    report = report_of(talk, tmp_path)
    assert [(one.info.name, len(one.submounts[0].requests)) for one in report.channels] == [("/a", 1), ("/b", 0)]
    assert report.channels[0].submounts[0].st_dev == "7:0"


def test_a_submount_has_the_device_that_the_kernel_told_of_its_syncfs(talk: Dialogue, tmp_path: Path) -> None:
    talk.lookup(1, b"sub", 5, submount=True)
    talk.syncfs(5, bridge=BridgeKind.EBPF, desc_head=47)
    talk.talk(GETATTR, 5, bridge=BridgeKind.EBPF, desc_head=8 << 20 | 1)
    assert [one.st_dev for one in report_of(talk, tmp_path).channels[0].submounts][1:] == ["0:47"]


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (ChannelInfo("/m", kind=ChannelKind.DEV_FUSE, fstype="fuse.sshfs"), "a plain fuse mount never sends SYNCFS: "),
        (ChannelInfo("/m", kind=ChannelKind.DEV_FUSE), "its mount is not known; a plain fuse mount never sends SYNCFS"),
        (ChannelInfo("/m", kind=ChannelKind.CUSE), "a CUSE character device has no superblock"),
        (ChannelInfo("/m", kind=ChannelKind.FUSEBLK, read_only=True), "mounted read-only"),
        (
            ChannelInfo("/m", kind=ChannelKind.FUSEBLK, kernel="6.12.1-x"),
            "Linux 6.12.1-x sends none to fuseblk: that began with 6.18",
        ),
        (ChannelInfo("/m", kind=ChannelKind.VIRTIOFS, kernel="5.10.0"), "that began with 5.14"),
        (ChannelInfo("/m", kind=ChannelKind.FUSEBLK, kernel="6.18.44"), "nobody called sync(2) or syncfs(2)"),
        (ChannelInfo("/m", kind=ChannelKind.UNKNOWN), "nobody called sync(2) or syncfs(2)"),
    ],
    ids=["fuse", "unknown-mount", "cuse", "read-only", "old-fuseblk", "old-virtiofs", "fuseblk", "unknown"],
)
def test_why_there_is_none_is_said(info: ChannelInfo, reason: str, tmp_path: Path) -> None:
    talk = Dialogue(channels=[info])
    talk.talk(GETATTR)
    report = report_of(talk, tmp_path)
    assert any(reason in sentence for sentence in report.channels[0].reasons)
    assert f"no SYNCFS: {report.channels[0].reasons[0]}" in text(report)
    assert text(report).endswith("No SYNCFS in this trace.")
    assert not report.has_finding


@pytest.mark.parametrize(("minor", "reasons"), [(33, 1), (34, 0)])
def test_a_kernel_that_speaks_an_older_minor_knows_no_syncfs(
    talk: Dialogue, tmp_path: Path, minor: int, reasons: int
) -> None:
    talk.init(minor, server_minor=45)
    reason = f"the kernel speaks 7.{minor}: SYNCFS came with 7.34 (Linux 5.14)"
    assert report_of(talk, tmp_path).channels[0].reasons.count(reason) == reasons


def test_an_unmount_is_named_as_a_reason(talk: Dialogue, tmp_path: Path) -> None:
    talk.talk(DESTROY)
    (reason,) = report_of(talk, tmp_path).channels[0].reasons
    assert reason == "the mount was unmounted: an unmount sends DESTROY, never SYNCFS"


def test_what_is_sent_destroy_is_no_plain_fuse_mount_whatever_the_bridge_guessed(tmp_path: Path) -> None:
    """A mount that is gone before the bridge looks it up counts as plain fuse."""
    talk = Dialogue(channels=[ChannelInfo("fd 4 of pid 7", kind=ChannelKind.DEV_FUSE)])
    talk.talk(DESTROY)
    (reason,) = report_of(talk, tmp_path).channels[0].reasons
    assert reason == "the mount was unmounted: an unmount sends DESTROY, never SYNCFS"


def test_no_reason_is_given_where_there_was_one(talk: Dialogue, tmp_path: Path) -> None:
    talk.syncfs()
    talk.talk(DESTROY)
    assert report_of(talk, tmp_path).channels[0].reasons == []


def test_an_empty_trace_has_a_report(tmp_path: Path) -> None:
    report = report_of(Dialogue(channels=[]), tmp_path)
    assert text(report) == "The trace holds no FUSE message."
    assert sync_json(report) == {"syncfs_count": 0, "finding": False, "channels": []}


def test_a_reply_to_syncfs_without_its_request_is_no_syncfs(talk: Dialogue, tmp_path: Path) -> None:
    talk.answer(4711)
    assert report_of(talk, tmp_path).requests == []


def test_a_trace_that_grows_is_reported_as_it_stands(talk: Dialogue, tmp_path: Path) -> None:
    unique = talk.ask(SYNCFS, 1, bytes(8))
    before = report_of(talk, tmp_path)
    talk.answer(unique)
    after = report_of(talk, tmp_path)
    assert (before.has_finding, after.has_finding) == (True, False)


# ---- the whole report, once as text and once as JSON ----


def everything() -> Dialogue:
    talk = Dialogue(
        channels=[
            ChannelInfo(
                "virtiofs tag \x1b[31mhome\udcff",
                kind=ChannelKind.VIRTIOFS,
                fstype="virtiofs",
                kernel="6.18.1",
                server_command="virtiofsd --tag home",
                st_dev="0:45",
                minor=45,
            ),
            ChannelInfo("/mnt/photos", kind=ChannelKind.DEV_FUSE, fstype="fuse.sshfs", minor=31),
            ChannelInfo("/mnt/disk", kind=ChannelKind.FUSEBLK, fstype="fuseblk", minor=45),
        ]
    )
    talk.init()
    talk.lookup(1, b"mnt1\x1b[2J", 5, submount=True)
    talk.lookup(1, b"mnt2", 6, submount=True)
    talk.lookup(5, b"file", 7)
    talk.write(7, 131072)
    talk.talk(GETATTR, 6)
    slow = talk.ask(WRITE, 7, talk.write_body(100))
    talk.syncfs(1)
    talk.syncfs(5, comm=b"sy\nnc")
    talk.answer(slow, talk.pack("II", 100, 0))
    talk.syncfs(1, error=EIO, pid=9, comm=b"")
    talk.ask(SYNCFS, 1, bytes(8), pid=0, comm=b"")
    talk.talk(GETATTR, channel=1)
    talk.write(1, 5, channel=2)
    talk.syncfs(error=ENOSYS, channel=2)
    return talk


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize("form", ["txt", "json", "ansi"])
def test_the_whole_report_is_as_it_was_approved(form: str, tmp_path: Path) -> None:
    report = report_of(everything(), tmp_path)
    if form == "json":
        found = json.dumps(sync_json(report), indent=2, ensure_ascii=False) + "\n"
    else:
        found = "\n".join(sync_lines(report, Painter(form == "ansi"))) + "\n"
    path = GOLDEN / f"sync.{form}"
    if os.environ.get("FUSEWIRE_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert found == path.read_text()


def test_times_that_are_unknown_are_not_shown_as_times(tmp_path: Path) -> None:
    talk = Dialogue(channels=[ChannelInfo("/m", clock="none", minor=45)], t_ns=0)
    talk.syncfs(flags=RecordFlag.TIME_UNKNOWN)
    report = report_of(talk, tmp_path)
    assert only(report).latency_ns is None
    assert "SYNCFS #1000 by sync[812]: answered in -," in text(report)
