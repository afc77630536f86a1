"""The eBPF bridge: overhears every request of a host at the kernel's own tracepoints, whatever carries it."""

from tracer.bridges.ebpf.failures import LoadFailure
from tracer.bridges.ebpf.live import EbpfBridge, EbpfStats, Source

__all__ = ["EbpfBridge", "EbpfStats", "LoadFailure", "Source"]
