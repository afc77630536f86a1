"""Recorders come and go on a mount under load: nobody is hurt, nothing is left in the kernel."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.recorder import recording
from tests.servers import disturb, load, workload
from tests.servers.memory import Memory
from tests.tracer.bridges.ebpf import recorded
from tests.tracer.bridges.ebpf.captured import capturing
from tests.tracer.bridges.ebpf.recorded import LIVE
from tracer.bridges.ebpf import Source, libbpf
from tracer.bridges.ebpf.event import Choice, Kind
from tracer.bridges.ebpf.programs import Config

pytestmark = LIVE

ROUNDS, RECORDINGS = 100, 6
SNAP = 512  # the load moves hundreds of MB/s, which is more than the list of a test takes
KINDS = ("prog", "map", "link")


def held_by(pid: int) -> set[tuple[str, int]]:
    """Return kind and number of every eBPF object that a process has a descriptor of."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = info.read_text()
        except OSError:  # closed meanwhile
            continue
        numbers = dict(re.findall(r"^(prog|map|link)_id:\s*(\d+)$", text, re.MULTILINE))
        kind = next((kind for kind in reversed(KINDS) if kind in numbers), None)  # a link names its program too
        if kind is not None:
            found.add((kind, int(numbers[kind])))
    return found


def exists(kind: str, number: int) -> bool:
    """Ask the kernel for an object by its number."""
    ask = getattr(libbpf.load(), f"bpf_{kind}_get_fd_by_id")
    ask.argtypes = (ctypes.c_uint32,)
    fd = ask(number)
    if fd < 0:
        assert ctypes.get_errno() in (errno.ENOENT, errno.EAGAIN)
        return False
    os.close(fd)
    return True


def await_gone(objects: set[tuple[str, int]]) -> None:
    """The kernel frees them when no processor can be running them any more."""
    recorded.until(lambda: not [one for one in objects if exists(*one)], f"{len(objects)} objects are gone")


def test_a_hundred_captures_of_a_mount_under_load_have_no_hole(memory: Memory) -> None:
    with memory.started() as running, load.on(running.mount_point) as busy, capturing(Config()) as capture:
        number = disturb.connection_number(running.mount.st_dev)
        capture.programs.configure(Config(snap=SNAP, connections=(number,), choice=Choice.ONLY))
        capture.programs.detach()
        capture.events()
        ends_ns = [time.monotonic_ns()]
        for _ in range(ROUNDS):
            capture.programs.attach()
            busy.wait_rounds(1)
            busy.wait_rounds(2)  # what was waited for may have been over, and the next have begun
            capture.programs.detach()
            ends_ns.append(time.monotonic_ns())
            capture.events()
        assert capture.counted("dropped_events") == 0
        # it was loaded for the whole host
        events = [event for event in capture.events(Kind.SEND, Kind.END) if event.t_ns > ends_ns[0]]
        events = [event for event in events if event.connection == number]
    assert busy.tally.refused == {}
    sent = {(m.to_server, m.unique): m.data for m in memory.witnessed()}
    for begin_ns, end_ns in itertools.pairwise(ends_ns):
        taken = [event for event in events if begin_ns < event.t_ns <= end_ns and event.kind == Kind.SEND]
        assert {event.opcode for event in taken} >= {recorded.READ, recorded.WRITE}
        uniques = {event.unique for event in taken}
        assert uniques == set(range(min(uniques), max(uniques) + 1, 2))  # the kernel counts in steps of 2
    for event in events:
        whole = sent[event.kind == Kind.SEND, event.unique]
        assert (event.data, event.wire_len) == (whole[:SNAP], len(whole))


def test_recordings_of_a_mount_under_load_leave_nothing(memory: Memory) -> None:
    threads, before = threading.active_count(), held_by(os.getpid())
    held: set[tuple[str, int]] = set()
    with memory.started() as running, load.on(running.mount_point) as busy:
        for turn in range(RECORDINGS):
            options = {"syscalls": turn % 2 == 0, "snap_bytes": SNAP}
            with recorded.recording(Source(mount=str(running.mount_point)), **options) as capture:
                busy.wait_rounds(1)
                held |= held_by(os.getpid()) - before
                assert capture.end().gaps == []
    assert held_by(os.getpid()) == before
    assert {kind for kind, _ in held} == set(KINDS)
    await_gone(held)
    assert (busy.tally.refused, threading.active_count()) == ({}, threads)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_ended_recorder_leaves_nothing_in_the_kernel_and_the_mount_goes_on(
    number: signal.Signals, memory: Memory, tmp_path: Path
) -> None:
    with (
        memory.started() as running,
        load.on(running.mount_point) as busy,
        recording(tmp_path / "t.pcapng", "--mount", str(running.mount_point), "--snap", "all") as recorder,
    ):
        recorder.wait_for("attached to")
        busy.wait_rounds(2)
        held = held_by(recorder.process.pid)
        assert {kind for kind, _ in held} == set(KINDS)
        recorder.process.send_signal(number)
        recorder.wait()
        await_gone(held)
        assert not [name for name in bpf_files() if "fusewire" in name]
        busy.wait_rounds(2)
        workload.run(running.mount_point)
    assert busy.tally.refused == {}


def bpf_files() -> list[str]:
    """What is pinned, if anything."""
    root = Path("/sys/fs/bpf")
    return [str(path) for path in root.rglob("*")] if root.is_dir() else []
