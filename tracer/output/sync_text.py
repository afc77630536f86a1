"""The SYNCFS report as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dissectors.errnos import error_text
from dissectors.text import escape
from tracer.analysis.sync import ChannelReport, SubmountReport, SyncReport, SyncRequest
from tracer.output.caller import caller_text
from tracer.output.style import Painter, Style, byte_count, clock, counted, duration, escape_text
from tracer.trace.pairing import State


def sync_lines(report: SyncReport, paint: Painter) -> Iterator[str]:
    """Yield the report, a line at a time."""
    if not report.channels:
        yield "The trace holds no FUSE message."
        return
    for index, channel in enumerate(report.channels):
        if index:
            yield ""
        yield from _channel_lines(channel, report, paint)
    yield ""
    yield _verdict(report, paint)


def _channel_lines(channel: ChannelReport, report: SyncReport, paint: Painter) -> Iterator[str]:
    info = channel.info
    facts = [info.fstype, f"kernel {info.kernel}" if info.kernel else "", info.server_command]
    yield paint(escape_text(info.name), Style.HEADING) + _in_parentheses(facts)
    for submount in channel.submounts:
        yield from _submount_lines(submount, channel, report, paint)
    if channel.enosys_t_ns is not None:
        since = clock(channel.enosys_t_ns, report.has_times)
        yield paint(
            f"  ENOSYS: this server will never be asked again: sync(2) is a no-op on this connection since {since}",
            Style.ERROR,
        )
    if channel.cut_listings:
        text = f"  {counted(channel.cut_listings, 'directory listing')} cut by the capture: submounts there are unknown"
        yield paint(f"{text} (record with --snap listings)", Style.WARNING)
    for reason in channel.reasons:
        yield paint(f"  no SYNCFS: {reason}", Style.WARNING)


def _in_parentheses(facts: list[str]) -> str:
    kept = [escape_text(fact) for fact in facts if fact]
    return f"  ({', '.join(kept)})" if kept else ""


def _submount_lines(
    submount: SubmountReport, channel: ChannelReport, report: SyncReport, paint: Painter
) -> Iterator[str]:
    what = "root" if submount.nodeid == 1 else "submount"
    where = escape(submount.path) if submount.path is not None else "path unknown"
    device = f", st_dev {escape_text(submount.st_dev)}" if submount.st_dev else ""
    requests = counted(submount.exchange_count, "request")
    yield f"  {what} node {submount.nodeid} {paint(where, Style.NAME)}{device}, {requests}"
    for request in submount.requests:
        yield "    " + _request_line(request, report, paint)
    if not submount.requests and submount in channel.left_out:
        yield paint(f"    left out: {_why_left_out(submount, channel)}", Style.ERROR)
    if submount.written_bytes:
        risk = submount.unsynced_bytes
        text = f"    written {byte_count(submount.written_bytes)}, not yet synced at the end {byte_count(risk)}"
        yield paint(text, Style.WARNING if risk else Style.PLAIN)


def _why_left_out(submount: SubmountReport, channel: ChannelReport) -> str:
    if channel.enosys_t_ns is not None:
        return "the ENOSYS that another superblock got is one for the whole connection, this one was not asked"
    others = [request for one in channel.submounts for request in one.requests]
    if all(one.state is State.PENDING for one in others if one.exchange > submount.since_exchange):
        return "sync(2) asks one superblock after another, and waits for another one's answer"
    return "others of this connection got a SYNCFS, this one none"


def _request_line(request: SyncRequest, report: SyncReport, paint: Painter) -> str:
    who = caller_text(request.pid, escape(request.comm), "an unknown caller")
    line = f"{paint('◆ SYNCFS', Style.SYNC)} {clock(request.t_ns, report.has_times)} by {who}: "
    line += f"{_outcome(request, report, paint)}, {_risk(request, paint)}"
    if request.flushed_writes or request.late_writes:
        line += _page_cache(request, paint)
    if request.open_writes:
        waiting = f"{counted(request.open_writes, 'WRITE')} ({byte_count(request.open_write_bytes)})"
        line += paint(f", {waiting} still unanswered", Style.WARNING)
    return f"{line}  (exchange {request.exchange})"


def _risk(request: SyncRequest, paint: Painter) -> str:
    """Say how many bytes were written and not synced, before it and after it."""
    before, after = request.risk_before_bytes, request.risk_after_bytes
    if not before and not after:
        return "nothing at risk"
    if after is None:
        return paint(f"{byte_count(before)} at risk", Style.WARNING if before else Style.PLAIN)
    text = f"{byte_count(before)} at risk before, {byte_count(after)} after"
    return paint(text, Style.WARNING if after else Style.PLAIN)


def _page_cache(request: SyncRequest, paint: Painter) -> str:
    """Say which WRITEs of a writeback cache came before it, and which after it, so that it covers them not."""
    before = f"{counted(request.flushed_writes, 'WRITE')} ({byte_count(request.flushed_bytes)})"
    text = f", the page cache sent {before} before it"
    if request.late_writes:
        text += paint(f" and {request.late_writes} ({byte_count(request.late_bytes)}) after it", Style.WARNING)
    return text


def _outcome(request: SyncRequest, report: SyncReport, paint: Painter) -> str:
    if request.state is State.PENDING:
        return paint(_waits(request, report), Style.ERROR)
    if request.state is State.ABORTED:
        ended = f"{error_text(request.error)} after {duration(request.latency_ns)}"
        return paint(f"never answered: the kernel ended it with {ended}", Style.ERROR)
    if request.state is not State.DONE:
        return paint(request.state.name.lower().replace("_", " "), Style.ERROR)
    if request.refused:
        return paint(
            f"answer refused by the kernel with {error_text(request.refused)}, the caller got EIO", Style.ERROR
        )
    if request.error:
        return paint(f"{error_text(request.error)} after {duration(request.latency_ns)}", Style.ERROR)
    return f"answered in {duration(request.latency_ns)}"


def _waits(request: SyncRequest, report: SyncReport) -> str:
    if request.pending_ns is None:
        return "not answered when the trace ends"
    waited = duration(request.pending_ns)
    return f"not answered, for {waited} now" if report.is_live else f"not answered when the trace ends, {waited} later"


def _verdict(report: SyncReport, paint: Painter) -> str:
    requests = report.requests
    if not requests:
        return paint("No SYNCFS in this trace.", Style.WARNING)
    good = sum(request.succeeded for request in requests)
    left_out = sum(len(channel.left_out) for channel in report.channels)
    text = f"{len(requests)} SYNCFS, {good} answered with success"
    if left_out:
        text += f"; {counted(left_out, 'superblock')} left out"
    return paint(text, Style.ERROR if report.has_finding else Style.HEADING)


def sync_json(report: SyncReport) -> dict[str, Any]:
    """Return the report as JSON values: times in ns, errors as negative errno."""
    return {
        "syncfs_count": len(report.requests),
        "finding": report.has_finding,
        "channels": [_channel_json(channel) for channel in report.channels],
    }


def _channel_json(channel: ChannelReport) -> dict[str, Any]:
    info = channel.info
    return {
        "channel": channel.channel,
        "name": escape_text(info.name),
        "kind": info.kind.name,
        "fstype": escape_text(info.fstype),
        "read_only": info.read_only,
        "enosys_since_ns": channel.enosys_t_ns,
        "no_syncfs_because": channel.reasons,
        "cut_listings": channel.cut_listings,
        "left_out": [submount.nodeid for submount in channel.left_out],
        "submounts": [
            {
                "nodeid": submount.nodeid,
                "path": escape(submount.path) if submount.path is not None else None,
                "st_dev": escape_text(submount.st_dev) or None,
                "requests": submount.exchange_count,
                "written_bytes": submount.written_bytes,
                "unsynced_bytes": submount.unsynced_bytes,
                "syncfs": [_request_json(request) for request in submount.requests],
            }
            for submount in channel.submounts
        ],
    }


def _request_json(request: SyncRequest) -> dict[str, Any]:
    return {
        "exchange": request.exchange,
        "time_ns": request.t_ns,
        "state": request.state.name,
        "error": request.error,
        "refused": request.refused,
        "latency_ns": request.latency_ns,
        "pending_ns": request.pending_ns,
        "pid": request.pid,
        "comm": escape(request.comm),
        "open_writes": request.open_writes,
        "open_write_bytes": request.open_write_bytes,
        "covered_bytes": request.covered_bytes,
        "risk_before_bytes": request.risk_before_bytes,
        "risk_after_bytes": request.risk_after_bytes,
        "flushed_writes": request.flushed_writes,
        "flushed_bytes": request.flushed_bytes,
        "late_writes": request.late_writes,
        "late_bytes": request.late_bytes,
    }
