"""Recorders come and go on a mount under load: nobody is hurt, nothing is left in the kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.recorder import recording
from tests.servers import load, workload
from tests.servers.memory import Memory
from tests.tracer.bridges.ebpf import recorded
from tests.tracer.bridges.ebpf.recorded import LIVE
from tracer.bridges.ebpf import Source, libbpf
from tracer.records import Direction

pytestmark = LIVE

ROUNDS = 100
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


def test_a_hundred_captures_of_a_mount_under_load_are_whole_and_leave_nothing(memory: Memory) -> None:
    threads = threading.active_count()
    held: set[tuple[str, int]] = set()
    captures = []
    with memory.started() as running:
        before = held_by(os.getpid())
        with load.on(running.mount_point) as busy:
            for turn in range(ROUNDS):
                # what looks at system calls takes longest to load
                options = {"syscalls": turn % 4 == 0}
                with recorded.recording(Source(mount=str(running.mount_point)), **options) as capture:
                    busy.wait_rounds(1)
                    busy.wait_rounds(1)  # the first may have been over
                    held |= held_by(os.getpid()) - before
                    captures.append(capture.end())
        assert held_by(os.getpid()) == before
        assert running.unmount()
        running.wait()
    assert len(held) >= ROUNDS * 4, "programs, maps and links of each"
    await_gone(held)
    assert (busy.tally.refused, threading.active_count()) == ({}, threads)
    sent = {(m.to_server, m.unique): m.data for m in memory.witnessed()}
    for collected in captures:
        assert collected.gaps == []
        assert len(recorded.requests_of(collected.all, recorded.READ)) >= 1
        for record in recorded.messages(collected.all):
            assert record.data == sent[record.direction is Direction.TO_SERVER, recorded.unique(record)]
        uniques = Counter(recorded.unique(r) for r in collected.all if r.direction is Direction.TO_SERVER)
        assert set(uniques.values()) == {1}


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
