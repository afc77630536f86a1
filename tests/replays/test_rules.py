"""The table of rules: nothing of a reply is without one, and a user can choose among them."""

from __future__ import annotations

import pytest

from dissectors.columns import body_fields
from dissectors.fields import Kind
from dissectors.layout import Context
from dissectors.message import MessageKind
from dissectors.opcodes import OPS, OPS_BY_NAME
from replays.judging.compare import Answered, Comparator, caller_sees
from replays.judging.rules import RULES, RuleSet, rules_for
from tracer.errors import TracerError

NOW = Context(45, 0)
DIRECTORY, REGULAR = 0o040755, 0o100644
SHAPES = {"in_iovs", "out_iovs"}


def comparator(**chosen: object) -> Comparator:
    return Comparator(NOW, NOW, RuleSet(**chosen), {}, {})  # type: ignore[arg-type]


def found(op: str, recorded: dict[str, object], live: dict[str, object], **chosen: object) -> list[str]:
    answers = [Answered(int(values.pop("error", 0)), values) for values in (dict(recorded), dict(live))]  # type: ignore[arg-type,call-overload]
    return [item.rule for item in comparator(**chosen).differences(OPS_BY_NAME[op], *answers) if item.counts]


def test_every_field_of_every_reply_has_a_rule() -> None:
    without = {
        f"{op.name}.{field.name}"
        for op in OPS.values()
        for field in body_fields(op, MessageKind.REPLY)
        if not field.hidden and field.kind is not Kind.FIXED and not rules_for(op.name, field.name)
    }
    assert without == set()


def test_every_rule_has_a_reason_and_a_name_of_its_own() -> None:
    assert all(rule.reason and rule.name == name for name, rule in RULES.items())


@pytest.mark.parametrize(
    ("op", "recorded", "live", "rules"),
    [
        ("GETATTR", {"attr.mode": REGULAR, "attr.size": 1}, {"attr.mode": REGULAR, "attr.size": 2}, ["size"]),
        ("GETATTR", {"attr.mode": DIRECTORY, "attr.size": 1}, {"attr.mode": DIRECTORY, "attr.size": 2}, []),
        ("GETATTR", {"attr.mode": REGULAR}, {"attr.mode": DIRECTORY}, ["type", "permissions"]),
        ("GETATTR", {"attr.mode": REGULAR}, {"attr.mode": 0o100600}, ["permissions"]),
        ("GETATTR", {"attr.mtime": 1, "attr.ino": 2}, {"attr.mtime": 3, "attr.ino": 4}, []),
        ("READ", {"data": b"abc"}, {"data": b"abd"}, ["data"]),
        ("LOOKUP", {"nodeid": 0}, {"error": -2}, []),
        ("LOOKUP", {"nodeid": 5}, {"nodeid": 0}, ["error"]),
        ("LOOKUP", {"error": -2}, {"error": -13}, ["error"]),
        ("FLUSH", {}, {"error": -38}, []),
        ("GETXATTR", {"value": b""}, {"error": -38}, ["error"]),
        ("GETXATTR", {"error": -95}, {"error": -38}, []),
        ("RENAME2", {"error": -22}, {"error": -38}, []),
        ("READ", {"data": b""}, {"error": -38}, ["error"]),
        ("LISTXATTR", {"names": [b"a", b"b"]}, {"names": [b"b", b"a"]}, []),
        ("LISTXATTR", {"names": [b"a"]}, {"names": [b"b"]}, ["attribute-names"]),
        ("WRITE", {"size": 10}, {"size": 9}, ["written"]),
        ("STATFS", {"bfree": 10}, {"bfree": 9}, []),
        ("OPEN", {"open_flags": 1}, {"open_flags": 2}, []),
    ],
)
def test_answers_are_compared_by_what_they_mean(
    op: str, recorded: dict[str, object], live: dict[str, object], rules: list[str]
) -> None:
    assert found(op, recorded, live) == rules


def test_a_rule_can_be_ignored_and_all_be_strict() -> None:
    sizes = {"attr.mode": REGULAR, "attr.size": 1}, {"attr.mode": REGULAR, "attr.size": 2}
    assert found("GETATTR", *sizes, ignore={"size"}) == []
    assert found("GETATTR", {"attr.mtime": 1}, {"attr.mtime": 2}, strict=True) == ["times"]
    assert found("LOOKUP", {"nodeid": 5}, {"nodeid": 6}, strict=True) == []  # numbers are never the same


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(TracerError, match="there is no rule 'sizes' \\(did you mean size\\?\\)"):
        RuleSet({"sizes"})


def test_cut_data_is_compared_as_far_as_it_was_kept() -> None:
    recorded, same, other = (Answered(0, {"data": data}) for data in (b"ab", b"abcdef", b"aXcdef"))
    cut = Answered(0, recorded.values, is_whole=False)
    op = OPS_BY_NAME["READ"]
    assert [item.rule for item in comparator().differences(op, cut, same)] == []
    assert [item.rule for item in comparator().differences(op, cut, other)] == ["data"]


def test_at_first_sight_only_what_counts_is_looked_at() -> None:
    def reply(size: int, mtime: int) -> bytes:
        import struct

        attr = struct.pack("<6Q10I", 1, size, 0, 0, mtime, 0, 0, 0, 0, REGULAR, 1, 0, 0, 0, 4096, 0)
        return struct.pack("<IiQQII", 16 + 16 + 88, 0, 1, 1, 0, 0) + attr

    getattr_code = OPS_BY_NAME["GETATTR"].code
    assert comparator().is_same(getattr_code, reply(1, 1), reply(1, 2))
    assert not comparator().is_same(getattr_code, reply(1, 1), reply(2, 1))
    assert not comparator(strict=True).is_same(getattr_code, reply(1, 1), reply(1, 2))


def test_what_the_caller_sees_of_enosys_is_told_for_each_operation() -> None:
    assert caller_sees(OPS_BY_NAME["SYNCFS"], -38) == 0
    assert caller_sees(OPS_BY_NAME["IOCTL"], -38) == -25
    assert caller_sees(OPS_BY_NAME["CREATE"], -38) is None
    assert caller_sees(OPS_BY_NAME["MKDIR"], -38) == -38
