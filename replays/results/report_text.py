"""A replay's report as text: counts, what was agreed on, the first differences with their reasons, notes, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from dissectors.flags import INIT_ALL
from dissectors.opcodes import op_name
from dissectors.text import escape
from replays.judging.rules import RULES
from replays.reasons import Skip
from replays.report import NONE, Difference, Latency, Note, ReplayReport
from replays.results.terms import Terms, TermsCompared
from replays.results.value_text import difference_texts
from tracer.output.style import Painter, Style, byte_count, counted, duration

MOST_CAUSED = 5  # exchanges that only follow from something
MOST_SHOWN = 20  # exchanges that differ, and notes; JSON holds all
FIELD_WIDTH = 16
NAME_BYTES = 200


def report_lines(report: ReplayReport, terms: TermsCompared, paint: Painter, most: int = MOST_SHOWN) -> Iterator[str]:
    """Yield the report, a line at a time, with the first `most` exchanges that differ; the verdict comes last."""
    yield paint(f"Replay over {report.transport}, order {report.order}", Style.HEADING)
    yield from _count_lines(report)
    yield from _terms_lines(terms, paint)
    yield from _difference_lines(report, paint, most)
    yield from _note_lines(report.notes, paint, most)
    yield from _time_lines(report, paint, most)
    yield ""
    yield verdict(report, paint)


def verdict(report: ReplayReport, paint: Painter) -> str:
    """Return the outcome as one line."""
    compared = counted(report.counts.compared, "answer")
    firsts = len(differing(report.firsts))
    if report.stopped:
        ended = f"Ended early: {report.stopped}."
        return paint(f"{ended} {_differ(report, firsts) if firsts else 'No difference'} in {compared}.", Style.ERROR)
    if firsts:
        return paint(f"{_differ(report, firsts)} in {compared}.", Style.ERROR)
    if report.differences:
        text = f"No difference in {compared}, but for {len(differing(report.differences))} in consequence of what was "
        return paint(f"{text}skipped, or done another way.", Style.WARNING)
    if not report.counts.compared:
        return paint("Nothing was compared: no request that was played has an answer in the recording.", Style.WARNING)
    return paint(f"No difference in {compared}.", Style.HEADING)


def differing(differences: Sequence[Difference]) -> list[list[Difference]]:
    """Return differences in groups of one exchange each, in the order they were met."""
    return [list(group) for _, group in groupby(differences, lambda item: (item.exchange, item.live_exchange))]


def _differ(report: ReplayReport, firsts: int) -> str:
    followers = len(differing(report.differences)) - firsts
    text = "1 request differs" if firsts == 1 else f"{firsts} requests differ"
    return f"{text}, {followers} more in consequence," if followers > 0 else text


# ---- counts ----------------------------------------------------------------------------------------------------------


def _count_lines(report: ReplayReport) -> Iterator[str]:
    counts = report.counts
    yield f"  recorded  {counts.planned:>8}  requests, in {duration(report.recorded_ns)}"
    yield f"  sent      {counts.sent:>8}  in {duration(report.duration_ns)}"
    yield f"  compared  {counts.compared:>8}  answers, {counts.same} the same"
    if counts.skipped:
        yield f"  skipped   {sum(counts.skipped.values()):>8}"
        for name, count in sorted(counts.skipped.items(), key=lambda item: -item[1]):
            yield f"            {count:>8}  {name}: {Skip[name].value}"
    for title, by_name in (("added", counts.added), ("notified", counts.notifications)):
        if by_name:
            named = ", ".join(f"{count} {name}" for name, count in sorted(by_name.items(), key=lambda item: -item[1]))
            what = "requests the recording has not" if title == "added" else "messages of the server's own accord"
            yield f"  {title:<9} {sum(by_name.values()):>8}  {what}: {named}"


# ---- INIT ------------------------------------------------------------------------------------------------------------


def _terms_lines(terms: TermsCompared, paint: Painter) -> Iterator[str]:
    yield ""
    yield paint(f"INIT, offered 7.{terms.offered_minor}", Style.HEADING)
    sides = [(name, side) for name, side in (("recorded", terms.recorded), ("live", terms.live)) if side is not None]
    if terms.recorded is None:
        yield "  the recording holds no answer to INIT: what its server agreed to is not known"
    for name, side in sides:
        yield f"  {name:<9} {_terms_text(side)}"
    for flags, text in (
        (terms.recorded_alone, "accepted by the recorded server alone"),
        (terms.live_alone, "accepted by the live server alone"),
        (terms.not_offered, "recorded and not offered"),
    ):
        if flags:
            yield f"  {text}: {flags_text(flags)}"


def _terms_text(terms: Terms) -> str:
    limits = f"max_write {byte_count(terms.max_write)}, max_readahead {byte_count(terms.max_readahead)}"
    return f"7.{terms.minor}, {limits}"


def flags_text(flags: int) -> str:
    """Return INIT flags by name."""
    return INIT_ALL.text(flags).replace("|", ", ")


# ---- differences -----------------------------------------------------------------------------------------------------


def _difference_lines(report: ReplayReport, paint: Painter, most: int) -> Iterator[str]:
    groups = differing(report.firsts)
    shown = {None, *(group[0].exchange for group in groups)}
    caused = differing([one for one in report.differences if one.follower_of not in shown])
    followers = Counter(item.follower_of for item in report.differences if item.follower_of is not None)
    if groups:
        yield ""
        yield paint("What differs", Style.HEADING)
    for group in groups[:most]:
        yield from _group_lines(group, followers[group[0].exchange], paint)
    if len(groups) > most:
        yield f"  ... and {counted(len(groups) - most, 'request')} more: --json has all"
    if report.unkept:
        yield f"  ... and {counted(report.unkept, 'difference')} more that were counted, and not kept"
    if caused:
        yield ""
        yield paint("What differs in consequence of what was skipped, or done another way", Style.HEADING)
    for group in caused[:MOST_CAUSED]:
        yield from _group_lines(group, 0, paint)
        yield f"    follows from exchange {group[0].follower_of}"
    if len(caused) > MOST_CAUSED:
        yield f"  ... and {counted(len(caused) - MOST_CAUSED, 'request')} more: --json has all"


def _group_lines(group: Sequence[Difference], followers: int, paint: Painter) -> Iterator[str]:
    yield "  " + _place(group[0], paint)
    for item in group:
        recorded, live = difference_texts(item)
        sides = [("recorded", recorded)] if recorded else []
        sides.append(("live", paint(live or "broken", Style.ERROR)))
        for title, (side, text) in zip((item.field or item.rule, ""), sides, strict=False):
            yield f"    {title:<{FIELD_WIDTH}} {side:<9} {text}"
        yield paint(f"    {'':<{FIELD_WIDTH}} rule      {item.rule}: {item.reason}", Style.DIM)
    if followers:
        yield f"    {counted(followers, 'difference')} more in what followed from it"


def _place(difference: Difference, paint: Painter) -> str:
    if difference.exchange == NONE:
        return f"live exchange {difference.live_exchange}: a message that answers nothing"
    path = "" if difference.path is None else " " + paint(escape(difference.path, NAME_BYTES), Style.NAME)
    live = "" if difference.live_exchange == NONE else f"  (live exchange {difference.live_exchange})"
    return f"exchange {difference.exchange}  {op_name(difference.opcode)}{path}{live}"


# ---- notes and times -------------------------------------------------------------------------------------------------


def _note_lines(notes: Sequence[Note], paint: Painter, most: int) -> Iterator[str]:
    if not notes:
        return
    yield ""
    yield paint("Notes", Style.HEADING)
    for note in notes[:most]:
        operation = "" if note.opcode == NONE else f"{op_name(note.opcode)}: "
        first = "" if note.exchange == NONE else f", first at exchange {note.exchange}"
        yield f"  {note.count:>6} ×  {operation}{note.text}{first}"
        yield paint(f"            {note.rule}: {note.reason}", Style.DIM)
    if len(notes) > most:
        yield f"  ... and {len(notes) - most} more: --json has all"


def _time_lines(report: ReplayReport, paint: Painter, most: int) -> Iterator[str]:
    if report.latencies:
        yield ""
        yield paint(f"{'Times to answer':<18} {'count':>8}  recorded median, p99    live median, p99", Style.HEADING)
        for latency in sorted(report.latencies, key=lambda item: -item.count)[:most]:
            yield "  " + _latency_text(latency)
        if len(report.latencies) > most:
            yield f"  ... and {len(report.latencies) - most} more operations: --json has all"
        yield "  recorded times hold what the capture cost, live ones what the replay does"
    if report.pacing is not None:
        pace = report.pacing
        yield ""
        yield (
            f"Pace × {pace.speed:g}: requests went out {duration(pace.median_ns)} late at the median, "
            f"{duration(pace.p99_ns)} at p99, {duration(pace.most_ns)} at most, the last {duration(pace.last_ns)}"
        )


def _latency_text(latency: Latency) -> str:
    recorded = _times(latency.recorded_median_ns, latency.recorded_p99_ns)
    live = _times(latency.live_median_ns, latency.live_p99_ns)
    return f"{op_name(latency.opcode):<16} {latency.count:>8}  {recorded:>20}    {live:>16}"


def _times(median_ns: int, p99_ns: int) -> str:
    return "-" if median_ns == NONE else f"{duration(median_ns)}, {duration(p99_ns)}"


# ---- the rules -------------------------------------------------------------------------------------------------------


def rule_lines(paint: Painter) -> Iterator[str]:
    """Yield every rule of the comparison with its reason."""
    width = max(map(len, RULES))
    for title, rules in (
        ("What makes a difference; --ignore RULE lets it not count", [rule for rule in RULES.values() if rule.counts]),
        ("What may differ; --strict lets it count", [r for r in RULES.values() if not r.counts and not r.never]),
        ("What cannot be compared", [rule for rule in RULES.values() if rule.never]),
    ):
        yield paint(title, Style.HEADING)
        for rule in rules:
            yield f"  {rule.name:<{width}}  {rule.reason}"
