"""The project's own server: it does what its options say, and this is what the kernel sends it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
import threading
from collections import Counter

import pytest

from examples.demo import mounts
from tests.conftest import MakeServer
from tests.servers import syncing, workload
from tests.servers.memfs import Memfs, MemfsBlk, Witnessed

pytestmark = [pytest.mark.e2e, pytest.mark.root]

LOOKUP, WRITE, STATFS, INIT, DESTROY, READDIRPLUS, SYNCFS = 1, 16, 17, 26, 38, 44, 50
FORGET, INTERRUPT, NOTIFY_REPLY, BATCH_FORGET = 2, 36, 41, 42
WITHOUT_REPLY = {FORGET, INTERRUPT, NOTIFY_REPLY, BATCH_FORGET}
OPCODES = {
    "SETATTR": 4, "SYMLINK": 6, "MKDIR": 9, "UNLINK": 10, "RMDIR": 11, "RENAME": 12, "LINK": 13,
    "FSYNC": 20, "SETXATTR": 21, "REMOVEXATTR": 24, "CREATE": 35,
}  # fmt: skip
ENTRY_ATTR_FLAGS_AT = 16 + 40 + 84  # out header, entry_out up to attr, attr up to flags


def own_syncfs(server: Memfs, pid: int) -> list[Witnessed]:
    """Leave out what somebody else's sync(2) sent."""
    return [request for request in server.requests(SYNCFS) if request.pid == pid]


@pytest.mark.parametrize("way", [syncing.sync_file_system, syncing.remount_read_only], ids=["syncfs", "remount"])
def test_fuseblk_is_sent_one_syncfs_for_the_root_with_the_callers_pid(memfs_fuseblk: MemfsBlk, way) -> None:
    with memfs_fuseblk.started() as running:
        ended = way(running.mount_point)
    assert ended.status == 0
    assert [(m.nodeid, len(m.data), m.data[40:]) for m in own_syncfs(memfs_fuseblk, ended.pid)] == [(1, 48, bytes(8))]


def test_sync_of_everything_sends_one_syncfs(memfs_fuseblk: MemfsBlk) -> None:
    with memfs_fuseblk.started():
        ended = syncing.sync_everything()
    assert len(own_syncfs(memfs_fuseblk, ended.pid)) == 1


def test_no_syncfs_while_read_only_nor_at_unmount_which_sends_destroy(memfs_fuseblk: MemfsBlk) -> None:
    with memfs_fuseblk.started() as running:
        assert syncing.remount_read_only(running.mount_point).status == 0
        assert mounts.fuse_mount_at(running.mount_point).read_only
        quiet = syncing.sync_file_system(running.mount_point)
        assert syncing.remount_read_write(running.mount_point).status == 0
        asked = syncing.sync_file_system(running.mount_point)
    assert len(own_syncfs(memfs_fuseblk, quiet.pid)) == 0
    assert len(own_syncfs(memfs_fuseblk, asked.pid)) == 1
    assert own_syncfs(memfs_fuseblk, 0) == []
    assert memfs_fuseblk.requests()[-1].opcode == DESTROY


def test_plain_fuse_is_never_sent_syncfs_nor_destroy(memfs: Memfs) -> None:
    with memfs.started() as running:
        assert syncing.sync_file_system(running.mount_point).status == 0
        syncing.sync_everything()
        assert syncing.remount_read_only(running.mount_point).status == 0
    assert {SYNCFS, DESTROY} & {m.opcode for m in memfs.requests()} == set()


def test_a_server_that_answers_enosys_is_not_asked_again_and_sync_succeeds(memfs_fuseblk: MemfsBlk) -> None:
    memfs_fuseblk.options = ["--syncfs", "enosys"]
    with memfs_fuseblk.started() as running:
        assert [syncing.sync_file_system(running.mount_point).status for _ in range(3)] == [0, 0, 0]
    (request,) = memfs_fuseblk.requests(SYNCFS)
    assert memfs_fuseblk.reply_to(request).error == -errno.ENOSYS


def test_an_error_reaches_the_caller_and_the_server_is_asked_again(memfs_fuseblk: MemfsBlk) -> None:
    memfs_fuseblk.options = ["--syncfs", "eio"]
    with memfs_fuseblk.started() as running:
        ended = [syncing.sync_file_system(running.mount_point) for _ in range(2)]
    assert [(e.status, b"Input/output error" in e.output) for e in ended] == [(1, True), (1, True)]
    assert all(len(own_syncfs(memfs_fuseblk, e.pid)) == 1 for e in ended)


def test_a_delayed_answer_takes_as_long_as_it_was_told(memfs_fuseblk: MemfsBlk) -> None:
    memfs_fuseblk.options = ["--syncfs", "0.2"]
    with memfs_fuseblk.started() as running:
        ended = syncing.sync_file_system(running.mount_point)
    (request,) = own_syncfs(memfs_fuseblk, ended.pid)
    assert memfs_fuseblk.reply_to(request).t_ns - request.t_ns >= 200_000_000


def test_an_answer_that_never_comes_hangs_the_caller_until_the_connection_is_aborted(
    memfs_fuseblk: MemfsBlk,
) -> None:
    memfs_fuseblk.options = ["--syncfs", "never"]
    with memfs_fuseblk.started() as running:
        ended = syncing.sync_file_system(running.mount_point, timeout_s=0.5)
        assert ended.status is None
        assert running.unmount(timeout_s=0.5) is False
        assert running.wait() == 0
    (request,) = own_syncfs(memfs_fuseblk, ended.pid)
    assert memfs_fuseblk.reply_to(request) is None


def test_written_back_pages_are_answered_before_syncfs_is_sent(memfs_fuseblk: MemfsBlk) -> None:
    memfs_fuseblk.options = ["--writeback-cache", "--write-delay", "0.2"]
    with memfs_fuseblk.started() as running:
        path = running.mount_point / "hello.txt"
        written = mounts.run_child(["sh", "-c", 'echo dirty >"$0"', path], 10)
        ended = syncing.sync_file_system(path)
    assert (written.status, ended.status) == (0, 0)
    (request,) = own_syncfs(memfs_fuseblk, ended.pid)
    writes = memfs_fuseblk.requests(WRITE)
    assert writes
    assert all(memfs_fuseblk.reply_to(write).t_ns < request.t_ns for write in writes)


def test_a_held_back_write_does_not_hold_up_others(memfs: Memfs) -> None:
    memfs.options = ["--write-delay", "0.5"]
    with memfs.started() as running:
        argv = ["sh", "-c", 'echo slow >"$0"', running.mount_point / "hello.txt"]
        sent = threading.Event()
        writer = threading.Thread(target=mounts.run_child, args=(argv, 10, lambda _: sent.set()))
        writer.start()
        sent.wait(5)
        while not memfs.requests(WRITE):
            mounts.run_child(["stat", "-f", running.mount_point], 5)
        mounts.run_child(["stat", "-f", running.mount_point], 5)
        writer.join(10)
    (write,) = memfs.requests(WRITE)
    answered = memfs.reply_to(write).t_ns
    assert any(write.t_ns < m.t_ns and memfs.reply_to(m).t_ns < answered for m in memfs.requests(STATFS))


@pytest.mark.parametrize("kind", ["mixed", "parallel"])
@pytest.mark.parametrize("options", [(), ("--threads", "3", "--clone-fd")], ids=["one-thread", "three-clones"])
def test_the_tally_of_a_workload_is_what_the_server_was_asked(
    make_server: MakeServer, kind: str, options: tuple[str, ...]
) -> None:
    memfs = make_server(Memfs, options=options)
    with memfs.started() as running:
        tally = workload.run(running.mount_point, kind)
    seen = Counter(request.opcode for request in memfs.requests())
    assert tally.refused == {}
    assert {name: seen[OPCODES[name]] for name in tally.requests} == tally.requests
    assert sum(len(request.data) - 80 for request in memfs.requests(WRITE)) == tally.written_bytes


def test_every_request_is_answered_once_and_every_length_is_true(memfs: Memfs) -> None:
    with memfs.started() as running:
        workload.run(running.mount_point, "mixed")
        workload.run(running.mount_point, "stats")
    messages = memfs.witnessed()
    assert all(struct.unpack_from("=I", m.data)[0] == len(m.data) for m in messages)
    assert all(m.errno == 0 for m in messages)
    asked = Counter(m.unique for m in messages if m.to_server and m.opcode not in WITHOUT_REPLY)
    assert asked == Counter(m.unique for m in messages if not m.to_server)
    assert set(asked.values()) == {1}


def test_two_mounts_of_one_process_both_count_their_requests_from_two(make_server: MakeServer) -> None:
    memfs = make_server(Memfs, two=True)
    with memfs.started() as running:
        workload.run(running.mount_point, "reading")
        workload.run(memfs.second_mount_point, "reading")
        assert mounts.unmount(memfs.second_mount_point)
        workload.run(running.mount_point, "reading")
        assert running.unmount()
        assert running.wait() == 0
    first = [m for m in memfs.requests() if m.mount == 0]
    second = [m for m in memfs.requests() if m.mount == 1]
    assert (first[0].opcode, first[0].unique) == (INIT, 2)
    assert (second[0].opcode, second[0].unique) == (INIT, 2)
    assert len(first) > len(second)


@pytest.mark.parametrize("options", [(), ("--no-readdirplus",)], ids=["readdirplus", "lookup"])
def test_the_submount_is_marked_in_the_entries_that_name_it(make_server: MakeServer, options: tuple[str, ...]) -> None:
    memfs = make_server(Memfs, options=("--announce-submount", *options))
    with memfs.started() as running:
        assert mounts.run_child(["ls", "-la", running.mount_point / "mnt1"], 10).status == 0
        assert mounts.run_child(["ls", "-la", running.mount_point], 10).status == 0
    (lookup,) = (m for m in memfs.requests(LOOKUP) if m.data[40:] == b"mnt1\0")
    assert struct.unpack_from("=I", memfs.reply_to(lookup).data, ENTRY_ATTR_FLAGS_AT) == (1,)
    assert bool(memfs.requests(READDIRPLUS)) is not bool(options)


def test_sigusr1_sends_the_notifications_it_was_told(make_server: MakeServer) -> None:
    kinds = ("store", "retrieve", "inval-inode", "resend", "inc-epoch", "inval-entry", "delete")
    memfs = make_server(Memfs, options=[word for kind in kinds for word in ("--notify", kind)])
    with memfs.started() as running:
        workload.run(running.mount_point, "reading")
        memfs.notify(running)
        while len([m for m in memfs.witnessed() if m.unique == 0]) < len(kinds):
            mounts.run_child(["stat", "-f", running.mount_point], 5)
    sent = [(m.error, m.errno) for m in memfs.witnessed() if not m.to_server and m.unique == 0]
    not_cached = errno.ENOENT  # the kernel forgot the name one notification earlier
    assert sent == [(4, 0), (5, 0), (2, 0), (7, 0), (8, 0), (3, 0), (6, not_cached)]
    (retrieved,) = memfs.requests(NOTIFY_REPLY)
    assert retrieved.unique == 77
    assert retrieved.data.endswith(b"HELLO")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_it_and_ends_it_well(memfs_fuseblk: MemfsBlk, number: int) -> None:
    with memfs_fuseblk.started() as running:
        workload.run(running.mount_point, "reading")
        running.process.send_signal(number)
        assert running.wait() == 0
        assert mounts.fuse_mount_at(running.mount_point) is None


def test_it_ends_well_although_a_client_still_has_a_file_open(memfs: Memfs) -> None:
    with memfs.started() as running:
        fd = os.open(running.mount_point / "hello.txt", os.O_RDONLY)
        try:
            running.process.terminate()
            assert running.wait() == 0
            assert mounts.fuse_mount_at(running.mount_point) is None
        finally:
            with contextlib.suppress(OSError):  # ENOTCONN: there is nobody to FLUSH to
                os.close(fd)


def test_an_older_minor_gets_the_reply_of_its_time(memfs: Memfs) -> None:
    memfs.options = ["--minor", "22"]
    with memfs.started() as running:
        assert workload.run(running.mount_point).refused == {}
    (init,) = memfs.requests(INIT)
    assert len(memfs.reply_to(init).data) == 16 + 24


def test_writes_are_as_long_as_it_was_told(memfs: Memfs) -> None:
    memfs.options = ["--max-write", "65536"]
    with memfs.started() as running:
        workload.run(running.mount_point)
    assert max(len(m.data) for m in memfs.requests(WRITE)) == 80 + 65536


def test_a_mount_that_is_refused_is_told_in_one_line(memfs: Memfs) -> None:
    memfs.options = ["--type", "fuseblk", "--device", "/dev/no-such-device"]
    with (
        pytest.raises(mounts.MountError, match=r"status 2 .*it said: memfs: \[Errno 2\] No such file"),
        memfs.started(),
    ):
        pass
