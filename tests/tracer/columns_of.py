"""RecordColumns made of ordinary records, their bytes one after the other with something between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracer.records import RawRecord, RecordColumns


def columns_of(records: Sequence[RawRecord], between: bytes = b"\xee\xdd\xcc") -> RecordColumns:
    content = bytearray(between)
    starts = []
    for record in records:
        starts.append(len(content))
        content += record.data + between

    def column(name: str, dtype: str) -> np.ndarray:
        return np.array([getattr(record, name) for record in records], dtype)

    return RecordColumns(
        content=memoryview(bytes(content)),
        start=np.array(starts, "i8"),
        length=np.array([len(record.data) for record in records], "i8"),
        t_ns=column("t_ns", "i8"),
        channel=column("channel", "u2"),
        direction=column("direction", "u1"),
        wire_len=column("wire_len", "u4"),
        bridge=column("bridge", "u1"),
        flags=column("flags", "u2"),
        server_pid=column("server_pid", "u4"),
        server_tid=column("server_tid", "u4"),
        comm=column("comm", "S16"),
        queue=column("queue", "u2"),
        desc_head=column("desc_head", "u4"),
        result=column("result", "i4"),
    )
