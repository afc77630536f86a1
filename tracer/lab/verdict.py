"""How a run came out, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tracer.lab.scenario import TRACE, Evidence, Finding, Scenario
from tracer.output.style import Painter, Style, escape_text

LANGUAGES = {"c": "C", "rust": "Rust"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of every promise; `findings` begin with those that hold of every scenario."""

    scenario: Scenario
    evidence: Evidence
    findings: tuple[Finding, ...]
    duration_s: float

    @property
    def holds(self) -> bool:
        """Whether every promise holds."""
        return all(finding.holds for finding in self.findings)


def verdict_lines(verdict: Verdict, paint: Painter) -> Iterator[str]:
    """Yield a line for the run, one for each promise, and where to look further."""
    evidence = verdict.evidence
    daemon = f"virtiofsd in {LANGUAGES[evidence.daemon]} ({escape_text(evidence.daemon_origin)})"
    event_idx = "" if evidence.variant.event_idx else ", without EVENT_IDX"
    yield f"{paint(verdict.scenario.name, Style.HEADING)}: {verdict.scenario.summary}"
    yield f"  Linux {escape_text(evidence.kernel)}, {daemon}{event_idx}, {verdict.duration_s:.1f} s"
    for finding in verdict.findings:
        mark = paint("ok    ", Style.PLAIN) if finding.holds else paint("FAILED", Style.ERROR)
        yield f"  {mark} {escape_text(finding.promise)}: {escape_text(finding.words)}"
    yield f"  the trace is {escape_text(str(evidence.directory / TRACE))}"


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON values; times in ns on the clock of the trace."""
    evidence = verdict.evidence
    return {
        "scenario": verdict.scenario.name,
        "summary": verdict.scenario.summary,
        "holds": verdict.holds,
        "kernel": evidence.kernel,
        "daemon": evidence.daemon,
        "daemon_origin": evidence.daemon_origin,
        "event_idx": evidence.variant.event_idx,
        "duration_s": round(verdict.duration_s, 3),
        "directory": str(evidence.directory),
        "findings": [asdict(finding) for finding in verdict.findings],
        "steps": [asdict(step) for step in evidence.steps],
    }
