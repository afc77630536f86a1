"""Notifications, interrupts and forgets, which have no request event: recorded as the server's journal has them."""

from __future__ import annotations

import errno
import os
import select
import struct
import threading
from collections import Counter
from pathlib import Path

import pytest

from examples.demo import mounts
from tests.conftest import MakeServer
from tests.servers import disturb, workload
from tests.servers.base import Running
from tests.servers.memory import (
    DELETE,
    INC_EPOCH,
    INVAL_ENTRY,
    INVAL_INODE,
    POLL,
    PRUNE,
    RESEND,
    RETRIEVE,
    STORE,
    Memory,
    RingMemory,
)
from tests.tracer.bridges.collecting import Collected, opcode
from tests.tracer.bridges.ebpf import recorded
from tests.tracer.bridges.ebpf.recorded import BATCH_FORGET, FORGET, INTERRUPT, LIVE, NOTIFY_REPLY, READ
from tracer.records import Direction, RawRecord, RecordFlag

pytestmark = LIVE

UNKNOWN_CODE = 99


def notify_every_kind(memory: Memory, running: Running) -> None:
    """Send each notification that there is, those the kernel takes and those it does not."""
    nodes = {name: (running.mount_point / name).stat().st_ino for name in ("hello.txt", "numbers.bin")}
    fd = os.open(running.mount_point / "hello.txt", os.O_RDONLY)
    try:
        os.pread(fd, 1, 0)
        assert memory.store(nodes["hello.txt"], 0, b"HELLO") == 0
        assert memory.retrieve(nodes["hello.txt"], 0, 10) == b"HELLO from"
        assert memory.inval_inode(nodes["hello.txt"]) == 0
    finally:
        os.close(fd)
    assert memory.inval_entry("hello.txt") == 0
    assert memory.inval_entry("nothing of this name") == errno.ENOENT
    assert memory.delete("numbers.bin", nodes["numbers.bin"]) == 0
    wake_a_poller(memory, running.mount_point / "pollable")
    assert memory.notify(RESEND) == 0
    memory.notify(INC_EPOCH)
    memory.notify(PRUNE, struct.pack("=IIQQ", 1, 0, 0, nodes["numbers.bin"]))
    assert memory.notify(UNKNOWN_CODE, b"whatever it means") == errno.EINVAL


def wake_a_poller(memory: Memory, path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poller = threading.Thread(target=poll.poll, args=[20_000])
    try:
        poller.start()
        assert memory.poll_wakeup() == 0
        poller.join(20)
    finally:
        os.close(fd)


def notifications(records: list[RawRecord]) -> list[RawRecord]:
    return [r for r in records if r.direction is Direction.TO_KERNEL and recorded.unique(r) == 0]


def code(notification: RawRecord) -> int:
    """A notification's code stands where a reply has its error."""
    return opcode(notification)


def record_and_end(memory: Memory, do: object, **options: object) -> tuple[Collected, list[RawRecord]]:
    """Record the server from its mounting to its end, while `do(memory, running)` happens."""
    with recorded.recording(**options) as capture:
        with memory.started() as running:
            do(memory, running)  # type: ignore[operator]
            assert running.unmount()
            running.wait()
        collected = capture.end()
    return collected, recorded.of_channel(collected, memory.mount_point)


@pytest.mark.parametrize("kind", [Memory, RingMemory], ids=lambda kind: kind.name)
def test_every_kind_is_recorded_and_the_refused_ones_say_why(kind: type[Memory], make_server: MakeServer) -> None:
    memory = make_server(kind, with_journal=True)
    collected, records = record_and_end(memory, notify_every_kind)
    recorded.check_whole(collected, records)
    witnessed = memory.witnessed()
    recorded.check_witnessed(records, witnessed)
    sent = [message for message in witnessed if not message.to_server and message.unique == 0]
    told = notifications(records)
    assert Counter((r.data, -r.result) for r in told) == Counter((m.data, m.errno) for m in sent)
    assert all(bool(record.flags & RecordFlag.REJECTED) is (record.result < 0) for record in told)
    every = {POLL, INVAL_INODE, INVAL_ENTRY, STORE, RETRIEVE, DELETE, RESEND, INC_EPOCH, PRUNE, UNKNOWN_CODE}
    assert {code(record) for record in told} == every
    assert {record.server_pid for record in told} == {recorded.info_at(collected, memory.mount_point).server_pid}


@pytest.mark.parametrize("kind", [Memory, RingMemory], ids=lambda kind: kind.name)
def test_a_notification_comes_before_what_it_causes(kind: type[Memory], make_server: MakeServer) -> None:
    def retrieve(memory: Memory, running: Running) -> None:
        fd = os.open(running.mount_point / "numbers.bin", os.O_RDONLY)
        os.pread(fd, 65536, 0)
        node = os.fstat(fd).st_ino
        for number in range(20):
            assert len(memory.retrieve(node, number * 100, 4096, notify_unique=1000 + number)) > 0
        os.close(fd)

    _, records = record_and_end(make_server(kind, with_journal=True), retrieve)
    dialogue = [
        (RETRIEVE, int.from_bytes(record.data[16:24], "little"))
        if record.direction is Direction.TO_KERNEL
        else (NOTIFY_REPLY, recorded.unique(record))
        for record in records
        if record in notifications(records)
        or (record.direction is Direction.TO_SERVER and opcode(record) == NOTIFY_REPLY)
    ]
    assert dialogue == [(kind, 1000 + number) for number in range(20) for kind in (RETRIEVE, NOTIFY_REPLY)]


@pytest.mark.parametrize("kind", [Memory, RingMemory], ids=lambda kind: kind.name)
def test_an_interrupt_names_the_request_it_is_about(
    kind: type[Memory], make_server: MakeServer, tmp_path: Path
) -> None:
    def interrupt(memory: Memory, running: Running) -> None:
        with disturb.waiting_reader(running.mount_point / "held") as reader:
            memory.await_held(1)
            reader.interrupt()
            assert reader.outcome() == "EINTR"

    memory = make_server(kind, with_journal=True)
    collected, records = record_and_end(memory, interrupt)
    recorded.check_witnessed(records, memory.witnessed())
    (read,) = recorded.requests_of(records, READ)
    (interrupted,) = recorded.requests_of(records, INTERRUPT)
    assert interrupted.data[recorded.HEADER_IN :] == read.data[8:16]
    reply = recorded.reply_to(records, read)
    assert reply is not None
    assert [read, interrupted, reply] == [record for record in records if record in (read, interrupted, reply)]
    trace = recorded.trace_of(collected, tmp_path / "t.pcapng")
    (exchange,) = recorded.exchanges_of(trace, memory.mount_point, "READ")
    assert exchange.state.name == "INTERRUPTED"


def test_forgets_are_recorded_one_by_one_and_in_batches_with_their_counts(memory: Memory) -> None:
    def forget(memory: Memory, running: Running) -> None:
        directory = running.mount_point / "many"
        directory.mkdir()
        for number in range(50):
            (directory / str(number)).write_bytes(b"x")
        (running.mount_point / "hello.txt").stat()
        assert memory.inval_entry("hello.txt") == 0
        memory.await_request(FORGET)
        assert memory.inval_entry("many") == 0  # all that is below is forgotten at once, while the server writes this
        memory.await_request(BATCH_FORGET)

    _, records = record_and_end(memory, forget)
    told = Counter(r.data for code in (FORGET, BATCH_FORGET) for r in recorded.requests_of(records, code))
    sent = Counter(m.data for m in memory.witnessed() if m.to_server and m.opcode in (FORGET, BATCH_FORGET))
    assert told == sent
    assert recorded.requests_of(records, FORGET)
    (batch, *_) = recorded.requests_of(records, BATCH_FORGET)
    assert struct.unpack_from("<I", batch.data, recorded.HEADER_IN)[0] >= 2


def test_without_system_calls_they_are_missing_and_the_channel_says_so(memory: Memory) -> None:
    collected, records = record_and_end(memory, notify_every_kind, syscalls=False)
    assert notifications(records) == []
    assert {opcode(r) for r in records if r.direction is Direction.TO_SERVER} & {
        FORGET,
        BATCH_FORGET,
        INTERRUPT,
    } == set()
    notes = recorded.info_at(collected, memory.mount_point).notes
    assert [note for note in notes if "FORGET, INTERRUPT and notifications are not seen" in note]
    seen = [m for m in memory.witnessed() if (m.opcode not in (FORGET, BATCH_FORGET) if m.to_server else m.unique)]
    recorded.check_witnessed(records, seen)


def test_over_io_uring_every_message_is_recorded_and_says_its_queue(make_server: MakeServer) -> None:
    def work(_: Memory, running: Running) -> None:
        workload.run(running.mount_point, "mixed")
        workload.run(running.mount_point, "parallel")
        for cpu in processors:  # each has a queue of its own
            assert mounts.run_child(["taskset", "-c", str(cpu), "ls", running.mount_point], 10).status == 0

    processors = os.sched_getaffinity(0)
    memory = make_server(RingMemory, with_journal=True)
    collected, records = record_and_end(memory, work)
    recorded.check_whole(collected, records)
    recorded.check_witnessed(records, memory.witnessed())
    queues = {record.queue for record in records if record.direction is Direction.TO_KERNEL}
    assert queues == processors
