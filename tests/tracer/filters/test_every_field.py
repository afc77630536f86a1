"""A filter sees exactly what decoding shows, field by field, for every message, whole, cut or damaged."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.catalog import CATALOG, FilterField, ValueKind
from tests.dissectors.samples import SAMPLES
from tests.dissectors.strategies import damaged
from tests.tracer.filters.made import damaged_messages, every_message, session
from tests.tracer.filters.oracle import expected, gathered
from tracer.filters import compile_filter
from tracer.filters.bodies import HeadInteger
from tracer.filters.compiler import source_for
from tracer.trace.exchange import Exchange
from tracer.trace.trace import Trace

LITERALS = {
    ValueKind.INTEGER: "5",
    ValueKind.SIGNED: "-1",
    ValueKind.BYTES: r'"\x00"',
    ValueKind.NAME: '"report.txt"',
    ValueKind.STRING: '"channel 1"',
    ValueKind.BOOLEAN: "true",
    ValueKind.DURATION: "1us",
    ValueKind.TIME: '"2026-01-02T03:04:05Z"',
}


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return every_message(tmp_path_factory.mktemp("every"))


@pytest.fixture(scope="module")
def decoded(every: Trace) -> list[Exchange]:
    return list(every.exchanges())


@pytest.mark.parametrize("field", CATALOG.values(), ids=lambda field: field.name)
def test_a_field_is_read_as_it_is_decoded(every: Trace, decoded: list[Exchange], field: FilterField) -> None:
    assert gathered(every, field) == expected(every, field, decoded)


def test_the_golden_messages_have_nearly_every_field(every: Trace) -> None:
    without = [name for name, field in CATALOG.items() if not gathered(every, field)]
    assert without == ["fuse.queue_wait", "fuse.service", "fuse.mount", "proc.comm"]


@pytest.mark.parametrize("field", CATALOG.values(), ids=lambda field: field.name)
def test_a_comparison_holds_where_the_decoded_value_says_so(
    every: Trace, decoded: list[Exchange], field: FilterField
) -> None:
    having = set(expected(every, field, decoded))
    passing = compile_filter(f"{field.name} == {LITERALS[field.kind]}").numbers(every).tolist()
    others = compile_filter(f"{field.name} != {LITERALS[field.kind]}").numbers(every).tolist()
    assert set(passing) | set(others) == having
    assert not set(passing) & set(others)
    if field.kind is not ValueKind.BOOLEAN:
        assert set(compile_filter(field.name).numbers(every).tolist()) == having


@pytest.mark.parametrize("field", [one for one in CATALOG.values() if one.op is None], ids=lambda field: field.name)
def test_what_is_known_without_a_body_is_what_the_exchange_says(tmp_path: Path, field: FilterField) -> None:
    trace = session(tmp_path)
    assert gathered(trace, field) == expected(trace, field)


def test_integers_of_fixed_parts_are_gathered_as_columns() -> None:
    assert isinstance(source_for(CATALOG["fuse.write.size"]), HeadInteger)
    assert isinstance(source_for(CATALOG["fuse.getxattr.reply.size"]), HeadInteger)


@given(st.lists(st.tuples(damaged(), st.none() | st.integers(0, 120)), min_size=1, max_size=6))
def test_damaged_messages_are_read_as_they_are_decoded(found: list[tuple[tuple, int | None]]) -> None:
    messages = [(sample, data, len(data) if kept is None else min(kept, len(data))) for (sample, data), kept in found]
    with tempfile.TemporaryDirectory() as directory:
        trace = damaged_messages(Path(directory), messages)
        ops = {message.op for row in range(trace.records.count) if (message := trace.message(row)).op is not None}
        exchanges = list(trace.exchanges())
        for field in CATALOG.values():
            if field.op is None or field.op in ops:
                assert gathered(trace, field) == expected(trace, field, exchanges), field.name


def test_an_extension_area_that_no_opcode_declares_is_malformed(tmp_path: Path) -> None:
    sample = SAMPLES["getxattr.request"]
    announcing = sample.data[:36] + b"\x40\0" + sample.data[38:]  # total_extlen: 512 bytes of a message of 68
    trace = damaged_messages(tmp_path, [(sample, announcing, len(announcing))])
    assert trace.message(0).is_malformed
    assert compile_filter("fuse.malformed").numbers(trace).tolist() == [0]


def test_every_golden_message_is_in_the_trace(every: Trace) -> None:
    contents = {bytes(every.content(row)[:8] + every.content(row)[16:]) for row in range(every.records.count)}
    assert all(sample.data[:8] + sample.data[16:] in contents for sample in SAMPLES.values())
