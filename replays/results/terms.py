"""What both servers said to INIT, side by side: most of what follows differs because this does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dissectors.message import Value
from replays.recorded.plan import Plan
from replays.recorded.sites import NOWHERE
from replays.report import ReplayReport


@dataclass(frozen=True, slots=True)
class Terms:
    """One server's answer to INIT. `accepted` are the 64-bit flags that kernel and server both want."""

    minor: int
    max_write: int
    max_readahead: int
    accepted: int


@dataclass(frozen=True, slots=True)
class TermsCompared:
    """Both answers; `recorded` is None where the recording began later. Flag words are of 64 bits."""

    offered_minor: int
    recorded: Terms | None
    live: Terms
    not_offered: int  # what the recorded kernel offered and a replay cannot, or was told not to

    @property
    def recorded_alone(self) -> int:
        """Flags the recorded server accepted, and the live one did not although they were offered."""
        return 0 if self.recorded is None else self.recorded.accepted & ~self.live.accepted & ~self.not_offered

    @property
    def live_alone(self) -> int:
        """Flags only the live server accepted."""
        return 0 if self.recorded is None else self.live.accepted & ~self.recorded.accepted


def terms_of(report: ReplayReport, plan: Plan) -> TermsCompared:
    """Return what was agreed on with either server."""
    agreed, offered = report.agreed, report.offered
    live = Terms(
        agreed.context.effective_minor,
        _integer(agreed.values, "max_write"),
        _integer(agreed.values, "max_readahead"),
        agreed.accepted,
    )
    if plan.init == NOWHERE:
        return TermsCompared(offered.minor, None, live, 0)
    step, recording = plan.steps[plan.init], plan.recording
    asked, answered = recording.values(step), recording.reply_values(step)
    wanted = _flags(asked)
    not_offered = wanted & ~offered.flags
    if not answered:
        return TermsCompared(offered.minor, None, live, not_offered)
    recorded = Terms(
        min(_integer(asked, "minor"), _integer(answered, "minor")),
        _integer(answered, "max_write"),
        _integer(answered, "max_readahead"),
        _flags(answered) & wanted,
    )
    return TermsCompared(offered.minor, recorded, live, not_offered)


def _flags(values: Mapping[str, Value]) -> int:
    return _integer(values, "flags") | _integer(values, "flags2") << 32


def _integer(values: Mapping[str, Value], name: str) -> int:
    value = values.get(name, 0)
    return value if isinstance(value, int) else 0
