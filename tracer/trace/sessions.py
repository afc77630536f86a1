"""What each channel agreed on, and when: INIT may come late, again, or never."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from dissectors.layout import Context
from dissectors.message import Message
from tracer.records import ChannelInfo


@dataclass(frozen=True, slots=True)
class Agreement:
    """One INIT that was answered. `offered` and `accepted` are 64-bit flag words."""

    row: int
    t_ns: int
    kernel_minor: int
    server_minor: int
    offered: int
    accepted: int
    max_write: int
    max_pages: int
    max_readahead: int
    error: int = 0

    @property
    def minor(self) -> int:
        """The minor both know."""
        return min(self.kernel_minor, self.server_minor)


def read_agreement(request: Message, reply: Message, t_ns: int) -> Agreement:
    """Read what an INIT request and its reply agreed on."""
    asked, answered = request.values, reply.values

    def of(values: dict[str, object], name: str) -> int:
        value = values.get(name, 0)
        return value if isinstance(value, int) else 0

    asked_values, answered_values = dict[str, object](asked), dict[str, object](answered)
    return Agreement(
        reply.number,
        t_ns,
        of(asked_values, "minor"),
        of(answered_values, "minor"),
        of(asked_values, "flags") | of(asked_values, "flags2") << 32,
        of(answered_values, "flags") | of(answered_values, "flags2") << 32,
        of(answered_values, "max_write"),
        of(answered_values, "max_pages"),
        of(answered_values, "max_readahead"),
        reply.error,
    )


@dataclass(slots=True)
class Session:
    """A channel over time."""

    info: ChannelInfo
    big_endian: bool = False
    override_minor: int | None = None
    agreements: list[Agreement] = field(default_factory=list)
    first_row: int = -1

    def context(self, row: int) -> Context:
        """Return what holds for the record `row`."""
        if self.override_minor is not None:
            return Context(self.override_minor, self._flags(row), self.big_endian)
        agreement = self.agreement(row)
        if agreement is not None:
            return Context(agreement.minor, agreement.accepted, self.big_endian)
        minor = self.info.minor or None
        return Context(minor, self.info.init_flags or None, self.big_endian)

    def agreement(self, row: int) -> Agreement | None:
        """Return the latest successful INIT before `row`; the first of all for what comes before it."""
        good = [agreement for agreement in self.agreements if not agreement.error]
        if not good:
            return None
        return good[max(0, bisect_right([agreement.row for agreement in good], row) - 1)]

    def _flags(self, row: int) -> int | None:
        agreement = self.agreement(row)
        return agreement.accepted if agreement else self.info.init_flags or None

    @property
    def minor_is_known(self) -> bool:
        """Whether the minor comes from an INIT, from the bridge or from the user, and is no assumption."""
        return bool(self.agreements) or bool(self.info.minor) or self.override_minor is not None
