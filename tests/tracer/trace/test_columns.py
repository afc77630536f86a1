"""The tables the index is made of."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracer.trace.columns import CodeSet, Table, distinct, sorted_distinct

CODES = st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 60)


@given(st.sets(st.integers(0, 4096), min_size=1), st.lists(CODES))
def test_a_set_of_codes_holds_what_it_was_made_of_and_nothing_else(codes: set[int], column: list[int]) -> None:
    column += sorted(codes)
    found = CodeSet(codes).holds(np.array(column, dtype=np.int32))
    assert found.tolist() == [code in codes for code in column]


@given(st.lists(st.integers(0, 65535)))
def test_distinct_numbers_are_told_once_and_in_order(numbers: list[int]) -> None:
    assert distinct(np.array(numbers, dtype=np.uint16)) == sorted(set(numbers))


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5)))
def test_long_columns_give_their_different_values_in_order(numbers: list[int]) -> None:
    assert sorted_distinct(np.array(numbers, dtype=np.uint64)).tolist() == sorted(set(numbers))


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 200))
def test_rows_keep_their_content_however_a_table_grows(counts: list[int], reserved: int) -> None:
    table = Table({"number": "i8", "small": "u1"})
    table.reserve(reserved)
    expected: list[int] = []
    for count in counts:
        new = table.extend(count)
        assert new == slice(len(expected), len(expected) + count)
        added = list(range(len(expected), len(expected) + count))
        table["number"][new] = added
        expected += added
    assert table.count == len(expected)
    assert table["number"].tolist() == expected


def test_room_kept_free_does_not_count_as_memory() -> None:
    table = Table({"number": "i8", "small": "u1"})
    table.reserve(1000)
    table.extend(10)
    assert table.nbytes == 90
    table.reserve(5)  # never less than there is
    assert len(table["number"]) == 10
