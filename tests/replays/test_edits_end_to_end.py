"""Edit expressions on a real recording, played to a real server: what it was sent is read from the live trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dissectors.message import Message
from tests.conftest import MakeServer
from tests.replays.test_end_to_end import into, record, replay
from tests.servers.real import PassthroughLl
from tracer.trace.trace import Trace

pytestmark = [pytest.mark.e2e, pytest.mark.root]

IDS = ("fh", "lock_owner")  # the server's own numbers, and a kernel's


@pytest.fixture
def recorded(make_server: MakeServer, tmp_path: Path) -> Path:
    """A trace of mixed work."""
    return record(make_server(PassthroughLl, "recorded"), tmp_path / "t.pcapng", "mixed")


class Played:
    """One replay with an edit: its outcome, and what the server was asked."""

    def __init__(self, recorded: Path, edit: str, server: PassthroughLl, live: Path) -> None:
        words = ("--allow-writes", "--order", "serial", "--json", "--edit", edit, "-o", live)
        ended = replay(recorded, *words, *into(server))
        assert ended.returncode in (0, 1), ended.stderr
        self.outcome: Any = json.loads(ended.stdout)
        self.trace = Trace.open(live)

    def requests(self, opcode: str) -> list[Message]:
        return requests(self.trace, opcode)


def requests(trace: Trace, opcode: str) -> list[Message]:
    messages = (trace.exchange(number).message for number in range(trace.exchange_count))
    return [message for message in messages if message.name == opcode]


@pytest.fixture
def play(recorded: Path, make_server: MakeServer, tmp_path: Path) -> Any:
    """Return a function: an expression -> what came of the replay."""
    count = iter(range(100))

    def run(edit: str) -> Played:
        number = next(count)
        server = make_server(PassthroughLl, f"fresh{number}")
        return Played(recorded, edit, server, tmp_path / f"live{number}.pcapng")

    return run


def test_a_server_that_is_never_asked_for_names_is_asked_for_nothing_below_the_root(play: Any) -> None:
    played = play("LOOKUP: drop")
    assert played.requests("LOOKUP") == []
    assert played.outcome["counts"]["skipped"]["EDITED_AWAY"] > 0


def test_reads_of_half_the_size_are_answered_with_half_as_much(play: Any, recorded: Path) -> None:
    before = [message.values["size"] for message in requests(Trace.open(recorded), "READ")]
    after = [message.values["size"] for message in play("READ.size /= 2").requests("READ")]
    assert before
    assert after == [int(size) // 2 for size in before]


def test_the_same_seed_sends_the_same_writes_and_another_others(play: Any) -> None:
    def sent(seed: int) -> list[dict[str, Any]]:
        asked = play(f"WRITE: fuzz seed={seed}").requests("WRITE")
        return [{name: value for name, value in one.values.items() if name not in IDS} for one in asked]

    seven, again, eight = sent(7), sent(7), sent(8)
    assert seven
    assert seven == again
    assert seven != eight


@pytest.mark.parametrize("seed", [3, 5])
def test_requests_fuzzed_as_a_kernel_could_say_them_end_no_server(seed: int, play: Any) -> None:
    outcome = play(f"*: fuzz 1/2 seed={seed}").outcome
    assert (outcome["stopped"], outcome["server"]["how"]) == (None, "by itself")
    assert outcome["counts"]["sent"] > 40
