"""The tap between QEMU and virtiofsd: all that a guest asks of its virtiofs device, and every answer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.servers.base import seed
from tests.tracer.bridges.collecting import Collected, opcode, orphans, unique
from tests.vm import virtiofsd
from tests.vm.conftest import NAMES, TAG, kernel_or_skip
from tests.vm.guest import Guest
from tracer.bridges.vhost_user import VhostUserBridge
from tracer.records import BridgeKind, ChannelKind

pytestmark = pytest.mark.vm

FORGET, READ, WRITE, DESTROY, SYNCFS, INIT = 2, 15, 16, 38, 50, 26
IN_HEADER, OUT_HEADER, WRITE_IN = 40, 16, 40
LARGE_BYTES = 3 << 20
SERVED = re.compile(rb"unique: (\d+), opcode: (\w+)")
END_S = 30.0


@dataclass
class Tapped:
    """What a guest did is over: the capture, the bridge, and the daemon's own word on it."""

    collected: Collected
    bridge: VhostUserBridge
    daemon_log: bytes
    notes: list[str]
    content: bytes  # of the file that was read


@contextlib.contextmanager
def tapping(bridge: VhostUserBridge, collected: Collected) -> Iterator[None]:
    stop, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            bridge.run(collected, stop)
        except BaseException as error:
            failures.append(error)
            bridge.listening.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert bridge.listening.wait(END_S)
        assert not failures, failures
        yield
    finally:
        thread.join(END_S)  # it ends with QEMU
        stop.set()
        thread.join(END_S)
    assert not failures, failures


@pytest.fixture(scope="module", params=NAMES)
def tapped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tapped:
    kernel = kernel_or_skip(request.param)
    if (reason := virtiofsd.why_not()) is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp(f"tap-{request.param}")
    shared, notes, collected = directory / "shared", list[str](), Collected()
    seed(shared)
    content = os.urandom(LARGE_BYTES)
    (shared / "large.bin").write_bytes(content)
    with virtiofsd.serving(shared) as daemon:
        listen = daemon.with_name("tap")
        bridge = VhostUserBridge(listen, daemon, on_note=notes.append)
        with tapping(bridge, collected), Guest(kernel, directory, virtiofs={TAG: listen}) as guest:
            script = (
                f"mkdir -p /mnt/v && mount -t virtiofs {TAG} /mnt/v && cd /mnt/v && set -e && ls -l >/dev/null;"
                "sha256sum < large.bin; dd if=large.bin of=copy bs=1M 2>/dev/null; sync; sync -f copy;"
                "cat hello.txt; cd /; umount /mnt/v"
            )
            printed = guest.run(["sh", "-c", script], 20).checked()
    assert printed.split()[0] == hashlib.sha256(content).hexdigest()
    assert (shared / "copy").read_bytes() == content
    return Tapped(collected, bridge, (directory / "shared.log").read_bytes(), notes, content)


def test_every_request_has_its_reply_and_nothing_is_lost(tapped: Tapped) -> None:
    collected = tapped.collected
    assert not collected.gaps
    assert not collected.bytes_lost
    assert not orphans(collected)
    without = {unique(record) for record in collected.requests if opcode(record) == DESTROY}  # left open to the daemon
    assert Counter(unique(record) for record in collected.replies if unique(record) not in without) == Counter(
        unique(record) for record in collected.requests if opcode(record) not in (FORGET, DESTROY)
    )
    for record in collected.all:
        assert int.from_bytes(record.data[:4], "little") == record.wire_len
        assert record.bridge is BridgeKind.VHOST_USER


def test_the_capture_holds_exactly_what_the_daemon_was_asked(tapped: Tapped) -> None:
    asked = Counter(int(found[1]) for found in SERVED.finditer(tapped.daemon_log))
    assert asked
    assert Counter(map(unique, tapped.collected.requests)) == asked


def test_reads_and_writes_carry_the_content_of_the_file(tapped: Tapped) -> None:
    collected, content = tapped.collected, tapped.content
    replies = {unique(record): record.data[OUT_HEADER:] for record in collected.replies}
    read = bytearray(len(content))
    for record in collected.requests:
        offset = int.from_bytes(record.data[IN_HEADER + 8 : IN_HEADER + 16], "little")
        if opcode(record) == READ and len(replies[unique(record)]) > 4096:
            data = replies[unique(record)]
            read[offset : offset + len(data)] = data
        elif opcode(record) == WRITE:
            data = record.data[IN_HEADER + WRITE_IN :]
            assert data == content[offset : offset + len(data)]
    assert bytes(read) == content


def test_sync_reaches_the_root_once_for_each_call(tapped: Tapped) -> None:
    collected = tapped.collected
    answers = {unique(record): int.from_bytes(record.data[4:8], "little", signed=True) for record in collected.replies}
    syncs = [record for record in collected.requests if opcode(record) == SYNCFS]
    assert [int.from_bytes(record.data[16:24], "little") for record in syncs] == [1, 1]
    assert [answers[unique(record)] for record in syncs] == [0, 0]


def test_each_message_names_its_queue(tapped: Tapped) -> None:
    collected = tapped.collected
    assert [info.kind for info in collected.channels] == [ChannelKind.VIRTIOFS]
    for record in collected.requests:
        assert (record.queue == 0) == (opcode(record) == FORGET)
    assert opcode(collected.requests[0]) == INIT


def test_the_session_ends_with_the_vmm_and_says_so(tapped: Tapped) -> None:
    assert tapped.bridge.stats.reason == "the VMM closed the connection"
    assert tapped.notes[-1] == "the session ended: the VMM closed the connection"
    assert any(note.startswith("LOG_ALL is not offered") for note in tapped.notes)
