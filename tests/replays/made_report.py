"""A report with one of each thing it can hold, made by hand; names in it are hostile."""

from __future__ import annotations

import numpy as np

from dissectors.flags import init_flag
from dissectors.layout import Context
from dissectors.opcodes import OPS_BY_NAME
from replays.init import Agreement, Offer
from replays.judging.rules import RULES
from replays.parting import Kept
from replays.report import NONE, Counts, Difference, Latency, Note, PacingError, ReplayReport
from replays.results.terms import Terms, TermsCompared
from replays.transports.base import Ending

PLUS, MAX_PAGES, PASSTHROUGH = (init_flag(name) for name in ("DO_READDIRPLUS", "MAX_PAGES", "PASSTHROUGH"))


def difference(
    exchange: int,
    operation: str,
    rule: str,
    field: str = "",
    recorded: Kept = None,
    live: Kept = None,
    path: bytes | None = b"/dir/file",
    follower_of: int | None = None,
    live_bytes: bytes = b"",
) -> Difference:
    code = OPS_BY_NAME[operation].code if operation else NONE
    now = exchange + 1 if exchange != NONE else 7
    reason = RULES[rule].reason
    size = len(live_bytes)
    return Difference(exchange, now, code, path, rule, reason, field, recorded, live, live_bytes, size, follower_of)


DIFFERENCES = (
    difference(10, "LOOKUP", "error", "error", 0, -2, b"/dir/ev\x1b[31mil\n"),
    difference(11, "LOOKUP", "error", "nodeid", 5, 0, b"/missing"),
    difference(20, "SETATTR", "permissions", "attr.mode", 0o100644, 0o100755),
    difference(20, "SETATTR", "owner", "attr.uid", 1000, 65534),
    difference(30, "READ", "data", "data", b"hello from here\n", b"hello from t\x1b[0mere\n"),
    difference(31, "READ", "data", "data", b"cut short", b"cut", follower_of=30),
    difference(40, "READLINK", "target", "target", b"../one", b"two\x07"),
    difference(50, "READDIRPLUS", "names", "entries", [b"only\trecorded"], [b"%d" % n for n in range(12)], b"/dir"),
    difference(51, "READDIR", "entry-type", "type", 8, 4, b"/dir"),
    difference(60, "OPEN", "open-flags", "open_flags", 0x1, 0x3),
    difference(70, "WRITE", "written", "size", 4096, 512, follower_of=20),
    difference(71, "STATFS", "malformed", live_bytes=b"\x10\0\0\0garbage\x1b"),
    difference(80, "FSYNC", "no-answer", path=None),
    difference(NONE, "", "unasked", path=None, live_bytes=b"twice"),
)
NOTES = (
    Note("splitting", RULES["splitting"].reason, 16, "requests of more than 4096 bytes", 70, 12),
    Note("zero-fill", RULES["zero-fill"].reason, NONE, "requests whose data was cut brought zeros", NONE, 1),
)


def made_report(**changes: object) -> ReplayReport:
    values: dict[str, object] = {
        "transport": "fd",
        "order": "causal",
        "counts": Counts(
            120, 100, 96, 90, 79, {"WRITES": 17, "UNKNOWN_NODE": 3}, {"LOOKUP": 4, "READ": 1}, {"INVAL_INODE": 9}
        ),
        "differences": DIFFERENCES,
        "notes": NOTES,
        "latencies": (Latency(15, 40, 12_345, 99_999, 1_234, 5_678_901), Latency(16, 50, NONE, NONE, 2_000, 3_000)),
        "pacing": PacingError(2.0, 12_000, 345_000, 6_789_000, 1_000),
        "offered": Offer(45, 131072, PLUS | MAX_PAGES),
        "agreed": Agreement(Context(31), 4096, 4096, PLUS | MAX_PAGES, 0, {"max_write": 4096}),
        "duration_ns": 1_234_567_890,
        "recorded_ns": 2_469_135_780,
        "pairs": np.empty((0, 2), dtype=np.int64),
        "ending": Ending(1, "by itself", "fuse: no more of this"),
        **changes,
    }
    return ReplayReport(**values)  # type: ignore[arg-type]


TERMS = TermsCompared(45, Terms(45, 1 << 20, 128 << 10, PLUS | MAX_PAGES), Terms(31, 4096, 128 << 10, 0), PASSTHROUGH)
