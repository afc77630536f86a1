"""The WRITEs of one submount: how many bytes of them a crash of the server may cost, at any point of a trace."""

from __future__ import annotations

import numpy as np

from dissectors.layout import compile_layout, needed_flags
from dissectors.opcodes import OPS_BY_NAME
from dissectors.structs import IN_HEADER
from tracer.records import RecordFlag
from tracer.trace.columns import BIG_ENDIAN, Array, Rows
from tracer.trace.trace import Trace

IN_HEADER_SIZE = sum(item.size for item in IN_HEADER.fields)
WRITE_OUT_AT = 16  # of fuse_write_out.size, from the beginning of the reply
WRITE_FLAGS_AT = IN_HEADER_SIZE + 20  # of fuse_write_in.write_flags, from the beginning of the request
WRITE_CACHE = 1  # FUSE_WRITE_CACHE: written back from the page cache, not by the process that wrote it
NEVER = np.iinfo(np.int64).max


class Writes:
    """When each WRITE was sent and answered, how many bytes, and when an FSYNC of its file made them safe.

    "When" is a record's row: rows are in the order of time, also where times are unknown or too coarse.
    """

    def __init__(self, trace: Trace, rows: Rows, fsyncs: Rows) -> None:
        """`rows` are those of the WRITEs, `fsyncs` those of FSYNC and FSYNCDIR, of one submount."""
        table = trace.records
        mate = table["mate"][rows].astype(np.int64)
        self._ok = _succeeded(trace, rows)
        self._sent = rows
        self._answered = np.where(mate >= 0, mate, NEVER)
        asked = table["wire_len"][rows].astype(np.int64) - IN_HEADER_SIZE - _head_size(trace, rows)
        self._bytes = np.maximum(np.where(self._ok, np.minimum(asked, _written(trace, mate)), asked), 0)
        self._flushed = _from_page_cache(trace, rows)
        self._safe = _safe(trace, rows, self._answered, fsyncs[_succeeded(trace, fsyncs)])

    @property
    def answered_bytes(self) -> int:
        """Count the bytes of all WRITEs that succeeded."""
        return int(self._bytes[self._ok].sum())

    def open_at(self, row: int) -> tuple[int, int]:
        """Count the WRITEs that were sent before `row` and not answered, and their bytes."""
        return self._count((self._sent < row) & (self._answered > row))

    def answered_between(self, after: int, until: int) -> int:
        """Count the bytes whose WRITE succeeded between two rows."""
        return int(self._bytes[self._ok & (self._answered > after) & (self._answered < until)].sum())

    def flushed_between(self, after: int, until: int) -> tuple[int, int]:
        """Count the WRITEs that came from the page cache and were sent between two rows, and their bytes."""
        return self._count(self._flushed & (self._sent > after) & (self._sent < until))

    def unsynced_bytes(self, synced: int, until: int = NEVER) -> int:
        """Count bytes whose WRITE succeeded before `until`, made safe by neither the SYNCFS at `synced` nor FSYNC."""
        left = self._ok & (self._answered > synced) & (self._answered < until) & (self._safe >= until)
        return int(self._bytes[left].sum())

    def _count(self, chosen: Array) -> tuple[int, int]:
        return int(chosen.sum()), int(self._bytes[chosen].sum())


def _safe(trace: Trace, rows: Rows, answered: Rows, fsyncs: Rows) -> Rows:
    """Return for each WRITE the row of the answer to the first FSYNC of its file that was sent once it was answered."""
    table, far = trace.records, trace.records.count
    safe = np.full(len(rows), NEVER, dtype=np.int64)
    if not len(fsyncs):
        return safe
    nodeids, file = np.unique(table["nodeid"][fsyncs], return_inverse=True)
    keys = file * far + fsyncs  # by file, then by row
    order = np.argsort(keys)
    wanted = np.minimum(np.searchsorted(nodeids, table["nodeid"][rows]), len(nodeids) - 1)
    found = np.searchsorted(keys[order], wanted * far + np.minimum(answered, far - 1))
    first = fsyncs[order[np.minimum(found, len(order) - 1)]]
    is_one = (found < len(order)) & (table["nodeid"][first] == table["nodeid"][rows]) & (answered != NEVER)
    safe[is_one] = table["mate"][first[is_one]]
    return safe


def _succeeded(trace: Trace, rows: Rows) -> Array:
    """Tell which requests were answered without an error, in a way the kernel took."""
    table = trace.records
    mate = table["mate"][rows]
    replies = np.where(mate >= 0, mate, 0)
    taken = (table["flags"][replies] & RecordFlag.REJECTED) == 0
    ok: Array = (mate >= 0) & (table["error"][replies] == 0) & taken
    return ok


def _written(trace: Trace, mate: Rows) -> Array:
    """Return how many bytes the replies to WRITEs say were written; as many as can be where they do not say."""
    says, size = _words(trace, np.where(mate >= 0, mate, 0), WRITE_OUT_AT)
    return np.where(says, size, NEVER)


def _from_page_cache(trace: Trace, rows: Rows) -> Array:
    """Tell which WRITEs say that they came from the page cache."""
    says, flags = _words(trace, rows, WRITE_FLAGS_AT)
    chosen: Array = says & (flags & WRITE_CACHE != 0)
    return chosen


def _words(trace: Trace, rows: Rows, at: int) -> tuple[Array, Array]:
    """Return the u32 at an offset of each record, and whether the capture kept it."""
    table = trace.records
    kept = table["kept"][rows] >= at + 4
    where = np.where(kept, table["at"][rows], 0) + at
    word = trace.file.words[np.where(kept, where // 4, 0)]
    return kept, np.where(table["bits"][rows] & BIG_ENDIAN, word.byteswap(), word).astype(np.int64)


def _head_size(trace: Trace, rows: Rows) -> int:
    """Return the size of fuse_write_in in this session: what a WRITE has before its data."""
    fields = OPS_BY_NAME["WRITE"].request
    context = trace.context(int(rows[-1])) if len(rows) else None
    minor = context.effective_minor if context else 99
    return compile_layout(fields, minor, needed_flags(fields), "<").head_size
