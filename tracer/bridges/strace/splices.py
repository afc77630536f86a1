"""Messages that pass between the device and a server through a pipe.

libfuse 3 moves a request with splice(device -> pipe), reads its head from the pipe, and splices the payload on into a
file; a reply with payload goes the other way, its header put into the pipe by vmsplice. What was read from or written
to the pipe is shown by strace, what was spliced is not: a record keeps the bytes up to the first that are unseen,
and the exact length of the whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from tracer.bridges.strace.drafts import Draft
from tracer.records import RecordFlag

PipeKey = tuple[str, int]  # ("pipe", inode), or ("tid", thread) when the log does not tell pipes apart
_PIPE_LIMIT: Final = 1024
_SEGMENT_LIMIT: Final = 512  # of one reply; a pipe that never reaches the device fills up with nothing of interest


@dataclass(slots=True)
class _Segment:
    """Bytes that lie in a pipe; `data` is None when they were never seen."""

    length: int
    data: bytes | None


@dataclass(slots=True)
class _Pipe:
    request: Draft | None = None
    drained: int = 0  # bytes of the request that left the pipe
    queued: deque[_Segment] = field(default_factory=lambda: deque(maxlen=_SEGMENT_LIMIT))


class SpliceTracker:
    """Follows the bytes of each pipe that touches the device."""

    def __init__(self) -> None:
        self._pipes: dict[PipeKey, _Pipe] = {}
        self.waiting: dict[int, PipeKey] = {}  # threads that have a request in a pipe

    def holds_request(self, key: PipeKey) -> bool:
        """Tell whether a request lies in the pipe, at least in part."""
        pipe = self._pipes.get(key)
        return pipe is not None and pipe.request is not None

    def from_device(self, key: PipeKey, request: Draft) -> Draft | None:
        """A request went into the pipe; return the one before it, if its bytes never all left."""
        pipe = self._pipe(key)
        before = pipe.request
        request.flags |= int(RecordFlag.SPLICED)
        pipe.request, pipe.drained = request, 0
        pipe.queued.clear()
        self.waiting[request.tid] = key
        return before

    def drained(self, key: PipeKey, length: int, data: bytes | None, now_ns: int) -> Draft | None:
        """`length` bytes left the pipe, `data` if they were seen; return the request when that was all of it."""
        pipe = self._pipes.get(key)
        if pipe is None or pipe.request is None:
            return None
        if pipe.request.waits_for_time:
            pipe.request.t_ns = max(pipe.request.t_ns, now_ns)
            pipe.request.waits_for_time = False
        if data and len(pipe.request.data) == pipe.drained:
            pipe.request.data += data
        pipe.drained += length
        return self._take(pipe) if pipe.drained >= pipe.request.wire_len else None

    def filled(self, key: PipeKey, length: int, data: bytes | None) -> None:
        """`length` bytes of a reply to come went into the pipe."""
        self._pipe(key).queued.append(_Segment(length, data))

    def to_device(self, key: PipeKey, length: int) -> bytes:
        """`length` bytes went from the pipe to the device; return those at their start that were seen."""
        queued = self._pipe(key).queued
        seen: list[bytes] = []
        is_contiguous = True
        while queued and length > 0:
            segment = queued.popleft()
            is_contiguous = is_contiguous and segment.data is not None and len(segment.data) <= length
            if is_contiguous and segment.data is not None:
                seen.append(segment.data)
                is_contiguous = len(segment.data) == segment.length
            length -= segment.length
        queued.clear()
        return b"".join(seen)

    def answered(self, tid: int) -> Draft | None:
        """A thread wrote to the device: it has read all of its request that it will; return that request."""
        key = self.waiting.pop(tid, None)
        pipe = self._pipes.get(key) if key else None
        return self._take(pipe) if pipe and pipe.request and pipe.request.data else None

    def finish(self) -> list[Draft]:
        """Return the requests still in a pipe when the log ended."""
        left = [pipe.request for pipe in self._pipes.values() if pipe.request is not None]
        self._pipes.clear()
        return left

    def _pipe(self, key: PipeKey) -> _Pipe:
        pipe = self._pipes.get(key)
        if pipe is None:
            if len(self._pipes) >= _PIPE_LIMIT:  # a hostile log; a server has one pipe a thread
                self._pipes.pop(next(iter(self._pipes)))
            pipe = self._pipes[key] = _Pipe()
        return pipe

    @staticmethod
    def _take(pipe: _Pipe) -> Draft | None:
        request, pipe.request = pipe.request, None
        return request
