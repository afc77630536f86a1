"""What holds for any filter on any trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.catalog import CATALOG
from tests.tracer.filters.made import every_message, session
from tracer.filters import FilterError, compile_filter
from tracer.trace.trace import Trace

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "contains", "matches", "~", "in", "&", "eq", "")
VALUES = ("5", "-2", "0x1f", "10ms", "64KiB", "SYNCFS", "ENOENT", "TRUNC|RDWR", '"tmp"', 'r"a.*b"', "true", "DONE")
PIECES = (
    *("fuse.opcode", "fuse.name", "fuse.latency", "fuse.write", "fuse.time", "fuse.open.flags", "proc.comm"),
    *OPERATORS,
    *VALUES,
    *("&&", "||", "!", "and", "or", "not", "(", ")", "{", "}", ",", "..", "|", '"', "\\", " ", "\0", "\ud800", "日"),
)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[Trace]:
    directory: Path = tmp_path_factory.mktemp("traces")
    return [session(directory), every_message(directory)]


def fails_well(text: str) -> None:
    found = None
    try:
        compile_filter(text)
    except FilterError as error:
        found = error
    if found is not None:
        assert 1 <= found.column <= len(text) + 1
        assert len(found.message.split("\n")) == 2


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    fails_well(text)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join))
def test_any_mix_of_its_words_is_a_filter_or_a_filter_error(text: str) -> None:
    fails_well(text)


tests = st.builds(
    "{} {} {}".format,
    st.sampled_from(sorted(CATALOG)),
    st.sampled_from(OPERATORS),
    st.sampled_from([*VALUES, "{1, 5..9}", '{"a", "tmp"}', "{SYNCFS, 3}"]),
) | st.sampled_from(sorted(CATALOG))


@st.composite
def valid(draw: st.DrawFn) -> str:
    """Draw a test that compiles: about one in three does."""
    text = draw(tests)
    try:
        compile_filter(text)
    except FilterError:
        text = draw(st.sampled_from(sorted(CATALOG)))
    return text


@given(st.lists(valid(), min_size=1, max_size=3))
def test_filters_are_a_boolean_algebra(traces: list[Trace], parts: list[str]) -> None:
    for trace in traces:
        masks = [compile_filter(part).mask(trace) for part in parts]
        every, some = masks[0].copy(), masks[0].copy()
        for mask in masks[1:]:
            every &= mask
            some |= mask
        joined = {
            " && ".join(parts): every,
            " || ".join(parts): some,
            f"!({' && '.join(parts)})": ~every,
            " && ".join(f"!({part})" for part in parts): ~some,
        }
        for text, mask in joined.items():
            assert (compile_filter(text).mask(trace) == mask).all(), text


@given(valid())
def test_not_holds_where_the_field_is_missing_or_the_test_fails(traces: list[Trace], text: str) -> None:
    name = text.split(" ")[0]
    for trace in traces:
        holds = compile_filter(text).mask(trace)
        assert (compile_filter(f"!({text})").mask(trace) == ~holds).all()
        if CATALOG[name].kind.value != "boolean":
            assert not (holds & ~compile_filter(name).mask(trace)).any()  # no test holds without its field
