"""Whose messages they are: fuseblk, several mounts at once, mounts in namespaces, numbers that are given again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from examples.demo import mounts
from tests.conftest import MakeServer
from tests.servers import disturb, syncing, workload
from tests.servers.memfs import MemfsBlk
from tests.servers.memory import Memory, RingMemory
from tests.servers.namespaced import Namespaced
from tests.tracer.bridges.ebpf import recorded
from tests.tracer.bridges.ebpf.recorded import LIVE, SYNCFS
from tracer.bridges.ebpf import Source
from tracer.records import ChannelKind, Direction

pytestmark = LIVE


def test_syncfs_of_a_block_device_is_recorded_with_who_asked(memfs_fuseblk: MemfsBlk) -> None:
    with recorded.recording() as capture:
        with memfs_fuseblk.started() as running:
            (running.mount_point / "new").write_bytes(b"12345")
            asked = [
                syncing.sync_file_system(running.mount_point),
                syncing.sync_everything(),
                syncing.remount_read_only(running.mount_point),
            ]
            assert running.unmount()
            running.wait()
        collected = capture.end()
    info = recorded.info_at(collected, running.mount_point)
    major, minor = map(int, running.mount.st_dev.split(":"))
    assert (info.kind, info.st_dev, info.connection) == (
        ChannelKind.FUSEBLK,
        running.mount.st_dev,
        major << 20 | minor,
    )
    records = recorded.of_channel(collected, running.mount_point)
    recorded.check_witnessed(records, memfs_fuseblk.witnessed())
    pids = [recorded.caller(record) for record in recorded.requests_of(records, SYNCFS)]
    assert [pid for pid in pids if pid in {ended.pid for ended in asked}] == [ended.pid for ended in asked]


def test_two_servers_at_work_at_once_are_two_channels_and_nothing_is_mixed(make_server: MakeServer) -> None:
    servers = [make_server(Memory, with_journal=True), make_server(RingMemory, with_journal=True)]
    with recorded.recording() as capture:
        with servers[0].started() as first, servers[1].started() as second:
            workload.run_at_once([first.mount_point, second.mount_point])
            assert first.unmount()
            assert second.unmount()
            first.wait(), second.wait()
        collected = capture.end()
    for server, running in zip(servers, (first, second), strict=True):
        records = recorded.of_channel(collected, server.mount_point)
        recorded.check_witnessed(records, server.witnessed())
        assert recorded.info_at(collected, server.mount_point).server_pid == running.pid
        assert {r.server_pid for r in records if r.direction is Direction.TO_KERNEL} == {running.pid}


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_mount_in_a_namespace_is_named_as_its_server_sees_it(when: str, make_server: MakeServer) -> None:
    server = make_server(Namespaced)
    server.inner.with_journal = True
    if when == "before":
        with server.started() as running, recorded.recording() as capture:
            workload.run(running.mount_point)
            collected = capture.end()
    else:
        with recorded.recording() as capture:
            with server.started() as running:
                workload.run(running.mount_point)
                assert running.unmount()
                running.wait()
            collected = capture.end()
    info = recorded.info_at(collected, server.mount_point)
    assert (info.server_pid, info.connection) == (
        running.server_pid,
        disturb.connection_number(running.mount.st_dev),
    )
    assert info.fstype == running.mount.fstype
    records = recorded.of_channel(collected, server.mount_point)
    witnessed = server.inner.witnessed()
    if when == "while":
        recorded.check_witnessed(records, witnessed)
    assert {r.server_pid for r in records if r.direction is Direction.TO_KERNEL} == {running.server_pid}
    # the header's pid is the caller's in the server's pid namespace: one from outside has none there
    assert {recorded.caller(r) for r in records if r.direction is Direction.TO_SERVER} == {0}
    assert {r.comm for r in recorded.requests_of(records, recorded.WRITE)} == {b"python"}


def test_a_number_that_is_given_again_is_another_channel(make_server: MakeServer) -> None:
    servers, numbers = [make_server(Memory, f"turn{turn}", with_journal=True) for turn in range(4)], []
    with recorded.recording() as capture:
        for server in servers:
            with server.started() as running:
                numbers.append(disturb.connection_number(running.mount.st_dev))
                (running.mount_point / "file").write_bytes(b"x")
                recorded.until(lambda: any_at(capture, running.mount_point), "it was met")
                assert running.unmount()
                running.wait()
        collected = capture.end()
    assert len(set(numbers)) < len(numbers), "the kernel gives the lowest number that is free"
    for number, server in zip(numbers, servers, strict=True):
        info = recorded.info_at(collected, server.mount_point)
        assert info.connection == number
        assert not [note for note in info.notes if "INIT was not seen" in note]
        recorded.check_witnessed(recorded.of_channel(collected, server.mount_point), server.witnessed())


def met_at(capture: recorded.Recording, mount_point: Path) -> int:
    return [info.mount_point for info in capture.sink.channels].count(str(mount_point))


def any_at(capture: recorded.Recording, mount_point: Path) -> bool:
    return met_at(capture, mount_point) > 0


def test_mounts_that_are_gone_before_anybody_looks_are_not_mixed_up(make_server: MakeServer) -> None:
    servers = [make_server(Memory, f"turn{turn}", with_journal=True) for turn in range(6)]
    with recorded.recording() as capture:
        for turn, server in enumerate(servers):
            with server.started() as running:
                (running.mount_point / f"file{turn}").write_bytes(b"x")
                assert running.unmount()
                running.wait()
        collected = capture.end()
    for turn, server in enumerate(servers):
        (number,) = {record.channel for record in collected.all if b"file%d\0" % turn in record.data}
        recorded.check_witnessed([r for r in collected.all if r.channel == number], server.witnessed())


def test_a_device_that_is_mounted_again_is_another_channel_of_the_same_number(memfs_fuseblk: MemfsBlk) -> None:
    with memfs_fuseblk.lent_device():
        command = memfs_fuseblk.command(memfs_fuseblk.mount_point)
        memfs_fuseblk.mount_point.mkdir()
        with recorded.recording() as capture:
            for turn in range(3):
                serve_once(command, memfs_fuseblk.mount_point, f"file{turn}", capture, turn + 1)
            collected = capture.end()
    channels = [n for n, info in enumerate(collected.channels) if info.mount_point == str(memfs_fuseblk.mount_point)]
    assert len(channels) == 3
    assert len({collected.channels[number].connection for number in channels}) == 1
    for turn, number in enumerate(channels):
        records = [record for record in collected.all if record.channel == number]
        assert len(recorded.requests_of(records, recorded.INIT)) == 1
        assert {name for name in (b"file0\0", b"file1\0", b"file2\0") if any(name in r.data for r in records)} == {
            f"file{turn}\0".encode()
        }


def serve_once(command: list[str], mount_point: Path, name: str, capture: recorded.Recording, channels: int) -> None:
    """Mount, make a file, wait until the capture met so many mounts there, unmount, and wait for the server's end."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            mounts.wait_mounted(mount_point, process)
            (mount_point / name).write_bytes(b"x")
            recorded.until(lambda: met_at(capture, mount_point) >= channels, "it was met")
        finally:
            mounts.unmount(mount_point)
            mounts.stop(process)


def test_a_recording_of_one_mount_ends_when_its_number_is_given_to_another(make_server: MakeServer) -> None:
    one, other = make_server(Memory, "one"), make_server(Memory, "other")
    with one.started() as first:
        number = disturb.connection_number(first.mount.st_dev)
        with recorded.recording(Source(mount=str(first.mount_point))) as capture:
            assert first.unmount()
            first.wait()
            with other.started() as second:
                again = disturb.connection_number(second.mount.st_dev)
                (second.mount_point / "not asked for").write_bytes(b"x")
                collected = capture.wait()
    assert [info.connection for info in collected.channels] == [number]
    if again == number:
        assert not [record for record in collected.all if b"not asked for" in record.data]
    assert os.fspath(first.mount_point) == collected.channels[0].mount_point
