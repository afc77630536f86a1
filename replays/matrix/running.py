"""Runs one trace against every server of a MatrixSpec. What goes wrong with one of them is its row, not the end."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from replays.matrix.interruptible import Interruptible
from replays.matrix.place import Place, beside, common_source, place_for, run_command
from replays.matrix.result import Matrix, Row, TraceFacts, Verdict
from replays.matrix.spec import LIMIT_S, MatrixSpec, ServerSpec
from replays.matrix.words import filled, is_of_server
from replays.options import ReplayOptions
from replays.recorded.plan import Plan
from replays.replay import plan_for, replay
from replays.report import ReplayReport
from replays.results import outcome
from replays.results.report_text import report_lines
from replays.results.terms import terms_of
from replays.transports.base import ServerGone, Transport
from replays.transports.launcher import launch
from replays.transports.process import start
from tracer.bridges.host.server import check_server
from tracer.errors import TracerError
from tracer.output.style import Painter
from tracer.store.writer import TraceWriter
from tracer.trace.trace import Trace

VERSION_TIMEOUT_S = 10.0
LONGEST_VERSION = 100
NOTHING = "nothing was compared: no request that was played has an answer in the recording"
OnRow = Callable[[Row], None]


@dataclass(frozen=True, slots=True)
class Run:
    """What is decided when a matrix is run, beside its file."""

    trace: Path
    channel: int | None = None
    minor: int | None = None
    jobs: int = 1  # servers at once
    live: Path | None = None  # a directory for the live dialogues


def run_matrix(spec: MatrixSpec, run: Run, on_row: OnRow = lambda row: None) -> Matrix:
    """Play the trace to every server; `on_row` hears each as it is done, perhaps in another thread.

    Raises TracerError for what is no server's fault: the trace, the source, a place for live traces.
    """
    facts = _trace_facts(spec, run)
    if run.live is not None:
        _make_room_for_live(spec, run, run.live)
    with common_source(spec, LIMIT_S) as source:
        matrix_run, numbers = _MatrixRun(spec, run, source, on_row), range(len(spec.servers))
        # One after another in this thread, where ^C ends the server that runs.
        rows = tuple(map(matrix_run.row, numbers)) if run.jobs == 1 else _at_once(matrix_run, numbers, run.jobs)
    return Matrix(facts, spec.path, rows, run.jobs)


def _make_room_for_live(spec: MatrixSpec, run: Run, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TracerError(f"no place for live traces: {error.strerror}", "name a directory: --live DIR") from None
    for number, server in enumerate(spec.servers):
        path = _live_path(directory, number, server)
        if path.exists() and path.samefile(run.trace):
            raise TracerError("a live trace would replace the recording", "give another directory with --live")


def _live_path(directory: Path, number: int, server: ServerSpec) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", server.name)
    return directory / f"{number + 1:02}-{name}.pcapng"


def _at_once(matrix_run: _MatrixRun, numbers: Iterable[int], jobs: int) -> tuple[Row, ...]:
    """Make rows in threads; on ^C those that are begun are ended, and no others begun."""
    pool = ThreadPoolExecutor(jobs, "server")
    try:
        return tuple(pool.map(matrix_run.row, numbers))
    finally:
        matrix_run.stop.set()
        pool.shutdown(cancel_futures=True)


def _trace_facts(spec: MatrixSpec, run: Run) -> TraceFacts:
    """Read what is played; TracerError when nothing could be played to anybody."""
    zero_fill = any(server.options.zero_fill for server in spec.servers)
    plan = _plan(run, ReplayOptions(channel=run.channel, allow_writes=True, zero_fill=zero_fill))
    info = plan.recording.trace.channels[plan.recording.channel]
    return TraceFacts(run.trace, info.name, info.server_command, info.kernel, len(plan.steps))


def _plan(run: Run, options: ReplayOptions) -> Plan:
    return plan_for(Trace.open(run.trace, minor=run.minor), options)


class _MatrixRun:
    """Makes the rows of one matrix; each by itself, so that several may be made at once."""

    def __init__(self, spec: MatrixSpec, run: Run, source: Path | None, on_row: OnRow) -> None:
        self._spec, self._run, self._source, self._on_row = spec, run, source, on_row
        self.stop = Event()  # ends the conversations under way
        self._plans: dict[tuple[bool, bool], Plan] = {}

    def row(self, number: int) -> Row:
        """Play the trace to one server."""
        server = self._spec.servers[number]
        row = Row(server.name, Verdict.SKIPPED, server.command)
        try:
            row = replace(row, why=self._why_skipped(server))
            if not row.why:
                row = self._played(number, server, row)
        except (TracerError, ServerGone) as error:
            why = error.message if isinstance(error, TracerError) else str(error)
            row = replace(row, verdict=Verdict.FAILED, why=why)
        self._on_row(row)
        return row

    def _why_skipped(self, server: ServerSpec) -> str:
        if server.skip:
            return server.skip
        if server.needs_root and os.geteuid() != 0:
            return "needs root"
        if not server.is_for(self._run.trace):
            return f"not for this trace, but for {', '.join(server.traces)}"
        first = [words[0] for words in (server.command, *server.prepare)]
        programs = tuple(word for word in first if not is_of_server(word)) + server.needs
        try:
            for program in filled(programs, beside(self._spec)):
                check_server([program])
        except TracerError as missing:
            return missing.message
        return ""

    def _played(self, number: int, server: ServerSpec, row: Row) -> Row:
        with place_for(server, self._spec, self._source) as place, self._live(number, server) as live:
            environment = _environment(server, place)
            for command in server.prepare:
                words = filled(command, place.values)
                run_command(words, server.limit_s, overlay=place.overlay, environment=environment)
            options = replace(server.options, channel=self._run.channel, live=live)
            plan = self._plan(options)
            words = filled(server.command, place.values)
            launched = launch(words, server.transport, server.start_timeout_s, place.overlay, environment)
            transport: Transport = launched.transport
            if self._run.jobs > 1:
                transport = Interruptible(transport, self.stop)
            report = replay(plan.recording.trace, transport, options, plan)
            terms = terms_of(report, plan)
            if live is not None:
                outcome.write(report, self._run.trace, live, report_lines(report, terms, Painter(False)))
            return replace(
                row,
                version=self._version(server, environment),
                verdict=_verdict(report),
                why=report.stopped or ("" if report.counts.compared else NOTHING),
                how=launched.how.partition(";")[0],  # without the mount point, which is the placeholder
                report=report,
                terms=terms,
                live=live.path if live is not None else None,
            )

    def _plan(self, options: ReplayOptions) -> Plan:
        """Return what is played; servers one after another share it, those at once have each their own trace."""
        if self._run.jobs > 1:
            return _plan(self._run, options)
        key = options.allow_writes, options.zero_fill
        if key not in self._plans:
            self._plans[key] = _plan(self._run, options)
        return self._plans[key]

    def _version(self, server: ServerSpec, environment: Mapping[str, str]) -> str:
        """Return the line that tells the version; empty when there is none. Many exit with 1 after it."""
        if not server.version:
            return ""
        with contextlib.suppress(TracerError):
            child = start(filled(server.version, beside(self._spec)), environment=environment)
            child.has_ended(VERSION_TIMEOUT_S)
            lines = child.end().output.splitlines()
            return next((line[:LONGEST_VERSION] for line in lines if server.version_has in line), "")
        return ""

    @contextlib.contextmanager
    def _live(self, number: int, server: ServerSpec) -> Iterator[TraceWriter | None]:
        if self._run.live is None:
            yield None
            return
        with TraceWriter(_live_path(self._run.live, number, server)) as sink:
            yield sink


def _environment(server: ServerSpec, place: Place) -> dict[str, str]:
    values = filled(tuple(server.environment.values()), place.values)
    return {**os.environ, **dict(zip(server.environment, values, strict=True))}


def _verdict(report: ReplayReport) -> Verdict:
    if report.stopped:
        return Verdict.STOPPED
    if not report.counts.compared:
        return Verdict.FAILED
    return Verdict.DIFFERENT if report.firsts else Verdict.SAME
