"""A file of several names: one node in the recording and several on the live server, or the other way round."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replays.options import Order, ReplayOptions
from replays.playing.mapping import Mapper
from replays.replay import replay as play
from replays.report import ReplayReport
from tests.conftest import MakeServer
from tests.replays.linking_kernel import LinkingKernel
from tests.replays.model import (
    FORGET,
    GETATTR,
    LINK,
    LOOKUP,
    OPEN,
    OPENDIR,
    RENAME,
    ROOT,
    UNLINK,
    ModelServer,
    ModelTransport,
)
from tests.replays.test_end_to_end import into, record, replay
from tests.servers.real import Bindfs, PassthroughLl
from tests.servers.replayed import UnionfsFuse
from tests.tracer.dialogue import REGULAR, Dialogue

FILE = 50  # of all its names, in the recording
OPEN_BODY = bytes(8)
A, B = (ROOT, b"a"), (ROOT, b"b")


def linked() -> Dialogue:
    """INIT, LOOKUP of "a", and LINK of "b" to it."""
    dialogue = Dialogue()
    dialogue.init()
    dialogue.talk(LOOKUP, ROOT, b"a\0", dialogue.entry_out(FILE, REGULAR))
    dialogue.talk(LINK, ROOT, struct.pack("<Q", FILE) + b"b\0", dialogue.entry_out(FILE, REGULAR))
    return dialogue


def played(dialogue: Dialogue, directory: Path, server: ModelServer, order: Order = Order.CAUSAL) -> ReplayReport:
    options = ReplayOptions(order=order, allow_writes=True, timeout_s=1)
    return play(dialogue.trace(directory), ModelTransport(server), options)


def opened_on(server: ModelServer) -> list[int]:
    return [node for opcode, node, _ in server.asked if opcode == OPEN]


# ---- the shortest talks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [b"a", b"b"])
def test_a_file_is_opened_by_the_name_that_is_left(gone: bytes, tmp_path: Path) -> None:
    dialogue, server = linked(), ModelServer(follows_paths=True)
    dialogue.talk(UNLINK, ROOT, gone + b"\0")
    dialogue.talk(OPEN, FILE, OPEN_BODY, struct.pack("<QII", 7, 0, 0))
    report = played(dialogue, tmp_path, server)
    assert (report.stopped, report.differences) == ("", ())
    assert opened_on(server) == [102 if gone == b"a" else 101]


def test_a_name_that_moved_still_stands_for_the_file_and_one_that_was_replaced_does_not(tmp_path: Path) -> None:
    dialogue, server = linked(), ModelServer(follows_paths=True)
    dialogue.talk(LOOKUP, ROOT, b"c\0", dialogue.entry_out(60, REGULAR))
    dialogue.talk(RENAME, ROOT, struct.pack("<Q", ROOT) + b"b\0d\0")
    dialogue.talk(OPEN, FILE, OPEN_BODY, struct.pack("<QII", 7, 0, 0))
    dialogue.talk(RENAME, ROOT, struct.pack("<Q", ROOT) + b"c\0d\0")
    dialogue.talk(OPEN, FILE, OPEN_BODY, struct.pack("<QII", 8, 0, 0))
    report = played(dialogue, tmp_path, server)
    assert (report.stopped, report.differences) == ("", ())
    assert opened_on(server) == [102, 101]


def test_nobody_goes_by_a_name_whose_end_is_under_way_unless_it_is_refused(tmp_path: Path) -> None:
    dialogue, server = linked(), ModelServer(follows_paths=True)
    replacing = dialogue.ask(RENAME, ROOT, struct.pack("<Q", ROOT) + b"nothing\0b\0")
    dialogue.talk(OPEN, FILE, OPEN_BODY, struct.pack("<QII", 7, 0, 0))
    dialogue.answer(replacing, error=-2)
    dialogue.talk(UNLINK, ROOT, b"a\0")
    dialogue.talk(OPEN, FILE, OPEN_BODY, struct.pack("<QII", 8, 0, 0))
    assert played(dialogue, tmp_path, server).differences == ()
    assert opened_on(server) == [101, 102]


def test_each_of_the_live_nodes_is_given_back_with_the_last_lookup_of_the_file(tmp_path: Path) -> None:
    dialogue, server = linked(), ModelServer(follows_paths=True)
    dialogue.talk(LOOKUP, ROOT, b"b\0", dialogue.entry_out(FILE, REGULAR))
    dialogue.talk(UNLINK, ROOT, b"a\0")
    dialogue.forget(FILE, 2)
    dialogue.talk(GETATTR, FILE, bytes(16), struct.pack("<QII", 1, 0, 0) + dialogue.entry_out(FILE, REGULAR)[40:])
    dialogue.forget(FILE, 1)
    report = played(dialogue, tmp_path, server)
    assert report.differences == ()
    assert set(server.nodes) == {ROOT}


def test_names_of_one_live_node_that_are_two_in_the_recording_keep_their_own_lookups(tmp_path: Path) -> None:
    dialogue, server = Dialogue(), ModelServer()
    dialogue.init()
    dialogue.talk(LOOKUP, ROOT, b"a\0", dialogue.entry_out(50, REGULAR))
    dialogue.talk(LINK, ROOT, struct.pack("<Q", 50) + b"b\0", dialogue.entry_out(60, REGULAR))
    dialogue.forget(50)
    dialogue.talk(UNLINK, ROOT, b"a\0")
    dialogue.talk(OPEN, 60, OPEN_BODY, struct.pack("<QII", 7, 0, 0))
    report = played(dialogue, tmp_path, server)
    assert (report.stopped, report.differences) == ("", ())
    assert [body for opcode, _, body in server.asked if opcode == FORGET] == [struct.pack("<Q", 1)]
    assert server.nodes[101].lookups == 1
    assert opened_on(server) == [101]


@pytest.mark.parametrize(("links", "looked_up"), [(2, 1), (1, 0)])
def test_a_name_that_a_listing_alone_told_is_looked_up_while_it_is_another_way_to_the_file(
    links: int, looked_up: int, tmp_path: Path
) -> None:
    """READDIRPLUS told the recorded kernel of the other name; this server has none."""
    dialogue, server = Dialogue(), ModelServer(follows_paths=True, flags=0)
    dialogue.init()
    dialogue.talk(LOOKUP, ROOT, b"two\0", dialogue.entry_out(FILE, REGULAR))
    dialogue.talk(OPENDIR, ROOT, OPEN_BODY, struct.pack("<QII", 3, 0, 0))
    entry = bytearray(dialogue.entry_out(FILE, REGULAR))
    struct.pack_into("<I", entry, 40 + 64, links)  # fuse_attr.nlink
    listed = bytes(entry) + struct.pack("<QQII", 1, 1, 3, 8) + b"one".ljust(8, b"\0")
    dialogue.talk(44, ROOT, struct.pack("<QQIIQII", 3, 0, 4096, 0, 0, 0, 0), listed)
    if links > 1:
        dialogue.talk(UNLINK, ROOT, b"two\0")
    dialogue.talk(OPEN, FILE, OPEN_BODY, struct.pack("<QII", 7, 0, 0))
    dialogue.forget(FILE, 2)
    report = played(dialogue, tmp_path, server)
    assert [d for d in report.differences if d.opcode == OPEN] == []
    assert report.counts.added.get("LOOKUP", 0) == looked_up
    assert set(server.nodes) == {ROOT}


# ---- names -----------------------------------------------------------------------------------------------------------


def test_two_names_that_change_places_are_still_there() -> None:
    mapper = Mapper()
    mapper.entry(7, 100, name=A)
    mapper.entry(7, 200, name=B)
    mapper.exchanged(A, B)
    assert mapper.removed(A) == 200
    assert mapper.node(7) == 100


def test_a_number_that_comes_again_has_none_of_the_names_it_had() -> None:
    mapper = Mapper()
    mapper.entry(7, 100, name=A)
    assert mapper.forget(7, 1) == [(100, 1)]
    mapper.entry(8, 100, name=B)
    assert mapper.removed(A) == 0


def test_what_stands_for_a_node_says_its_type() -> None:
    """A torn recording may take two files for one: a name must not be looked up in what is no directory."""
    mapper = Mapper()
    mapper.entry(7, 100, 0o100644, name=A)
    mapper.entry(7, 200, 0o040755, name=B)
    assert mapper.type(7) == 0o040000
    mapper.removed(B)
    assert (mapper.node(7), mapper.type(7)) == (100, 0o100000)


NODES = st.integers(2, 5)
NAMES = st.tuples(st.just(ROOT), st.sampled_from((b"a", b"b", b"c")))
ACTIONS = st.one_of(
    st.tuples(st.just("entry"), NODES, NODES, NAMES),
    st.tuples(st.just("forget"), NODES, st.integers(0, 2**64 - 1)),
    st.tuples(st.just("removed"), NAMES),
    st.tuples(st.just("named"), NAMES, NODES),
    st.tuples(st.sampled_from(("moved", "exchanged")), NAMES, NAMES),
)


@given(st.lists(ACTIONS, max_size=60))
def test_whatever_happens_to_names_what_is_named_is_held_and_each_node_is_given_back_as_often_as_given_out(
    actions: list[tuple[object, ...]],
) -> None:
    mapper = Mapper()
    owed: dict[tuple[int, int], int] = {}  # (recorded, live) -> lookups
    for action, *words in actions:
        if action == "entry":
            recorded, live, name = words
            mapper.entry(recorded, live, 0o100644, name=name)  # type: ignore[arg-type]
            owed[recorded, live] = owed.get((recorded, live), 0) + 1  # type: ignore[index, arg-type]
        elif action == "forget":
            given_back = mapper.forget(*words)  # type: ignore[arg-type]
            if given_back:
                mine = {live: count for (recorded, live), count in owed.items() if recorded == words[0]}
                assert dict(given_back) == mine
                owed = {pair: count for pair, count in owed.items() if pair[0] != words[0]}
        else:
            getattr(mapper, str(action))(*words)
        assert {live for _, live in owed} == {live for live in range(2, 6) if mapper.is_held(live)}
        for recorded, live in mapper.nodes.items():
            assert recorded == live == ROOT or (recorded, live) in owed


# ---- any talk --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from((Order.CAUSAL, Order.SERIAL)), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_files_of_several_names_are_found_by_any_that_is_left_and_all_is_given_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, order: Order, recorded_by_path: bool, live_by_path: bool
) -> None:
    dialogue = LinkingKernel(seed, follows_paths=recorded_by_path).run(100)
    server, chance = ModelServer(follows_paths=live_by_path), random.Random(seed)
    transport = ModelTransport(server, chance.randrange)
    options = ReplayOptions(order=order, allow_writes=True, timeout_s=1)
    report = play(dialogue.trace(tmp_path_factory.mktemp("talk")), transport, options)
    assert (report.stopped, report.differences) == ("", ())
    assert report.counts.skipped.keys() <= {"STILL_HELD", "NOTHING_HELD"}
    assert set(server.nodes) == {ROOT}


# ---- real servers ----------------------------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "lacked"), [(Bindfs, set()), (UnionfsFuse, {("GETXATTR", "ENOSYS")}), (PassthroughLl, set())]
)
def test_names_of_one_file_are_followed_on_a_server_that_takes_them_for_several(
    kind: type[Bindfs] | type[UnionfsFuse] | type[PassthroughLl],
    lacked: set[tuple[str, str]],
    make_server: MakeServer,
    tmp_path: Path,
) -> None:
    path = record(make_server(PassthroughLl, "recorded"), tmp_path / "t.pcapng", "links")
    ended = replay(path, "--allow-writes", "--json", *into(make_server(kind, "fresh")))
    found = json.loads(ended.stdout)
    assert {(one["opcode"], one["live_text"]) for one in found["differences"]} == lacked, ended.stderr
    assert found["stopped"] is None
    assert found["counts"]["compared"] > 100
