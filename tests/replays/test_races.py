"""What two requests at once leave to chance is no difference; what one of them alone asked is."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from replays.options import ReplayOptions
from replays.replay import replay
from tests.replays.model import LOOKUP, ModelServer, ModelTransport
from tests.tracer.dialogue import REGULAR, Dialogue

LISTXATTR, REMOVEXATTR = 23, 24
LIST_BODY = struct.pack("<II", 100, 0)


class Bare(ModelServer):
    """Its files have no extended attributes, or none any more."""

    def answer(self, request: bytes) -> bytes | None:
        _, opcode, unique = struct.unpack_from("<IIQ", request)
        return struct.pack("<IiQ", 16, 0, unique) if opcode in (LISTXATTR, REMOVEXATTR) else super().answer(request)


@pytest.mark.parametrize(("at_once", "rules"), [(True, []), (False, ["attribute-names"])])
def test_names_of_attributes_are_chance_while_one_is_removed(at_once: bool, rules: list[str], tmp_path: Path) -> None:
    """A recording by strace may have REMOVEXATTR come in before LISTXATTR was answered, and servers have threads."""
    dialogue = Dialogue()
    dialogue.init()
    dialogue.talk(LOOKUP, 1, b"file\0", dialogue.entry_out(50, REGULAR))
    listing = dialogue.ask(LISTXATTR, 50, LIST_BODY)
    removal = dialogue.ask(REMOVEXATTR, 50, b"user.x\0") if at_once else 0
    dialogue.answer(listing, b"user.x\0")
    if at_once:
        dialogue.answer(removal)
    trace = dialogue.trace(tmp_path)
    report = replay(trace, ModelTransport(Bare()), ReplayOptions(allow_writes=True, timeout_s=1))
    assert (report.stopped, [one.rule for one in report.differences]) == ("", rules)
    assert [note.rule for note in report.notes] == ["race"] * at_once
