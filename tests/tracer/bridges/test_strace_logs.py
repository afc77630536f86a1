"""Real logs of real servers: what README.md says of each is what an import gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tracer.bridges.collecting import LOGS, Collected, import_log, missing_uniques, opcode, orphans, unique
from tracer.records import BridgeKind, ChannelKind, Direction, RecordFlag

ODD_NAMES = (b"bad\xffname\n\x01", b'quote"back\\slash')
_ROW = re.compile(r"\| (\S+\.strace) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| .+ \|")
EXPECTED = {
    row[1]: tuple(int(row[n]) for n in range(2, 7))
    for row in map(_ROW.fullmatch, (LOGS / "README.md").read_text().splitlines())
    if row
}
LOSSY = {"fuse-overlayfs-splice-hidden.strace"}
WHOLE = [name for name in EXPECTED if EXPECTED[name][3] == 0]
OF_BINDFS = [name for name in EXPECTED if name.startswith("bindfs-") and name != "bindfs-killed.strace"]


@pytest.fixture(scope="module", params=EXPECTED)
def imported(request: pytest.FixtureRequest) -> tuple[str, Collected]:
    return request.param, import_log(LOGS / request.param)


def test_every_log_here_is_described() -> None:
    assert {path.name.split(".strace")[0] for path in LOGS.glob("*.strace*")} == {
        name.removesuffix(".strace") for name in EXPECTED
    }


def test_a_log_gives_what_its_description_states(imported: tuple[str, Collected]) -> None:
    name, collected = imported
    channels, requests, replies, lost, gaps = EXPECTED[name]
    assert len(collected.channels) == channels
    assert (len(collected.requests), len(collected.replies)) == (requests, replies)
    assert collected.bytes_lost == collected.stats.bytes_lost == lost
    assert len(collected.gaps) == collected.stats.gaps == gaps
    assert collected.stats.messages == requests + replies
    assert collected.stats.unparsed_lines == 0


def test_every_message_has_the_length_its_own_header_states(imported: tuple[str, Collected]) -> None:
    _, collected = imported
    for record in collected.all:
        if not record.flags & RecordFlag.REJECTED:
            assert int.from_bytes(record.data[:4], "little") == record.wire_len


def test_no_reply_comes_before_its_request(imported: tuple[str, Collected]) -> None:
    name, collected = imported
    assert orphans(collected) == []
    assert all(missing_uniques(collected, channel) == [] for channel in range(len(collected.channels))), name


def test_records_say_that_they_were_imported(imported: tuple[str, Collected]) -> None:
    _, collected = imported
    assert {record.bridge for record in collected.all} == {BridgeKind.IMPORT}
    assert {info.kind for info in collected.channels} == {ChannelKind.DEV_FUSE}


@pytest.mark.parametrize("name", [name for name in WHOLE if name.startswith("bindfs-") and "killed" not in name])
def test_names_with_quotes_backslashes_and_control_bytes_come_through_every_form(name: str) -> None:
    listing = b"".join(record.data for record in import_log(LOGS / name).replies)
    assert all(odd in listing for odd in ODD_NAMES)


@pytest.mark.parametrize("name", OF_BINDFS)
def test_the_same_work_gives_the_same_messages_whatever_the_flags(name: str) -> None:
    """The best log and another one agree, request by request, in all that does not change from run to run."""
    best, other = import_log(LOGS / "bindfs-best.strace"), import_log(LOGS / name)
    assert [opcode(r) for r in _in_order(other)][:40] == [opcode(r) for r in _in_order(best)][:40]
    assert [r.wire_len for r in _in_order(other)][:40] == [r.wire_len for r in _in_order(best)][:40]


def _in_order(collected: Collected) -> list:
    """Requests as the kernel numbered them: with several threads, they are not read in that order."""
    return sorted(collected.requests, key=unique)


def test_refused_replies_keep_their_bytes_and_say_why() -> None:
    collected = import_log(LOGS / "10-raw-failed-writes.strace")
    refused = [record for record in collected.replies if record.flags & RecordFlag.REJECTED]
    assert [record.result for record in refused] == [-22, -2, -22]
    assert [int.from_bytes(record.data[:4], "little") for record in refused] == [99, 16, 16]
    assert [record.wire_len for record in refused] == [16, 16, 16]


def test_two_mounts_of_one_process_are_kept_apart() -> None:
    collected = import_log(LOGS / "9-raw-two-mounts-one-process.strace")
    for channel in (0, 1):
        requests = [record for record in collected.requests if record.channel == channel]
        assert [opcode(record) for record in requests].count(26) == 1
        assert sorted(map(unique, requests)) == list(range(2, 18, 2))
    assert [info.name for info in collected.channels] == ["fd 3 of thread 2773", "fd 4 of thread 2774"]


def test_two_servers_with_the_same_descriptor_are_kept_apart() -> None:
    collected = import_log(LOGS / "two-servers-one-strace.strace")
    by_channel = [{record.server_tid for record in collected.all if record.channel == channel} for channel in (0, 1)]
    assert [len(tids) for tids in by_channel] == [1, 1]
    assert by_channel[0] != by_channel[1]


def test_descriptors_of_one_connection_are_one_channel() -> None:
    log = LOGS / "2-passthrough_ll-daemon-clonefd-mt-unfinished.strace"
    assert len({match[0] for match in re.findall(rb"read\((\d+)</dev/fuse()", log.read_bytes())}) > 1
    assert len(import_log(log).channels) == 1


def test_a_spliced_message_keeps_its_head_and_the_exact_length_of_the_rest() -> None:
    collected = import_log(LOGS / "4-libfuse3-splice-pipes.strace")
    cut = [record for record in collected.all if len(record.data) < record.wire_len]
    assert {(record.direction, len(record.data), record.wire_len) for record in cut} == {
        (Direction.TO_KERNEL, 16, 12016),
        (Direction.TO_SERVER, 80, 12080),
    }
    assert all(record.flags & RecordFlag.SPLICED for record in cut)


def test_a_hidden_pipe_is_a_gap_that_names_the_reason() -> None:
    collected = import_log(LOGS / "fuse-overlayfs-splice-hidden.strace")
    assert collected.gaps[0].count == 1
    assert collected.gaps[0].channel == 0
    assert "splice" in collected.gaps[0].reason


def test_a_log_that_shows_the_mount_gives_the_channel_its_name() -> None:
    (info,) = import_log(LOGS / "bindfs-everything-tt.strace").channels
    assert (info.name, info.mount_point, info.fstype) == ("/srv/lab/mnt", "/srv/lab/mnt", "fuse")
    assert info.server_command == "bindfs -f src mnt"
    assert info.snap_bytes == 32


def test_a_log_without_times_only_orders_its_records() -> None:
    collected = import_log(LOGS / "bindfs-threads-no-y-no-time.strace")
    assert collected.channels[0].clock == "none"
    assert all(record.flags & RecordFlag.TIME_UNKNOWN for record in collected.all)
    assert all(record.flags & RecordFlag.CHANNEL_GUESSED for record in collected.all)
    assert [record.t_ns for record in collected.all] == sorted({record.t_ns for record in collected.all})


def test_requests_are_dated_when_they_arrived_not_when_the_server_began_to_wait() -> None:
    """The client's first call came long after the server went idle: latencies stay far below that wait."""
    for name in ("bindfs-best.strace", "bindfs-everything-tt.strace", "bindfs-relative.strace", "bindfs-ff.strace"):
        collected = import_log(LOGS / name)
        asked = {unique(record): record.t_ns for record in collected.requests}
        latencies = [record.t_ns - asked[unique(record)] for record in collected.replies if unique(record)]
        assert max(latencies) < 30_000_000, name
        assert min(latencies) >= 0


def test_what_a_log_lacks_is_said_in_its_channel() -> None:
    notes = {name: " ".join(import_log(LOGS / name).channels[0].notes) for name in OF_BINDFS}
    assert notes["bindfs-best.strace"] == ""
    assert "no times" in notes["bindfs-ff-no-time.strace"]
    assert "without a date" in notes["bindfs-dump-s0.strace"]
    assert "no durations" in notes["bindfs-one-thread-no-pid.strace"]
    assert "relative" in notes["bindfs-relative.strace"]
    assert "does not name descriptors" in notes["bindfs-dump-no-y.strace"]


def test_a_log_may_be_read_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(LOGS / "squashfuse.strace") as log:
        monkeypatch.setattr("sys.stdin", log)
        assert len(import_log(Path("-")).all) == 64
