"""The thread between strace and the rest: it never waits, and tells what it gave up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracer.bridges.collecting import LOGS
from tracer.bridges.host.server import Log
from tracer.bridges.strace.drain import PIPE_BYTES, READ_BYTES, Drain

BACKLOG = 4 << 20


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    return tmp_path / "fifo"


@pytest.fixture
def drain(fifo: Path) -> Iterator[Drain]:
    drain = Drain(fifo, backlog_bytes=BACKLOG)
    drain.start()
    yield drain
    drain.close()


def _all(drain: Drain) -> tuple[bytes, int]:
    chunks, dropped = b"", 0
    while True:
        drained = drain.take(10)
        dropped += drained.dropped_bytes
        chunks = (b"" if drained.dropped_bytes else chunks) + b"".join(drained.chunks)
        if drained.has_ended:
            return chunks, dropped


def test_what_is_written_is_taken_in_order_until_the_writer_closes(drain: Drain, fifo: Path) -> None:
    text = (LOGS / "squashfuse.strace").read_bytes()
    with open(fifo, "wb") as writer:
        writer.write(text)
    assert _all(drain) == (text, 0)


def test_a_writer_never_waits_for_someone_who_does_not_take(drain: Drain, fifo: Path) -> None:
    """Ten times the backlog is written while nobody takes: the rest of the line is what counts as lost."""
    with open(fifo, "wb", buffering=0) as writer:
        for _ in range(640):
            writer.write(b"x" * 65_535 + b"\n")
    kept, dropped = _all(drain)
    assert len(kept) <= BACKLOG + READ_BYTES + PIPE_BYTES  # the backlog, a piece in the thread's hands, the pipe
    assert len(kept) + dropped == 640 << 16


def test_it_waits_for_the_first_writer(drain: Drain, fifo: Path) -> None:
    assert drain.take(0.01) == ([], 0, False)
    with open(fifo, "wb") as writer:
        writer.write(b"line\n")
    assert _all(drain) == (b"line\n", 0)


def test_cancelling_keeps_what_was_written_before(drain: Drain, fifo: Path) -> None:
    with open(fifo, "wb", buffering=0) as writer:
        writer.write(b"line\n")
        drain.cancel()
    assert _all(drain) == (b"line\n", 0)
    assert not drain.is_alive()


def test_a_drain_without_a_writer_can_be_closed(fifo: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    drain = Drain(fifo)
    drain.start()
    drain.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not drain.is_alive()


def test_what_a_server_prints_is_bounded_in_memory_and_on_disk() -> None:
    log = Log()
    for _ in range(40):
        os.write(log.fileno(), b"y" * 99_999 + b"\n")
        assert all(len(line) < 400 for line in log.lines())
    assert os.fstat(log.fileno()).st_size < 2 << 20
    os.write(log.fileno(), b"the last word")
    assert log.finish() == ["the last word"]
    assert log.last_line == "the last word"
    log.close()
