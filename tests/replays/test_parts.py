"""The parts of a replay that are pure logic, one by one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.flags import init_flag
from dissectors.layout import Context
from dissectors.opcodes import OPS_BY_NAME
from replays.init import NEEDS_KERNEL, InitEdit, agreed, offer
from replays.playing.directories import Listing
from replays.playing.edits import load_edit
from replays.playing.encoding import Encoder
from replays.playing.mapping import Mapper
from replays.playing.splitting import read_in_parts, write_in_parts
from replays.playing.talk import Ask, Talk, reply_of
from replays.recorded.recording import Entry
from replays.recorded.safety import is_safe_name
from replays.recorded.sites import Manner, manner, request_sites
from tests.dissectors.samples import le
from tracer.errors import TracerError

NOW = Context(45, 0)


# ---- mapping ----

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("entry"), st.integers(0, 4), st.integers(0, 4)),
        st.tuples(st.just("forget"), st.integers(0, 4), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("recorded"), st.integers(0, 4), st.just(0)),
    )
)


@given(ACTIONS)
def test_lookups_given_back_are_never_more_than_were_given_out(actions: list[tuple[str, int, int]]) -> None:
    mapper = Mapper()
    held: dict[int, int] = {}
    for action, recorded, number in actions:
        if action == "entry":
            mapper.entry(recorded, number, 0o100644)
            if recorded not in (0, 1) and number not in (0, 1):
                held[number] = held.get(number, 0) + 1
        elif action == "recorded":
            mapper.recorded_only(recorded)
        else:
            for live, count in mapper.forget(recorded, number):
                held[live] -= count
                assert held[live] >= 0
        assert min(mapper.owed(recorded)) >= 0
        assert {live for live, count in held.items() if count} == {n for n in range(2, 5) if mapper.is_held(n)}
        assert all(mapper.is_held(live) for live in mapper.nodes.values())


def test_a_node_learnt_by_its_path_is_given_back_with_the_first_forget() -> None:
    mapper = Mapper()
    mapper.entry(7, 100, is_learned=True)
    mapper.entry(7, 100)
    assert mapper.forget(7, 1) == [(100, 2)]
    assert mapper.node(7) is None


def test_names_of_one_file_may_be_nodes_of_their_own_on_the_live_server() -> None:
    mapper = Mapper()
    mapper.entry(7, 100)
    mapper.entry(7, 200)
    assert mapper.node(7) == 200
    assert mapper.forget(7, 2) == [(100, 1), (200, 1)]


# ---- where ids are ----


def test_where_ids_are_follows_from_roles_alone() -> None:
    copied = request_sites(OPS_BY_NAME["COPY_FILE_RANGE"], NOW)
    assert copied.nodes == (16, 56)
    assert [(site.at, site.node_at) for site in copied.handles] == [(40, 16), (64, 56)]
    assert request_sites(OPS_BY_NAME["INIT"], NOW).nodes == ()
    manners = {name: manner(op) for name, op in OPS_BY_NAME.items() if manner(op) is not Manner.ORDINARY}
    assert manners == {
        "FORGET": Manner.FORGET,
        "BATCH_FORGET": Manner.FORGET,
        "INTERRUPT": Manner.INTERRUPT,
        "READDIR": Manner.LISTING,
        "READDIRPLUS": Manner.LISTING,
        "INIT": Manner.INIT,
        "NOTIFY_REPLY": Manner.RETRIEVED,
        "SETUPMAPPING": Manner.DAX,
        "REMOVEMAPPING": Manner.DAX,
    }


# ---- splitting ----


def ended(talk: Talk, replies: list[bytes]) -> tuple[list[Ask], bytes]:
    """Let a talk end; return what it asked and what it came to."""
    asked = [next(talk)]
    for reply in replies[:-1]:
        asked.append(talk.send(reply))
    with pytest.raises(StopIteration) as end:
        talk.send(replies[-1])
    return asked, end.value.value


def request(opcode: int, body: bytes) -> bytearray:
    return bytearray(struct.pack("<IIQQIIIHH", 40 + len(body), opcode, 2, 1, 0, 0, 0, 0, 0) + body)


READ, WRITE = (request_sites(OPS_BY_NAME[name], NOW) for name in ("READ", "WRITE"))


def test_a_read_in_parts_ends_with_the_first_short_one() -> None:
    message = request(15, struct.pack("<QQIIQII", 7, 5, 250, 0, 0, 0, 0))
    asked, reply = ended(read_in_parts(message, READ, 100), [reply_of(b"a" * 100), reply_of(b"b" * 20)])
    assert [(*struct.unpack_from("<QI", part.message, 48), part.room) for part in asked] == [
        (5, 100, 116),
        (105, 100, 116),
    ]
    assert reply[16:] == b"a" * 100 + b"b" * 20


def test_a_read_in_parts_that_fails_later_gives_what_was_read() -> None:
    message = request(15, struct.pack("<QQIIQII", 7, 0, 250, 0, 0, 0, 0))
    _, reply = ended(read_in_parts(message, READ, 100), [reply_of(b"a" * 100), reply_of(b"", -5)])
    assert reply == reply_of(b"a" * 100)
    _, reply = ended(read_in_parts(message, READ, 100), [reply_of(b"", -5)])
    assert reply == reply_of(b"", -5)


def test_a_write_in_parts_brings_every_byte_once_and_tells_the_sum() -> None:
    data = bytes(range(250))
    message = request(16, struct.pack("<QQIIQII", 7, 1000, 250, 0, 0, 0, 0) + data)
    replies = [reply_of(struct.pack("<II", size, 0)) for size in (100, 100, 50)]
    asked, reply = ended(write_in_parts(message, WRITE, 100), replies)
    assert b"".join(bytes(part.message[80:]) for part in asked) == data
    assert [struct.unpack_from("<I", part.message)[0] for part in asked] == [180, 180, 130]
    assert reply[16:] == struct.pack("<II", 250, 0)


def test_a_write_in_parts_ends_where_the_server_took_less() -> None:
    message = request(16, struct.pack("<QQIIQII", 7, 0, 250, 0, 0, 0, 0) + bytes(250))
    _, reply = ended(write_in_parts(message, WRITE, 100), [reply_of(struct.pack("<II", 30, 0))])
    assert reply[16:] == struct.pack("<II", 30, 0)


# ---- listings ----


def entry(name: bytes, cookie: int, node: int = 0) -> Entry:
    return Entry(name, cookie, 8, node, 0o100644, {})


def test_a_reader_that_goes_on_goes_on_where_the_live_listing_stopped_and_one_that_seeks_by_name() -> None:
    listing = Listing()
    assert listing.go_to(0) == 0
    listing.heard([entry(b"a", 11), entry(b"b", 12)], is_whole=True)
    listing.listed([entry(b"b", 901), entry(b"c", 902), entry(b"a", 903)])
    assert listing.go_to(12) == 903
    assert listing.go_to(11) == 903
    listing.heard([entry(b"c", 13)], is_whole=True)
    assert listing.go_to(12) == 901
    assert listing.go_to(99) is None


def test_a_reader_goes_on_behind_an_entry_that_the_capture_cut_off() -> None:
    listing = Listing()
    listing.heard([entry(b"a", 11)], is_whole=False)
    listing.listed([entry(b"a", 901), entry(b"b", 902)])
    assert listing.go_to(12) == 902


def test_nodes_are_matched_by_name_over_all_portions() -> None:
    listing = Listing()
    listing.heard([entry(b"a", 1, 51), entry(b".", 2, 50)], is_whole=True)
    assert list(listing.matches()) == []
    assert [item.name for item in listing.missing()] == [b"a"]
    listing.listed([entry(b"z", 1, 109), entry(b"a", 2, 101)])
    assert [(match.recorded, match.live) for match in listing.matches()] == [(51, 101)]
    assert listing.unclaimed() == [(109, 1)]


def test_a_listing_is_compared_when_both_were_read_to_the_end_and_none_was_cut() -> None:
    listing = Listing()
    listing.heard([], is_whole=True)
    assert not listing.is_comparable
    listing.listed([])
    assert listing.is_comparable
    listing.heard([entry(b"a", 1)], is_whole=False)
    assert not listing.is_comparable


# ---- other layouts ----


def test_a_request_is_laid_out_for_the_minor_that_the_live_session_agreed_on() -> None:
    old = Context(8, 0)
    whole = bytes(request(15, struct.pack("<QQIIQII", 7, 5, 10, 0, 0, 0, 0)))
    short = Encoder(NOW, old, {}, {}).live(OPS_BY_NAME["READ"], whole)
    assert (len(short), short[40:64]) == (64, whole[40:64])
    assert Encoder(old, NOW, {}, {}).live(OPS_BY_NAME["READ"], bytes(short)) == whole


def test_setxattr_follows_what_was_agreed_on() -> None:
    extended = Context(45, init_flag("SETXATTR_EXT"))
    body = le("IIII", 3, 0, 0, 0) + b"user.x\0abc"
    message = bytes(request(21, body))
    short = Encoder(extended, NOW, {}, {}).live(OPS_BY_NAME["SETXATTR"], message)
    assert short[40:] == le("II", 3, 0) + b"user.x\0abc"
    assert Encoder(NOW, extended, {}, {}).live(OPS_BY_NAME["SETXATTR"], bytes(short))[40:] == body


def test_an_extension_area_is_taken_away_where_the_server_was_not_told_of_it() -> None:
    with_groups = Context(45, init_flag("CREATE_SUPP_GROUP"))
    message = request(9, struct.pack("<II", 0o755, 0) + b"d\0" + bytes(16))
    struct.pack_into("<H", message, 36, 2)
    stripped = Encoder(with_groups, NOW, {}, {}).live(OPS_BY_NAME["MKDIR"], bytes(message))
    assert stripped == request(9, struct.pack("<II", 0o755, 0) + b"d\0")
    assert Encoder(with_groups, with_groups, {}, {}).live(OPS_BY_NAME["MKDIR"], bytes(message)) == message


# ---- INIT ----


def test_what_needs_a_kernel_is_never_offered() -> None:
    offered = offer({"minor": 45, "flags": 0xFFFF_FFFF, "flags2": 0xFFFF_FFFF, "max_readahead": 1}, NOW, InitEdit())
    assert not offered.flags & NEEDS_KERNEL
    assert offered.flags & init_flag("INIT_EXT")


def test_a_recording_without_init_offers_what_kernels_usually_do() -> None:
    offered = offer({}, Context(), InitEdit())
    assert (offered.minor, bool(offered.flags & init_flag("DO_READDIRPLUS"))) == (46, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minor=x", "needs a number"),
        ("minor=999", "needs a number from 0 to 46"),
        ("flags-=READDIRPULS", "did you mean DO_READDIRPLUS"),
        ("flags+=PASSTHROUGH", "needs a kernel"),
        ("speed=1", "does not know 'speed=1'"),
    ],
)
def test_a_wrong_init_edit_is_refused_with_the_next_step(text: str, message: str) -> None:
    with pytest.raises(TracerError, match=message):
        InitEdit.parse(text)


def test_sizes_are_what_the_kernel_would_use_and_the_transport_can_carry() -> None:
    offered = offer({}, Context(45), InitEdit())

    def reply(flags: int, max_write: int, max_pages: int) -> bytes:
        body = le("IIIIHHIIHHII", 7, 45, 0, flags, 12, 9, max_write, 1, max_pages, 0, 0, 0) + bytes(24)
        return le("IiQ", 16 + len(body), 0, 2) + body

    pages = init_flag("MAX_PAGES")
    assert agreed(offered, reply(pages, 16 << 20, 256), 1 << 30).max_write == 1 << 20
    assert agreed(offered, reply(0, 16 << 20, 256), 1 << 30).max_read == 128 << 10
    assert agreed(offered, reply(pages, 1 << 20, 256), 300 << 10).max_write == 296 << 10
    with pytest.raises(TracerError, match="refused INIT"):
        agreed(offered, le("IiQ", 16, -71, 2), 1 << 20)


# ---- names and edits ----


@given(st.binary(max_size=20))
def test_a_safe_name_is_one_that_stays_in_its_directory(name: bytes) -> None:
    is_plain = bool(name) and b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    assert is_safe_name(name) == is_plain


def test_an_edit_is_loaded_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def louder(message):\n    return message.upper()\nnumber = 1\ndef odd(message):\n    return 5\n")
    assert load_edit(f"{file}:louder")(b"abc", Context()) == b"ABC"
    for spec, words in (
        (f"{file}", "names no function"),
        (f"{file}:quieter", "has no function"),
        (f"{file}:number", "has no function"),
        (f"{tmp_path}/none.py:louder", "there is no file"),
    ):
        with pytest.raises(TracerError, match=words):
            load_edit(spec)
    with pytest.raises(TracerError, match="must return bytes"):
        load_edit(f"{file}:odd")(b"", Context())
