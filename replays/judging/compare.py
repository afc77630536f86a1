"""Two answers to one request: the same by what they mean, or where they differ and by which rule.

Nearly all are the same, and are seen to be by one struct call on either side; only the others are taken apart.
"""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from dissectors.fast import reader
from dissectors.fields import Field, Kind
from dissectors.layout import Context, agreed_layout
from dissectors.message import Value
from dissectors.opcodes import OPERATIONS, OPS_BY_NAME, Either, Enosys, Op
from dissectors.structs import REPLY_HEADER_SIZE
from replays.judging.rules import Of, Rule, RuleSet

LOOKUP = OPS_BY_NAME["LOOKUP"]
_ERROR = struct.Struct("<4xi8x")
Reader = Callable[[Any, int], tuple[Any, ...]]

_MEANING = {
    Enosys.SUCCESS: 0,
    Enosys.OPENED: 0,
    Enosys.UNSUPPORTED: -errno.EOPNOTSUPP,
    Enosys.INVALID: -errno.EINVAL,
    Enosys.NOT_PERMITTED: -errno.EPERM,
    Enosys.NOT_A_TTY: -errno.ENOTTY,
}


class Found(NamedTuple):
    """Where two answers differ, or would but for a rule that does not count."""

    rule: str
    field: str
    recorded: Value | None
    live: Value | None
    counts: bool
    entry: bytes = b""  # of a listing: the name it is about


@dataclass(frozen=True, slots=True)
class Answered:
    """One side's answer, taken apart as far as it goes."""

    error: int
    values: Mapping[str, Value]
    is_whole: bool = True  # not cut by the capture
    is_sound: bool = True


def caller_sees(op: Op, error: int) -> int | None:
    """Return the error a caller gets for the server's; None when the kernel finds another way after ENOSYS."""
    if error != -errno.ENOSYS or op.enosys is Enosys.ITSELF:
        return error
    return _MEANING.get(op.enosys)


class _Key(NamedTuple):
    """What of a reply is compared at once: error and counting fields of the head; `head` is where the rest begins."""

    unpack: Reader
    head: int
    has_rest: bool


class Comparator:
    """Compares answers of two sessions by a set of rules. `uids` and `gids` are how users were mapped."""

    def __init__(
        self, recorded: Context, live: Context, rules: RuleSet, uids: Mapping[int, int], gids: Mapping[int, int]
    ) -> None:
        self.rules = rules
        self._recorded, self._live = recorded, live
        self._users = {"uid": uids, "gid": gids} if uids or gids else {}
        self.keys = {} if self._users or recorded.big_endian else self._fast_keys()

    def _fast_keys(self) -> dict[int, _Key]:
        found = {}
        for op in OPERATIONS:
            if isinstance(op.reply, Either) or op.short_reply or not _is_laid_out_alike(op, self._recorded, self._live):
                continue
            layout = agreed_layout(op.reply, self._live)
            if layout.tail and (len(layout.tail) > 1 or layout.tail[0].kind is not Kind.DATA):
                continue  # entries and the like
            codes = [field.code if self._counts(op, field) else f"{field.size}x" for field in layout.head]
            tail_counts = bool(layout.tail) and self._counts(op, layout.tail[0])
            unpack = struct.Struct("<4xi8x" + "".join(codes)).unpack_from
            found[op.code] = _Key(unpack, REPLY_HEADER_SIZE + layout.head_size, tail_counts)
        return found

    def _counts(self, op: Op, field: Field) -> bool:
        return bool(self.rules.counting(op.name, field.name))

    def is_same(self, opcode: int, recorded: bytes, live: bytes) -> bool:
        """Tell whether two whole replies are the same at first sight; False: look closer."""
        key = self.keys.get(opcode)
        if key is None or len(recorded) != len(live):
            return False
        if len(live) == REPLY_HEADER_SIZE:
            return bool(_ERROR.unpack(recorded) == _ERROR.unpack(live))
        if len(live) < key.head or key.unpack(recorded, 0) != key.unpack(live, 0):
            return False
        return recorded[key.head :] == live[key.head :] if key.has_rest else True

    # ---- taken apart -----------------------------------------------------------------------------------------------

    def answered(self, op: Op, reply: bytes, asked: Mapping[str, Value]) -> Answered:
        """Take a live reply apart; `asked` are the values of its request."""
        error = int(_ERROR.unpack_from(reply)[0])
        values = reader(self._live).reply(reply, 0, len(reply), op.code, asked)
        if values is None:
            return Answered(error, {}, is_sound=False)
        return Answered(error, values)

    def differences(self, op: Op, recorded: Answered, live: Answered) -> Iterator[Found]:
        """Yield where two answers differ."""
        if not live.is_sound:
            yield self._found("malformed", "", None, None)
            return
        if recorded.error or live.error:
            yield from self._errors(op, recorded, live)
            return
        if op is LOOKUP and not (recorded.values.get("nodeid") and live.values.get("nodeid")):
            if bool(recorded.values.get("nodeid")) != bool(live.values.get("nodeid")):
                yield self._found("error", "nodeid", recorded.values.get("nodeid"), live.values.get("nodeid"))
            return
        yield from self.fields(op, recorded.values, live.values, is_whole=recorded.is_whole)

    def _errors(self, op: Op, recorded: Answered, live: Answered) -> Iterator[Found]:
        if recorded.error == live.error:
            return
        rule = "error"
        if op is LOOKUP and _is_missing(recorded) and _is_missing(live):
            rule = "negative-entry"
        elif -errno.ENOSYS in (recorded.error, live.error) and _mean_the_same(op, recorded.error, live.error):
            rule = "enosys"
        yield self._found(rule, "error", recorded.error, live.error)

    def fields(
        self, op: Op, recorded: Mapping[str, Value], live: Mapping[str, Value], *, is_whole: bool = True
    ) -> Iterator[Found]:
        """Yield the fields that differ; where the recording cut the last one, only what it kept is compared."""
        mode = recorded.get("attr.mode", recorded.get("stat.mode"))
        kind = Of.DIRECTORY if isinstance(mode, int) and stat.S_ISDIR(mode) else Of.OTHER
        for name in dict.fromkeys((*recorded, *live)):
            for rule in self.rules.counting(op.name, name):
                if rule.of in (Of.ANY, kind):
                    before, now = recorded.get(name), live.get(name)
                    if not self._is_equal(rule, name, before, now, is_whole=is_whole):
                        yield self._found(rule.name, name, before, now)

    def _is_equal(self, rule: Rule, name: str, before: Value | None, now: Value | None, *, is_whole: bool) -> bool:
        if isinstance(before, int) and isinstance(now, int):
            before = self._users.get(name.rpartition(".")[2], {}).get(before, before)
            return (before & rule.mask) == (now & rule.mask)
        if before is None or now is None:
            return before is now or not is_whole or self._is_of_one_layout_only
        if isinstance(before, list) and isinstance(now, list) and rule.name == "attribute-names":
            return sorted(map(repr, before)) == sorted(map(repr, now))
        if not is_whole and isinstance(before, bytes) and isinstance(now, bytes):
            return now[: len(before)] == before
        return before == now

    @cached_property
    def _is_of_one_layout_only(self) -> bool:
        """Whether a field may be missing because the sessions agreed on other layouts."""
        return self._recorded.effective_minor != self._live.effective_minor

    def _found(self, rule: str, field: str, recorded: Value | None, live: Value | None) -> Found:
        return Found(rule, field, recorded, live, self.rules.counts(rule))


def _is_laid_out_alike(op: Op, recorded: Context, live: Context) -> bool:
    assert not isinstance(op.reply, Either)
    before, now = agreed_layout(op.reply, recorded), agreed_layout(op.reply, live)
    return before.order == now.order and [f.name for f in before.fields] == [f.name for f in now.fields]


def _is_missing(answer: Answered) -> bool:
    return answer.error == -errno.ENOENT or (not answer.error and not answer.values.get("nodeid"))


def _mean_the_same(op: Op, recorded: int, live: int) -> bool:
    before, now = caller_sees(op, recorded), caller_sees(op, live)
    return before == now or before is None or now is None


def renamed(found: Found, rule: str, rules: RuleSet) -> Found:
    """Return a finding under another rule."""
    return found._replace(rule=rule, counts=rules.counts(rule))
