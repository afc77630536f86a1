"""What a replay came to: facts, for whoever prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from replays.init import Agreement, Offer
from replays.parting import Kept
from replays.transports.base import Ending

NONE = -1
MOST_BYTES = 256  # kept of a live message that cannot be taken apart


@dataclass(frozen=True, slots=True)
class Difference:
    """One answer that does not mean the same."""

    exchange: int  # in the recording
    live_exchange: int  # in the live trace, numbered alike whether it is written or not; NONE: nothing was sent
    opcode: int
    path: bytes | None
    rule: str
    reason: str  # of the rule: why it matters
    field: str  # where, "error" for an error; empty where it is about the whole message
    recorded: Kept  # of the many that are long, only the first are whole
    live: Kept
    live_bytes: bytes  # where it is about the whole message: how it begins
    live_size: int  # of that message
    follower_of: int | None  # exchange of the first difference of the same object; None: it is a first one


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is no difference, or that explains some; counted, with the first exchange it was met at."""

    rule: str
    reason: str
    opcode: int  # NONE: of none in particular
    text: str
    exchange: int
    count: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests. `planned` are all of the recording; each is sent or skipped."""

    planned: int = 0
    sent: int = 0  # of the recording; a split one counts once
    answered: int = 0
    compared: int = 0
    same: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)  # name of a reasons.Skip -> how many
    added: Mapping[str, int] = field(default_factory=dict)  # opcode's name -> requests that the recording has not
    notifications: Mapping[str, int] = field(default_factory=dict)  # from the live server, by name


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of the same requests on both servers, in ns. The recorded ones hold what the capture cost."""

    opcode: int
    count: int
    recorded_median_ns: int
    recorded_p99_ns: int
    live_median_ns: int
    live_p99_ns: int


@dataclass(frozen=True, slots=True)
class PacingError:
    """How late requests went out, against the recorded times scaled by `speed`; never early. In ns."""

    speed: float
    median_ns: int
    p99_ns: int
    most_ns: int
    last_ns: int  # of the last request: a drift shows here


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Everything about one replay. `stopped` is empty when it came to its end."""

    transport: str
    order: str
    counts: Counts
    differences: tuple[Difference, ...]
    notes: tuple[Note, ...]
    latencies: tuple[Latency, ...]
    pacing: PacingError | None
    offered: Offer
    agreed: Agreement
    duration_ns: int
    recorded_ns: int  # from the first to the last request in the recording
    pairs: npt.NDArray[np.int64]  # rows of (recorded exchange, live exchange), by recorded exchange
    stopped: str = ""
    server_failed: bool = False  # why it stopped: the server went, broke the transport's rules, or never answered
    ending: Ending | None = None
    unkept: int = 0  # differences that were counted and are not among those above, because there were too many
    # Name of a reasons.Skip -> recorded exchanges, those that were not reached left out.
    skips: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def firsts(self) -> tuple[Difference, ...]:
        """The differences that follow from no other."""
        return tuple(item for item in self.differences if item.follower_of is None)
