"""Edit expressions: what each says, where it is wrong, and that nothing servers would die of comes out unasked."""

from __future__ import annotations

import contextlib
import random
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.packet import Packet

from dissectors import fast
from dissectors.fields import Role
from dissectors.layout import Context
from dissectors.message import Value
from dissectors.opcodes import OPS, OPS_BY_NAME, Op
from dissectors.scapy_layers import request
from replays.playing.edits import load_edit
from replays.playing.scapy_edit import expression
from replays.recorded.safety import changes, is_safe_name
from tests.dissectors.samples import REQUEST, SAMPLES, Sample
from tests.dissectors.strategies import names
from tests.replays.model import LOOKUP, READ, ModelServer, ModelTransport
from tests.replays.test_playing import opcodes, play, read_body, talk_of_a_file
from tracer.errors import TracerError
from tracer.filters.errors import FilterError

GUARDED = {Role.NODE, Role.HANDLE, Role.UNIQUE_REF, Role.NLOOKUP, Role.COOKIE, Role.NAME, Role.TARGET, Role.ATTRIBUTE}
PLAYED = [
    sample
    for sample in SAMPLES.values()
    if sample.kind is REQUEST and "init" not in sample.name and sample.name != "unknown_opcode.request"
]


def edited(text: str, name: str, *, allow_writes: bool = True) -> Packet | None:
    """Return what an expression makes of a golden request."""
    sample = SAMPLES[f"{name}.request"]
    message = expression(text, allow_writes=allow_writes)(sample.data, sample.context)
    return None if message is None else request(message, sample.context)


def lot_of(text: str, name: str, count: int = 40) -> list[bytes | None]:
    """Return what becomes of the same request, sent again and again."""
    sample, edit = SAMPLES[f"{name}.request"], expression(text, allow_writes=True)
    return [edit(sample.data, sample.context) for _ in range(count)]


# ---- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "field", "value"),
    [
        ("READ.size = 0", "read", "size", 0),
        ("READ.size = 64KiB", "read", "size", 65536),
        ("fuse.read.size = 0x10", "read", "size", 16),
        ("read.size /= 2", "read", "size", 65536),
        ("READ.size *= 1.5", "read", "size", 196608),
        ("READ.offset += 4KiB; READ.offset -= 1", "read", "offset", 8191),
        ("READ.offset -= 1TiB", "read", "offset", 0),
        ("ACCESS.mask *= 10000000000", "access", "mask", 2**32 - 1),
        ("OPEN.flags = O_RDWR|O_APPEND", "open", "flags", 0o2002),
        ("OPEN.flags += TRUNC", "open", "flags", 0x8202),
        ("OPENDIR.flags -= O_DIRECTORY", "opendir", "flags", 0x8800),
        ("LOOKUP.name = \"a\\x00b\" wild", "lookup", "name_", b"a"),
        ("LOOKUP.name = r\"new\\name\"", "lookup", "name_", b"new\\name"),
        ("SYMLINK.target = \"/etc\"", "symlink", "target", b"/etc"),
        ("WRITE.data = \"hello\"", "write", "data", b"hello"),
        ("SETATTR.mtime = \"2026-01-02T03:04:05Z\"", "setattr", "mtime", 1767323045),
        ("READ.fh = 5 wild", "read", "fh", 5),
        ("WRITE.size = 5 wild", "write", "size", 5),
    ],
)  # fmt: skip
def test_a_field_takes_a_value(text: str, name: str, field: str, value: int | bytes) -> None:
    packet = edited(text, name)
    assert packet is not None
    assert packet.payload.getfieldval(field) == value


def test_lengths_follow_what_is_changed() -> None:
    packet = edited('WRITE.data = "hello"', "write")
    assert packet is not None
    assert (packet.len, packet.payload.size) == (85, 5)
    packet = edited("WRITE.size = 3", "write")
    assert packet is not None
    assert (packet.len, packet.payload.size, packet.payload.data) == (83, 3, b"abc")
    packet = edited("WRITE.size = 1MiB", "write")
    assert packet is not None
    assert (packet.len, packet.payload.size) == (106, 26)


def test_the_caller_is_changed_for_every_operation() -> None:
    for name in ("read", "lookup", "create_extended", "mkdir_big_endian"):
        packet = edited("*.uid = 7; fuse.gid = 8; *.pid = 9", name)
        assert packet is not None
        assert (packet.uid, packet.gid, packet.pid) == (7, 8, 9)
        assert bytes(packet.payload) == SAMPLES[f"{name}.request"].data[40:]


def test_a_field_that_this_session_has_not_stays_away() -> None:
    packet = edited("READ.lock_owner = 5", "read_7_8")
    assert packet is not None
    assert bytes(packet) == SAMPLES["read_7_8.request"].data


def test_other_operations_are_sent_as_they_were() -> None:
    data = SAMPLES["write.request"].data
    assert expression("READ: drop; READ.size = 0", allow_writes=True)(data, Context()) is data


def test_about_so_many_of_so_many_are_dropped_and_the_seed_says_which() -> None:
    dropped = [message is None for message in lot_of("LOOKUP: drop 1/4", "lookup", 400)]
    assert 60 < sum(dropped) < 140
    assert dropped == [message is None for message in lot_of("LOOKUP: drop 1/4", "lookup", 400)]
    assert dropped != [message is None for message in lot_of("LOOKUP: drop 1/4 seed=1", "lookup", 400)]
    assert all(message is None for message in lot_of("LOOKUP: drop", "lookup"))


def test_the_same_seed_gives_the_same_bytes_and_another_others() -> None:
    seven = lot_of("WRITE: fuzz seed=7", "write")
    assert seven == lot_of("WRITE: fuzz seed=7", "write")
    assert seven != lot_of("WRITE: fuzz seed=8", "write")
    assert len(set(seven)) > 30


def test_the_generator_that_all_share_is_left_as_it_was() -> None:
    before = random.getstate()
    lot_of("READ: fuzz; READ.offset = rand; LOOKUP.name = rand", "read")
    assert random.getstate() == before


# ---- what is wrong, and where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "length", "said"),
    [
        (" ", 1, 1, "expected an operation, as in READ: drop"),
        ("READ", 5, 1, "expected : and drop or fuzz"),
        ("READ: drops", 7, 5, "expected drop or fuzz"),
        ("REED: drop", 1, 4, "there is no operation REED: did you mean READ?"),
        ("READ: drop 0/3", 12, 3, "a chance is more than none"),
        ("READ: drop;; READ: drop", 12, 1, "expected an operation"),
        ("READ.size = 0 bogus", 15, 5, "expected ; and another rule"),
        ("READ.size", 10, 1, "expected = += -= *= or /= and a value"),
        ("READ.size =", 12, 1, "expected a value"),
        ("READ.size = many", 13, 4, "READ.size takes a number, such as 4096 or 64KiB"),
        ("READ.size = 1ms", 13, 3, "READ.size has no unit ms"),
        ("READ.size /= 0", 14, 1, "nothing is divided by 0"),
        ("READ.size += rand", 14, 4, "rand is no number to reckon with"),
        ("READ.sise = 3", 1, 9, "READ has no field sise: did you mean size?"),
        ("LOOKUP.xyzzy = 3", 1, 12, "LOOKUP has no field xyzzy: it has name, nodeid"),
        ("*.size = 3", 1, 6, "* has no field size"),
        ("fuse.unique = 3", 1, 11, "* has no field unique"),
        ("OPEN.flags += O_TRUK", 15, 6, "OPEN.flags has no value O_TRUK"),
        ('WRITE.data *= "x"', 15, 3, "WRITE.data is no number to reckon with"),
        ("READ: drop; READ.fh = 3", 13, 7, "ids are what servers believe without looking: add wild"),
        ("*.nodeid = 3", 1, 8, "ids are what servers believe"),
        ("GETATTR.getattr_flags = FH", 1, 21, "ids are what servers believe"),
        ('LOOKUP.name = "../x"', 15, 6, "no kernel says such a name"),
        ('SETXATTR.name = ""', 17, 2, "no kernel says such a name"),
        ("READ.reply.data = 3", 1, 15, "only requests are edited"),
        ("BATCH_FORGET.forgets = 3", 1, 20, "lists are not edited"),
        ("BATCH_FORGET.forgets.nodeid = 3", 1, 27, "lists are not edited"),
        ("INIT.minor = 3", 1, 10, "INIT is changed with --init"),
        ("__import__('os')", 11, 1, "expected : and drop or fuzz"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_with_its_column(text: str, column: int, length: int, said: str) -> None:
    with pytest.raises(FilterError) as error:
        load_edit(text)
    assert (error.value.column, error.value.length) == (column, length), str(error.value)
    assert error.value.reason.startswith(said)


@given(st.text(max_size=40) | st.text("READ.size=0;:+/ \"'drop", max_size=30))
@settings(max_examples=500, deadline=None)
def test_any_text_is_an_expression_or_one_error(text: str) -> None:
    with contextlib.suppress(TracerError):
        expression(text, allow_writes=False)


def test_without_scapy_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [*sys.modules]:
        if module.startswith("scapy.") or module in ("dissectors.scapy_layers", "replays.playing.scapy_edit"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "scapy", None)
    with pytest.raises(TracerError) as error:
        load_edit("READ: drop")
    assert error.value.hint == "run: pip install 'fusewire[scapy]'"


# ---- what never comes out --------------------------------------------------------------------------------------------


def ids_and_names(op: Op, message: bytes, context: Context) -> dict[str, object]:
    values = fast.reader(context).request(message, 0, len(message), op.code)
    assert values is not None, "what is sent is laid out as its operation is declared"
    guarded = {field.name for field in op.request if field.role in GUARDED or field.record}
    return {name: value for name, value in values.items() if name in guarded}


def number(values: Mapping[str, Value], name: str) -> int:
    value = values.get(name, 0)
    assert isinstance(value, int)
    return value


@given(st.sampled_from(PLAYED), st.integers(0, 10**6))
@settings(max_examples=1500, deadline=None)
def test_a_fuzzed_request_keeps_its_ids_and_names_and_asks_for_no_more(sample: Sample, seed: int) -> None:
    code = sample.data[7 if sample.context.big_endian else 4] or 53  # none of the samples has a larger one
    op = OPS[code]
    for allow_writes in (False, True):
        message = expression(f"*: fuzz seed={seed}", allow_writes=allow_writes)(sample.data, sample.context)
        if message is None:
            continue
        assert message[4:40] == sample.data[4:40]
        assert len(message) <= len(sample.data)
        assert ids_and_names(op, message, sample.context) == ids_and_names(op, sample.data, sample.context)
        before, values = (
            fast.reader(sample.context).request(one, 0, len(one), op.code) for one in (sample.data, message)
        )
        assert before is not None
        assert values is not None
        assert allow_writes or message == sample.data or not changes(op, values)
        assert op.name == "SETATTR" or number(values, "size") <= number(before, "size")
        assert number(values, "out_size") <= number(before, "out_size")


@given(names, st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_a_random_name_is_one_that_a_kernel_could_say(name: bytes, seed: int) -> None:
    data = struct.pack("<IIQQIIIHH", 41 + len(name), 1, 2, 1, 0, 0, 0, 0, 0) + name + b"\0"
    message = expression(f"LOOKUP.name = rand seed={seed}", allow_writes=True)(data, Context())
    assert message is not None
    assert is_safe_name(message[40:-1])


def test_wild_is_wild_and_still_writes_nothing_without_leave() -> None:
    nodes = {struct.unpack_from("<Q", message, 16)[0] for message in lot_of("READ: fuzz wild", "read") if message}
    assert len(nodes) > 5
    assert edited("OPEN.flags += TRUNC", "open", allow_writes=False) is None
    assert edited("OPEN.flags += TRUNC wild", "open", allow_writes=False) is None
    packet = edited('LOOKUP.name = "../x" wild', "lookup", allow_writes=False)
    assert packet is not None
    assert packet.payload.name_ == b"../x"


def test_what_asks_for_more_than_any_kernel_is_dropped() -> None:
    assert edited("READ.size = 1GiB", "read") is None
    assert edited("READ.size = 1GiB wild", "read") is not None


# ---- in a replay -----------------------------------------------------------------------------------------------------


class RoomyTransport(ModelTransport):
    """Notes the room for each reply."""

    def __init__(self) -> None:
        super().__init__(ModelServer())
        self.rooms: dict[int, list[int]] = {}

    def submit(self, message: bytes | bytearray, room: int, *, urgent: bool = False) -> bool:
        self.rooms.setdefault(message[4], []).append(room)
        return super().submit(message, room, urgent=urgent)


def test_a_replay_drops_and_changes_requests_and_has_room_for_the_longer_answer(tmp_path: Path) -> None:
    dialogue = talk_of_a_file()
    for _ in range(2):
        dialogue.talk(READ, 50, read_body(10))
    transport = RoomyTransport()
    _, server = play(dialogue, tmp_path, transport, edit=load_edit("READ.size *= 2"))
    assert [body[16:20] for opcode, _, body in server.asked if opcode == READ] == [struct.pack("<I", 20)] * 2
    assert transport.rooms[READ] == [16 + 20] * 2
    report, server = play(dialogue, tmp_path, edit=load_edit("LOOKUP: drop"))
    assert LOOKUP not in opcodes(server)
    assert report.counts.skipped["EDITED_AWAY"] == 4  # and what would have learnt the node by another LOOKUP


def test_every_operation_that_is_played_can_be_named() -> None:
    for name in OPS_BY_NAME:
        if name not in ("INIT", "CUSE_INIT"):
            load_edit(f"{name}: drop; {name}: fuzz 1/2")
