"""What a nodeid was called at any point of the trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tracer.dialogue import GETATTR, LOOKUP, TMPFILE, UNLINK, Dialogue
from tracer.trace.names import Names
from tracer.trace.trace import Trace

EXCHANGE, NOREPLACE = 2, 1


class Probe:
    """A dialogue that asks at chosen points for a node, and afterwards what the node was called there."""

    def __init__(self) -> None:
        self.talk = Dialogue()
        self._asked: list[tuple[int, int, bytes | None]] = []

    def expect(self, nodeid: int, path: bytes | None) -> None:
        self._asked.append((self.talk.talk(GETATTR, nodeid, bytes(16), bytes(104)), nodeid, path))

    def check(self, directory: Path) -> Trace:
        trace = self.talk.trace(directory)
        found = [(row, nodeid, trace.path(row)) for row, nodeid, _ in self._asked]
        assert found == self._asked
        paths = trace.paths()
        texts = [(row, nodeid, paths.text(0, nodeid, row)) for row, nodeid, _ in self._asked]
        assert texts == [(row, nodeid, path.decode() if path else None) for row, nodeid, path in self._asked]
        return trace


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def tree(probe: Probe) -> Dialogue:
    """/dir (2), /dir/file (3), /other (4)."""
    probe.talk.lookup(1, b"dir", 2)
    probe.talk.lookup(2, b"file", 3)
    probe.talk.lookup(1, b"other", 4)
    return probe.talk


def test_the_root_has_a_name_and_an_unseen_node_has_none(probe: Probe, tmp_path: Path) -> None:
    probe.expect(1, b"/")
    probe.expect(5, None)
    probe.talk.lookup(1, b"a", 5)
    probe.expect(5, b"/a")
    probe.check(tmp_path)


@pytest.mark.parametrize("way", ["lookup", "create", "mknod", "mkdir", "link"])
def test_what_gives_a_node_gives_it_a_name(way: str, probe: Probe, tmp_path: Path) -> None:
    if way == "link":
        probe.talk.link(5, 1, b"new")
    else:
        getattr(probe.talk, way)(1, b"new", 5)
    probe.expect(5, b"/new")
    assert probe.check(tmp_path).names(0).nlookup(5) == 1


def test_a_symlinks_name_is_its_own_not_its_targets(probe: Probe, tmp_path: Path) -> None:
    probe.talk.symlink(1, b"soft", b"target", 5)
    probe.expect(5, b"/soft")
    probe.check(tmp_path)


def test_a_failed_or_negative_lookup_names_nothing(probe: Probe, tmp_path: Path) -> None:
    probe.talk.talk(LOOKUP, 1, b"none\0", error=-2)
    probe.talk.lookup(1, b"negative", 0)
    trace = probe.check(tmp_path)
    assert trace.path(0) == b"/"
    assert trace.names(0).nlookup(0) == 0


def test_a_path_is_that_of_the_time(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    probe.expect(3, b"/dir/file")
    tree.rename((2, b"file"), (4, b"moved"))
    probe.expect(3, b"/other/moved")
    tree.rename((4, b"moved"), (1, b"top"))
    probe.expect(3, b"/top")
    probe.check(tmp_path)


def test_a_rename_that_failed_moves_nothing(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.rename((2, b"file"), (4, b"moved"), error=-18)
    probe.expect(3, b"/dir/file")
    probe.check(tmp_path)


def test_the_request_of_a_rename_still_has_the_old_path(tree: Dialogue, tmp_path: Path) -> None:
    row = tree.rename((1, b"dir"), (1, b"neu"))
    last = tree.talk(GETATTR, 3)
    trace = tree.trace(tmp_path)
    assert (trace.path(row), trace.path(last)) == (b"/", b"/neu/file")


def test_renaming_a_directory_moves_what_is_in_it(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.lookup(3, b"deep", 6)
    tree.rename((1, b"dir"), (4, b"inside"))
    probe.expect(6, b"/other/inside/file/deep")
    probe.check(tmp_path)


def test_renaming_over_a_name_takes_it_from_the_other_node(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.lookup(1, b"victim", 7)
    tree.rename((2, b"file"), (1, b"victim"))
    probe.expect(3, b"/victim")
    probe.expect(7, b"/victim (deleted)")
    probe.check(tmp_path)


def test_exchange_swaps_both(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.lookup(4, b"b", 7)
    tree.rename2((2, b"file"), (4, b"b"), EXCHANGE)
    probe.expect(3, b"/other/b")
    probe.expect(7, b"/dir/file")
    tree.rename2((2, b"file"), (1, b"c"), NOREPLACE)
    probe.expect(7, b"/c")
    probe.check(tmp_path)


def test_exchange_of_names_of_which_one_was_never_seen(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.rename2((4, b"unseen"), (2, b"file"), EXCHANGE)
    probe.expect(3, b"/other/unseen")
    probe.check(tmp_path)


def test_a_removed_name_stays_visible_on_what_still_uses_the_node(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.unlink(2, b"file")
    probe.expect(3, b"/dir/file (deleted)")
    tree.create(2, b"file", 8)
    probe.expect(8, b"/dir/file")
    probe.expect(3, b"/dir/file (deleted)")
    tree.rmdir(1, b"other")
    probe.expect(4, b"/other (deleted)")
    probe.check(tmp_path)


def test_an_unlink_that_failed_removes_nothing(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.unlink(2, b"file", error=-13)
    tree.ask(UNLINK, 2, b"file\0")
    probe.expect(3, b"/dir/file")
    probe.check(tmp_path)


def test_of_two_names_the_other_remains(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.link(3, 4, b"second")
    probe.expect(3, b"/other/second")
    tree.unlink(4, b"second")
    probe.expect(3, b"/dir/file")
    tree.link(3, 1, b"third")
    tree.unlink(2, b"file")
    probe.expect(3, b"/third")
    tree.unlink(1, b"third")
    probe.expect(3, b"/third (deleted)")
    probe.check(tmp_path)


def test_a_node_given_back_has_no_name_and_its_number_may_come_again(
    tree: Dialogue, probe: Probe, tmp_path: Path
) -> None:
    tree.lookup(2, b"file", 3)
    tree.forget(3, 1)
    probe.expect(3, b"/dir/file")
    tree.forget(3, 1)
    probe.expect(3, None)
    tree.mkdir(4, b"again", 3)
    probe.expect(3, b"/other/again")
    trace = probe.check(tmp_path)
    assert trace.names(0).nlookup(3) == 1


def test_batch_forget_gives_back_each_of_its_nodes(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.batch_forget((3, 1), (4, 7), (99, 1))
    probe.expect(3, None)
    probe.expect(4, None)
    probe.expect(2, b"/dir")
    probe.check(tmp_path)


def test_the_root_is_never_given_back(probe: Probe, tmp_path: Path) -> None:
    probe.talk.forget(1, 100)
    probe.expect(1, b"/")
    probe.check(tmp_path)


def test_names_of_a_number_given_back_do_not_move_what_has_it_next(
    tree: Dialogue, probe: Probe, tmp_path: Path
) -> None:
    tree.link(3, 4, b"second")
    tree.forget(3, 2)
    tree.create(1, b"new", 3)
    tree.rename((2, b"file"), (2, b"elsewhere"))
    probe.expect(3, b"/new")
    tree.unlink(4, b"second")
    probe.expect(3, b"/new")
    probe.check(tmp_path)


def test_a_listing_with_attributes_names_its_entries_but_not_itself(probe: Probe, tmp_path: Path) -> None:
    probe.talk.lookup(1, b"dir", 2)
    probe.talk.readdirplus(
        2, [(b".", 2, False), (b"..", 1, False), (b"a", 5, False), (b"none", 0, False), (b"b", 6, False)]
    )
    probe.expect(2, b"/dir")
    probe.expect(5, b"/dir/a")
    probe.expect(6, b"/dir/b")
    names = probe.check(tmp_path).names(0)
    assert [names.nlookup(nodeid) for nodeid in (1, 2, 5, 6)] == [0, 1, 1, 1]


def test_files_made_without_a_name_do_not_take_each_others_place(probe: Probe, tmp_path: Path) -> None:
    probe.talk.lookup(1, b"(tmpfile)", 4)
    probe.talk.create(1, b"/", 5, TMPFILE)
    probe.talk.create(1, b"/", 6, TMPFILE)
    probe.expect(4, b"/(tmpfile)")
    probe.expect(5, b"/(tmpfile)")
    probe.expect(6, b"/(tmpfile)")
    probe.talk.link(5, 1, b"kept")
    probe.expect(5, b"/kept")
    probe.check(tmp_path)


def test_a_name_that_now_leads_to_another_node_is_lost_to_the_first(
    tree: Dialogue, probe: Probe, tmp_path: Path
) -> None:
    """Somebody replaced the file on the server; the kernel looks the name up again and learns so."""
    tree.lookup(2, b"file", 9)
    probe.expect(9, b"/dir/file")
    probe.expect(3, b"/dir/file (deleted)")
    probe.check(tmp_path)


def test_late_attach_knows_a_path_once_all_of_it_was_looked_up(probe: Probe, tmp_path: Path) -> None:
    probe.talk.lookup(70, b"file", 71)
    probe.expect(71, None)
    probe.talk.lookup(1, b"dir", 70)
    probe.expect(71, b"/dir/file")
    probe.check(tmp_path)


def test_a_loop_of_a_hostile_server_has_no_path_and_ends(probe: Probe, tmp_path: Path) -> None:
    probe.talk.lookup(3, b"a", 2)
    probe.talk.lookup(2, b"b", 3)
    probe.talk.lookup(7, b"self", 7)
    for nodeid in (2, 3, 7):
        probe.expect(nodeid, None)
    probe.check(tmp_path)


def test_a_rename_into_itself_has_no_path_and_ends(tree: Dialogue, probe: Probe, tmp_path: Path) -> None:
    tree.rename((1, b"dir"), (2, b"inside"))
    probe.expect(2, None)
    tree.rename((2, b"inside"), (2, b"inside"))
    probe.expect(3, None)
    probe.check(tmp_path)


def test_a_path_deeper_than_any_kernels_is_not_followed(tmp_path: Path) -> None:
    talk = Dialogue()
    for nodeid in range(1, 5_000):
        talk.lookup(nodeid, b"d", nodeid + 1)
    row = talk.talk(GETATTR, 5_000)
    trace = talk.trace(tmp_path)
    assert trace.path(row) is None
    assert trace.names(0).path(4_000, row) == b"/d" * 3_999


@pytest.mark.parametrize("opcode", [LOOKUP, UNLINK])
def test_a_name_cut_off_by_the_capture_harms_nothing(opcode: int, probe: Probe, tmp_path: Path) -> None:
    unique = probe.talk.ask(opcode, 1, b"long-name\0")
    whole = probe.talk.entries.pop()
    probe.talk.entries.append(whole._replace(data=whole.data[:44]))
    probe.talk.answer(unique, probe.talk.entry_out(5) if opcode == LOOKUP else b"")
    probe.expect(1, b"/")
    probe.check(tmp_path)


def test_a_file_linked_and_unlinked_a_hundred_thousand_times_is_followed_in_time(tmp_path: Path) -> None:
    talk = Dialogue()
    talk.lookup(1, b"lock", 2)
    for number in range(20_000):
        talk.link(2, 1, b"%d" % number)
        talk.unlink(1, b"%d" % number)
    row = talk.talk(GETATTR, 2)
    assert talk.trace(tmp_path).path(row) == b"/lock"


def test_a_number_given_and_given_back_over_and_over_is_followed_in_time(tmp_path: Path) -> None:
    talk = Dialogue()
    for number in range(20_000):
        talk.create(1, b"%d" % (number % 7), 2)
        talk.unlink(1, b"%d" % (number % 7))
        if number % 3:
            talk.forget(2)
    row = talk.talk(GETATTR, 2)
    assert talk.trace(tmp_path).path(row) is not None


def test_paths_read_backwards_are_those_of_the_time_too(tree: Dialogue, tmp_path: Path) -> None:
    rows = [tree.talk(GETATTR, 9)]
    tree.lookup(2, b"new", 9)
    rows.append(tree.talk(GETATTR, 9))
    tree.rename((2, b"new"), (1, b"newer"))
    rows.append(tree.talk(GETATTR, 9))
    trace = tree.trace(tmp_path)
    paths = trace.paths()
    assert [paths.text(0, 9, row) for row in reversed(rows)] == ["/newer", "/dir/new", None]


def test_a_forget_is_shown_with_the_name_it_takes_back(tree: Dialogue, tmp_path: Path) -> None:
    row = tree.forget(3)
    after = tree.talk(GETATTR, 3)
    trace = tree.trace(tmp_path)
    assert (trace.path(row), trace.path(after)) == (b"/dir/file", None)
    assert (trace.paths().text(0, 3, row), trace.paths().text(0, 3, after)) == ("/dir/file", None)


def test_a_nodes_place_is_told_also_before_the_record_that_first_tells_it() -> None:
    names = Names()
    names.entry(10, 1, b"dir", 5, False)
    names.renamed(20, (1, b"dir"), (1, b"other"), False)
    places = [names.place(5, row) for row in (3, 10, 25)]
    assert [(place.parent, place.name) for place in places if place] == [(1, b"dir"), (1, b"dir"), (1, b"other")]
    assert names.place(6, 10) is None
