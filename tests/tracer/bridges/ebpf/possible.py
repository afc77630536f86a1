"""Whether the eBPF bridge can be tried here, and the true reason when not."""

from __future__ import annotations

from functools import cache

from tracer.bridges.ebpf import LoadFailure
from tracer.bridges.ebpf.programs import Config, Programs


@cache
def why_no_ebpf() -> str | None:
    """Return why the programs cannot be loaded here, None when they can."""
    try:
        Programs.load(Config(), 1 << 20).close()
    except LoadFailure as failure:
        return f"eBPF cannot be used: {failure.message}"
    return None
