"""Whatever the flags, the same calls give the same messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracer.bridges.collecting import Collected, import_log
from tests.tracer.bridges.mini_strace import Call, Form, print_calls, quoted
from tracer.bridges import framing
from tracer.bridges.strace.strings import closing_quote, unescape
from tracer.records import Direction, RecordFlag

START_NS = 1_795_000_000_000_000_000
PAYLOADS = st.one_of(
    st.binary(max_size=120),
    st.lists(st.sampled_from([b'"', b"\\", b"\0", b"9", b"0", b"\n", b", iov_len=16}", b'"...', b"\x1b[", b"'"])).map(
        b"".join
    ),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Call]:
    """Requests and replies as a server with one or two threads makes them, in the order in which they return."""
    calls: list[Call] = []
    now_ns = START_NS
    tids = draw(st.sampled_from([(4711,), (4711, 4712)]))
    for number in range(draw(st.integers(1, 6))):
        unique = 2 + 2 * number
        tid = draw(st.sampled_from(tids))
        body = draw(PAYLOADS)
        opcode = draw(st.sampled_from([1, 3, 15, 16, 50, 53])) if number else 26
        request = framing.IN_HEADER["little"].pack(40 + len(body), opcode, unique, 1, 0, 0, 4000, 0, 0) + body
        wait_ns = draw(st.integers(1000, 10**9))
        calls.append(Call(Direction.TO_SERVER, tid, 4, (request,), now_ns, wait_ns))
        now_ns += wait_ns + 5000
        answer = draw(PAYLOADS)
        header = framing.OUT_HEADER["little"].pack(16 + len(answer), 0, unique)
        buffers = draw(st.sampled_from([(header + answer,), (header, answer), (header, answer[:5], answer[5:])]))
        calls.append(Call(Direction.TO_KERNEL, tid, 4, buffers, now_ns, 3000))
        now_ns += 9000
    return calls


FORMS = st.builds(
    Form,
    escapes=st.sampled_from(["default", "x", "xx"]),
    names=st.sampled_from(["yy", "y", "none"]),
    pid=st.sampled_from(["padded", "bracket", "comm", "none"]),
    stamp=st.sampled_from(["ns", "us", "day", "none"]),
    has_durations=st.booleans(),
    is_split=st.booleans(),
    argument_names=st.booleans(),
    line_end=st.sampled_from([b"\n", b"\r\n"]),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms") / "log"


def _import(log: Path, text: bytes) -> Collected:
    log.write_bytes(text)
    return import_log(log)


@given(calls=conversations(), form=FORMS)
def test_every_form_gives_every_byte(log: Path, calls: list[Call], form: Form) -> None:
    collected = _import(log, print_calls(calls, form))
    assert [(r.direction, r.data, r.wire_len) for r in collected.all] == [
        (c.direction, c.data, len(c.data)) for c in calls
    ]
    assert collected.gaps == []
    assert len(collected.channels) == 1


@given(calls=conversations(), form=FORMS, limit=st.integers(16, 60))
def test_what_strace_cut_is_a_prefix_with_the_exact_length(
    log: Path, calls: list[Call], form: Form, limit: int
) -> None:
    cut = Form(**{**form.__dict__, "limit": limit})
    collected = _import(log, print_calls(calls, cut))
    assert [(r.direction, r.wire_len) for r in collected.all] == [(c.direction, len(c.data)) for c in calls]
    for record, call in zip(collected.all, calls, strict=True):
        assert call.data.startswith(record.data)
        assert len(record.data) >= min(limit, len(call.data))
    assert collected.gaps == []


@given(calls=conversations(), form=FORMS)
def test_times_are_when_a_request_arrived_and_when_a_reply_was_sent(log: Path, calls: list[Call], form: Form) -> None:
    dated = Form(**{**form.__dict__, "has_durations": True, "stamp": "ns", "pid": "padded"})
    collected = _import(log, print_calls(calls, dated))
    assert [r.t_ns for r in collected.all] == [c.entered_ns + (c.took_ns if c.is_request else 0) for c in calls]
    assert not any(r.flags & RecordFlag.TIME_UNKNOWN for r in collected.all)
    assert collected.channels[0].clock == "realtime"


@given(data=st.binary(max_size=300), escapes=st.sampled_from(["default", "x", "xx"]))
def test_a_string_ends_where_strace_ended_it(data: bytes, escapes: str) -> None:
    text = quoted(data, Form(escapes=escapes)).encode() + b', 4096) = 5 "no"'
    end = closing_quote(text, 1)
    assert unescape(text[1:end]) == data
    assert text[end + 1 :] == b', 4096) = 5 "no"'


@pytest.mark.parametrize(
    ("text", "data"),
    [(rb"\09", b"\0009"), (rb"\0009", b"\0009"), (rb"\0017", b"\x017"), (rb"\18", b"\x018"), (rb"\3777", b"\xff7")],
)
def test_octal_escapes_end_at_the_first_character_that_is_no_octal_digit(text: bytes, data: bytes) -> None:
    assert unescape(text) == data


def test_a_cut_escape_is_damage_and_no_exception() -> None:
    assert unescape(rb"abc\x4") is None
