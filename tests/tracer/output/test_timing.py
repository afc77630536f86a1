"""Where the time of an exchange went: the same in every form of output."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.tracer.dialogue import GETATTR, INIT, Dialogue
from tracer.output.documents import documents, exchange_document
from tracer.output.lines import Lines, verbose_lines
from tracer.output.style import Painter
from tracer.output.timing import timing_label, timing_words
from tracer.records import ChannelInfo, ChannelKind, Direction, RecordFlag
from tracer.trace.trace import Trace

SECOND = 1_000_000_000
ECONNABORTED = 103


def deliver(talk: Dialogue, unique: int) -> None:
    talk.add(Direction.TO_SERVER, struct.pack("<IIQ", 16, GETATTR, unique), flags=RecordFlag.DELIVERED)


def abort(talk: Dialogue, unique: int) -> None:
    talk.answer(unique, error=-ECONNABORTED, flags=RecordFlag.ABORTED)


def watched(**known: object) -> Dialogue:
    """A capture that tells when the server took its requests."""
    return Dialogue(channels=[ChannelInfo("/m", ChannelKind.DEV_FUSE, minor=45, deliveries=True, **known)])


def at(trace: Trace, number: int, later_ns: int) -> Trace:
    """Let it be so long after an exchange began."""
    trace.now_ns = int(trace.records["t_ns"][trace.first_rows[number]]) + later_ns
    return trace


def told(trace: Trace, number: int = 0) -> tuple[str, str]:
    timing = trace.timing(number)
    return timing_words(timing), timing_label(timing)


def test_of_an_answered_request_the_queue_and_the_server_are_told_apart(tmp_path: Path) -> None:
    talk = watched()
    unique = talk.ask(GETATTR)
    deliver(talk, unique)
    talk.t_ns += 4_000
    talk.answer(unique, error=-2)
    trace = talk.trace(tmp_path)
    words = "took 6.00µs: 1.00µs in the queue until the server read it, 5.00µs until it answered"
    assert told(trace) == (words, "6.00µs = 1.00µs queue + 5.00µs server")
    assert f"timing: {words}" in next(verbose_lines(trace.exchange(0), Painter(False)))
    (document,) = documents(trace, np.arange(1))
    assert (document["latency_ns"], document["queue_wait_ns"], document["service_ns"]) == (6_000, 1_000, 5_000)
    assert exchange_document(trace, 0)["service_ns"] == 5_000


def test_a_request_that_no_server_reads_is_told_even_when_it_never_read_any(tmp_path: Path) -> None:
    talk = watched()
    talk.ask(GETATTR)
    trace = at(talk.trace(tmp_path), 0, 4_200_000_000)
    assert told(trace) == ("waits for 4.20s, the server has not read it", "pending 4.20s, not read")
    assert Lines(trace).line(0).latency == "unread"
    (document,) = documents(trace, np.arange(1))
    assert (document["state"], document["server_read"]) == ("PENDING", False)
    assert "queue_wait_ns" not in document


def test_of_a_request_the_server_sits_on_it_is_told_since_when(tmp_path: Path) -> None:
    talk = watched()
    unique = talk.ask(GETATTR)
    talk.t_ns += 99_999_000
    deliver(talk, unique)
    trace = at(talk.trace(tmp_path), 0, 4_200_000_000)
    assert told(trace) == (
        "waits for 4.20s, the server read it 4.10s ago",
        "pending 4.20s, read 4.10s ago",
    )
    assert Lines(trace).line(0).latency == "serving"
    (document,) = documents(trace, np.arange(1))
    assert (document["server_read"], document["queue_wait_ns"]) == (True, 100_000_000)
    assert "service_ns" not in document


@pytest.mark.parametrize("flags", [0, 1 << 41], ids=["no deliveries", "io_uring"])
def test_nothing_is_said_of_the_server_where_the_capture_cannot_tell(flags: int, tmp_path: Path) -> None:
    info = ChannelInfo("/m", ChannelKind.DEV_FUSE, minor=45, init_flags=flags, deliveries=bool(flags))
    talk = Dialogue(channels=[info])
    talk.ask(GETATTR)
    trace = at(talk.trace(tmp_path), 0, SECOND)
    assert told(trace) == ("waits for 1.00s", "pending 1.00s")
    assert Lines(trace).line(0).latency == "pending"
    (document,) = documents(trace, np.arange(1))
    assert not {"server_read", "queue_wait_ns", "service_ns"} & set(document)


def test_what_the_kernel_ended_is_an_error_in_words_everywhere(tmp_path: Path) -> None:
    talk = watched()
    never, read = talk.ask(GETATTR), talk.ask(GETATTR)
    deliver(talk, read)
    abort(talk, never)
    abort(talk, read)
    trace = talk.trace(tmp_path)
    assert told(trace, 0) == (
        "ended by the kernel after 3.00µs: nobody answered; the server never read it",
        "aborted after 3.00µs, never read",
    )
    assert told(trace, 1) == (
        "ended by the kernel after 3.00µs: nobody answered; the server had read it after 1.00µs",
        "aborted after 3.00µs, had been read",
    )
    line = Lines(trace).line(0)
    assert line.is_error
    assert line.what == "→ ECONNABORTED [ended by the kernel: nobody answered]"
    assert [document["state"] for document in documents(trace, np.arange(2))] == ["ABORTED", "ABORTED"]
    coloured = next(verbose_lines(trace.exchange(0), Painter(True)))
    assert "\x1b[1;31m: ended by the kernel" in coloured


def test_a_request_is_never_said_to_wait_when_none_is_expected_to_answer(tmp_path: Path) -> None:
    talk = watched()
    talk.forget(3)
    talk.talk(INIT, 0, bytes(64), bytes(64))
    trace = talk.trace(tmp_path)
    assert told(trace, 0)[0] == "needs no reply"
    assert [bool(line.is_open) for line in Lines(trace).lines(np.arange(2))] == [False, False]
