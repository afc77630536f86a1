"""The live dialogue as a trace, so that it can be opened beside the recorded one.

Each request is stored with the recorded exchange that it plays or helps to play (a LOOKUP to learn a node, a part of a
READ): `desc_head` holds its number plus one, 0 where it is for none. `live_pairs` reads that back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replays.report import NONE
from tracer.records import BridgeKind, ChannelInfo, Direction, RawRecord, Sink
from tracer.trace.columns import Kind
from tracer.trace.trace import Trace

BATCH = 512


class LiveTrace:
    """Numbers live exchanges as a Trace of them would, and writes them where a sink is given."""

    def __init__(self, sink: Sink | None, info: ChannelInfo) -> None:
        self._sink = sink
        self._channel = sink.channel(info) if sink is not None else 0
        self._wall_ns = time.time_ns() - time.monotonic_ns()
        self._batch: list[RawRecord] = []
        self._count = 0

    def asked(self, t_ns: int, message: bytes | bytearray, exchange: int = NONE) -> int:
        """Take in a request that is for a recorded exchange; return its own exchange's number."""
        if self._sink is not None:
            self._add(t_ns, Direction.TO_SERVER, bytes(message), exchange + 1)
        self._count += 1
        return self._count - 1

    def answered(self, t_ns: int, data: bytes) -> None:
        """Take in an answer to a request."""
        if self._sink is not None:
            self._add(t_ns, Direction.TO_KERNEL, data)

    def unasked(self, t_ns: int, data: bytes) -> int:
        """Take in a notification, or an answer to nothing; return its exchange's number."""
        if self._sink is not None:
            self._add(t_ns, Direction.TO_KERNEL, data)
        self._count += 1
        return self._count - 1

    def _add(self, t_ns: int, direction: Direction, data: bytes, head: int = 0) -> None:
        self._batch.append(
            RawRecord(
                t_ns + self._wall_ns, self._channel, direction, data, len(data), BridgeKind.REPLAY, desc_head=head
            )
        )
        if len(self._batch) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand over what was kept back."""
        if self._sink is not None and self._batch:
            self._sink.records(self._batch)
            self._batch = []


def as_pairs(pairs: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return (recorded exchange, live exchange) as an array, by recorded exchange."""
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    ordered: npt.NDArray[np.int64] = found[np.argsort(found[:, 0], kind="stable")]
    return ordered


def live_pairs(live: Trace) -> npt.NDArray[np.int64]:
    """Return (recorded exchange, live exchange) of a trace that a replay wrote, by recorded exchange."""
    rows = live.first_rows.astype(np.int64)
    numbers = np.flatnonzero(live.records["kind"][rows] == Kind.REQUEST)
    heads = live.desc_heads(rows[numbers], BridgeKind.REPLAY).astype(np.int64)
    pairs = np.stack([heads - 1, numbers], axis=1)[heads > 0]
    ordered: npt.NDArray[np.int64] = pairs[np.argsort(pairs[:, 0], kind="stable")]
    return ordered
