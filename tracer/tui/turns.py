"""Two threads take turns with a trace: the one that lets it grow, and the one that draws."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is fair: who waits gets it next, however soon the other one asks again.

    threading.Lock alone would let a worker that releases and takes it in a loop starve the screen.
    """

    def __init__(self) -> None:
        self._next, self._held = threading.Lock(), threading.Lock()

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Hold the trace for as long as the block lasts: keep it short."""
        with self._next:
            self._held.acquire()
        try:
            yield
        finally:
            self._held.release()
