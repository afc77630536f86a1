"""A replay's report as JSON values: numbers raw, times in ns, errors as negative errno, names escaped."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dissectors.jsonform import payload_json
from dissectors.opcodes import op_name
from dissectors.text import escape, is_name
from replays.parting import Kept, Part
from replays.report import NONE, Difference, Latency, Note, ReplayReport
from replays.results.report_text import differing, flags_text
from replays.results.terms import Terms, TermsCompared
from replays.results.value_text import difference_field, difference_texts


def report_json(report: ReplayReport, terms: TermsCompared) -> dict[str, Any]:
    """Return everything the text says, and every difference. `differing` are requests, not fields of their replies."""
    counts = report.counts
    followers = Counter(item.follower_of for item in report.differences if item.follower_of is not None)
    return {
        "transport": report.transport,
        "order": report.order,
        "stopped": report.stopped or None,
        "counts": {
            "planned": counts.planned,
            "sent": counts.sent,
            "answered": counts.answered,
            "compared": counts.compared,
            "same": counts.same,
            "differing": len(differing(report.firsts)),
            "unkept": report.unkept,
            "skipped": dict(counts.skipped),
            "added": dict(counts.added),
            "notifications": dict(counts.notifications),
        },
        "init": _terms_json(terms),
        "differences": [_difference_json(item, followers[item.exchange]) for item in report.differences],
        "notes": [_note_json(note) for note in report.notes],
        "latencies": [_latency_json(latency) for latency in report.latencies],
        "pacing": _pacing_json(report),
        "duration_ns": report.duration_ns,
        "recorded_ns": report.recorded_ns,
        "server": None
        if report.ending is None
        else {"status": report.ending.status, "how": report.ending.how, "output": report.ending.output},
    }


def _terms_json(terms: TermsCompared) -> dict[str, Any]:
    return {
        "offered_minor": terms.offered_minor,
        "recorded": None if terms.recorded is None else _side_json(terms.recorded),
        "live": _side_json(terms.live),
        "recorded_alone": _flag_names(terms.recorded_alone),
        "live_alone": _flag_names(terms.live_alone),
        "not_offered": _flag_names(terms.not_offered),
    }


def _side_json(terms: Terms) -> dict[str, Any]:
    return {
        "minor": terms.minor,
        "max_write": terms.max_write,
        "max_readahead": terms.max_readahead,
        "flags": _flag_names(terms.accepted),
    }


def _flag_names(flags: int) -> list[str]:
    return flags_text(flags).split(", ") if flags else []


def _difference_json(difference: Difference, followers: int) -> dict[str, Any]:
    is_first = difference.follower_of is None
    recorded, live = difference_texts(difference)
    return {
        "exchange": _number(difference.exchange),
        "live_exchange": _number(difference.live_exchange),
        "opcode": None if difference.opcode == NONE else op_name(difference.opcode),
        "path": None if difference.path is None else escape(difference.path),
        "rule": difference.rule,
        "reason": difference.reason,
        "field": difference.field or None,
        "recorded": _value_json(difference, difference.recorded),
        "recorded_text": recorded or None,
        "live": _value_json(difference, difference.live),
        "live_text": live or None,
        "follower_of": difference.follower_of,
        "followers": followers if is_first else 0,
    }


def _value_json(difference: Difference, value: Kept) -> Any:
    if isinstance(value, Part):
        return _part_json(value)
    if isinstance(value, bytes):
        field = difference_field(difference)
        return escape(value) if field is not None and is_name(field) else payload_json(value)
    if isinstance(value, list):
        return _list_json(value)
    return value


def _part_json(part: Part) -> dict[str, Any]:
    if isinstance(part.kept, bytes):
        return {"bytes": part.length, "at": part.at, "hex": part.kept.hex()}
    return {"names": part.length, "first": _list_json(part.kept)}


def _list_json(items: list[Any]) -> list[str]:
    return [escape(item) if isinstance(item, bytes) else str(item) for item in items]


def _note_json(note: Note) -> dict[str, Any]:
    return {
        "rule": note.rule,
        "reason": note.reason,
        "opcode": None if note.opcode == NONE else op_name(note.opcode),
        "text": note.text,
        "first_exchange": _number(note.exchange),
        "count": note.count,
    }


def _latency_json(latency: Latency) -> dict[str, Any]:
    return {
        "opcode": op_name(latency.opcode),
        "count": latency.count,
        "recorded_median_ns": _number(latency.recorded_median_ns),
        "recorded_p99_ns": _number(latency.recorded_p99_ns),
        "live_median_ns": latency.live_median_ns,
        "live_p99_ns": latency.live_p99_ns,
    }


def _pacing_json(report: ReplayReport) -> dict[str, Any] | None:
    pace = report.pacing
    if pace is None:
        return None
    return {
        "speed": pace.speed,
        "late_median_ns": pace.median_ns,
        "late_p99_ns": pace.p99_ns,
        "late_most_ns": pace.most_ns,
        "late_last_ns": pace.last_ns,
    }


def _number(number: int) -> int | None:
    return None if number == NONE else number
