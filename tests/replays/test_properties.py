"""Whatever was recorded, whatever is missing of it, in whatever order answers come: no server dies of a replay."""

from __future__ import annotations

import contextlib
import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from replays.options import Order, ReplayOptions
from replays.recorded.dependencies import waits
from replays.recorded.introductions import givens
from replays.recorded.plan import make_plan
from replays.replay import replay
from replays.report import ReplayReport
from tests.replays.model import ROOT, ModelServer, ModelTransport
from tests.replays.recorded_kernel import RecordedKernel
from tests.tracer.dialogue import Dialogue
from tracer.errors import TracerError
from tracer.records import RawRecord
from tracer.trace.trace import Trace

SEEDS = st.integers(0, 2**32)


def play(dialogue: Dialogue, seed: int, order: Order) -> tuple[ReplayReport, ModelServer]:
    """Play a dialogue against a model that gives other numbers and answers in any order; Died when it would have."""
    server, chance = ModelServer(), random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        trace = dialogue.trace(Path(directory))
        transport = ModelTransport(server, chance.randrange)
        options = ReplayOptions(order=order, allow_writes=True, timeout_s=1)
        return replay(trace, transport, options), server


@given(SEEDS, st.sampled_from(Order))
@settings(max_examples=60, deadline=None)
def test_what_was_said_to_one_server_is_answered_alike_by_another_in_any_order(seed: int, order: Order) -> None:
    kernel = RecordedKernel(seed)
    report, server = play(kernel.run(80), seed, order)
    assert (report.stopped, [d for d in report.differences if d.rule != "error"]) == ("", [])
    assert report.counts.skipped.keys() <= {"STILL_HELD", "NOTHING_HELD"}
    assert not report.counts.added.get("LOOKUP")
    assert sum(node.lookups for number, node in server.nodes.items() if number != ROOT) >= 0


@given(SEEDS, st.sampled_from(Order), st.floats(0, 0.6))
@settings(max_examples=60, deadline=None)
def test_no_id_is_ever_sent_that_the_server_did_not_give_out_however_much_is_lost(
    seed: int, order: Order, loss: float
) -> None:
    dialogue, chance = RecordedKernel(seed).run(80), random.Random(seed)
    dialogue.entries = [entry for entry in dialogue.entries if chance.random() >= loss]
    with contextlib.suppress(TracerError):  # when nothing is left that could be played
        play(dialogue, seed, order)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_every_step_comes_after_what_it_depends_on(seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trace: Trace = RecordedKernel(seed).run(120).trace(Path(directory))
        plan = make_plan(trace, allow_writes=True)
        needed, starts = waits(plan)
        before: list[set[int]] = []
        for step in plan.steps:
            assert all(other < step.number for other in (*needed[step.number], starts[step.number]))
            before.append(set(needed[step.number]).union(*(before[other] for other in needed[step.number])))
        giver: dict[int, int] = {}
        for step in plan.steps:
            for node in plan.recording.nodes(step):
                if node in giver and plan.steps[giver[node]].turn < step.after:
                    assert giver[node] in before[step.number]
            assert all(key in before[step.number] for key in step.handles)
            for given_here in givens(plan.recording, step):
                giver.setdefault(given_here.node, step.number)


@given(SEEDS, st.sampled_from(Order), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_no_bytes_in_a_trace_make_a_server_die_or_the_replay_fail(seed: int, order: Order, count: int) -> None:
    dialogue, chance = RecordedKernel(seed).run(60), random.Random(seed)
    for _ in range(count):
        place = chance.randrange(2, len(dialogue.entries))  # the model speaks no minor but the newest
        record = dialogue.entries[place]
        assert isinstance(record, RawRecord)
        data = bytearray(record.data)
        at = chance.randrange(len(data))
        data[at : at + 8] = chance.choice((b"\0", b"\1\0\0\0\0\0\0\0", b"/", b"..", bytes([chance.randrange(256)])))
        dialogue.entries[place] = record._replace(data=bytes(data), wire_len=len(data))
    with contextlib.suppress(TracerError):
        play(dialogue, seed, order)
