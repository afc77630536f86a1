"""What a user decides about a replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from dissectors.layout import Context
from replays.init import InitEdit
from tracer.records import Sink

# A whole request as it will be sent, and the live session -> what to send instead; None: nothing.
Edit = Callable[[bytes, Context], bytes | None]


class Order(Enum):
    """What a request waits for."""

    CAUSAL = "causal"  # every answer that came before it in the recording
    SERIAL = "serial"  # every answer to what was asked before it
    DEPENDENCIES = "dependencies"  # what it needs: ids, names in one directory, overlapping parts of a file


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Defaults change nothing on the server and wait for nobody longer than `timeout_s`."""

    channel: int | None = None  # number of the recorded mount; None: the only one
    order: Order = Order.CAUSAL
    speed: float | None = None  # 1: as recorded, 2: twice as fast; None: as fast as it goes
    window: int = 256  # most requests in flight
    init: InitEdit = field(default_factory=InitEdit)
    allow_writes: bool = False
    zero_fill: bool = False  # play requests whose data was cut, with zeros
    learn: bool = True  # look up, by their paths, nodes that the recording does not introduce
    ignore: frozenset[str] = frozenset()  # rules that are not to count
    strict: bool = False  # compare what may well differ, too
    max_differences: int | None = None  # end after so many that follow from no other
    timeout_s: float = 30.0  # for any one answer
    limit_s: float | None = None  # for the whole dialogue after INIT
    uids: Mapping[int, int] = field(default_factory=dict)  # recorded user -> live one
    gids: Mapping[int, int] = field(default_factory=dict)
    edit: Edit | None = None
    live: Sink | None = None  # where the live dialogue is written to
