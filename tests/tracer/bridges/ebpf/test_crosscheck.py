"""What eBPF records is what strace records of the same workload, what servers witnessed, and what is on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from examples.demo import mounts, possible
from tests.conftest import MakeServer
from tests.servers import workload
from tests.servers.base import Server
from tests.servers.memfs import Memfs
from tests.servers.memory import Memory
from tests.servers.real import Bindfs, PassthroughLl, Squashfuse
from tests.servers.splicing import Splicing
from tests.tracer.bridges.ebpf import recorded, transfers
from tests.tracer.bridges.ebpf.recorded import LIVE, Recording
from tracer.bridges.strace import StraceBridge
from tracer.records import RawRecord, RecordFlag

pytestmark = LIVE

LONG_BYTES = 6_800_000
STRACE = pytest.mark.skipif(
    possible.why_no_program("strace", "strace") is not None, reason=str(possible.why_no_program("strace", "strace"))
)


@contextmanager
def overheard_twice(server: Server) -> Iterator[tuple[Recording, Recording]]:
    """Start a server under strace, while eBPF records the whole host; unmount it in the end."""
    server.mount_point.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        ebpf = stack.enter_context(recorded.recording())
        bridge = StraceBridge(server_argv=server.command(server.mount_point), snap_bytes=0)
        strace = stack.enter_context(recorded.at_work(bridge))
        stack.callback(mounts.unmount, server.mount_point)
        mounts.wait_mounted(server.mount_point)
        yield ebpf, strace


def transfer(mount_point: Path, source: Path) -> tuple[bytes, bool]:
    """Write and read a long file each way; return it, and whether it could be written with O_DIRECT."""
    source.write_bytes(os.urandom(LONG_BYTES))
    ended = mounts.run_child([sys.executable, transfers.__file__, mount_point / "long.bin", source], 60)
    assert ended.status == 0, ended.output
    assert ended.output in (b"same\n", b"same, no direct writes\n")
    return source.read_bytes(), ended.output == b"same\n"


def node_of(records: list[RawRecord], name: bytes) -> int:
    """Return the node that CREATE made of a name in the root."""
    for request in recorded.requests_of(records, 35):
        if request.data[recorded.HEADER_IN + 16 :] == name + b"\0":
            reply = recorded.reply_to(records, request)
            assert reply is not None
            return int.from_bytes(reply.data[16:24], "little")
    raise AssertionError(f"no CREATE of {name!r}")


def check_transfer(records: list[RawRecord], content: bytes, is_direct: bool) -> None:
    """Files put together from READs and from WRITEs are those on disk."""
    plain = node_of(records, b"long.bin")
    assert recorded.written(records, plain) == recorded.read_back(records, plain) == content
    if is_direct:
        direct = node_of(records, b"long.bin.direct")
        blocks = content[: len(content) // 4096 * 4096]
        assert recorded.written(records, direct) == recorded.read_back(records, direct) == blocks


@STRACE
@pytest.mark.parametrize("kind", [Bindfs, PassthroughLl, Memory], ids=lambda kind: kind.name)
def test_both_bridges_record_the_same_messages_of_one_workload(
    kind: type[Server], make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(kind)
    with overheard_twice(server) as (ebpf, strace):
        workload.run(server.mount_point, "mixed")
        workload.run(server.mount_point, "parallel")
        content, is_direct = transfer(server.mount_point, tmp_path / "long")
        assert mounts.unmount(server.mount_point)
        by_strace = strace.wait()
        collected = ebpf.end()
    records = recorded.of_channel(collected, server.mount_point)
    recorded.check_whole(collected, records)
    others = recorded.of_channel(by_strace, server.mount_point)
    # file data that libfuse 3 splices passes through no buffer of the server
    hidden = {recorded.unique(record) for record in others if len(record.data) < record.wire_len}
    assert all(record.flags & RecordFlag.SPLICED for record in others if len(record.data) < record.wire_len)
    ours = [record for record in records if recorded.unique(record) not in hidden]
    theirs = [record for record in others if recorded.unique(record) not in hidden]
    recorded.check_same(recorded.both_ways(ours), recorded.both_ways(theirs))
    assert recorded.by_unique(ours) == recorded.by_unique(theirs)
    lengths = sorted((record.direction, recorded.unique(record), record.wire_len) for record in others)
    assert sorted((r.direction, recorded.unique(r), r.wire_len) for r in recorded.messages(records)) == lengths
    check_transfer(records, content, is_direct)


@pytest.mark.parametrize("kind", [Memfs, Memory], ids=lambda kind: kind.name)
def test_every_message_is_that_of_the_servers_journal(kind: type[Server], make_server: MakeServer) -> None:
    server = make_server(kind, **({"with_journal": True} if kind is Memory else {}))
    with recorded.recording() as capture:
        with server.started() as running:
            workload.run(running.mount_point, "mixed")
            workload.run(running.mount_point, "parallel")
            assert running.unmount()
            running.wait()
        collected = capture.end()
    records = recorded.of_channel(collected, server.mount_point)
    recorded.check_whole(collected, records)
    recorded.check_witnessed(records, server.witnessed())


def test_what_a_server_splices_is_recorded_whole(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(Splicing)
    with recorded.recording() as capture:
        with server.started() as running:
            workload.run(running.mount_point, "mixed")
            content, is_direct = transfer(running.mount_point, tmp_path / "long")
            assert running.unmount()
            running.wait()
        collected = capture.end()
    records = recorded.of_channel(collected, server.mount_point)
    recorded.check_whole(collected, records)
    check_transfer(records, content, is_direct)
    assert (server.source / "long.bin").read_bytes() == content
    assert not any(record.flags & RecordFlag.SPLICED for record in recorded.requests_of(records, recorded.WRITE))


def test_a_file_of_an_image_is_read_as_it_was_packed(make_server: MakeServer) -> None:
    server = make_server(Squashfuse)
    content = os.urandom(LONG_BYTES)
    (server.seeded() / "packed.bin").write_bytes(content)
    with recorded.recording() as capture:
        with server.started() as running:
            path = running.mount_point / "packed.bin"
            node = path.stat().st_ino
            ended = mounts.run_child(["cmp", path, server.source / "packed.bin"], 30)
            assert ended.status == 0, ended.output
            workload.run(running.mount_point, "reading")
            assert running.unmount()
            running.wait()
        collected = capture.end()
    records = recorded.of_channel(collected, server.mount_point)
    recorded.check_whole(collected, records)
    (looked_up,) = [r for r in recorded.requests_of(records, recorded.LOOKUP) if r.data[40:] == b"packed.bin\0"]
    reply = recorded.reply_to(records, looked_up)
    assert reply is not None
    assert int.from_bytes(reply.data[16 + 40 : 16 + 48], "little") == node  # attr.ino
    assert recorded.read_back(records, int.from_bytes(reply.data[16:24], "little")) == content
