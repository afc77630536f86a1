"""`fusewire record` with eBPF: where its trace may not lie, and how few rights it needs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo import mounts
from tests.conftest import MakeServer
from tests.e2e.recorder import PROGRAM, Recorder, recording, refused
from tests.servers import workload
from tests.servers.memory import Memory
from tests.servers.namespaced import Namespaced
from tests.servers.real import Bindfs
from tests.tracer.bridges.ebpf import recorded
from tests.tracer.bridges.ebpf.conftest import WithOnly
from tests.tracer.bridges.ebpf.recorded import LIVE
from tracer.trace.trace import Trace

pytestmark = LIVE


@pytest.mark.parametrize("way", ["all", "mount", "pid"])
def test_a_trace_on_the_mount_that_is_recorded_is_refused(way: str, bindfs: Bindfs) -> None:
    with bindfs.started() as running:
        out = running.mount_point / "dir" / "t.pcapng"
        words = {"all": ["--all"], "mount": ["--mount", str(running.mount_point)], "pid": ["--pid", str(running.pid)]}
        first, hint = refused(out, *words[way])
        assert str(out) in first
        assert "for ever" in first
        assert "another file system" in hint
        assert not out.exists()


def test_a_trace_on_another_mount_is_written(bindfs: Bindfs, memory: Memory) -> None:
    with bindfs.started() as other, memory.started() as running:
        out = other.mount_point / "t.pcapng"
        with recording(out, "--mount", str(running.mount_point), "--snap", "all") as recorder:
            recorder.wait_for("attached to")
            workload.run(running.mount_point, "reading")
            assert recorder.stop() == 0, recorder.said
        copied = mounts.run_child(["cp", out, bindfs.directory / "copy.pcapng"], 10)
        assert copied.status == 0
    trace = Trace.open(bindfs.directory / "copy.pcapng")
    assert [info.mount_point for info in trace.channels] == [str(running.mount_point)]
    assert trace.gaps == []


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that any user can write to; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="fusewire-open-") as directory:
        path = Path(directory)
        path.chmod(0o777)
        yield path


def test_two_capabilities_are_enough_to_record_the_host(
    with_only: WithOnly, make_server: MakeServer, memory: Memory, open_directory: Path
) -> None:
    if Path("/sys/kernel/btf/fuse").exists():
        pytest.skip("fuse is a module here: its types are read with CAP_SYS_ADMIN only")
    inside, out = make_server(Namespaced), open_directory / "t.pcapng"
    words = ["record", "-o", str(out), "--bridge", "ebpf", "--all", "--snap", "all"]
    with subprocess.Popen([*with_only("bpf", "perfmon"), *PROGRAM, *words], stderr=subprocess.PIPE) as process:
        recorder = Recorder(process)
        try:
            recorder.wait_for("attached to")
            with inside.started() as hidden, memory.started() as running:  # else the namespace would hold both mounts
                workload.run(running.mount_point)
                workload.run(hidden.mount_point, "reading")
                recorder.wait_for(str(inside.mount_point))
                assert running.unmount()
                running.wait()
            assert recorder.stop() == 0, recorder.said
        finally:
            process.kill()
    trace = Trace.open(out)
    (number,) = [n for n, info in enumerate(trace.channels) if info.mount_point == str(memory.mount_point)]
    info = trace.channels[number]
    assert (info.server_pid, info.fstype) == (running.pid, "fuse")
    assert str(memory.mount_point) in info.server_command
    records = [record for record in map(trace.record, range(trace.records.count)) if record.channel == number]
    recorded.check_witnessed(records, memory.witnessed())
    assert str(inside.mount_point) in [one.mount_point for one in trace.channels]
