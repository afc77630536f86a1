"""Edits of requests as an expression: `WRITE.size = 0; LOOKUP: drop 1/10; READ: fuzz seed=7`. It is no Python.

A request is taken apart and put together by scapy's layers, and scapy draws what is random. What comes out is sent only
if a kernel could have said it: ids, names and what is laid out otherwise change only where the rule says `wild`.
Importing this needs scapy; `replays.playing.edits` does it when there is an expression.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from typing import Any, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError
from scapy.packet import Packet
from scapy.volatile import RandNum, RandString

from dissectors import fast
from dissectors.catalog import CATALOG, FilterField
from dissectors.fields import Field, Kind, Role
from dissectors.layout import Context
from dissectors.names import Flags
from dissectors.opcodes import OPS, OPS_BY_NAME, Either, Op
from dissectors.scapy_layers import attribute, request
from dissectors.structs import IN_HEADER
from replays.options import Edit
from replays.recorded.safety import changes, refusal
from replays.recorded.sites import OPCODE_AT
from tracer.filters.errors import FilterError
from tracer.filters.tree import FieldName, Value, Written
from tracer.filters.values import Reader, is_text

MAX_TEXT = 8192
LONGEST_WILD_NAME = 300  # bytes: beyond the 255 that most filesystems take
OWN_SESSION = frozenset({"INIT", "CUSE_INIT"})
CALLER = {field.name: field for field in IN_HEADER.fields if field.name in ("uid", "gid", "pid", "nodeid")}

# What a server believes without looking, or the replay has mapped. A place in a listing is an address in some servers.
IDS = frozenset({Role.NODE, Role.HANDLE, Role.UNIQUE_REF, Role.NLOOKUP, Role.COOKIE, Role.BACKING_ID})
NAMES = frozenset({Role.NAME, Role.TARGET, Role.ATTRIBUTE})
MEASURES = frozenset({Role.LENGTH, Role.COUNT})
LISTS = frozenset({Kind.RECORDS, Kind.STRINGS, Kind.INTEGERS})

_GRAMMAR = r"""
start: _rule (";" _rule)* ";"?
_rule: act | assign
act: TARGET ":" ACTION option*
assign: FIELD OPERATOR (value | RAND) option*
value: atom ("|" atom)*
?atom: NUMBER | WORD | STRING | RAW
?option: CHANCE | SEED | WILD

FIELD.2: /(?:\*|[A-Za-z_]\w*)(?:\.\w+)+/
TARGET: /\*|[A-Za-z_]\w*/
ACTION: /(?:drop|fuzz)(?!\w)/i
OPERATOR: /[-+*\/]?=/
RAND.4: /rand(?!\w)/i
WILD.4: /wild(?!\w)/i
SEED.4: /seed\s*=\s*[0-9]{1,18}(?!\w)/i
CHANCE.4: /[0-9]{1,9}\/[0-9]{1,9}(?!\w)/
NUMBER.2: /[+-]?[0-9]\w*(?:\.[0-9]\w*)?/
WORD: /[A-Za-z_]\w*/
STRING.2: /"(?:\\.|[^"\\])*"/s
RAW.2: /r"(?:\\.|[^"\\])*"/s

%ignore /\s+/
"""


# ---- what an expression says -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a field becomes: a number, bytes, or with neither something random."""

    name: str
    field: Field
    in_header: bool
    operator: str = "="
    number: Fraction | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to requests of `op`, None for all; to `chance` of them, as `seed` has it."""

    op: Op | None
    assignment: Assignment | None  # None: drop it, or fuzz it
    is_dropped: bool
    chance: Fraction = Fraction(1)
    seed: int = 0
    is_wild: bool = False


@cache
def kept(op: Op) -> frozenset[str]:
    """Return the fields that keep their values unless a rule is wild: ids, and what says whether an id is one."""
    conditions = {field.valid.field for field in op.request if field.valid is not None and field.role in IDS}
    return frozenset({field.name for field in op.request if field.role in IDS} | conditions)


class _Build(Transformer[Token, Any]):
    """What the parser calls for each rule it recognised. `text` is the whole expression, for its errors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def start(self, rules: list[Rule]) -> tuple[Rule, ...]:
        return tuple(rules)

    def act(self, tokens: list[Token]) -> Rule:
        target, action, *options = tokens
        return Rule(self._op(target, str(target)), None, action.lower() == "drop", *self._options(options))

    def assign(self, found: list[Any]) -> Rule:
        name, operator, value, *options = found
        chance, seed, is_wild = self._options(options)
        op, field, in_header = self._field(name)
        if not is_wild and (field.role in IDS or (op is not None and field.name in kept(op))):
            raise self._fault("ids are what servers believe without looking: add wild to change one", name)
        content = number = None
        if isinstance(value, Value):
            described = CATALOG["fuse." + ("" if in_header or op is None else f"{op.name.lower()}.") + field.name]
            number, content = self._value(name, described, str(operator), value)
        elif operator != "=":
            raise self._fault("rand is no number to reckon with", value)
        if content is not None and not is_wild and not _can_be_said(field, content):
            raise self._fault("no kernel says such a name: empty, '.', '..', or with '/' or NUL; add wild", value)
        return Rule(op, Assignment(attribute(field.name), field, in_header, str(operator), number, content), False,
                    chance, seed, is_wild)  # fmt: skip

    def value(self, tokens: list[Token]) -> Value:
        return Value(tuple(Written(str(token), token.type, *_span(token)) for token in tokens))

    def _op(self, at: Token, name: str) -> Op | None:
        if name == "*":
            return None
        op = OPS_BY_NAME.get(name.upper())
        if op is None:
            near = get_close_matches(name.upper()[:40], OPS_BY_NAME, 1)
            hint = f": did you mean {near[0]}?" if near else "; such as READ, or * for all"
            raise self._fault(f"there is no operation {name[:40]}{hint}", at)
        if op.name in OWN_SESSION:
            raise self._fault(f"{op.name} is changed with --init", at)
        return op

    def _field(self, token: Token) -> tuple[Op | None, Field, bool]:
        """Return what READ.size, fuse.read.size, *.uid or fuse.uid stands for."""
        words = str(token).split(".")
        words = words[1:] if words[0].lower() == "fuse" else words
        target, path = ("*", words[0]) if len(words) == 1 else (words[0], ".".join(words[1:]))
        op = self._op(token, target)
        known = {field.name: field for field in op.request if not field.hidden} if op is not None else {}
        field = known.get(path)
        if field is not None and field.kind not in LISTS:
            return op, field, False
        if path in CALLER:
            return op, CALLER[path], True
        if path.startswith("reply."):
            raise self._fault("only requests are edited, and this is in a reply", token)
        if field is not None or path.split(".")[0] in known:
            raise self._fault("lists are not edited", token)
        near = get_close_matches(path[:40], [*known, *CALLER], 1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join([*known, *CALLER])}"
        raise self._fault(f"{target.upper()} has no field {path[:40]}: {hint}", token)

    def _value(self, name: Token, field: FilterField, operator: str, value: Value) -> tuple[Any, Any]:
        """Return what is written behind the operator, as a number or as bytes."""
        reader = Reader(self._text, FieldName(str(name), *_span(name)), field, "takes")
        if is_text(field):
            if operator != "=":
                raise self._fault(f"{name} is no number to reckon with", value)
            return None, reader.content(value)
        number = reader.number(value)
        if operator == "/=" and not number:
            raise self._fault("nothing is divided by 0", value)
        return number, None

    def _options(self, tokens: list[Token]) -> tuple[Fraction, int, bool]:
        chance, seed, is_wild = Fraction(1), 0, False
        for token in tokens:
            if token.type == "CHANCE":
                some, all_ = map(int, token.split("/"))
                if not 0 < some <= all_:
                    raise self._fault("a chance is more than none, and at most all: 1/10", token)
                chance = Fraction(some, all_)
            elif token.type == "SEED":
                seed = int(token.split("=")[1])
            else:
                is_wild = True
        return chance, seed, is_wild

    def _fault(self, reason: str, at: Token | Value) -> FilterError:
        return FilterError(reason, self._text, *((at.start, at.end) if isinstance(at, Value) else _span(at)))


def _span(token: Token) -> tuple[int, int]:
    start = token.start_pos or 0
    return start, start + len(token)


def _can_be_said(field: Field, content: bytes) -> bool:
    op = Op(0, "", 0, (field,))
    return refusal(op, {field.name: content}, allow_writes=True) is None


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr")


def parse(text: str) -> tuple[Rule, ...]:
    """Return the rules of an expression. FilterError, which points at the column, when it is none."""
    if len(text) > MAX_TEXT:
        raise FilterError(f"an expression has at most {MAX_TEXT} characters", text, MAX_TEXT, MAX_TEXT + 1)
    try:
        return cast(tuple[Rule, ...], _Build(text).transform(_parser().parse(text)))
    except VisitError as error:
        raise error.orig_exc from None
    except UnexpectedInput as error:
        raise _explained(error, text) from None


def _explained(error: UnexpectedInput, text: str) -> FilterError:
    at, length = error.pos_in_stream or 0, 1
    wanted: set[str] = set()
    if isinstance(error, UnexpectedCharacters):
        wanted = set(error.allowed or ())
    elif isinstance(error, UnexpectedToken):
        wanted = set(error.accepts or error.expected)
        at, length = (len(text.rstrip()), 1) if error.token.type == "$END" else (at, len(error.token))
    for token, said in (
        ("FIELD", "expected an operation, as in READ: drop, or a field of one, as in READ.size = 0"),
        ("NUMBER", 'expected a value: a number (64KiB, 0x1f), a name (O_RDWR), text in quotes ("tmp"), or rand'),
        ("OPERATOR", "expected = += -= *= or /= and a value"),
        ("COLON", "expected : and drop or fuzz"),
        ("ACTION", "expected drop or fuzz"),
    ):
        if token in wanted:
            return FilterError(said, text, at, at + length)
    return FilterError(
        "expected ; and another rule, or how this one is meant: 1/10, seed=7, wild", text, at, at + length
    )


# ---- what becomes of a request ---------------------------------------------------------------------------------------


def expression(text: str, *, allow_writes: bool) -> Edit:
    """Return what edits each request as `text` says. FilterError when it says nothing that can be done."""
    return ScapyEdit(parse(text), allow_writes=allow_writes)


class ScapyEdit:
    """Applies the rules in turn. The n-th request of an operation always has the same lot for the same seed."""

    def __init__(self, rules: tuple[Rule, ...], *, allow_writes: bool) -> None:
        self._rules, self._allow_writes = rules, allow_writes
        self._turns: Counter[tuple[int, int]] = Counter()

    def __call__(self, message: bytes, context: Context) -> bytes | None:
        """Return what to send instead of `message`, or None for nothing."""
        code = int.from_bytes(message[OPCODE_AT : OPCODE_AT + 4], "big" if context.big_endian else "little")
        op, edited, is_wild = OPS[code], message, False
        for number, rule in enumerate(self._rules):
            if rule.op not in (None, op):
                continue
            self._turns[number, code] += 1
            lot = random.Random(f"{rule.seed} {number} {code} {self._turns[number, code]}")
            if lot.random() >= rule.chance:
                continue
            if rule.is_dropped:
                return None
            edited = _edited(edited, op, rule, context, lot)
            is_wild = is_wild or rule.is_wild
        return edited if edited == message or self._may_be_sent(op, edited, context, is_wild) else None

    def _may_be_sent(self, op: Op, edited: bytes, context: Context, is_wild: bool) -> bool:
        values = fast.reader(context).request(edited, 0, len(edited), op.code)
        if is_wild:
            return self._allow_writes or (values is not None and not changes(op, values))
        return values is not None and refusal(op, values, allow_writes=self._allow_writes) is None


def _edited(message: bytes, op: Op, rule: Rule, context: Context, lot: random.Random) -> bytes:
    packet = request(message, context)
    if rule.assignment is not None:
        _assign(packet, rule.assignment, op, lot, is_wild=rule.is_wild)
    else:
        free = _free(packet, op, is_wild=rule.is_wild)
        for field, in_header in lot.sample(free, lot.randint(1, len(free))) if free else ():
            _assign(packet, Assignment(attribute(field.name), field, in_header), op, lot, is_wild=rule.is_wild)
    packet.len = None
    return bytes(packet)


def _free(packet: Packet, op: Op, *, is_wild: bool) -> list[tuple[Field, bool]]:
    """Return the fields that are fuzzed, each with whether it is in the header."""
    there = {field.name for field in packet.payload.fields_desc}
    own = [field for field in op.request if attribute(field.name) in there and field.kind not in LISTS]
    if is_wild:
        return [(field, False) for field in own] + [(field, True) for field in CALLER.values()]
    fixed = kept(op)
    return [
        (field, False)
        for field in own
        if not (field.hidden or field.name in fixed or field.role in NAMES or field.role in MEASURES)
    ]


def _assign(packet: Packet, to: Assignment, op: Op, lot: random.Random, *, is_wild: bool) -> None:
    layer = packet if to.in_header else packet.payload
    if to.name not in {field.name for field in layer.fields_desc}:
        return  # not on the wire in this session
    old = layer.getfieldval(to.name)
    value: Any
    if to.content is not None:
        value = to.content
    elif to.number is not None:
        value = _within(to.field, _reckoned(to, old))
    else:
        value = _drawn(layer, to, old, op, lot, is_wild=is_wild)
    if to.field.role in MEASURES and not is_wild:
        measured = next(attribute(f.name) for f in op.request if to.field.name in (f.size_from, f.count_from))
        layer.setfieldval(measured, layer.getfieldval(measured)[:value])
        value = None
    elif to.field.size_from and len(value) != len(old):
        layer.setfieldval(attribute(to.field.size_from), None)
    layer.setfieldval(to.name, value)


def _reckoned(to: Assignment, old: int) -> Fraction:
    number = to.number
    assert number is not None
    if isinstance(to.field.names, Flags) and to.operator in ("+=", "-="):
        return Fraction(old | int(number) if to.operator == "+=" else old & ~int(number))
    match to.operator:
        case "+=":
            return old + number
        case "-=":
            return old - number
        case "*=":
            return old * number
        case "/=":
            return old / number
        case _:
            return number


def _within(field: Field, number: Fraction) -> int:
    """Return the nearest number that the field can hold."""
    bits = 8 * field.size
    least, most = (-1 << bits - 1, (1 << bits - 1) - 1) if field.kind in (Kind.I32, Kind.I64) else (0, (1 << bits) - 1)
    return max(least, min(most, int(number)))


def _drawn(layer: Packet, to: Assignment, old: Any, op: Op, lot: random.Random, *, is_wild: bool) -> Any:
    """Return something random: as scapy draws it, but no longer than what was there, unless it is a wild name."""
    field = to.field
    if isinstance(old, bytes):
        if field.kind is not Kind.NAME:
            return lot.randbytes(len(old) if field.kind is Kind.FIXED else lot.randint(0, len(old)))
        if is_wild:
            return lot.randbytes(lot.randint(0, LONGEST_WILD_NAME))
    with _scapy_draws_by(lot):
        if isinstance(old, bytes):
            return bytes(str(RandString(max(1, len(old)))), "ascii")
        if not is_wild and field.name in _rooms(op):
            return int(RandNum(0, old))
        return int(layer.get_field(to.name).randval())


@cache
def _rooms(op: Op) -> frozenset[str]:
    """Return the fields that say how long the reply may be."""
    shapes = (*op.reply.then, *op.reply.otherwise) if isinstance(op.reply, Either) else op.reply
    return frozenset(field.room_from for field in shapes if field.room_from)


@contextmanager
def _scapy_draws_by(lot: random.Random) -> Iterator[None]:
    """Let scapy, which knows only the generator that all share, draw what `lot` decides; that one is put back."""
    before = random.getstate()
    random.seed(lot.getrandbits(64))
    try:
        yield
    finally:
        random.setstate(before)
