"""JSON put together from templates is the JSON of each message decoded with care."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectors.jsonform import values_json
from dissectors.opcodes import NOTIFY, OPS
from tests.tracer.dialogue import READ, Dialogue
from tests.tracer.mangled import mangled_trace
from tracer.output.bodies import read_bodies
from tracer.output.documents import documents, json_lines
from tracer.trace.columns import Kind
from tracer.trace.trace import Trace


def every(trace: Trace) -> np.ndarray:
    return np.arange(trace.exchange_count, dtype=np.int64)


def careful_body(trace: Trace, row: int) -> Any:
    """Return the body of a well-formed message, read on its own; None of any other."""
    values = trace.fast_values(row)
    opcode, kind = int(trace.records["opcode"][row]), int(trace.records["kind"][row])
    if values is None:
        return None
    op = NOTIFY.get(opcode) if kind == Kind.NOTIFICATION else OPS.get(opcode)
    return values_json(op, values, reply=kind == Kind.REPLY)


def assert_bodies_agree(trace: Trace) -> int:
    """Compare every body read together with the one read alone; return how many there are."""
    rows = np.arange(trace.records.count, dtype=np.int64)
    count = 0
    for row, body in zip(rows.tolist(), read_bodies(trace, rows), strict=True):
        if body is None:
            continue
        count += 1
        careful = careful_body(trace, row)
        if careful is None:  # the struct path refuses a listing that was cut: what is whole of it is right
            assert trace.records["kept"][row] < trace.records["wire_len"][row]
            entries, all_entries = orjson.loads(body)["entries"], trace.message(row).values["entries"]
            assert len(entries) in (len(all_entries), len(all_entries) - 1)
        else:
            assert orjson.loads(body) == orjson.loads(orjson.dumps(careful)), trace.message(row)
    return count


@pytest.mark.parametrize("big_endian", [False, True])
def test_bodies_of_a_whole_trace_are_those_read_one_by_one(big_endian: bool, tmp_path: Path) -> None:
    trace = mangled_trace(tmp_path / "t.pcapng", 3, share=0, big_endian=big_endian)
    count = assert_bodies_agree(trace)
    assert count == 0 if big_endian else count > 300  # big-endian ones are all read with care


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), big_endian=st.booleans())
def test_any_message_is_read_together_as_it_is_alone_or_not_at_all(seed: int, big_endian: bool, tmp_path: Path) -> None:
    trace = mangled_trace(tmp_path / "t.pcapng", seed, big_endian=big_endian)
    assert_bodies_agree(trace)
    lines = [line for lines in json_lines(trace, every(trace)) for line in lines]
    assert len(lines) == trace.exchange_count
    for number, document in enumerate(map(orjson.loads, lines)):
        exchange = trace.exchange(number)
        assert document["exchange"] == number
        assert document["unique"] == exchange.message.unique
        assert document["state"] == exchange.state.name
        assert document["latency_ns"] == exchange.latency_ns
        assert document["submount"] == exchange.submount
        messages = [one for one in (exchange.request, exchange.reply, exchange.notification) if one is not None]
        assert document.get("lost_bytes", 0) == sum(one.lost_bytes for one in messages)
        if exchange.reply is not None:
            assert document["error"] == exchange.reply.error
        for part in ("request", "reply", "notification"):
            assert (part in document) == (getattr(exchange, part) is not None)


def test_names_are_escaped_and_quoted_for_json(tmp_path: Path) -> None:
    said = Dialogue()
    said.init()
    said.lookup(1, 'ü"\\\n\x1b[0m\xff'.encode("latin-1"), 2)
    line = next(json_lines(said.trace(tmp_path), np.array([1])))[0]
    assert orjson.loads(line)["request"] == {"name": '\\xfc"\\\\\\n\\x1b[0m\\xff'}


def test_content_that_was_cut_says_how_much_was_kept_and_the_exchange_how_much_was_lost(tmp_path: Path) -> None:
    said = Dialogue()
    said.init()
    body = said.pack("QQIIQII", 7, 0, 4096, 0, 0, 0, 0)
    unique = said.ask(READ, 2, body)
    said.answer(unique, b"abc" + bytes(4093))
    said.entries[-1] = said.records[-1]._replace(data=said.records[-1].data[:19])
    [document] = documents(said.trace(tmp_path), np.array([1]))
    assert document["reply"] == {"data": {"bytes": 3, "hex": "616263"}}
    assert document["lost_bytes"] == 4093


def test_a_listing_that_was_cut_gives_the_entries_that_are_whole(tmp_path: Path) -> None:
    said = Dialogue()
    said.init()
    said.readdirplus(1, [(b"one", 2, False), (b"two", 3, False)])
    record = said.records[-1]
    said.entries[-1] = record._replace(data=record.data[:-9], wire_len=len(record.data))
    [document] = documents(said.trace(tmp_path), np.array([1]))
    assert [entry["dirent.name"] for entry in document["reply"]["entries"]] == ["one"]
    assert document["lost_bytes"] == 9
