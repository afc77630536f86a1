"""When each request is due, and how late it went.

Due times are reckoned from the start and not from the request before, so that no lateness adds up to a drift.
"""

from __future__ import annotations

from array import array

from replays.recorded.recording import Step
from replays.report import PacingError

CLOSE_NS = 1_000_000  # wait actively for what is due within this: a poll wakes up a fraction of a millisecond late


class Pace:
    """The recorded times, scaled."""

    def __init__(self, speed: float, first_t_ns: int) -> None:
        """`speed` 2 is twice as fast; `first_t_ns` is the time of the first request."""
        self._speed = speed
        self._first_t_ns, self._start_ns = first_t_ns, 0
        self._late_ns = array("q")

    def start(self, now_ns: int) -> None:
        """The first request is due now."""
        self._start_ns = now_ns

    def due_ns(self, step: Step) -> int:
        """Return when a step is due, on the clock of `start`."""
        return self._start_ns + int((step.t_ns - self._first_t_ns) / self._speed)

    def went(self, step: Step, now_ns: int) -> None:
        """Take note that a step goes now."""
        self._late_ns.append(max(0, now_ns - self.due_ns(step)))

    def error(self) -> PacingError | None:
        """Return how well it was kept; None when nothing went."""
        if not self._late_ns:
            return None
        ordered = sorted(self._late_ns)
        count = len(ordered)
        return PacingError(
            self._speed, ordered[count // 2], ordered[min(count - 1, count * 99 // 100)], ordered[-1], self._late_ns[-1]
        )
