"""`fusewire open` in a real terminal: a live trace opens as two columns, or says why not."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.recorder import DEADLINE_S, PROGRAM
from tests.replays.test_outcome import LIVE, RECORDED


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        self.process = subprocess.Popen(
            [*PROGRAM, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
        )
        os.close(theirs)
        self.said = ""

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while words not in self.said:
            assert self._read(deadline), f"{words!r} never came: {self.said!r}"

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def ended(self) -> int:
        """Return the exit code, and read what is said until then."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read(deadline):
            pass
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        os.close(self._ours)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        try:
            piece = os.read(self._ours, 65536) if ready else b""
        except OSError:  # Linux says EIO when nobody has the other end open
            return False
        self.said += piece.decode(errors="replace")
        return bool(piece)


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[type[Terminal]]:
    """Return the class; what is made of it ends with the test."""
    made: list[Terminal] = []

    class Ended(Terminal):
        def __init__(self, *words: str) -> None:
            super().__init__(*words)
            made.append(self)

    yield Ended
    for one in made:
        one.close()


def test_a_live_trace_opens_as_two_columns_and_alone_when_asked(terminal: type[Terminal]) -> None:
    both = terminal("open", str(LIVE))
    both.wait_for("DIFFER")
    both.type("q")
    assert both.ended() == 0
    alone = terminal("open", str(LIVE), "--alone")
    alone.wait_for("exchanges")
    alone.type("q")
    assert alone.ended() == 0
    assert "DIFFER" not in alone.said


def test_a_recording_that_was_moved_is_named_and_without_it_the_next_step_is_told(
    terminal: type[Terminal], tmp_path: Path
) -> None:
    live, recorded = shutil.copy(LIVE, tmp_path), shutil.copy(RECORDED, tmp_path / "moved.pcapng")
    lost = terminal("open", str(live))
    assert lost.ended() == 2
    assert "say where it is: fusewire open RECORDING --with" in lost.said
    assert "Traceback" not in lost.said
    found = terminal("open", str(recorded), "--with", str(live))
    found.wait_for("DIFFER")
    found.type("q")
    assert found.ended() == 0
