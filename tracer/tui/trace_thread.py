"""The one thread that lets a trace grow and does what takes a whole trace: the screen only ever asks and is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from textual.message import Message

from tracer.errors import TracerError
from tracer.trace.loss import cut_short
from tracer.trace.times import live_now_ns
from tracer.trace.trace import Trace
from tracer.tui.density import Window
from tracer.tui.listing import Listing
from tracer.tui.messages import Grown, ListingReady, NamesKnown, PictureReady, Progress, SourceFailed
from tracer.tui.sieve import Choice, Sieve
from tracer.tui.timeline_model import TimelineModel
from tracer.tui.turns import Turns

POLL_S = 0.25  # how often a growing file is looked at
FEED_RECORDS = 1 << 18
SHOWN_PROGRESS = 1 << 18  # exchanges from which on progress is worth showing

Job = Iterator[None]


@dataclass(slots=True)
class _Wanted:
    """What the screen asked for last."""

    window: Window | None = None
    columns: int = 0
    choice: Choice | None = None
    follow: bool = False


@dataclass(slots=True)
class TraceThread:
    """Owns all changes to a trace. `post` must be safe to call from this thread."""

    trace: Trace
    turns: Turns
    post: Callable[[Message], object]
    wanted: _Wanted = field(default_factory=_Wanted)
    model: TimelineModel = field(init=False)
    upto: int = 0
    cut_count: int = 0  # messages of which less was kept than was asked for
    _jobs: dict[str, Job] = field(default_factory=dict)
    _asked: dict[str, Callable[[], Job]] = field(default_factory=dict)
    _wake: threading.Condition = field(default_factory=threading.Condition)
    _is_idle: bool = False
    _stopped: bool = False
    _has_told: bool = False
    _sieve: Sieve | None = None
    _told: tuple[int, int] = (0, 0)  # records and losses that the screen knows of

    def __post_init__(self) -> None:
        self.model = TimelineModel(self.trace)

    # ---- asked by the screen, from its own thread ------------------------------------------------------------------

    def follow(self, on: bool) -> None:
        """Look at the file again and again, or no longer."""
        self.wanted.follow = on
        self._ask("wake", lambda: iter(()))

    def paint(self, window: Window | None, columns: int) -> None:
        """Count the timeline for a window, None for the whole time; PictureReady answers."""
        self.wanted.window, self.wanted.columns = window, columns
        self._ask("paint", self._paint)

    def show(self, choice: Choice | None) -> None:
        """Find what a filter lets through; ListingReady answers. A newer filter ends the search for an older one."""
        self.wanted.choice = choice
        self._ask("filter", self._filter_anew)

    def compute(self, name: str, work: Callable[[Trace], Message]) -> None:
        """Run `work` and post what it returns."""
        self._ask(name, lambda: self._compute(work))

    def stop(self) -> None:
        """End the thread soon."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do, or the thread has ended; False when that takes too long."""
        with self._wake:
            return self._wake.wait_for(lambda: self._stopped or (self._is_idle and not self._asked), timeout_s)

    def _ask(self, name: str, make: Callable[[], Job]) -> None:
        with self._wake:
            self._asked[name] = make
            self._wake.notify_all()

    # ---- the thread ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until stopped."""
        try:
            self._work()
        finally:
            self.stop()  # also after a bug: nobody shall wait for a thread that has ended

    def _work(self) -> None:
        """Let the jobs take turns, a piece each, so that none makes another wait for long."""
        self._jobs["grow"] = self._grow()
        due = 0.0
        while not self._stopped:
            self._take_orders(due)
            if self.wanted.follow and "grow" not in self._jobs and time.monotonic() >= due:
                self._jobs["grow"] = self._grow()
            for name, job in list(self._jobs.items()):
                if next(job, self) is self and self._jobs.get(name) is job:
                    del self._jobs[name]
                    due = time.monotonic() + POLL_S if name == "grow" else due

    def _take_orders(self, due: float) -> None:
        """Turn what was asked into jobs; wait for something to do when there is nothing."""
        with self._wake:
            if not self._asked and not self._jobs:
                self._is_idle = True
                self._wake.notify_all()
                timeout = max(0.0, due - time.monotonic()) if self.wanted.follow else None
                self._wake.wait_for(lambda: self._asked or self._stopped, timeout)
                self._is_idle = False
            for name, make in self._asked.items():
                self._jobs[name] = make()
            self._asked.clear()

    def _grow(self) -> Job:
        """Take in what was appended by now, piece by piece, and tell how far it came: at the end, and in between."""
        told_s = time.monotonic()
        self._taking_in(self._look if self._has_told else self.trace.refresh)
        if not self._has_told:
            self._read_names()
            yield from self._count()
            yield from self._tell_growth()
        while self._taking_in(self._take_piece):
            yield from self._count()
            if time.monotonic() - told_s > POLL_S:
                yield from self._tell_growth()
                told_s = time.monotonic()
            yield
        if self._told != (self.trace.records.count, len(self.trace.gaps)):  # a loss is news, too
            yield from self._tell_growth()
        elif self.wanted.follow:
            yield from self._age()

    def _age(self) -> Job:
        """Show what time alone changes, while no record comes: how long requests have waited."""
        if self._sieve is not None and self._sieve.choice.matcher.is_ageing and "filter" not in self._jobs:
            yield from self._filter()
        if self.model.has_pending:
            yield from self._paint()

    def _taking_in(self, work: Callable[[], int]) -> int:
        """Let the trace grow in one turn; return what `work` does, 0 when the file cannot be read any more."""
        try:
            with self.turns.mine():
                return work()
        except TracerError as error:
            self.wanted.follow = False
            self.post(SourceFailed(error))
            return 0

    def _look(self) -> int:
        self.trace.file.remap()
        self.trace.now_ns = self._now_ns() or None
        return 0

    def _take_piece(self) -> int:
        """Index a piece of what is mapped now, some thousand records: the screen waits no longer than that takes."""
        count = self.trace.take_in()
        self.trace.advance_state()
        return count

    def _count(self) -> Job:
        records = self.trace.records
        while (fed := self.model.fed) < records.count:
            self.model.feed(FEED_RECORDS)
            self.cut_count += cut_short(records, self.trace.channels, slice(fed, self.model.fed))
            self._tell_progress("counting", self.model.fed, records.count)
            yield

    def _tell_growth(self) -> Job:
        """Extend the listing, then tell."""
        self._has_told = True
        self.upto, self._told = self.trace.exchange_count, (self.model.fed, len(self.trace.gaps))
        if "filter" not in self._jobs:  # or it comes to the new ones by itself
            yield from self._filter()
        self.post(Grown(self.upto, self._submount_cells()))
        yield from self._paint()

    def _submount_cells(self) -> int:
        many = len(self.trace.channels) > 1
        submounts = self.trace.submounts
        return max((len(f"{channel}/{nodeid}" if many else str(nodeid)) for channel, nodeid in submounts), default=0)

    def _read_names(self) -> None:
        """Follow the names of the whole trace; the screen shows rows without them for as long as that takes."""
        self.upto = self.trace.exchange_count
        self.post(ListingReady(Listing(self.upto)))
        self.post(Progress("reading names", 0, 0))
        self.trace.advance_state()  # not in turns: until NamesKnown, nobody else asks for names
        self.post(NamesKnown())
        self.post(Progress("", 0, 0))

    def _paint(self) -> Job:
        if self.wanted.columns > 0:
            self.post(PictureReady(self.model.picture(self.wanted.window, self.wanted.columns, self._now_ns())))
        yield

    def _now_ns(self) -> int:
        """Return the time until which a pending SYNCFS waits: now, while somebody records; else the trace's end, 0."""
        finished = self.trace.file.finished or not self.wanted.follow
        return live_now_ns(finished, self.model.whole.end_ns) or 0

    def _compute(self, work: Callable[[Trace], Message]) -> Job:
        self.post(work(self.trace))
        yield

    # ---- the listing -----------------------------------------------------------------------------------------------

    def _filter_anew(self) -> Job:
        choice = self.wanted.choice
        self._sieve = Sieve(self.trace, self.turns, choice) if choice is not None else None
        yield from self._filter()

    def _filter(self) -> Job:
        """Bring the listing up to date: exchanges that are new, and those that were answered since."""
        sieve = self._sieve
        if sieve is None:
            self.post(ListingReady(Listing(self.upto)))
            return
        sieve.judge_again()
        while sieve.upto < self.upto:
            sieve.take(self.upto)
            self._tell_progress("filtering", sieve.upto, self.upto)
            yield
            if sieve is not self._sieve:
                return
        self.post(ListingReady(sieve.listing()))

    def _tell_progress(self, what: str, done: int, total: int) -> None:
        if total >= SHOWN_PROGRESS or not what:
            self.post(Progress(what if done < total else "", done, total))
