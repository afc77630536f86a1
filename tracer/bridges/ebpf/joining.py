"""What events say about each other: an END tells the unique of its SEND, and a notification comes before its effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.bridges.ebpf.event import EVENT, EVENT_BYTES, Flag, Kind

Bytes = npt.NDArray[np.uint8]
Events = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

ASK_NS: Final = 10_000_000  # most requests have ended by then, which tells their unique for nothing
GIVE_UP_NS: Final = 100_000_000
# Of the columns' own type: numpy takes an IntEnum for int64, and widens the column.
SEND, END, DELIVER, READ, WRITE = (np.uint8(kind) for kind in Kind)
RING_FULL, NO_REPLY, BACKGROUND = (np.uint8(flag) for flag in (Flag.RING_FULL, Flag.NO_REPLY, Flag.BACKGROUND))
_OPCODE_WRITE: Final = 16  # enum fuse_opcode
_OPCODE_NOTIFY_REPLY: Final = 41
_UNIQUE_WORD: Final = EVENT.fields["unique"][1] // 8 if EVENT.fields else 0
_MESSAGE_WORD: Final = EVENT_BYTES // 8
_NO_END: Final = 2**63 - 1


UniqueOf = Callable[[int, int, int], int | None]


class Joined(NamedTuple):
    """What became of SENDs without a unique."""

    never_sent: Rows  # the kernel refused them before they had one
    open_since_ns: int  # time of the oldest that may still get one


class Joiner:
    """Gives requests their unique that were seen before they had one.

    Linux 6.12 to 6.17 number a request after the tracepoint that shows it. The END of the same address is the next
    event of that address; while there is none, the kernel can be asked.
    """

    def __init__(self, unique_of: UniqueOf | None) -> None:
        self._unique_of = unique_of
        self._answers: dict[tuple[int, int], int] = {}  # by address and time of the SEND

    def join(
        self,
        events: Events,
        content: Bytes,
        at: Rows,
        is_unnumbered: Mask,
        now_ns: int | None,
        *,
        is_behind: bool,
        waits: bool,
    ) -> Joined:
        """Fill in uniques, in the events, their copy in `content`, and the message.

        `now_ns` None: the capture has ended, an answer may be about anything. `is_behind`: more events are in the
        ring. `waits`: what has no unique yet may get it later.
        """
        rows = np.flatnonzero((events["kind"] == SEND) | (events["kind"] == END))
        order = rows[np.argsort(events["req"][rows], kind="stable")]
        before, after = order[:-1], order[1:]
        has_next = is_unnumbered[before] & (events["req"][before] == events["req"][after])
        is_pair = has_next & (events["kind"][after] == END)
        sends, ends = before[is_pair], after[is_pair]
        _number(events, content, at, sends, events["unique"][ends])
        is_open = is_unnumbered.copy()
        is_open[before[has_next]] = False  # another SEND of the address: the END between them was lost
        open_since_ns = _NO_END
        answers, self._answers = self._answers, {}
        for row in np.flatnonzero(is_open).tolist():
            t_ns = int(events["t_ns"][row])
            age_ns = _NO_END if now_ns is None else now_ns - t_ns
            key = int(events["req"][row]), t_ns
            unique = answers.get(key)
            # When the kernel was asked the address may have been of another request already. But then the END came
            # before, and was in the ring: what is still open after another look at all of it was the one asked about.
            is_sure = not (is_behind and waits) or age_ns > GIVE_UP_NS
            if unique is None and now_ns is not None and (age_ns >= ASK_NS or not waits):
                unique, is_sure = self._asked(events[row], content, int(at[row])), not waits
            if unique and is_sure:
                _number(events, content, at, np.array([row]), np.array([unique], np.uint64))
                continue
            if unique:
                self._answers[key] = unique
            if waits and (unique or age_ns <= GIVE_UP_NS):
                open_since_ns = min(open_since_ns, t_ns)
        return Joined(sends[events["unique"][sends] == 0], open_since_ns)

    def _asked(self, event: np.void, content: Bytes, at: int) -> int | None:
        if self._unique_of is None or int(event["kept"]) < 24:
            return None
        words = content.view("<u8")
        message = at // 8 + _MESSAGE_WORD
        return self._unique_of(int(event["req"]), int(words[message]) >> 32, int(words[message + 2]))


def _number(events: Events, content: Bytes, at: Rows, rows: Rows, uniques: npt.NDArray[np.uint64]) -> None:
    """Write uniques to where they belong; `at` are multiples of 8."""
    words = content.view("<u8")
    events["unique"][rows] = uniques
    words[at[rows] // 8 + _UNIQUE_WORD] = uniques
    has_unique = events["kept"][rows] >= 16
    words[at[rows[has_unique]] // 8 + _MESSAGE_WORD + 1] = uniques[has_unique]


def before_effects(events: Events, content: Bytes, at: Rows) -> tuple[Rows, Mask | None]:
    """Return the time of each event for its record, and which were moved right before another; None when none was.

    A notification is seen when the server's write returns, but what it caused came before: NOTIFY_REPLY, or WRITEs
    of pages that are to be dropped. The kernel sends those in the server's own thread, so the notification was
    written before the first of them since that thread last did anything else.
    """
    t_ns = events["t_ns"].astype(np.int64)
    is_notification = (events["kind"] == WRITE) & (events["error"] >= 0)
    if not is_notification.any():
        return t_ns, None
    writers = np.unique(events["tid"][is_notification])
    mine = np.flatnonzero(np.isin(events["tid"], writers))  # the rest is about these rows alone
    effects = _may_be_effect(events, content, at, mine)
    if not effects.any():
        return t_ns, None
    is_moved = np.zeros(len(events), np.bool_)
    for row in mine[is_notification[mine]].tolist():
        earlier = (events["tid"][mine] == events["tid"][row]) & (t_ns[mine] < t_ns[row])
        since = t_ns[mine[earlier & (events["kind"][mine] != SEND)]].max(initial=-1)
        caused = earlier & effects & (t_ns[mine] > since)
        caused &= events["connection"][mine] == events["connection"][row]
        if caused.any():
            t_ns[row], is_moved[row] = t_ns[mine[caused]].min(), True
    return t_ns, is_moved


def _may_be_effect(events: Events, content: Bytes, at: Rows, rows: Rows) -> Mask:
    """Tell which events are requests that a notification can cause."""
    found: Mask = (events["kind"][rows] == SEND) & (events["flags"][rows] & BACKGROUND == 0)
    found &= events["kept"][rows] >= 8
    sends = np.flatnonzero(found)
    opcodes = content.view("<u4")[at[rows[sends]] // 4 + _MESSAGE_WORD * 2 + 1]
    found[sends] = (opcodes == _OPCODE_NOTIFY_REPLY) | (opcodes == _OPCODE_WRITE)
    return found
