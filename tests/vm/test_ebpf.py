"""The eBPF programs in kernels that this machine does not run: they load, and see every message whole."""

from __future__ import annotations

import json
import os
import shlex
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.servers.base import seed
from tests.vm import virtiofsd
from tests.vm.conftest import TAG, Booted
from tests.vm.guest import SHARE
from tracer.bridges.ebpf.event import EVENT, EVENT_BYTES, ConnectionFlag, Flag, Kind
from tracer.bridges.ebpf.programs import OBJECT

pytestmark = pytest.mark.vm

MODE = {"6.1": "functions", "6.12": "tracepoints", "newest": "tracepoints"}
LARGE_BYTES = 1 << 20
IN_HEADER, OUT_HEADER, WRITE_IN = 40, 16, 40
LOOKUP, FORGET, GETATTR, READ, WRITE, INIT, CREATE, NOTIFY_REPLY, BATCH_FORGET = 1, 2, 3, 15, 16, 26, 35, 41, 42
UNANSWERED = {FORGET, NOTIFY_REPLY, BATCH_FORGET}
# Names, attributes, a directory, data in both directions; what a removed name stands for is forgotten. Its arguments:
# where to mount, how, and where to write the connection's number.
WORK = """
set -e
mkdir -p "$1"
eval "$2"
mountpoint -d "$1" > "$3"
cd "$1"
ls -l > /dev/null
cat hello.txt dir/inner.txt large.bin > /dev/null
cp /run/guest/large.bin copy.bin
mkdir made
mv copy.bin made/moved.bin
ln -s made other
rm -r made other
"""
MOUNTS = {
    "bindfs": "bindfs /tmp/source /mnt/bindfs",
    "virtiofs": f"mount -t virtiofs {TAG} /mnt/virtiofs",
}
# A server holds a device, virtiofs has none; every mount is found by a file of our own on it.
IS_OURS = ConnectionFlag.ON_MOUNT
SEEN_BY = {"bindfs": {ConnectionFlag(0), IS_OURS}, "virtiofs": {IS_OURS}}


@dataclass
class Captured:
    """What came out of the ring in a guest; `messages` are (event, FUSE bytes) in the order of their time."""

    series: str
    data: bytes  # the large file's
    facts: dict[str, Any]
    connections: dict[str, int]  # mount -> number
    messages: list[tuple[Any, bytes]]

    def of(self, mount: str, *kinds: Kind) -> Iterator[tuple[Any, bytes]]:
        """Return the messages of some kinds on one mount."""
        wanted = self.connections[mount]
        return (
            (event, data) for event, data in self.messages if event["connection"] == wanted and event["kind"] in kinds
        )


@pytest.fixture(scope="session")
def captured(booted: Booted) -> Captured:
    """The workload on every mount of a guest, while the programs watch: once, because loading them takes time."""
    if not OBJECT.exists():
        pytest.skip(f"{OBJECT.name} was not built (Debian packages clang and libbpf-dev)")
    guest, data = booted.guest, os.urandom(LARGE_BYTES)
    out = guest.share / "capture"
    out.mkdir()
    for directory in (guest.share, *((booted.shared,) if booted.shared else ())):
        (directory / "large.bin").write_bytes(data)
    seed(guest.share / "source")
    guest.run(["sh", "-c", f"cp -r {SHARE}/source {SHARE}/large.bin /tmp && mv /tmp/large.bin /tmp/source"]).checked()
    mounts = [mount for mount in MOUNTS if mount != "virtiofs" or booted.shared]
    (out / "work").write_text(WORK)
    inside = f"{SHARE}/{out.name}"
    steps = [f"sh {inside}/work /mnt/{mount} {shlex.quote(MOUNTS[mount])} {inside}/{mount}" for mount in mounts]
    places = ":".join(f"/mnt/{mount}" for mount in mounts)
    command = ["tests.vm.inside.capture", inside, places, "sh", "-c", " && ".join(steps)]
    result = guest.python("-m", *command, timeout_s=150)
    assert result.status in (0, 3), result
    facts = json.loads((out / "facts.json").read_text())
    assert "cause" not in facts, "\n".join((facts["message"], *facts["lines"]))
    assert facts["status"] == 0, result
    messages = sorted(parsed((out / "events.bin").read_bytes()), key=lambda message: message[0]["t_ns"])
    connections = {mount: int((out / mount).read_text().removeprefix("0:")) for mount in mounts}
    return Captured(guest.kernel.series, data, facts, connections, messages)


@pytest.fixture(params=MOUNTS)
def mount(request: pytest.FixtureRequest, captured: Captured) -> str:
    """Every mount in turn."""
    if request.param not in captured.connections:
        pytest.skip(virtiofsd.why_not() or "")
    return str(request.param)


def parsed(content: bytes) -> Iterator[tuple[Any, bytes]]:
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "little")
        event = np.frombuffer(content, EVENT, 1, at + 4)[0]
        begin = at + 4 + EVENT_BYTES
        yield event, content[begin : begin + int(event["kept"])]
        at += 4 + size


def opcode(request: bytes) -> int:
    return struct.unpack_from("<I", request, 4)[0]


def exchanges(captured: Captured, mount: str) -> list[tuple[bytes, bytes]]:
    """Pair each request with its reply, by address; AssertionError when one has no partner."""
    waiting: dict[int, bytes] = {}
    pairs = []
    for event, data in captured.of(mount, Kind.SEND, Kind.END):
        key = int(event["req"])
        if event["kind"] == Kind.SEND:
            assert key not in waiting, f"no END of {waiting[key][:IN_HEADER].hex()}"
            waiting[key] = data
        else:
            assert key in waiting, f"an END without a SEND: {data.hex()}"
            pairs.append((waiting.pop(key), data))
    assert not waiting, f"requests without END: {[request[:IN_HEADER].hex() for request in waiting.values()]}"
    return pairs


def files(pairs: list[tuple[bytes, bytes]], wanted: int) -> list[bytes]:
    """Return the content of each file, as READ replies or WRITE requests carry it."""
    pieces: dict[int, dict[int, bytes]] = defaultdict(dict)
    for request, reply in pairs:
        if opcode(request) == wanted:
            (nodeid,), (offset,) = (
                struct.unpack_from("<Q", request, 16),
                struct.unpack_from("<Q", request, IN_HEADER + 8),
            )
            pieces[nodeid][offset] = reply[OUT_HEADER:] if wanted == READ else request[IN_HEADER + WRITE_IN :]
    return [b"".join(data for _, data in sorted(parts.items())) for parts in pieces.values()]


def test_the_programs_that_fit_the_kernel_run_and_lose_nothing(captured: Captured) -> None:
    facts = captured.facts
    assert facts["mode"] == MODE[captured.series]
    counters = facts["counters"]
    assert (counters["dropped_events"], counters["cut_events"], counters["faults"], facts["misses"]) == (0, 0, 0, 0)


def test_every_request_gets_its_reply_and_a_number_of_its_own(captured: Captured, mount: str) -> None:
    pairs = exchanges(captured, mount)
    assert {INIT, LOOKUP, GETATTR, CREATE, READ, WRITE} <= {opcode(request) for request, _ in pairs}
    uniques = [struct.unpack_from("<Q", reply, 8)[0] for _, reply in pairs]
    assert len(set(uniques)) == len(uniques)
    assert 0 not in uniques


def test_every_message_is_whole(captured: Captured, mount: str) -> None:
    bad = Flag.FAULT | Flag.NO_PAYLOAD | Flag.RING_FULL | Flag.CUT_BY_SNAP
    for event, data in captured.of(mount, *Kind):
        assert not event["flags"] & bad, (Flag(int(event["flags"])), data[:IN_HEADER].hex())
        assert event["wire_len"] == len(data) or event["kind"] == Kind.DELIVER


def test_payloads_are_what_the_files_hold(captured: Captured, mount: str) -> None:
    assert captured.facts["knows_direct_map"], captured.facts["notes"]
    pairs = exchanges(captured, mount)
    assert captured.data in files(pairs, READ)
    assert captured.data in files(pairs, WRITE)


def test_what_is_forgotten_is_seen(captured: Captured, mount: str) -> None:
    assert {opcode(data) for _, data in captured.of(mount, Kind.READ)} & {FORGET, BATCH_FORGET}


def test_connections_are_known_by_who_serves_them_and_what_was_agreed(captured: Captured, mount: str) -> None:
    number = captured.connections[mount]
    (init,) = (reply for request, reply in exchanges(captured, mount) if opcode(request) == INIT)
    (minor,) = struct.unpack_from("<I", init, OUT_HEADER + 4)
    found = [one for one in captured.facts["connections"] if one["connection"] == number]
    assert {ConnectionFlag(one["flags"]) & IS_OURS for one in found} == SEEN_BY[mount]
    for one in found:
        assert (one["minor"], one["s_dev"]) == (minor, number)
        assert ConnectionFlag(one["flags"]) & ConnectionFlag.CONNECTED
