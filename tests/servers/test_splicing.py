"""The passthrough server that splices: it does the work, and really splices."""

from __future__ import annotations

import re

import pytest

from examples.demo import mounts, possible
from tests.conftest import MakeServer
from tests.servers import workload
from tests.servers.splicing import Splicing

pytestmark = pytest.mark.e2e

HEADERS_OF_A_READ, HEADERS_OF_A_WRITE = 16, 80
PIECE_BYTES = 131072


@pytest.mark.parametrize("kind", ["mixed", "parallel"])
def test_it_does_the_work_and_ends_when_it_is_unmounted(make_server: MakeServer, kind: str) -> None:
    splicing = make_server(Splicing)
    with splicing.started() as running:
        tally = workload.run(running.mount_point, kind)
        assert running.unmount(), running.output()
        assert running.wait() == 0, running.output()
    assert tally.refused == {}
    assert mounts.fuse_mount_at(splicing.mount_point) is None


def test_what_is_written_lies_on_disk(make_server: MakeServer) -> None:
    splicing = make_server(Splicing)
    content = bytes(i * 7 % 251 for i in range(500_000))
    with splicing.started() as running:
        (running.mount_point / "large").write_bytes(content)
        assert (running.mount_point / "large").read_bytes() == content
    assert (splicing.source / "large").read_bytes() == content


def test_payloads_of_both_ways_are_spliced(make_server: MakeServer) -> None:
    splicing = make_server(Splicing)
    if (reason := possible.why_no_program("strace", "strace")) is not None:
        pytest.skip(reason)
    log = splicing.directory / "strace"
    traced = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=splice"]
    with splicing.started(launch=lambda argv: [*traced, *argv]) as running:
        workload.run(running.mount_point)
    text = log.read_text()
    taken = {int(n) for n in re.findall(r"splice\(\d+</dev/fuse>, NULL, .* = (\d+)", text)}
    answered = {int(n) for n in re.findall(r"splice\(\d+<pipe:\[\d+\]>, NULL, \d+</dev/fuse>, .* = (\d+)", text)}
    assert HEADERS_OF_A_WRITE + PIECE_BYTES in taken
    assert HEADERS_OF_A_READ + PIECE_BYTES in answered
