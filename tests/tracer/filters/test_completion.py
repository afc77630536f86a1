"""What may come next in a filter that is being typed. The cursor is where the bar is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracer.filters.test_any_filter import PIECES
from tracer.filters import FilterError, compile_filter, complete


def proposed(typed: str) -> list[str]:
    cursor = typed.index("|cursor|")
    return [one.text for one in complete(typed.replace("|cursor|", ""), cursor)]


@pytest.mark.parametrize(
    ("typed", "among"),
    {
        "fuse.opc|cursor|": ["fuse.opcode"],
        "|cursor|": ["fuse.write", "fuse.opcode", "proc.comm"],
        "fuse.write.s|cursor|": ["fuse.write.size"],
        "fuse.pid == 3 && proc.c|cursor|": ["proc.comm"],
        "(fuse.sync|cursor|": ["fuse.syncfs"],
        "fuse.opcode |cursor|": ["==", "in", "&&"],
        "fuse.name |cursor|": ["contains", "matches"],
        "fuse.name con|cursor|": ["contains"],
        "fuse.write |cursor|": ["&&", "||"],
        "fuse.opcode == SYN|cursor|": ["SYNCFS"],
        "fuse.opcode == syn|cursor|": ["SYNCFS"],
        "fuse.opcode in {READ, WR|cursor|": ["WRITE"],
        "fuse.opcode in {|cursor|": ["READ", "SYNCFS"],
        "fuse.error != EN|cursor|": ["ENOENT", "ENOSYS"],
        "fuse.open.flags & TR|cursor|": ["TRUNC"],
        "fuse.open.flags & RDWR|TR|cursor|": ["TRUNC"],
        "fuse.state == P|cursor|": ["PENDING"],
        "fuse.malformed == |cursor|": ["true", "false"],
    }.items(),
)
def test_what_may_come_next_is_proposed(typed: str, among: list[str]) -> None:
    assert set(among) <= set(proposed(typed))


@pytest.mark.parametrize(
    "typed", ["fuse.opcode == SYNCFS |cursor|", 'fuse.name == "fuse.|cursor|', "fuse.pid == |cursor|"]
)
def test_nothing_is_proposed_that_cannot_be_meant(typed: str) -> None:
    assert "SYNCFS" not in proposed(typed)
    assert "fuse.opcode" not in proposed(typed) or typed.startswith("fuse.opcode")


def test_fields_come_by_their_depth_the_general_ones_first() -> None:
    depths = [name.count(".") for name in proposed("fuse.|cursor|")]
    assert depths == sorted(depths)


def test_a_proposal_replaces_the_word_before_the_cursor() -> None:
    (one,) = complete("fuse.opcode == SYNC && fuse.pid == 1", 19)
    text = "fuse.opcode == SYNC && fuse.pid == 1"
    assert text[: one.start] + one.text + text[one.end :] == "fuse.opcode == SYNCFS && fuse.pid == 1"


@given(st.lists(st.sampled_from(PIECES), max_size=10).map(" ".join), st.integers(0, 40))
def test_any_text_can_be_completed(text: str, cursor: int) -> None:
    cursor = min(cursor, len(text))
    for one in complete(text, cursor):
        assert 0 <= one.start <= one.end == cursor
        assert one.text.lower().startswith(text[one.start : one.end].lower())


def test_every_value_proposed_is_understood() -> None:
    for name in ("fuse.opcode", "fuse.error", "fuse.open.flags", "fuse.ioctl.flags", "fuse.lseek.whence", "fuse.kind"):
        for word in proposed(f"{name} == |cursor|"):
            try:
                compile_filter(f"{name} == {word}")
            except FilterError as error:
                pytest.fail(str(error))


LONG = ("a" * 5000, "a " * 4000, "a|" * 4000, "{" * 4000, "fuse.pid in {" + "1," * 4000, '"' * 4001)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_completion_of_a_long_text_comes_to_an_end(text: str) -> None:
    assert isinstance(complete(text, len(text)), list)
