"""What each channel agreed on, and when: INIT may come late, again, or never."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dissectors.layout import Context
from dissectors.message import Message
from tracer.records import ChannelInfo
from tracer.trace.columns import Array, Rows, distinct


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
    _good: list[Agreement] = field(default_factory=list)
    _contexts: dict[int, Context] = field(default_factory=dict)

    def context(self, row: int) -> Context:
        """Return what holds for the record `row`."""
        agreement = self.agreement(row)
        return self._default if agreement is None else self._context(agreement)

    def agreement(self, row: int) -> Agreement | None:
        """Return the latest successful INIT before `row`; the first of all for what comes before it."""
        if len(self._good) <= 1:
            return self._good[0] if self._good else None
        return self._good[max(0, bisect_right([agreement.row for agreement in self._good], row) - 1)]

    def agree(self, agreement: Agreement) -> None:
        """Take note of an INIT that was answered."""
        self.agreements.append(agreement)
        if not agreement.error:
            self._good.append(agreement)

    def use_order(self, big_endian: bool) -> None:
        """Take note of the byte order."""
        if big_endian != self.big_endian:
            self.big_endian = big_endian
            self._contexts.clear()

    @property
    def _default(self) -> Context:
        minor = self.info.minor or None if self.override_minor is None else self.override_minor
        return self._cached(-1, minor, self.info.init_flags or None)

    def _context(self, agreement: Agreement) -> Context:
        minor = agreement.minor if self.override_minor is None else self.override_minor
        return self._cached(agreement.row, minor, agreement.accepted)

    def _cached(self, key: int, minor: int | None, flags: int | None) -> Context:
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = Context(minor, flags, self.big_endian)
        return context

    @property
    def minor_is_known(self) -> bool:
        """Whether the minor comes from an INIT, from the bridge or from the user, and is no assumption."""
        return bool(self.agreements) or bool(self.info.minor) or self.override_minor is not None

    def turns(self) -> list[int]:
        """Return the records at which another agreement begins to hold."""
        return [agreement.row for agreement in self._good[1:]]


def stretches(sessions: Sequence[Session], channels: Array, rows: Rows) -> Iterator[tuple[Rows, Context]]:
    """Split `rows`, of the given `channels`, by what was agreed on; yield (places in `rows`, context)."""
    for channel in distinct(channels):
        own, turns = np.flatnonzero(channels == channel), sessions[channel].turns()
        stretch = np.searchsorted(np.array(turns, dtype=np.int64), rows[own], side="right")
        for number in distinct(stretch):
            places = own[stretch == number]
            yield places, sessions[channel].context(int(rows[places[0]]))
