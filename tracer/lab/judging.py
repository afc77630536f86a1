"""What several scenarios ask of their evidence: which SYNCFS belong to a step, and whether other witnesses agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dissectors.flags import ATTR_SUBMOUNT
from dissectors.text import escape
from tracer.analysis.sync import ChannelReport, SubmountReport, SyncRequest, sync_report
from tracer.lab.daemon_log import Asked, said
from tracer.lab.scenario import Evidence, Finding, Step
from tracer.output.style import counted
from tracer.trace.columns import Kind
from tracer.trace.exchange import Exchange
from tracer.trace.trace import Trace


class Synced(NamedTuple):
    """A SYNCFS, and the superblock it was addressed to."""

    submount: SubmountReport
    request: SyncRequest


def channel_report(trace: Trace) -> ChannelReport:
    """Return the SYNCFS report of the one connection a lab's trace has; ValueError when there are more, or none."""
    (channel,) = sync_report(trace).channels
    return channel


def syncs_in(channel: ChannelReport, step: Step) -> list[Synced]:
    """Return every SYNCFS that was sent in a step, in the order of the trace."""
    found = [Synced(one, request) for one in channel.submounts for request in one.requests]
    mine = [sync for sync in found if step.t_ns <= sync.request.t_ns < step.end_ns]
    return sorted(mine, key=lambda sync: sync.request.exchange)


def exchanges_in(trace: Trace, step: Step) -> list[Exchange]:
    """Return every exchange that began in a step."""
    began_ns = trace.records["t_ns"][trace.first_rows]
    numbers = np.flatnonzero((began_ns >= step.t_ns) & (began_ns < step.end_ns))
    return [trace.exchange(number) for number in numbers.tolist()]


def place(submount: SubmountReport) -> str:
    """Return a superblock as a person knows it: its path and its root's nodeid."""
    where = escape(submount.path) if submount.path is not None else "path unknown"
    return f"{where} (node {submount.nodeid})"


def places(submounts: Iterable[SubmountReport]) -> str:
    """Return several of them in a row, "none" for none."""
    return ", ".join(map(place, submounts)) or "none"


def asked(trace: Trace) -> list[Asked]:
    """Return every request of a trace as a daemon's log names it, in the order of the trace."""
    table = trace.records
    rows = np.flatnonzero(table["kind"] == Kind.REQUEST)
    columns = (table[name][rows].tolist() for name in Asked._fields)
    return [Asked(*row) for row in zip(*columns, strict=True)]


def announced(trace: Trace) -> set[int]:
    """Return the nodes that the daemon marked as roots of submounts, in whatever reply tells a node's attributes."""
    replies = (one.reply.values for one in trace.exchanges() if one.reply is not None)
    found = set()
    for values in replies:
        entries = values.get("entries", [])
        for entry in (values, *(entries if isinstance(entries, list) else [])):
            nodeid, flags = (
                (entry.get(name) for name in ("nodeid", "attr.flags")) if isinstance(entry, dict) else (0, 0)
            )
            if isinstance(nodeid, int) and isinstance(flags, int) and flags & ATTR_SUBMOUNT:
                found.add(nodeid)
    return found


def agreement(evidence: Evidence) -> Finding:
    """Compare the trace with the daemon's own log: neither may have a request that the other has not."""
    seen, logged = Counter(asked(evidence.trace)), said(evidence.daemon, evidence.daemon_log).asked
    only_trace, only_log = (seen - logged).total(), (logged - seen).total()
    words = f"{counted(logged.total(), 'request')} in the log"
    if only_trace or only_log:
        words += f"; {only_trace} only in the trace, {only_log} only in the log"
    return Finding("the daemon's log names the same requests", bool(logged) and not only_trace and not only_log, words)
