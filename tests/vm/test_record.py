"""fusewire record in a guest: its virtiofs mount as the guest's own kernel sees it."""

from __future__ import annotations

import sys

import pytest

from tests.vm.conftest import TAG
from tests.vm.guest import SHARE, Guest
from tracer.analysis.sync import sync_report
from tracer.records import ChannelKind
from tracer.trace.pairing import State
from tracer.trace.trace import Trace

pytestmark = pytest.mark.vm
RECORD = """
set -e
mkdir -p /mnt/v
mount -t virtiofs {tag} /mnt/v
"$1" -m tracer.cli.main record --bridge ebpf --snap all --mount /mnt/v -o {out} 2> {log} &
until grep -q "attached to" {log}; do sleep 0.1; kill -0 $!; done
cd /mnt/v
cat hello.txt > /dev/null
echo of the guest > recorded
sync -f recorded
cd /
kill -INT $!
wait $!
umount /mnt/v
"""


@pytest.fixture
def trace(running: Guest, shared: object) -> Trace:
    out, log = f"{SHARE}/guest.pcapng", f"{SHARE}/recorder.log"
    script = RECORD.format(tag=TAG, out=out, log=log)
    ended = running.run(["sh", "-c", script, "sh", sys.executable], 150)
    assert ended.status == 0, (ended, (running.share / "recorder.log").read_text())
    return Trace.open(running.share / "guest.pcapng")


def test_a_virtiofs_mount_is_recorded_whole_with_its_sync_and_what_was_agreed_before(trace: Trace) -> None:
    (info,) = trace.channels
    assert (info.kind, info.mount_point, info.fstype) == (ChannelKind.VIRTIOFS, "/mnt/v", "virtiofs")
    assert info.minor > 30, "the kernel tells what INIT agreed on before the capture began"
    assert (trace.gaps, trace.missing_uniques()) == ([], [])
    assert {exchange.state for exchange in trace.exchanges()} <= {State.DONE, State.NO_REPLY}
    assert {exchange.server_pid for exchange in trace.exchanges()} == {0}, "no process of the guest serves it"
    assert [e.message.values["data"] for e in trace.exchanges() if e.message.name == "WRITE"] == [b"of the guest\n"]
    (channel,) = sync_report(trace).channels
    (root,) = channel.submounts
    assert [request.succeeded for request in root.requests] == [True]
    assert root.st_dev == info.st_dev
