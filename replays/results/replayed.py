"""A replay that is over, opened again: the recording, the live trace, and what differs between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from replays.results.outcome import Outcome, read, recording_of
from tracer.errors import TracerError
from tracer.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class Replayed:
    """Both sides of a replay."""

    recorded: Trace
    live: Trace
    outcome: Outcome

    @classmethod
    def open(
        cls,
        live: Path,
        recorded: Path | None = None,
        *,
        minor: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Replayed | None:
        """Open the live trace of a replay, and the recording: at `recorded`, or where the replay found it.

        None when `live` is another trace and no recording was named. TracerError when it is another trace although one
        was, when the recording is not there or another one, and for what Trace.open refuses. `minor` and `on_progress`
        are for the recording.
        """
        outcome = read(live)
        if outcome is None:
            if recorded is None:
                return None
            raise TracerError(
                f"{live} does not tell of a replay, or of one that was killed",
                f"make one with: fusewire replay {recorded} -o LIVE -- SERVER ARGS",
            )
        place = recording_of(live, outcome, recorded)
        return cls(Trace.open(place, minor=minor, on_progress=on_progress), Trace.open(live), outcome)
